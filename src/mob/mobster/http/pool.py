"""The threads in which a WSGI application answers: a few, made on demand, with one limited line of jobs.

A thread that finishes a job takes the next one by itself; a sleeping one is woken only if a job is left over. Only one
is woken at a time, and wakes the next one when it runs. So as many threads run as the jobs can use: if the jobs
compute, the interpreter's lock lets one thread run and the others do not compete for it; if they wait, all threads are
awake soon.

The thread that went to sleep last is woken first, because its memory is warm. All threads are daemons: they end when
they are asked to and idle, and never delay the end of the process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Protocol

from mob.rim.lasting import carry_on
from mob.rim.processes import start_thread


class PoolJob(Protocol):
    """A task for a thread of the pool."""

    def run(self) -> None:
        """Do the task, in a thread of the pool."""
        ...


class ThreadPool:
    """Threads that run jobs in the given order. `size`: maximum number of threads; `limit`: of waiting jobs."""

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        self._lock = Lock()
        self._jobs: deque[PoolJob] = deque()
        self._sleeping: list[Lock] = []  # wakes each thread; the one that went to sleep last is at the end
        self._count = 0  # number of threads
        self._is_waking = False  # a thread was woken or made, and does not run yet
        self._is_over = False
        self._on_ended: Callable[[], object] | None = None
        self.running: set[PoolJob] = set()
        """The jobs that threads have begun and not finished."""

    def __repr__(self) -> str:
        return f"<ThreadPool, {len(self.running)} of {self.size} threads work and {self.waiting} jobs wait>"

    @property
    def waiting(self) -> int:
        """Number of jobs that wait for a thread. From any thread."""
        return len(self._jobs)

    @property
    def is_full(self) -> bool:
        """True if no more jobs may wait."""
        return len(self._jobs) >= self.limit and len(self.running) >= self.size

    def submit(self, job: PoolJob) -> None:
        """Run a job in a thread. `RuntimeError` if no thread exists and none can be started."""
        with self._lock:
            self._jobs.append(job)
            woken = self._to_wake()
        self._wake(woken, job)

    def withdraw(self, job: PoolJob) -> bool:
        """Take back a job; return False if a thread has begun it."""
        with self._lock:
            try:
                self._jobs.remove(job)
            except ValueError:
                return False
        return True

    def end(self, on_ended: Callable[[], object]) -> None:
        """End the threads when no job is left; the last one calls `on_ended` then."""
        with self._lock:
            self._is_over, self._on_ended = True, on_ended
            sleeping, self._sleeping = self._sleeping, []
            is_ended = not self._count
        for each in sleeping:
            each.release()
        if is_ended:
            on_ended()

    def _to_wake(self) -> Lock | None:
        """Return what wakes a thread for a waiting job; `_NEW` for a new thread. Called with the lock."""
        if self._is_waking or not self._jobs:
            return None
        if self._sleeping:
            self._is_waking = True
            return self._sleeping.pop()
        if self._count < self.size:
            self._is_waking = True
            self._count += 1
            return _NEW
        return None

    def _wake(self, woken: Lock | None, job: PoolJob | None = None) -> None:
        if woken is not _NEW:
            if woken is not None:
                woken.release()
            return
        try:
            start_thread(self._work, f"mob-wsgi-{self._count - 1}")
        except RuntimeError:  # the system allows no more threads
            with self._lock:
                self._is_waking = False
                self._count -= 1
                if job is None or self._count or job not in self._jobs:
                    return  # another thread will do it
                self._jobs.remove(job)
            raise

    def _work(self) -> None:
        alarm = Lock()
        alarm.acquire()
        job: PoolJob | None = None
        is_woken = True
        while True:
            with self._lock:
                if job is not None:
                    self.running.discard(job)
                if is_woken:
                    self._is_waking = is_woken = False
                job = self._jobs.popleft() if self._jobs else None
                if job is not None:
                    self.running.add(job)
                elif self._is_over:
                    self._count -= 1
                    is_last = not self._count
                    break
                else:
                    self._sleeping.append(alarm)
                woken = self._to_wake()
            if woken is not None:
                self._wake(woken)
            if job is None:
                alarm.acquire()
                is_woken = True
            else:
                carry_on(job.run, None)
        if is_last and self._on_ended is not None:
            self._on_ended()


_NEW = Lock()
"""Stands for a thread that must be started."""
