"""The liveness thread: a small thread with a socket of its own, which no code of the application can block.

It sends a heartbeat once a second (less often when there is nothing to report), so the Kingpin knows its state. It
sends the stacks of all threads on request. And it notices at once when the Kingpin dies: then the process is asked to
end gracefully, and its whole group is killed if it has not ended within the grace period. Code that never releases the
interpreter blocks even this thread; the fork server and the deadman pipe cover that case.

Functions that the thread calls may raise (there is no free descriptor, a name is not UTF-8). That is logged, and the
thread continues with the last known values (`rim.lasting`).

A singleton runs by a lease, and this thread kills the whole group if the lease is not renewed in time. If the thread
does not run, the kernel does so a moment later.
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
"""Seconds after the end of the lease at which the kernel kills this process, if its own thread has not."""
FAILED = "its stacks could not be read; its log says why."
LONGEST = 1024 * 1024
"""Maximum number of characters of the stacks."""
LAST_WORDS = 1.0
"""Seconds to wait at the end until the Kingpin reads; after that the last counts are lost."""


def _nothing_counted() -> None:
    pass


class Liveness:
    """The liveness thread of a process."""

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
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the thread, which follows that of the socket."""
        if self._thread.is_alive():
            self._thread.join()

    def abandon(self) -> None:
        """Close this process's copy of the socket, in the child of a fork, which has no such thread."""
        self._sock.close()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        is_there = self._beat()  # at once, so that the size is known even if it dies within a second
        while is_there:
            is_heard = bool(poll.poll(self._patience() * 1000))
            is_there = self._listen() if is_heard else self._beat()
            self._end_if_expired()
        carry_on(self._on_gone, None)
        self._end_late()

    def _end_late(self) -> None:
        """Kill this process group if it has not ended within the grace period after the Kingpin's death."""
        time.sleep(self._grace if self._until is None else min(self._grace, self._left()))
        processes.kill_group(os.getpid(), signal.SIGKILL)

    def _left(self) -> float:
        """Return the remaining seconds of the lease."""
        return BEAT_INTERVAL if self._until is None else max(0.0, self._until - expiry.now())

    def _patience(self) -> float:
        return min(BEAT_INTERVAL, self._left())

    def _end_if_expired(self) -> None:
        if self._until is not None and self._left() <= 0:
            processes.kill_group(os.getpid(), signal.SIGKILL)

    def _prolong(self, until: float) -> None:
        if self._until is not None and self._timer is not None:
            self._end_if_expired()  # too late: another process may run already
            self._until = max(self._until, until)
            self._timer.set(self._until + KERNEL_DELAY)

    def say_last(self, make: Callable[[], Beat]) -> None:
        """Send a last heartbeat, from any thread, so that no counts are lost when the process ends."""
        with self._beating:
            if self._thread.is_alive() and self._is_writable():
                self._say(self._made(make) or self._last)
                self._say_counted(LAST_WORDS)

    def _beat(self) -> bool:
        with self._beating:
            if not self._is_writable():  # the Kingpin reads slowly; the next heartbeat will contain the same
                return True
            beat = self._made(self._on_beat)
            return beat is None or (self._say(beat) and self._say_counted())

    def _made(self, make: Callable[[], Beat | None]) -> Beat | None:
        """Return the next heartbeat, or the last one again if it cannot be created or encoded."""
        last = self._last
        beat = carry_on(make, last)
        if beat is not None and beat is not last and carry_on(lambda: encode([beat]), b""):
            self._last = replace(beat, tallies=(), unserved={}, traffic={})  # which are reported once
            return beat
        return None if beat is None else last

    def _say_counted(self, seconds: float = 0.0) -> bool:
        """Send what the application has counted, while the Kingpin reads.

        If it does not read for `seconds`, the rest is left for the next heartbeat.
        """
        while self._is_writable(seconds):
            counted = carry_on(self._on_counted, None)
            if counted is None:
                break
            if not self._say(counted):
                return False
        return True

    def _is_writable(self, seconds: float = 0.0) -> bool:
        """Return whether a whole heartbeat fits into the socket: the kernel says so while 3/4 of it are free."""
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def _listen(self) -> bool:
        """Receive what the Kingpin sends; return whether it is still connected."""
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
            pass  # longer than any heartbeat should be
        except OSError:
            return False
        return True
