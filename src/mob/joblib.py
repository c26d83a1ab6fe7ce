"""The joblib backend "mob": the tasks of `joblib.Parallel` run in the workers of a `mob.Pool`.

Importing this module registers the backend, because joblib does not search for backends. A backend object serves one
`Parallel` at a time and holds a `PoolShare`: the tasks of that `Parallel`, which an abort cancels or kills without
affecting those of others in the same pool. `WarmPools` keeps the pools between calls. Tasks are pickled here, because
arrays that are mapped from a file must stay so: a task may write its result through one.
"""

# pyright: basic
# joblib and cloudpickle have no types.

from __future__ import annotations

import io
import os
import pickle
import threading
import weakref
from collections import ChainMap
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import cloudpickle
from joblib._memmapping_reducer import _get_backing_memmap, _reduce_memmap_backed, np as numpy
from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    ThreadingBackend,
    cpu_count,
    register_parallel_backend,
)

from mob.pools.executor import Pool
from mob.pools.futures import PoolFuture

__all__ = ["IDLE_WORKER_TIMEOUT"]  # joblib has no types, so neither has what derives from it

IDLE_WORKER_TIMEOUT = 300.0
"""Seconds after which an unused pool is closed."""
OF_OTHER_BACKENDS = frozenset({"context", "max_nbytes", "mmap_mode", "prefer", "require", "temp_folder", "verbose"})
"""Options that joblib passes to every backend and that have no effect here: no array is written to a file."""

_is_worker = False  # True once this process ran tasks of the backend


class _MobBackend(AutoBatchingMixin, ParallelBackendBase):
    """The backend "mob" of joblib: `import mob.joblib`, then name it in `joblib.parallel_config` or `joblib.Parallel`.

    It takes the options of `mob.Pool`, such as `retries=2` or `max_memory=2**30`, and two of joblib's own:
    `inner_max_num_threads`, by default the number of cores divided by the number of workers, and
    `idle_worker_timeout`, the seconds for which unused workers stay (300 by default).

    Example:
        >>> import joblib, mob.joblib
        >>> with joblib.parallel_config("mob", n_jobs=4, retries=2):                             # doctest: +SKIP
        ...     joblib.Parallel()(joblib.delayed(pow)(x, 2) for x in range(5))
        [0, 1, 4, 9, 16]
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    _workers: PoolShare | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return the number of workers for `n_jobs`: -1 is all cores, -2 all but one, None is 1; `ValueError` for 0."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(cpu_count() + 1 + n_jobs, 1)

    def configure(
        self, n_jobs: int = 1, parallel: Any = None, prefer: Any = None, require: Any = None, **options: Any
    ) -> int:
        """Take a share of a pool for a `Parallel`, and return its number of workers."""
        workers = self.effective_n_jobs(n_jobs)
        if workers == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if _is_worker:  # its own workers would exceed the number of cores
            raise FallbackToBackend(ThreadingBackend(nesting_level=self.nesting_level))
        if self._workers is not None:  # another Parallel of the same `with parallel_config(...)` uses it
            raise FallbackToBackend(self._copy())
        options = {name: value for name, value in options.items() if name not in OF_OTHER_BACKENDS}
        options = {"idle_worker_timeout": IDLE_WORKER_TIMEOUT, **self.backend_kwargs, **options}
        idle_timeout = options.pop("idle_worker_timeout")
        if not options.get("preload"):  # preloaded modules read the variables already
            options["env"] = {**self._prepare_worker_env(n_jobs=workers), **options.get("env", {})}
        self.parallel = parallel
        self._workers = warm.share({"workers": workers, **options}, idle_timeout)
        return workers

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Future[Any]:
        """Submit a batch of tasks to a worker; `callback` gets the future when it is done."""
        if self._workers is None:  # another thread aborted the Parallel meanwhile
            future: Future[Any] = Future()
            future.cancel()
            return future
        return self._workers.submit(func, callback)

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return the results of a batch, or raise what one of its tasks raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel the waiting tasks of this `Parallel`, and kill the workers that run the others."""
        self._end(PoolShare.abort)
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel, **self.parallel._backend_kwargs)

    def terminate(self) -> None:
        """Give the share back; the workers stay for the next `Parallel`."""
        self._end(PoolShare.give_back)
        self.reset_batch_stats()

    def _copy(self) -> _MobBackend:
        named = {"nesting_level": self.nesting_level, "inner_max_num_threads": self.inner_max_num_threads}
        return _MobBackend(**named, **self.backend_kwargs)

    def _end(self, how: Callable[[PoolShare], object]) -> None:
        workers, self._workers = self._workers, None
        if workers is not None:
            how(workers)


_MobBackend.__name__ = "MobBackend"  # joblib shows this name; the class is private, because its bases have no types


