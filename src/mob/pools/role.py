"""`mob.pool`: a pool that is a role of an app, for its mobsters and clients."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any, TypeVar

from mob.errors import NotInMobster
from mob.mobster import api
from mob.peer.calls.outgoing import Outgoing
from mob.pools.futures import PoolFuture, PoolTask
from mob.pools.mapping import PoolMap
from mob.pools.tasks import Tasks
from mob.pools.worker import Setup

T = TypeVar("T")


class RolePool(Executor):
    """A pool that is a role of an app (`App.pool`), for any mobster or client of the app; see `mob.pool`.

    >>> mob.pool("crunch").submit(pow, 2, 10).result()        # doctest: +SKIP
    1024
    """

    def __init__(self, peer: Outgoing, role: str) -> None:
        self._role = role
        self._tasks: Tasks | None = Tasks(peer, role, Setup(list(sys.path), None))
        self._is_shut_down = False

    def __repr__(self) -> str:
        return f"<RolePool {self._role!r}{', shut down' if self._is_shut_down else ''}>"

    def __reduce__(self) -> Any:
        return _own_pool, (self._open().peer.context.app, self._role)

    @property
    def _max_workers(self) -> int:  # for libraries that use this attribute of standard executors
        tasks = self._open()
        return max(1, len(tasks.peer.context.roster.places(tasks.role)))

    @property
    def pids(self) -> list[int]:
        """The process ids of the ready workers."""
        tasks = self._open()
        return [contact.member.pid for contact in tasks.peer.contacts.ready(tasks.role)]

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> PoolFuture[T]:  # type: ignore[override]
        """Submit a call `fn(*args, **kwargs)` to a worker.

        Args:
            fn: The function.
            *args: Its positional arguments.
            **kwargs: Its named arguments.

        Returns:
            A `concurrent.futures.Future` for the result. It fails with `CannotPickle` for a function or argument that
                cannot
            be pickled; the text names the part.

        Raises:
            RuntimeError: The pool was shut down.

        Example:
            >>> pool.submit(pow, 2, 10).result()                  # doctest: +SKIP
            1024
        """
        tasks = self._tasks if self._tasks is not None and not self._is_shut_down else self._begin()
        future: PoolFuture[T] = PoolFuture(tasks, PoolTask(fn, (args, kwargs)))
        tasks.submit(future)
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call `fn` for each item, on all workers.

        The first error is raised in its place and ends the map.

        Args:
            fn: The function.
            *iterables: One iterable for each argument of `fn`; the shortest one ends the map. They are read at once, as
                by
                every executor, unless there is a `buffersize`.
            timeout: Seconds after this call within which each result must arrive. Default: None, no limit.
            chunksize: Number of items in one task. Default: about 2 ms of work, once that is known.
            buffersize: Maximum number of items that are under way or unread, so the iterables may be endless. Default:
                None,
                no limit.

        Returns:
            An iterator over the results, in order. It raises `TimeoutError` after `timeout` seconds.

        Raises:
            ValueError: `chunksize` or `buffersize` is less than 1.
            RuntimeError: The pool was shut down.

        Example:
            >>> list(pool.map(abs, [-1, -2]))                     # doctest: +SKIP
            [1, 2]
        """
        for name, size in (("chunksize", chunksize), ("buffersize", buffersize)):
            if size is not None and size < 1:
                raise ValueError(f"{name}={size!r}: expected a whole number of at least 1, or None.")
        tasks = self._begin()
        if not iterables:
            return iter(())
        mapped = PoolMap(tasks, fn, iterables, self._max_workers, chunksize, buffersize)
        mapped.fill()
        return mapped.results(timeout)

    def kill(self, future: PoolFuture[Any]) -> bool:
        """End a task, whatever it does.

        A waiting task is cancelled. A running one fails with `mob.Lost`: its worker is killed and replaced. Tasks that
        the worker had not begun go to others.

        Args:
            future: The future of the task.

        Returns:
            True if the task had not ended before.

        Example:
            >>> pool.kill(future)                                 # doctest: +SKIP
            True
        """
        return self._open().kill(future)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks here; the role goes on, and others may use it.

        Args:
            wait: Return only when the tasks that were submitted here have ended. Default: True.
            cancel_futures: Cancel the tasks that no worker has begun. Default: False.
        """
        self._is_shut_down = True
        tasks = self._tasks
        if tasks is None:
            return
        if cancel_futures:
            for future in tasks.pending:
                future.cancel()
        if wait:
            tasks.wait()

    def _begin(self) -> Tasks:
        """Return the tasks, if they accept more."""
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        return self._open()

    def _open(self) -> Tasks:
        assert self._tasks is not None
        return self._tasks


def pool(role: str) -> RolePool:
    """Return the pool that is a role of this app, to submit functions to it; in a client it is `app.pool(...)`.

    Args:
        role: The name of the role. Tasks for a role that is not a pool fail with `UnknownExport`.

    Raises:
        UnknownRole: The app has no such role.
        NotInMobster: This process is not a mobster.

    Example:
        >>> mob.pool("crunch").submit(pow, 2, 10)                 # doctest: +SKIP
    """
    return pool_of(api.current("pool"), role)


def pool_of(peer: Outgoing, role: str) -> RolePool:
    """Return the pool that is a role."""
    peer.context.roster.check_role(role, "pool")
    return RolePool(peer, role)


def _own_pool(app: str, role: str) -> RolePool:
    """Return, in a worker, the pool that was sent to it."""
    peer = api.current("a mob.Pool that was sent to another process")
    if peer.context.app != app:
        raise NotInMobster(f"the pool of {app!r} can be used only in its own workers and in the process that made it.")
    return pool_of(peer, role)
