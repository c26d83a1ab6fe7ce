"""Threads for callbacks that arrive while the loop's thread is in plain code and a caller waits for them.

They run one at a time, in the order in which they came. But a slow one may itself wait for one behind it; so after a
while the next one begins in another thread.
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
"""Seconds for which a callback delays the next one."""


class Runner:
    """The callbacks, and the threads that run them."""

    def __init__(self) -> None:
        self.context: Context = copy_context()
        """Context variables that apply in the threads."""
        self._jobs: deque[Callable[[], None]] = deque()
        self._news = Condition(Lock())
        self._idle = 0  # number of threads that wait for a job
        self._numbers = itertools.count()
        self._running: dict[int, float] = {}  # start times of running callbacks
        self._is_over = False

    def __repr__(self) -> str:
        return f"<Runner, {len(self._running)} callbacks run and {len(self._jobs)} wait>"

    @property
    def in_hand(self) -> int:
        """Number of callbacks that have not ended."""
        return len(self._jobs) + len(self._running)

    def submit(self, job: Callable[[], None]) -> None:
        """Run a function that raises nothing."""
        with self._news:
            self._jobs.append(job)
            if self._idle:
                self._news.notify()
            else:
                self._add_thread()

    def end(self) -> None:
        """End the threads when they finish their current callbacks."""
        with self._news:
            self._is_over = True
            self._news.notify_all()

    def _add_thread(self) -> None:
        self._idle += 1  # from now on, so that no other thread is added
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
        """Wait for a job that may begin; return it with a number, or None to end this thread."""
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
        """Return the seconds for which the newest running callback still delays the next one."""
        youngest = max(self._running.values(), default=0.0)
        return youngest + HOLD - monotonic()
