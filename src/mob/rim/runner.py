"""Threads for callbacks that arrive while the loop's thread is in plain code, and somebody waits for them.

They are run in the order in which they have come, one at a time. But one that takes long may itself wait for one that
comes behind it; so after a while the next one begins beside it, in another thread.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from threading import Condition, Lock
from time import monotonic

from mob.rim.lasting import carry_on

HOLD = 0.1
"""Seconds for which a callback holds up the next one."""


class Runner:
    """The callbacks, and the threads that run them."""

    def __init__(self) -> None:
        self.context: Context = copy_context()
        """What is set in it holds in the threads."""
        self._jobs: deque[Callable[[], None]] = deque()
        self._news = Condition(Lock())
        self._idle = 0  # threads that wait for a job
        self._numbers = itertools.count()
        self._running: dict[int, float] = {}  # when those have begun that run
        self._is_over = False

    def __repr__(self) -> str:
        return f"<Runner, {len(self._running)} callbacks run and {len(self._jobs)} wait>"

    @property
    def in_hand(self) -> int:
        """How many have not ended."""
        return len(self._jobs) + len(self._running)

    def submit(self, job: Callable[[], None]) -> None:
        """Have a function run, which raises nothing."""
        with self._news:
            self._jobs.append(job)
            if self._idle:
                self._news.notify()
            else:
                self._add_thread()

    def end(self) -> None:
        """End the threads when they have finished what they run."""
        with self._news:
            self._is_over = True
            self._news.notify_all()

    def _add_thread(self) -> None:
        self._idle += 1  # from now on, so that nobody adds another one
        threading.Thread(target=self.context.copy().run, args=(self._run,), name="mob-callbacks", daemon=True).start()

    def _run(self) -> None:
        while (begun := self._begin_next()) is not None:
            number, job = begun
            try:
                carry_on(job, None)
            finally:
                with self._news:
                    del self._running[number]
                    self._idle += 1
                    self._news.notify()

    def _begin_next(self) -> tuple[int, Callable[[], None]] | None:
        """Wait for a job that may begin, with a number; None for the end of this thread."""
        with self._news:
            while not self._jobs or self._pause() > 0:
                if self._is_over or (not self._jobs and self._idle > 1):
                    self._idle -= 1
                    return None
                self._news.wait(self._pause() if self._jobs else None)
            self._idle -= 1
            job = self._jobs.popleft()
            if self._jobs and not self._idle:
                self._add_thread()
            number = next(self._numbers)
            self._running[number] = monotonic()
            return number, job

    def _pause(self) -> float:
        """Return for how many seconds the youngest of those that run still holds up the next one."""
        youngest = max(self._running.values(), default=0.0)
        return youngest + HOLD - monotonic()
