"""`mob.Pool`: an executor of `concurrent.futures` with supervised workers, in which a crash costs one task."""

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
    """Worker processes that run any function, with the interface of `concurrent.futures.ProcessPoolExecutor`.

    Functions and arguments are pickled, with cloudpickle if it is installed (`pip install 'mobsters[pool]'`). The first
    task starts the workers. See docs/pool.md.

    Args:
        workers: Number of processes. Default: the number of cores that this process may use, including container
            limits.
        initializer: A function that is called in each worker before its first task. If it raises, all tasks fail with
            `BrokenExecutor`.
        initargs: Positional arguments of `initializer`.
        max_calls: Number of tasks after which a worker is replaced. Default: None, no limit.
        max_memory: Resident memory above which a worker is replaced, in bytes or as a size such as "500M". Default:
            None, no limit.
        threads: Number of tasks that each worker runs at once. Default: 1.
        retries: Number of times that a task is run again after its worker died. Default: 0.
        preload: Names of modules that are imported once and whose memory all workers share.
        env: Environment variables of the workers, added to those of this process. They are set before anything except
            `preload` is imported.
        timeout: Seconds that a task may run; then its worker is killed and it fails with `CallTimeout`. Default: None,
            no limit.

    Raises:
        TypeError: There is no such option, or a value has the wrong type.
        ValueError: A value is out of range.

    Example:
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
            raise TypeError(f"preload={preload!r} is not a sequence of module names, such as ({preload!r},).")
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
        """The process ids of the ready workers; empty before the first task."""
        return [] if self._tasks is None else super().pids

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._is_shut_down = True
            if self._hosted is not None:
                self._hosted.end_at_once()
        else:
            self.shutdown()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks, and end the workers when the submitted tasks have ended.

        The end of a `with` block does this, except after Ctrl-C, which ends the workers at once.

        Args:
            wait: Return only when all tasks have ended. Default: True.
            cancel_futures: Cancel the tasks that no worker has begun. Default: False.

        Example:
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
"""Options of `ProcessPoolExecutor` and `multiprocessing.Pool`, and their names here."""


def _unknown(option: str) -> str:
    """Return the error text for an unknown option."""
    own = [name for name in inspect.signature(Pool).parameters if name != "others"]
    here = f"Here it is {ELSEWHERE[option]!r}." if option in ELSEWHERE else nearest(option, own)
    return f"mob.Pool has no option {option!r}. {here}"


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


@atexit.register
def _refuse_more() -> None:
    """Accept no more tasks, because the process ends and would not wait for them."""
    for pool in list(_pools):
        pool._is_shut_down = True  # pyright: ignore[reportPrivateUsage]


class HostedPool:
    """The app of a pool, until its last task has ended; it may outlive the pool."""

    def __init__(self, app: hosting.StartedApp, tasks: Tasks) -> None:
        self._app = app
        self._tasks = tasks
        self._ending = threading.RLock()
        self._is_over = False
        self._pid = os.getpid()
        atexit.register(self._end_with_the_process)  # registered after the app's own, so it is called first

    def __repr__(self) -> str:
        return f"<HostedPool {self._app.client!r}{', over' if self._is_over else ''}>"

    def end(self, wait: bool) -> None:
        """Give back the app when all tasks have ended; with `wait`, return only then."""
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
        """Give back the app in another thread than the one that reads the answers, which belongs to the app."""
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
            except KeyboardInterrupt:  # no caller is left to catch it
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
