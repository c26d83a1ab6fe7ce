"""Kills random workers while a suite runs: a call that may be repeated must not fail because of it.

The seed decides which of the workers is next. A worker is held by its pidfd before it is killed, so a process that has
taken the pid of one that ended meanwhile is never hit.

A worker has to get the time to do something: on a busy machine one second may be less than it needs to import what its
first task needs, and then no task would ever end. So with `answered` the next worker is killed after a second and a
task.
"""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable
from contextlib import closing

from mob.rim.pidfds import ProcessHandle


class Killer:
    """A thread that kills one of the workers at intervals, as long as its block runs; at the end it says how many.

    Args:
        pids: returns the pids of the workers that run now; called in the killer's thread.
        seed: the seed of the choice.
        every: seconds from one kill to the next, at least.
        answered: returns how many tasks have ended; until that has changed since a kill, none follows. None: the time
            alone decides.

    Example:
        >>> with Killer(lambda: pool.pids, seed=7):
        ...     run_the_tests()
    """

    def __init__(
        self,
        pids: Callable[[], list[int]],
        seed: int,
        every: float = 1.0,
        answered: Callable[[], int] | None = None,
    ) -> None:
        self._pids = pids
        self._seed = seed
        self._every = every
        self._answered = answered
        self._answered_before = 0  # the last kill
        self._random = random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)
        self.count = 0
        """How many workers it has killed."""

    def __repr__(self) -> str:
        return f"<Killer seed={self._seed} every={self._every:g} s count={self.count}>"

    def __enter__(self) -> Killer:
        print(f"killer: a random worker every {self._every:g} s, seed {self._seed}", flush=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        print(f"killer: {self.count} killed, seed {self._seed}", flush=True)

    def kill_one(self) -> bool:
        """Kill a random worker; return whether there was one."""
        workers = sorted(self._pids())
        if not workers:
            return False
        chosen = self._random.choice(workers)
        try:
            handle = ProcessHandle(chosen)
        except ProcessLookupError:
            return False
        with closing(handle):
            if chosen not in self._pids() or handle.has_ended():  # it may have ended before it was held
                return False
            handle.signal(signal.SIGKILL)
        self.count += 1
        if self._answered is not None:
            self._answered_before = self._answered()
        return True

    def has_progress(self) -> bool:
        """Return whether a task has ended since the last kill."""
        return self._answered is None or self._answered() > self._answered_before

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            if self.has_progress():
                self.kill_one()
