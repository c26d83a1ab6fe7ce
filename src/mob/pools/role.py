"""`mob.pool`: a pool that is a role of an app, as its mobsters and clients hold it."""

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
    """A pool that is a role of an app (`App.pool`), as any mobster or client of the app holds it: see `mob.pool`.

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
    def _max_workers(self) -> int:  # for libraries that ask a standard executor
        tasks = self._open()
        return max(1, len(tasks.peer.context.roster.places(tasks.role)))

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that are ready."""
        tasks = self._open()
        return [contact.member.pid for contact in tasks.peer.contacts.ready(tasks.role)]

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> PoolFuture[T]:  # type: ignore[override]
        """Have a worker call `fn(*args, **kwargs)`; return a `concurrent.futures.Future` for what it returns.

        What cannot be pickled fails the future, with the place where it stands. `RuntimeError` after `shutdown`.

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
        """Call `fn` for each item, on all workers; return an iterator over the results, in order.

        Several iterables give several arguments, and the shortest ends it. Items travel in chunks: of about 2 ms of
        work, as far as that shows, or of `chunksize` items. The iterables are read at once, as by every executor; with
        `buffersize`, only so many items are taken from them as are under way or unread, so they may be endless.
        The first error is raised in its place and ends it. `TimeoutError` from the iterator if a result is not there
        `timeout` seconds after this call.

        >>> list(pool.map(abs, [-1, -2]))                     # doctest: +SKIP
        [1, 2]
        """
        for name, size in (("chunksize", chunksize), ("buffersize", buffersize)):
            if size is not None and size < 1:
                raise ValueError(f"{name}={size!r}: a whole number of at least 1, or None.")
        tasks = self._begin()
        if not iterables:
            return iter(())
        mapped = PoolMap(tasks, fn, iterables, self._max_workers, chunksize, buffersize)
        mapped.fill()
        return mapped.results(timeout)

    def kill(self, future: PoolFuture[Any]) -> bool:
        """End a task whatever it does; return whether it was still there.

        One that waits is cancelled. One that runs fails with `mob.Lost`: its worker is killed, and another takes the
        place. Tasks that the worker had not begun go to others.

        >>> pool.kill(future)                                 # doctest: +SKIP
        True
        """
        return self._open().kill(future)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks here. `wait`: return when those that were submitted here have ended. `cancel_futures`:
        cancel those that no worker has. The role goes on; others may use it."""
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
        """Return the tasks, which accept more."""
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        return self._open()

    def _open(self) -> Tasks:
        assert self._tasks is not None
        return self._tasks


def pool(role: str) -> RolePool:
    """Return the pool that is a role of this app, to submit functions to it; in a client it is `app.pool(...)`.

    `UnknownRole` if the app has no such role, `NotInMobster` outside of a mobster. Tasks for a role that is not a pool
    fail with `UnknownExport`.

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
        raise NotInMobster(f"the pool of {app!r} can be used in its own workers, and in the process that has made it.")
    return pool_of(peer, role)
