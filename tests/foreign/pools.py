"""The pools of suites during which workers are killed, and what CPython's tests get in the place of
`ProcessPoolExecutor`: a pool of mob with the parameters of that.

CPython's tests also look at private attributes. Those that say something of any pool of processes are made here of what
a pool of mob says in public.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from typing import Any, ClassVar

import psutil

import mob
from tests.patience import PATIENCE


class Worker(psutil.Process):
    """A process of a pool, as the tests of CPython know one."""

    def join(self) -> None:
        """Wait until it has ended."""
        self.wait(PATIENCE)


class Nothing:
    """Stands for the thread and the queue of CPython's executor: a pool of mob has neither, so none has to be waited
    for."""

    def join(self) -> None: ...

    join_thread = join


class Watched(mob.Pool):
    """A pool whose workers a killer may find, and which says how many tasks have ended."""

    retries = 0
    """How often a call is repeated whose worker died, in all pools that do not say it themselves."""
    answered = 0
    """How many tasks of all pools have ended."""
    alive: ClassVar[weakref.WeakSet[Watched]] = weakref.WeakSet()

    def __init__(self, workers: int | None = None, **options: Any) -> None:
        super().__init__(workers, **{"retries": self.retries, **options})
        self.alive.add(self)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **named: Any) -> Any:
        future = super().submit(fn, *args, **named)
        future.add_done_callback(self._count)
        return future

    @classmethod
    def all_pids(cls) -> list[int]:
        """Return the pids of the workers of all pools."""
        return [pid for pool in list(cls.alive) for pid in pool.pids]

    @classmethod
    def all_answered(cls) -> int:
        """Return how many tasks of all pools have ended."""
        return Watched.answered

    @staticmethod
    def _count(_: object) -> None:
        Watched.answered += 1


class Pool(Watched):
    """A pool with the parameters of `ProcessPoolExecutor`."""

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: object = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        super().__init__(
            max_workers,
            initializer=initializer,
            initargs=initargs,
            max_calls=max_tasks_per_child,
        )
        self._executor_manager_thread = self._call_queue = Nothing()

    @property
    def _processes(self) -> dict[int, Worker]:
        return {pid: Worker(pid) for pid in self.pids}

    @property
    def _broken(self) -> bool:
        try:
            return isinstance(self.submit(int).exception(PATIENCE), BrokenExecutor)
        except BrokenExecutor:
            return True
