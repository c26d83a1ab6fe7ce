"""Detects when a mobster is ready whose module does not finish: when the main thread waits for connections.

A module that blocks has no line that marks it as ready. A listening socket says little: libraries bind sockets for a
moment during their import, and a port for metrics is open before the model is loaded. So what counts is what the main
thread does: it is blocked in the kernel, waiting for connections on a listening socket (`rim/waits.py`). For a server
in a thread, the main thread stays at one place while something listens: in a wait without a timeout for `HELD` seconds,
or for `LOOPED` seconds in a series of short waits (`while True: time.sleep(1)`, gRPC) or in a wait for a child process
(a reloader), which may be the one that listens. A module that sleeps once or computes is still starting; one whose
import returns is ready then.

A server that binds below Python (grpc.aio, granian) waits for connections in its own thread, while the main thread is
in an event loop. A module that loads something in a loop looks the same, but its port for metrics was bound by Python
and is known to `PortSharing`. So an event loop counts as a short wait if there is a listening socket unknown to
`PortSharing`. A server that is busy from the first second on never seems to wait; shortly before boot_timeout ends it
is enough that it listens and has open connections there.

No event reports that a thread blocks. So the main thread is polled from the moment at which a socket is bound or
listens, with pauses that grow to `LONGEST_LOOK`; and once a second with each beat, for servers that do not use Python's
sockets.

A server under load may never be seen waiting: its second `accept` on the same socket has the same meaning.

`hint` returns where the module has been blocked for some time without being ready.
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
"""First and longest pause between two looks, in seconds. The pauses grow by GROWTH each time."""
GROWTH = 1.5
HELD = 1.0
"""Seconds that the main thread must stay in a wait without a timeout."""
LOOPED, LOOPS = 3.0, 3
"""Seconds that it must wait for a child or in short waits, and the minimum number of waits: one is just a pause."""
LAST_LOOKS = 0.75
"""Fraction of boot_timeout after which a server that is never seen waiting is ready if it has connections."""
SILENT = 4.0
"""Seconds that it must stay anywhere before `hint` reports it."""


class Readiness:
    """Observes the main thread while the module of the role is imported."""

    def __init__(
        self, reactor: Reactor, sharing: PortSharing, on_ready: Callable[[], None], boot_timeout: float | None = None
    ) -> None:
        self._reactor = reactor
        self._sharing = sharing
        self._on_ready = on_ready
        self._last_looks = math.inf if boot_timeout is None else boot_timeout * LAST_LOOKS
        self._looped = min(LOOPED, self._last_looks / 2)  # so that a short boot_timeout is sufficient
        self._begun = math.inf
        self._is_on = False
        self._is_looking = False
        self._pause = FIRST_LOOK
        self._ident = self._thread = 0
        self._place: tuple[int, int] = (0, 0)  # frame and instruction of the main thread
        self._since = 0.0
        self._waits = 0  # its number of waits by then
        self._accepting: weakref.WeakSet[socket.socket] = (
            weakref.WeakSet()
        )  # sockets on which the main thread accepted a connection

    def __repr__(self) -> str:
        return f"<Readiness, {'looking' if self._is_looking else 'waiting' if self._is_on else 'off'}>"

    def begin(self) -> None:
        """Start at the beginning of the import; on the main thread."""
        self._ident, self._thread = threading.get_ident(), threading.get_native_id()
        self._begun = self._since = monotonic()
        self._is_on = True

    def end(self) -> None:
        """Stop observing: the mobster is ready, or its import has ended."""
        self._is_on = False

    def look_soon(self) -> None:
        """Handle a socket that was bound or listens. From any thread."""
        if self._is_on:
            self._reactor.call(self._begin_looking)

    def handle_accepted(self, sock: socket.socket) -> None:
        """Handle an accepted connection. The first may be the module's own: a socket pair made by hand."""
        if not self._is_on or threading.get_ident() != self._ident:
            return
        if sock in self._accepting:
            self._reactor.call(self._finish)
        self._accepting.add(sock)

    def handle_beat(self) -> None:
        """Look once a second. From any thread."""
        if self._is_on:
            self._reactor.call(self._look_once)

    def hint(self) -> str:
        """Return where the main thread has been for some time; "" if it moves or is ready."""
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
        """Return whether observation can end."""
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
        """Return whether the main thread seems to stay where it is."""
        held = monotonic() - self._since
        if wait is WaitReason.SHORT:
            return held >= self._looped and waits.count_of(self._thread) >= self._waits + LOOPS
        if wait in (WaitReason.CHILD, WaitReason.EVENTS):
            return held >= self._looped
        return wait in (WaitReason.ENDLESS, WaitReason.UNKNOWN) and held >= HELD

    def _listens(self, wait: WaitReason) -> bool:
        """Return whether a socket listens for which the main thread may be waiting."""
        if wait is WaitReason.EVENTS:
            is_foreign = any(not self._sharing.is_known(inode) for inode in waits.listeners())
            return is_foreign or waits.children_listen()
        return (
            self._sharing.holds_any() or waits.has_listeners() or (wait is WaitReason.CHILD and waits.children_listen())
        )

    def _has_let_in(self) -> bool:
        """Return whether connections are open on sockets of a library below Python."""
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
    """Return the innermost line of the application in a stack."""
    at = frame
    while at.f_back is not None and _is_library(at):
        at = at.f_back
    if _is_library(at):
        at = frame
    return f"{at.f_code.co_filename}:{at.f_lineno} in {at.f_code.co_name}"


def _is_library(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith((PACKAGE, sys.base_prefix, sys.prefix, "<"))
