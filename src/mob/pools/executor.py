"""`mob.Pool`: an executor of `concurrent.futures` with supervised workers, in which a death costs one task."""

from __future__ import annotations

import atexit
import inspect
import math
import os
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from mob import sizes
from mob.errors import nearest
from mob.plan import check_role
from mob.pools import hosting
from mob.pools.role import RolePool
from mob.pools.tasks import Tasks
from mob.pools.worker import Setup
from mob.rim import cores


class Pool(RolePool):
    """Worker processes that run any function, behind the interface of `concurrent.futures.ProcessPoolExecutor`.

    `workers`: how many processes (as many as this one may use cores; a limit of a container counts). `initializer`:
    called in each worker with `initargs`, before its first task; if it raises, all tasks fail with `BrokenExecutor`.
    `max_calls`: tasks after which a worker is replaced. `max_memory`: bytes of resident memory, or a size such as
    "500M", beyond which it is. `threads`: how many tasks each worker runs at once (1). `retries`: how often a task is
    run again whose worker has died (0). `preload`: modules that are imported once, and whose memory all workers share.
    `env`: environment variables of the workers, added to those of this process, and set before anything but `preload`
    is imported. `timeout`: seconds that a task may run; then its worker is killed, and it fails with `CallTimeout`.
    `ValueError` or `TypeError` for a value that cannot be meant.

    Functions and arguments are pickled: with cloudpickle where it is installed (`pip install 'mobsters[pool]'`). The
    workers are started by the first task. See docs/pool.md.

    >>> with mob.Pool(8) as pool:                             # doctest: +SKIP
    ...     for part in pool.map(render, frames): ...
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_calls: int | None = None,
        max_memory: int | str | None = None,
        threads: int = 1,
        retries: int = 0,
        preload: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **others: object,
    ) -> None:
        if others:
            raise TypeError(_unknown(next(iter(others))))
        memory: int | None = sizes.settled({"max_memory": max_memory}, cores.usable)["max_memory"]
        _check_counts(workers=workers, max_calls=max_calls, max_memory=memory, threads=threads)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if isinstance(preload, str):
            raise TypeError(f"preload={preload!r} is not a sequence of names of modules, such as ({preload!r},).")
        if type(retries) is not int or retries < 0:
            raise ValueError(f"retries={retries!r} is not a whole number of at least 0.")
        if timeout is not None and not (isinstance(timeout, (int, float)) and 0 < timeout < math.inf):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"timeout={timeout!r} is not a number of seconds above 0, or None.")
        self._kind = hosting.Kind(workers or cores.usable(), threads, memory, tuple(preload), env or {})
        check_role(self._kind.role(), ())
        self._setup = Setup(list(sys.path), os.getcwd(), initializer, tuple(initargs), max_calls)
        self._retries = retries
        self._timeout = timeout
        self._starting = threading.Lock()
        self._role = hosting.ROLE
        self._tasks = None
        self._hosted: HostedPool | None = None
        self._is_shut_down = False
        _pools.add(self)

    def __repr__(self) -> str:
        return f"<Pool of {self._kind.workers} workers{', shut down' if self._is_shut_down else ''}>"

    @property
    def _max_workers(self) -> int:
        return self._kind.workers

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that are ready; none before the first task."""
        return [] if self._tasks is None else super().pids

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._is_shut_down = True
            if self._hosted is not None:
                self._hosted.end_at_once()
        else:
            self.shutdown()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks, and end the workers when those that were submitted have ended.

        `wait`: return when that is so. `cancel_futures`: cancel the tasks that no worker has. At the end of a `with`
        this is done, but for Ctrl-C: then the workers are ended at once.

        >>> pool.shutdown(wait=False, cancel_futures=True)    # doctest: +SKIP
        """
        super().shutdown(False, cancel_futures=cancel_futures)
        if self._hosted is not None:
            self._hosted.end(wait)

    def _open(self) -> Tasks:
        with self._starting:
            if self._tasks is None:
                app = hosting.start(self._kind)
                caller = app.client._open_caller()  # pyright: ignore[reportPrivateUsage]
                tasks = Tasks(caller, self._role, self._setup, self._retries, self._timeout)
                self._hosted = HostedPool(app, tasks)
                weakref.finalize(self, self._hosted.end, False).atexit = False
                self._tasks = tasks
            return self._tasks


ELSEWHERE = {
    "max_workers": "workers",
    "processes": "workers",
    "max_tasks_per_child": "max_calls",
    "maxtasksperchild": "max_calls",
}
"""Options of `ProcessPoolExecutor` and `multiprocessing.Pool`, and what they are called here."""


def _unknown(option: str) -> str:
    """Return what is said of an option that does not exist."""
    own = [name for name in inspect.signature(Pool).parameters if name != "others"]
    here = f"Here it is {ELSEWHERE[option]!r}." if option in ELSEWHERE else nearest(option, own)
    return f"mob.Pool has no option {option!r}. {here}"


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


@atexit.register
def _refuse_more() -> None:
    """Accept no more tasks, because the process ends and nobody would wait for them."""
    for pool in list(_pools):
        pool._is_shut_down = True  # pyright: ignore[reportPrivateUsage]


class HostedPool:
    """The app of a pool, until its last task has ended. It may outlive the pool."""

    def __init__(self, app: hosting.StartedApp, tasks: Tasks) -> None:
        self._app = app
        self._tasks = tasks
        self._ending = threading.RLock()
        self._is_over = False
        self._pid = os.getpid()
        atexit.register(self._end_with_the_process)  # behind the app's own, so it comes first

    def __repr__(self) -> str:
        return f"<HostedPool {self._app.client!r}{', over' if self._is_over else ''}>"

    def end(self, wait: bool) -> None:
        """Give the app back when all tasks have ended; `wait` for that."""
        if self._is_over or os.getpid() != self._pid:
            return
        if wait:
            self._tasks.wait()
            self._give_back()
        else:
            self._tasks.when_empty(self._give_back_elsewhere)

    def end_at_once(self) -> None:
        """End the app, whatever its workers do."""
        with self._ending:
            if not self._is_over:
                self._is_over = True
                atexit.unregister(self._end_with_the_process)
                self._app.client.end_at_once()

    def _give_back(self) -> None:
        with self._ending:
            if not self._is_over:
                self._is_over = True
                atexit.unregister(self._end_with_the_process)
                hosting.keep(self._app, self._tasks.used)

    def _give_back_elsewhere(self) -> None:
        """Not in the thread that reads the answers: that one is the app's own."""
        try:
            threading.Thread(target=self._give_back, name="mob-pool-end", daemon=True).start()
        except RuntimeError:  # the interpreter is about to end, and `_end_with_the_process` follows
            pass

    def _end_with_the_process(self) -> None:
        if os.getpid() == self._pid:
            _refuse_more()
            was_interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
            try:
                if not was_interrupted:
                    self._tasks.wait()
                    return
            except KeyboardInterrupt:  # nobody is left to catch it
                pass
            self.end_at_once()


def _check_counts(**counts: Any) -> None:
    for name, count in counts.items():
        if count is None and name != "threads":
            continue
        if type(count) is not int:
            raise TypeError(f"{name}={count!r} is not a whole number of at least 1.")
        if count < 1:
            raise ValueError(f"{name}={count!r} is not a whole number of at least 1.")
