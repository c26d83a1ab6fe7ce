"""The pools of `python -m bench.pools`, each in its own words.

Limits: two workers each, a process each. The pools of the standard library and of mpire are forked, as they are by
default on Linux before Python 3.14.
"""

from __future__ import annotations

# Only `make bench` installs them. pyright is told so by the next line.
# pyright: reportMissingImports=false, reportMissingModuleSource=false
import importlib
import multiprocessing
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from bench import pools_work as work
from bench.pools_side import WORKERS, Done, PoolSide
from bench.side import die_with_parent


def tell(done: Done, future: Future[Any]) -> None:
    done(future.exception() or future.result())


class ExecutorSide(PoolSide):
    """A pool with the interface of `concurrent.futures`."""

    pool: Executor

    def submit(self, function: Callable[..., Any], argument: Any) -> Future[Any]:
        return self.pool.submit(function, argument)

    def results(self, handles: list[Future[Any]]) -> list[Any]:
        return [future.result() for future in handles]

    def begin(self, function: Callable[..., Any], arguments: Iterable[Any], done: Done) -> None:
        for argument in arguments:
            self.submit(function, argument).add_done_callback(partial(tell, done))

    def map(self, n: int, chunk: int | None) -> int:
        options = {} if chunk is None else {"chunksize": chunk}
        return sum(self.pool.map(work.increment, range(n), **options))

    def close(self) -> None:
        self.pool.shutdown()

    def calls(self, function: Callable[..., Any], n: int) -> None:
        submit = self.pool.submit
        for i in range(n):
            submit(function, i).result()


class Mob(ExecutorSide):
    label = "mob"
    script = """
import mob
with mob.Pool(2) as pool:
    answer = pool.submit(pow, 2, 3).result()
    wait()
"""

    def open(self) -> None:
        import mob

        self._new = mob.Pool
        self.pool = mob.Pool(WORKERS)

    def once(self) -> None:
        with self._new(WORKERS) as pool:
            pool.submit(pow, 2, 3).result()


class StandardExecutor(ExecutorSide):
    label = "ProcessPoolExecutor"
    script = """
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(2) as pool:
    answer = pool.submit(pow, 2, 3).result()
    wait()
"""

    def open(self) -> None:
        fork = multiprocessing.get_context("fork")
        self.pool = ProcessPoolExecutor(WORKERS, mp_context=fork, initializer=die_with_parent)

    def once(self) -> None:
        with ProcessPoolExecutor(WORKERS) as pool:
            pool.submit(pow, 2, 3).result()


class Loky(ExecutorSide):
    label = "loky"
    limits = "`get_reusable_executor`, so warm starts find its workers running"
    script = """
from loky import get_reusable_executor
with get_reusable_executor(2) as pool:
    answer = pool.submit(pow, 2, 3).result()
    wait()
"""

    def open(self) -> None:
        import loky

        get: Callable[..., Executor] = loky.get_reusable_executor
        self._get = partial(get, WORKERS, timeout=None)
        self.pool = self._get()

    def once(self) -> None:
        self._get().submit(pow, 2, 3).result()


class StandardPool(PoolSide):
    label = "multiprocessing.Pool"
    limits = "`apply_async`; `close` and `join` at its end"
    script = """
import multiprocessing
with multiprocessing.Pool(2) as pool:
    answer = pool.apply_async(pow, (2, 3)).get()
    wait()
    pool.close()
    pool.join()
"""

    def open(self) -> None:
        self.pool = multiprocessing.get_context("fork").Pool(WORKERS, die_with_parent)

    def close(self) -> None:
        self.pool.terminate()

    def submit(self, function: Callable[..., Any], argument: Any) -> Any:
        return self.pool.apply_async(function, (argument,))

    def results(self, handles: list[Any]) -> list[Any]:
        return [handle.get() for handle in handles]

    def begin(self, function: Callable[..., Any], arguments: Iterable[Any], done: Done) -> None:
        for argument in arguments:
            self.pool.apply_async(function, (argument,), callback=done, error_callback=done)

    def map(self, n: int, chunk: int | None) -> int:
        return sum(self.pool.map(work.increment, range(n), chunk))

    def once(self) -> None:
        with multiprocessing.Pool(WORKERS) as pool:
            pool.apply_async(pow, (2, 3)).get()
            pool.close()
            pool.join()


class Mpire(StandardPool):
    label = "mpire"
    limits = "`apply_async`; a second pool for `map`, for one that has applied cannot map; `keep_alive=True`"
    script = """
from mpire import WorkerPool
with WorkerPool(2) as pool:
    answer = pool.apply_async(pow, (2, 3)).get()
    wait()
    pool.stop_and_join()
"""

    def open(self) -> None:
        import mpire

        new: Callable[..., Any] = mpire.WorkerPool  # pyright: ignore[reportPrivateImportUsage] - as its page has it
        self._new = partial(new, WORKERS, start_method="fork")
        self.pool, self._mapping = self._new(keep_alive=True), self._new(keep_alive=True)

    def close(self) -> None:
        for pool in (self.pool, self._mapping):
            ending = threading.Thread(target=pool.terminate, daemon=True)  # after the kill of a worker it never returns
            ending.start()
            ending.join(5)

    def map(self, n: int, chunk: int | None) -> int:
        return sum(self._mapping.map(work.increment, range(n), chunk_size=chunk))

    def once(self) -> None:
        with self._new() as pool:
            pool.apply_async(pow, (2, 3)).get()
            pool.stop_and_join()


