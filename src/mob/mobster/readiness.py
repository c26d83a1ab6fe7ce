"""When a mobster is ready whose module does not come to an end: when the main thread waits for connections.

A module that blocks has no line in which it could be seen to be ready. That it listens says little: libraries bind
sockets for a moment in their import, and a port for metrics is open before the model is loaded. So what counts is what
the main thread does: it is blocked in the kernel in a wait for connections on a socket that listens (`rim/waits.py`).
Or, for a server in a thread: the main thread stands at one place while something listens, in a wait without an end for
`HELD` seconds, or for `LOOPED` seconds in one short wait after another (`while True: time.sleep(1)`, gRPC) or in a wait
for a child (a reloader), which may be the one that listens. A module that sleeps once or computes is on its way; one
whose import returns is ready then.

A server that binds below Python (grpc.aio, granian) waits for connections in a thread of its own, while the main thread
stands in a loop that waits for events. So does a module that loads something in a loop, but its port for metrics was
bound by Python, which `PortSharing` knows. A loop counts as a short wait if there is a listening socket that it does
not know. A server that is busy from the first second on is never seen to stand; before its time is over (boot_timeout)
it is enough that it listens and that connections are open there.

No event tells that a thread blocks. So it is looked, from the moment at which a socket was bound or listens, with
pauses that grow to `LONGEST_LOOK`; and once a second at each beat, for servers that are not made of Python's sockets.

A server under load may never be seen to wait: its second `accept` on one socket says the same.

`hint` says where the module has blocked, should it have done so for some time without being ready.
"""

from __future__ import annotations

import contextlib
import math
import socket
import sys
import threading
import weakref
from collections.abc import Callable
from time import monotonic
from types import FrameType

from mob.rim import connections, waits
from mob.rim.listeners import PortSharing
from mob.rim.places import PACKAGE
from mob.rim.reactor import Reactor
from mob.rim.waits import WaitReason

FIRST_LOOK, LONGEST_LOOK = 0.001, 0.1
"""Seconds between two looks. The pauses grow by GROWTH each time."""
GROWTH = 1.5
HELD = 1.0
"""Seconds that the main thread has to stand in a wait without an end."""
LOOPED, LOOPS = 3.0, 3
"""Seconds that it has to stand at a child or at short waits, and how many there must be: one is a pause on the way."""
LAST_LOOKS = 0.75
"""The part of boot_timeout from which on a server that is never seen to wait is ready if connections came in."""
SILENT = 4.0
"""Seconds that it has to stand anywhere until that is told."""


