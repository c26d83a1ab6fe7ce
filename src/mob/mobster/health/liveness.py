"""The liveness thread: a small thread with a socket of its own, which no code of the application can block.

It beats once a second (less often when there is nothing to say), so the Kingpin knows how it goes; it says where
everything stands when it is asked; and it notices at once when the Kingpin has gone: then the process is asked to end
in order, and its whole group is killed if it has not done so within the grace time. Code that never lets go of the
interpreter stops even this thread; that case is the fork server's and the deadman pipe's.

What the thread calls may raise (there is no descriptor to be had, a name is no UTF-8). That is told, and it beats on
with what it knew last (`rim.lasting`).

A singleton runs by a lease, and this thread ends the whole group when it hears of no longer one in time. So does the
kernel, a moment later, should the thread not come to run.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable

from msgspec.structs import replace

from mob.errors import LinkError
from mob.rim import expiry, processes
from mob.rim.lasting import carry_on, readable
from mob.wire.frames import HEADER, FrameDecoder
from mob.wire.messages import Beat, Counted, Inspect, Inspection, Prolong, Vital, decode_heed, encode

BEAT_INTERVAL = 1.0
KERNEL_DELAY = 0.25
"""Seconds after the end of the lease at which the kernel ends this process, if its own thread has not."""
FAILED = "where it is could not be found out; its log says why."
LONGEST = 1024 * 1024
"""Characters of the stacks."""
LAST_WORDS = 1.0
"""Seconds for which the Kingpin may not read, at the end, before what was counted last is given up."""


def _nothing_counted() -> None:
    pass


class Liveness:
    """The thread."""

    def __init__(
        self,
        sock: socket.socket,
        grace: float,
        on_beat: Callable[[], Beat | None],
        on_inspect: Callable[[], str],
        on_gone: Callable[[], None],
        until: float | None = None,
        on_counted: Callable[[], Counted | None] = _nothing_counted,
    ) -> None:
        self._sock = sock
        self._grace = grace
        self._on_beat = on_beat
        self._on_inspect = on_inspect
        self._on_gone = on_gone
        self._on_counted = on_counted
        self._until = until
        self._timer = None if until is None else expiry.Timer(until + KERNEL_DELAY)
        self._decoder = FrameDecoder(LONGEST)
        self._beating = threading.Lock()
        self._last = Beat()
        self._thread = threading.Thread(target=self._run, name="mob-liveness", daemon=True)
        self._thread.pydev_do_not_trace = True  # pyright: ignore[reportAttributeAccessIssue]  debugpy stops all others

    def __repr__(self) -> str:
        return f"<Liveness, {'running' if self._thread.is_alive() else 'not running'}>"

    def start(self) -> None:
        """Begins to beat."""
        self._thread.start()

    def join(self) -> None:
        """Waits for its end, which follows that of the socket."""
        if self._thread.is_alive():
            self._thread.join()

    def abandon(self) -> None:
        """Closes this process's copy of the socket: for the child of a fork, which has no such thread."""
        self._sock.close()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        is_there = self._beat()  # at once: one that dies within a second has told its size, too
        while is_there:
            is_heard = bool(poll.poll(self._patience() * 1000))
            is_there = self._listen() if is_heard else self._beat()
            self._end_if_expired()
        carry_on(self._on_gone, None)
        self._end_late()

    def _end_late(self) -> None:
        """The Kingpin has gone: the process ends itself, if it has not done so within the grace time."""
        time.sleep(self._grace if self._until is None else min(self._grace, self._left()))
        processes.kill_group(os.getpid(), signal.SIGKILL)

    def _left(self) -> float:
        """Seconds of the lease."""
        return BEAT_INTERVAL if self._until is None else max(0.0, self._until - expiry.now())

    def _patience(self) -> float:
        return min(BEAT_INTERVAL, self._left())

    def _end_if_expired(self) -> None:
        if self._until is not None and self._left() <= 0:
            processes.kill_group(os.getpid(), signal.SIGKILL)

    def _prolong(self, until: float) -> None:
        if self._until is not None and self._timer is not None:
            self._end_if_expired()  # too late is too late: another may run already
            self._until = max(self._until, until)
            self._timer.set(self._until + KERNEL_DELAY)

    def say_last(self, make: Callable[[], Beat]) -> None:
        """Beats once more, from whatever thread: the process ends, and what it has counted is not to be lost."""
        with self._beating:
            if self._thread.is_alive() and self._is_writable():
                self._say(self._made(make) or self._last)
                self._say_counted(LAST_WORDS)

    def _beat(self) -> bool:
        with self._beating:
            if not self._is_writable():  # the Kingpin is slow to read; the next beat says all that this one would have
                return True
            beat = self._made(self._on_beat)
            return beat is None or (self._say(beat) and self._say_counted())

    def _made(self, make: Callable[[], Beat | None]) -> Beat | None:
        """Return what there is to say, and the last beat once more if that cannot be made, or not sent."""
        last = self._last
        beat = carry_on(make, last)
        if beat is not None and beat is not last and carry_on(lambda: encode([beat]), b""):
            self._last = replace(beat, tallies=(), unserved={}, traffic={})  # which are told once
            return beat
        return None if beat is None else last

    def _say_counted(self, seconds: float = 0.0) -> bool:
        """Say what the application has counted, as long as the Kingpin reads it; after a pause of so many seconds the
        rest is left for the next beat."""
        while self._is_writable(seconds):
            counted = carry_on(self._on_counted, None)
            if counted is None:
                break
            if not self._say(counted):
                return False
        return True

    def _is_writable(self, seconds: float = 0.0) -> bool:
        """Whether a whole beat goes into the socket: the kernel says so as long as three quarters of it are free."""
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def _listen(self) -> bool:
        """Hears what the Kingpin says here; whether it is still there."""
        try:
            data = self._sock.recv(4096)
            heard = [each for payload in self._decoder.feed(data) for each in decode_heed(payload)]
        except (OSError, LinkError):
            return False
        for message in heard:
            if isinstance(message, Prolong):
                self._prolong(message.until)
            elif isinstance(message, Inspect):
                stacks = readable(carry_on(self._on_inspect, FAILED))[:LONGEST]
                if not self._say(Inspection(stacks), is_last=True):
                    return False
        return bool(data)

    def _say(self, vital: Vital, is_last: bool = False) -> bool:
        payload = encode([vital])
        data = HEADER.pack(len(payload)) + payload
        try:
            if is_last:
                self._sock.sendall(data)
            else:
                self._sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass  # it is longer than all that a beat should be
        except OSError:
            return False
        return True
