"""The threads in which a WSGI application answers: a few, made on demand, with one bounded line of jobs before them.

A thread that has finished takes the next job by itself; one that sleeps is woken only if there is a job left over. And
only one is woken at a time: it wakes the next one when it runs. So as many threads run as the jobs can use. If the jobs
compute, the interpreter's lock lets one thread run, and the others do not fight for it; if they wait, all are awake at
once.

The thread that slept last is woken first, because its memory is warm. All threads are daemons: they end when they are
asked to and idle, and never hold up the end of the process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Protocol

from mob.rim.lasting import carry_on
from mob.rim.processes import start_thread


class PoolJob(Protocol):
    """Something that a thread of the pool does."""

    def run(self) -> None:
        """Do it. In a thread of the pool."""
        ...


class ThreadPool:
    """Threads that run jobs in the order given. `size`: how many at once; `limit`: how many may wait for a thread."""

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        self._lock = Lock()
        self._jobs: deque[PoolJob] = deque()
        self._sleeping: list[Lock] = []  # what wakes each of them, the last one to sleep at the end
        self._count = 0  # threads that there are
        self._is_waking = False  # a thread was woken, or made, and does not run yet
        self._is_over = False
        self._on_ended: Callable[[], object] | None = None
        self.running: set[PoolJob] = set()
        """The jobs that threads have begun and not finished."""

    def __repr__(self) -> str:
        return f"<ThreadPool, {len(self.running)} of {self.size} threads work and {self.waiting} jobs wait>"

    @property
    def waiting(self) -> int:
        """How many jobs wait for a thread. From any thread."""
        return len(self._jobs)

    @property
    def is_full(self) -> bool:
        """Return whether no more jobs may wait."""
        return len(self._jobs) >= self.limit and len(self.running) >= self.size

    def submit(self, job: PoolJob) -> None:
        """Have a job run. `RuntimeError` if there is no thread, and none can be made."""
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
        """Have the threads end when no job is left. `on_ended` is called then, by the last of them."""
        with self._lock:
            self._is_over, self._on_ended = True, on_ended
            sleeping, self._sleeping = self._sleeping, []
            is_ended = not self._count
        for each in sleeping:
            each.release()
        if is_ended:
            on_ended()

    def _to_wake(self) -> Lock | None:
        """Decide, holding the lock, which thread is woken for a job that waits; a locked Lock stands for a new one."""
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
        except RuntimeError:  # the system gives no more threads
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
"""Stands for a thread that is still to be made."""