class Readiness:
    """Looks at the main thread while the module of the role is imported."""

    def __init__(
        self, reactor: Reactor, sharing: PortSharing, on_ready: Callable[[], None], boot_timeout: float | None = None
    ) -> None:
        self._reactor = reactor
        self._sharing = sharing
        self._on_ready = on_ready
        self._last_looks = math.inf if boot_timeout is None else boot_timeout * LAST_LOOKS
        self._looped = min(LOOPED, self._last_looks / 2)  # a short boot_timeout has to be enough
        self._begun = math.inf
        self._is_on = False
        self._is_looking = False
        self._pause = FIRST_LOOK
        self._ident = self._thread = 0
        self._place: tuple[int, int] = (0, 0)  # where the main thread stands: its frame and the instruction
        self._since = 0.0
        self._waits = 0  # how often it had waited by then
        self._accepting: weakref.WeakSet[socket.socket] = weakref.WeakSet()  # where the main thread has let one in

    def __repr__(self) -> str:
        return f"<Readiness, {'looking' if self._is_looking else 'waiting' if self._is_on else 'off'}>"

    def begin(self) -> None:
        """On the main thread: the import begins."""
        self._ident, self._thread = threading.get_ident(), threading.get_native_id()
        self._begun = self._since = monotonic()
        self._is_on = True

    def end(self) -> None:
        """Nothing more is looked at: it is ready, or its import has ended."""
        self._is_on = False

    def look_soon(self) -> None:
        """A socket was bound, or listens. From any thread."""
        if self._is_on:
            self._reactor.call(self._begin_looking)

    def handle_accepted(self, sock: socket.socket) -> None:
        """A connection came in there. The first one may be the module's own: a pair of sockets, made by hand."""
        if not self._is_on or threading.get_ident() != self._ident:
            return
        if sock in self._accepting:
            self._reactor.call(self._finish)
        self._accepting.add(sock)

    def handle_beat(self) -> None:
        """A second has passed. From any thread."""
        if self._is_on:
            self._reactor.call(self._look_once)

    def hint(self) -> str:
        """Return where the main thread has been for some time, "" if it goes on or is ready."""
        if not self._is_on or monotonic() < self._since + SILENT:
            return ""
        frame = sys._current_frames().get(self._ident)  # pyright: ignore[reportPrivateUsage]  the documented way
        return "" if frame is None or self._place_of(frame) != self._place else _where(frame)

    def _begin_looking(self) -> None:
        self._pause = FIRST_LOOK
        if self._is_on and not self._is_looking:
            self._is_looking = True
            self._reactor.loop.call_later(FIRST_LOOK, self._look_on)

    def _look_once(self) -> None:
        self._look()

    def _look_on(self) -> None:
        if self._look():
            self._is_looking = False
            return
        self._pause = min(LONGEST_LOOK, self._pause * GROWTH)
        self._reactor.loop.call_later(self._pause, self._look_on)

    def _look(self) -> bool:
        """Return whether there is nothing more to look for."""
        if not self._is_on:
            return True
        self._follow()
        wait = waits.wait_of(self._thread)
        is_serving = (
            wait is WaitReason.CONNECTION
            or (self._stands(wait) and self._listens(wait))
            or (monotonic() >= self._begun + self._last_looks and self._has_let_in())
        )
        if is_serving:
            self._finish()
        return is_serving

    def _stands(self, wait: WaitReason) -> bool:
        """Return whether the main thread seems to go no further than where it is."""
        held = monotonic() - self._since
        if wait is WaitReason.SHORT:
            return held >= self._looped and waits.count_of(self._thread) >= self._waits + LOOPS
        if wait in (WaitReason.CHILD, WaitReason.EVENTS):
            return held >= self._looped
        return wait in (WaitReason.ENDLESS, WaitReason.UNKNOWN) and held >= HELD

    def _listens(self, wait: WaitReason) -> bool:
        """Return whether anything listens that the main thread may be standing there for."""
        if wait is WaitReason.EVENTS:
            is_foreign = any(not self._sharing.is_known(inode) for inode in waits.listeners())
            return is_foreign or waits.children_listen()
        return (
            self._sharing.holds_any() or waits.has_listeners() or (wait is WaitReason.CHILD and waits.children_listen())
        )

    def _has_let_in(self) -> bool:
        """Return whether connections are open that came in where a library below Python listens."""
        foreign = {inode for inode in waits.listeners() if not self._sharing.is_known(inode)}
        places: set[connections.Endpoint] = set()
        for descriptor in connections.descriptors_of(foreign):
            with contextlib.suppress(OSError), connections.look_at(descriptor) as sock:
                places.add(connections.place_of(sock))
        return bool(places) and bool(connections.count(places))

    def _finish(self) -> None:
        if self._is_on:
            self.end()
            self._on_ready()

    def _follow(self) -> None:
        frame = sys._current_frames().get(self._ident)  # pyright: ignore[reportPrivateUsage]  the documented way
        place = (0, 0) if frame is None else self._place_of(frame)
        if place != self._place:
            self._place, self._since, self._waits = place, monotonic(), waits.count_of(self._thread)

    def _place_of(self, frame: FrameType) -> tuple[int, int]:
        return id(frame), frame.f_lasti


def _where(frame: FrameType) -> str:
    """Return the line of the application that it stands at, as far inside as that goes."""
    at = frame
    while at.f_back is not None and _is_library(at):
        at = at.f_back
    if _is_library(at):
        at = frame
    return f"{at.f_code.co_filename}:{at.f_lineno} in {at.f_code.co_name}"


def _is_library(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith((PACKAGE, sys.base_prefix, sys.prefix, "<"))
