"""The stand-in: a thread that reads and writes for a loop whose thread is in plain code of the application.

Such code may wait for a thread that it started, and that thread for an answer; or it runs its own loop, in which a call
is awaited. Then no thread reads the answer. Or it calls a function to report progress, and continues: then no thread
sends that. So everything that waits outside the loop is counted here, and if plain code takes longer than a moment
while something waits, the stand-in takes over until that code returns.

Only the owner of the reactor reads, writes, runs timers and touches its tables; that is the loop's thread, or the
stand-in. The stand-in takes over only while the loop's thread is away, in plain code, and that thread waits for the
stand-in before it does anything that an ordinary thread may not do. Calls to the loop (`call_soon`, `add_reader`) are
safe in the stand-in because the loop is inside the very callback that runs the plain code.

The stand-in runs no code of the application: callbacks that arrive go to a `Runner`. So the loop's thread never waits
for more than the work of mob itself, and a callback may wait for a thread as an export may.

The threads start when they are first needed; while nothing waits, or the loop's thread is not away, they sleep without
polling.

Limit: a coroutine that blocks the loop is not plain code, and there is no stand-in for it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from threading import Event, Lock, get_ident
from typing import TYPE_CHECKING, Any

from mob.rim.runner import Runner

if TYPE_CHECKING:
    from mob.rim.reactor import Reactor

STANDIN_TIMEOUT = 1.0
"""Seconds for the stand-in to finish its work at the end of the process."""
TAKE_OVER_AFTER = 0.005
"""Seconds that plain code may take before the stand-in reads for waiters outside the loop."""
ASKED, UNSENT = "a look", "something to send"
"""Marks among the waiters until the loop's thread is back.

The first is for code that only asks, the second for what plain code has posted and does not wait for, such as the
progress that it reports.
"""


class StandIn:
    """The thread, and the waiters that may need it."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self.runner: Runner = Runner()
        """Runs the callbacks that the stand-in has read."""
        self._thread: threading.Thread | None = None
        self._starting = Lock()
        self._alarm = Event()
        self._hurry = Event()
        self._reading = Lock()  # held by the stand-in while it is the owner
        self._left: deque[Callable[[], None]] = deque()  # functions for the loop's thread
        self._is_wanted_back = False
        self._is_over = False
        self.is_alert: bool = False
        """True if the thread is awake and checks by itself whether it is needed."""

    def __repr__(self) -> str:
        return f"<StandIn, {'alert' if self.is_alert else 'asleep'}, for {len(self._reactor.waiters)} that wait>"

    def claim(self) -> None:
        """Copy the context variables of the loop for the code that runs next to it."""
        self.runner.context = copy_context()

    def begin_to_wait(self, waiter: Any) -> None:
        """Note that something waits in another thread or on another loop.

        It counts until `reactor.waiters.discard`.
        """
        reactor = self._reactor
        reactor.waiters.add(waiter)
        if reactor.is_away:  # checked after adding; the loop's thread goes away first and then checks the waiters
            self.alert()

    def wait_for(self, arrival: Lock, timeout: float | None = None) -> None:
        """Wait, in a thread other than the loop's, until this lock is released or `timeout` seconds have passed."""
        self.begin_to_wait(arrival)
        try:
            arrival.acquire(timeout=-1 if timeout is None else timeout)
        finally:
            self._reactor.waiters.discard(arrival)

    def hurry(self) -> None:
        """Take over immediately: the loop's thread is certainly blocked by a loop that plain code runs in it."""
        if self._reactor.is_away:
            self._hurry.set()

    def look(self) -> None:
        """Have the socket read from now on until the loop's thread is back.

        For code that asks for what may be unread there and does not wait.
        """
        reactor = self._reactor
        if reactor.is_away and not reactor.is_stood_in and ASKED not in reactor.waiters:
            self.begin_to_wait(ASKED)

    def send_soon(self) -> None:
        """Have something that plain code posted sent, if that code does not end in a moment."""
        waiters = self._reactor.waiters
        if UNSENT not in waiters:
            waiters.add(UNSENT)
            self.alert()

    def leave(self, function: Callable[[], None]) -> None:
        """Have a function called when the loop's thread is back; it must only concern that thread.

        For the stand-in only.
        """
        self._left.append(function)

    def alert(self) -> None:
        """Wake the stand-in because the loop's thread is away and something waits; from any thread."""
        if self.is_alert or self._is_over:
            return
        self.is_alert = True
        if self._thread is None:
            self._start()
        self._alarm.set()

    def take_back(self) -> None:
        """Wait until the stand-in has finished its current work, because the loop's thread is back."""
        self._is_wanted_back = True
        self._reactor.wake()
        with self._reading:
            self._is_wanted_back = False

    def end(self) -> None:
        """End the threads because the reactor is about to close."""
        self._is_over = True
        self._alarm.set()
        self._hurry.set()
        self.runner.end()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(STANDIN_TIMEOUT)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="mob-stand-in", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        reactor = self._reactor
        while not self._is_over:
            self._alarm.wait()
            self._alarm.clear()
            while reactor.waiters and not self._is_over:
                self._hurry.wait(TAKE_OVER_AFTER)
                self._hurry.clear()
                self._forget(UNSENT)  # if the loop's thread was back and sent it
                if not (reactor.is_away and reactor.waiters):
                    break
                self._take_over()
            self._forget(ASKED, UNSENT)
            self.is_alert = False
            if reactor.waiters and reactor.is_away:  # it has just gone away and took the stand-in for awake
                self.alert()

    def _take_over(self) -> None:
        reactor = self._reactor
        with self._reading:
            reactor.is_claimed = True
            try:
                if (
                    reactor.is_away and not self._is_over
                ):  # checked second: a thread that is back sees that it must wait
                    self._stand_in()
            except BaseException as error:  # noqa: BLE001  handled as a loop does, which continues
                reactor.loop.call_exception_handler({"message": "the stand-in has failed", "exception": error})
            finally:
                reactor.is_claimed = False

    def _stand_in(self) -> None:
        reactor, loop = self._reactor, self._reactor.loop
        is_debugged = loop.get_debug()
        if is_debugged:  # otherwise the loop refuses calls from a thread other than its own, which is blocked
            loop.set_debug(False)
        reactor.owner, reactor.is_stood_in = get_ident(), True
        try:
            reactor.before_stand_in()
            reactor.drive(self._is_done)
        finally:
            reactor.owner, reactor.is_stood_in = reactor.thread, False
            self._forget(ASKED, UNSENT)
            if is_debugged:
                loop.set_debug(True)
            while self._left:
                reactor.call(self._left.popleft())

    def _forget(self, *marks: str) -> None:
        self._reactor.waiters.difference_update(marks)
        if self._reactor.has_unsent:  # checked second: what is posted meanwhile finds its mark or sets it
            self._reactor.waiters.add(UNSENT)

    def _is_done(self) -> bool:
        return self._is_wanted_back or not self._reactor.is_away or self._is_over