class Joblib(PoolSide):
    label = "joblib"
    backend = "loky"
    limits = (
        "it has no submit: one `Parallel(...)` per call, and one for all calls at once, a map; a killed worker "
        "ends all of it"
    )
    script = """
from joblib import Parallel, delayed
with Parallel(n_jobs=2, backend="loky") as parallel:
    [answer] = parallel([delayed(pow)(2, 3)])
    wait()
"""

    def open(self) -> None:
        import joblib

        self._parallel: Callable[..., Any] = partial(joblib.Parallel, n_jobs=WORKERS, backend=self.backend)
        self._delayed = joblib.delayed
        self.pool: Any = self._parallel().__enter__()

    def close(self) -> None:
        with suppress(Exception):
            self.pool.__exit__(None, None, None)

    def each(self, function: Callable[..., Any], arguments: Iterable[Any]) -> list[Any]:
        delayed = self._delayed(function)
        return self.pool([delayed(argument) for argument in arguments])

    def calls(self, function: Callable[..., Any], n: int) -> None:
        delayed = self._delayed(function)
        for i in range(n):
            self.pool([delayed(i)])

    def windowed(self, function: Callable[..., Any], arguments: Iterable[Any]) -> Iterator[Any]:
        return self._parallel(return_as="generator")(map(self._delayed(function), arguments))

    def begin(self, function: Callable[..., Any], arguments: Iterable[Any], done: Done) -> None:
        calls = [self._delayed(function)(argument) for argument in arguments]
        threading.Thread(target=self._tell_all, args=(calls, done), daemon=True).start()

    def _tell_all(self, calls: list[Any], done: Done) -> None:
        missing = len(calls)
        try:
            for result in self._parallel(return_as="generator_unordered")(calls):
                missing -= 1
                done(result)
        except Exception as error:  # noqa: BLE001 - it is the answer
            for _ in range(missing):
                done(error)

    def map(self, n: int, chunk: int | None) -> int:
        options: dict[str, Any] = {} if chunk is None else {"batch_size": chunk, "pre_dispatch": "all"}
        return sum(self._parallel(**options)(map(self._delayed(work.increment), range(n))))

    def once(self) -> None:
        self._parallel()([self._delayed(pow)(2, 3)])


class JoblibMob(Joblib):
    label = "joblib on mob"
    backend = "mob"
    limits = ""
    script = Joblib.script.replace("from joblib", "import mob.joblib\nfrom joblib").replace('"loky"', '"mob"')

    def open(self) -> None:
        importlib.import_module("mob.joblib")
        super().open()


class Ray(PoolSide):
    label = "Ray"
    limits = "tasks; it repeats those of a worker that died; a chunk of a map is a task; started once, so always warm"
    rows = tuple(row for row in PoolSide.rows if row != "warm")
    script = """
import os, secrets
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
import ray
ray.init(address="local", num_cpus=2, object_store_memory=2**29, include_dashboard=False, log_to_driver=False)
answer = ray.get(ray.remote(lambda x, y: pow(x, y)).remote(2, 3))  # it takes no builtin
wait()
ray.shutdown()
"""

    def open(self) -> None:
        # Read when Ray is imported. With a token of this run's own it writes none into the home folder.
        os.environ |= {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        import ray

        ray.init(
            address="local",  # never a cluster that the environment names
            num_cpus=WORKERS,
            object_store_memory=2**29,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=os.environ.get("TMPDIR"),
        )
        self.ray = ray
        self._remote: Callable[..., Any] = ray.remote
        self._remotes: dict[Callable[..., Any], Any] = {}

    def close(self) -> None:
        self.ray.shutdown()

    def submit(self, function: Callable[..., Any], argument: Any) -> Any:
        remote = self._remotes.get(function)
        if remote is None:
            remote = self._remotes[function] = self._remote(function)
        return remote.remote(argument)

    def results(self, handles: list[Any]) -> list[Any]:
        return self.ray.get(handles)

    def begin(self, function: Callable[..., Any], arguments: Iterable[Any], done: Done) -> None:
        for argument in arguments:
            self.submit(function, argument).future().add_done_callback(partial(tell, done))

    def map(self, n: int, chunk: int | None) -> int:
        if chunk is None:
            return sum(self.each(work.increment, range(n)))
        chunks = [list(range(start, min(start + chunk, n))) for start in range(0, n, chunk)]
        return sum(map(sum, self.each(work.increment_all, chunks)))