class PoolShare:
    """The tasks of one `Parallel` in a pool that others may use as well."""

    def __init__(self, pool: Pool, give_back: Callable[[], object]) -> None:
        self._pool = pool
        self._unfinished: set[PoolFuture[Any]] = set()
        self._is_aborted = False
        self._give_back = weakref.finalize(self, give_back)  # also if joblib forgets the share

    def __repr__(self) -> str:
        return f"<PoolShare of {self._pool!r}, {len(self._unfinished)} unfinished>"

    def submit(self, batch: Callable[[], Any], callback: Callable[[Any], Any] | None) -> Future[Any]:
        """Submit a batch to a worker. Errors are always in the future: joblib submits in threads that swallow them."""
        try:
            future = self._pool.submit(_run, *_pickled(batch))
        except Exception as error:  # noqa: BLE001  see above
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return _with_callback(failed, callback)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        if self._is_aborted:
            self.abort()
        return _with_callback(future, callback)

    def abort(self) -> None:
        """Cancel the waiting tasks, kill the workers that run the others, and give the share back."""
        self._is_aborted = True
        running = [future for future in tuple(self._unfinished) if not future.cancel()]
        for future in running:
            self._pool.kill(future)
        self.give_back()

    def give_back(self) -> None:
        """Stop using the pool."""
        self._give_back()


def _with_callback(future: Future[Any], callback: Callable[[Any], Any] | None) -> Future[Any]:
    if callback is not None:
        future.add_done_callback(callback)
    return future


class WarmPools:
    """The pools that stay between calls of `Parallel`: those in use, and the one that was used last."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # the garbage collector may give a share back while it is held
        self._pools: dict[bytes, WarmPool] = {}

    def __repr__(self) -> str:
        return f"<WarmPools, {len(self._pools)} open>"

    @property
    def pids(self) -> list[int]:
        """Process ids of the running workers of all pools."""
        with self._lock:
            return [pid for warm in self._pools.values() for pid in warm.pool.pids]

    def share(self, options: dict[str, Any], idle_timeout: float) -> PoolShare:
        """Return a share of the pool with these options; start it if there is none, and close unused pools.

        Args:
            options: The options of `mob.Pool`.
            idle_timeout: Seconds for which the pool stays after its last share was given back.
        """
        settings = cloudpickle.dumps(options)
        with self._lock:
            warm = self._pools.get(settings)
            if warm is not None and warm.is_broken:
                warm = None
            self._close(other for other in self._pools.values() if other is not warm and not other.users)
            if warm is None:
                warm = self._pools[settings] = WarmPool(settings, Pool(**options))
            warm.users += 1
            warm.cancel_closing()
            return PoolShare(warm.pool, partial(self._give_back, warm, idle_timeout))

    def shutdown(self) -> None:
        """Close all pools, also those in use."""
        with self._lock:
            self._close(self._pools.values())

    def _give_back(self, warm: WarmPool, idle_timeout: float) -> None:
        with self._lock:
            warm.users -= 1
            if not warm.users:
                warm.close_after(idle_timeout, self._close_unused)

    def _close_unused(self, warm: WarmPool) -> None:
        with self._lock:
            if not warm.users:
                self._close([warm])

    def _close(self, pools: Iterable[WarmPool]) -> None:
        for warm in tuple(pools):
            if self._pools.get(warm.settings) is warm:
                del self._pools[warm.settings]
            warm.cancel_closing()
            warm.pool.shutdown(wait=False)


@dataclass(eq=False)
class WarmPool:
    """A pool, and the number of its shares in use."""

    settings: bytes
    pool: Pool
    users: int = 0
    _timer: threading.Timer | None = None

    @property
    def is_broken(self) -> bool:
        """True if its initializer failed, so that it runs no tasks."""
        tasks = self.pool._tasks
        return tasks is not None and tasks.broken is not None

    def close_after(self, seconds: float, close: Callable[[WarmPool], object]) -> None:
        """Close it after some seconds, unless that is cancelled."""
        self._timer = threading.Timer(seconds, close, [self])
        self._timer.daemon = True
        self._timer.start()

    def cancel_closing(self) -> None:
        """Keep it open."""
        if self._timer is not None:
            self._timer.cancel()


warm: WarmPools = WarmPools()
"""The pools of this process."""


def _reduce_array(array: Any) -> Any:
    mapped = _get_backing_memmap(array)
    if isinstance(mapped, numpy.memmap):
        return _reduce_memmap_backed(array, mapped)
    return array.__reduce_ex__(pickle.HIGHEST_PROTOCOL)


class _TaskPickler(cloudpickle.Pickler):
    """A pickler that sends an array mapped from a file as the file's name, so that a task reads and writes the file."""

    dispatch_table: ClassVar[Any] = ChainMap(
        {} if numpy is None else {numpy.ndarray: _reduce_array, numpy.memmap: _reduce_array},
        dict(cloudpickle.Pickler.dispatch_table),
    )


def _pickled(batch: Any) -> list[pickle.PickleBuffer]:
    """Return a batch as bytes, and the buffers of its arrays, which the pool sends through shared memory."""
    buffers: list[pickle.PickleBuffer] = []
    file = io.BytesIO()
    try:
        _TaskPickler(file, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append).dump(batch)
    except Exception as error:
        raise pickle.PicklingError(f"cannot pickle the task to send to a worker: {error}") from error
    return [pickle.PickleBuffer(file.getbuffer()), *buffers]


def _run(data: Any, *buffers: Any) -> Any:
    """Run a batch, in a worker."""
    global _is_worker
    _is_worker = True
    return pickle.loads(data, buffers=buffers)()


os.register_at_fork(after_in_child=warm.__init__)
register_parallel_backend("mob", _MobBackend)
