"""What tasks of a pool may do: to their worker, to their pool, and what they raise."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, as_completed, wait
from functools import partial
from typing import Any

import pytest

import mob
from mob.errors import RemoteTraceback
from tests.patience import PATIENCE
from tests.running import wait_until


class Odd(Exception):
    """An error that can be pickled, but not unpickled."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)
        self.b = b


class Unwilling(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no")


class Based(BaseException): ...


def throw(kind: type[BaseException], *args: object) -> None:
    raise kind(*args)


def same(n: int) -> int:
    return n


def fork() -> int:
    pid = os.fork()
    if not pid:
        os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fib(pool: mob.Pool, n: int) -> int:
    if n < 2:
        return n
    parts = [pool.submit(fib, pool, n - 1), pool.submit(fib, pool, n - 2)]
    return sum(part.result() for part in parts)


def wait_inside(pool: mob.Pool, n: int) -> int:
    futures = [pool.submit(same, i) for i in range(n)]
    assert len(wait(futures).done) == n
    return sum(future.result() for future in as_completed(futures))


def map_inside(pool: mob.Pool, n: int) -> int:
    return sum(pool.map(same, range(n)))


def make_a_pool(n: int) -> int:
    with mob.Pool(1) as pool:
        return sum(pool.map(same, range(n)))


@pytest.fixture(scope="module")
def pool() -> Iterator[mob.Pool]:
    with mob.Pool(2) as pool:
        yield pool


@pytest.mark.parametrize(
    "kind", [ValueError, KeyError, StopIteration, TimeoutError, KeyboardInterrupt, SystemExit, Based]
)
def test_what_a_task_raises_arrives_as_what_it_was(pool: mob.Pool, kind: type[BaseException]) -> None:
    error: Any = pool.submit(throw, kind, "a").exception(PATIENCE)
    assert type(error) is kind
    assert error.args == ("a",)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert 'test_pool.py", line' in str(error.__cause__)


@pytest.mark.parametrize(("kind", "args"), [(Odd, (1, 2)), (Unwilling, ())])
def test_what_cannot_be_pickled_is_described(pool: mob.Pool, kind: type[BaseException], args: tuple[int, ...]) -> None:
    """Its class is known here, so mob builds it in its own way, as for any role."""
    error: Any = pool.submit(throw, kind, *args).exception(PATIENCE)
    assert isinstance(error, kind)
    assert isinstance(error, mob.RemoteError)


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        (partial(os._exit, 3), mob.Lost),
        (os.abort, mob.Lost),
        (sys.exit, SystemExit),
        (partial(os.kill, 0, -1), OSError),
    ],
)
def test_a_task_that_harms_its_worker_harms_nobody_else(
    pool: mob.Pool, task: Callable[[], object], kind: type[BaseException]
) -> None:
    error: Any = pool.submit(task).exception(PATIENCE)
    assert isinstance(error, kind)
    assert isinstance(error, BrokenExecutor) is (kind is mob.Lost)
    assert list(pool.map(abs, range(-100, 0))) == list(range(100, 0, -1))


def test_a_task_may_fork(pool: mob.Pool) -> None:
    assert pool.submit(fork).result(PATIENCE) == 3
    assert pool.submit(pow, 2, 3).result(PATIENCE) == 8


@pytest.mark.parametrize("threads", [1, 2])
def test_tasks_may_wait_for_tasks_of_their_pool(threads: int) -> None:
    with mob.Pool(2, threads=threads) as pool:
        assert pool.submit(fib, pool, 6).result(PATIENCE) == 8
        for task in (wait_inside, map_inside):
            futures = [pool.submit(task, pool, 20) for _ in range(5)]
            assert [future.result(PATIENCE) for future in futures] == [190] * 5


def test_a_task_may_make_a_pool(pool: mob.Pool) -> None:
    assert pool.submit(make_a_pool, 20).result(PATIENCE) == 190


def test_a_task_that_holds_the_interpreter_is_ended_by_its_timeout() -> None:
    with mob.Pool(1, timeout=0.5) as pool:
        error: Any = pool.submit(re.match, "(a+)+$", "a" * 64 + "b").exception(PATIENCE)
        assert isinstance(error, mob.CallTimeout)
        assert "timeout" in str(error)
        assert pool.submit(pow, 2, 3).result(PATIENCE) == 8


def test_a_map_over_endless_items_takes_no_more_than_it_may(pool: mob.Pool) -> None:
    drawn = itertools.count()
    results = pool.map(abs, drawn, buffersize=10)
    assert list(itertools.islice(results, 1000)) == list(range(1000))
    assert next(drawn) <= 1011


def test_a_map_that_takes_too_long(pool: mob.Pool) -> None:
    with pytest.raises(TimeoutError):
        list(pool.map(time.sleep, [0, 0.5], timeout=0.1, chunksize=1))


def test_asyncio_knows_it(pool: mob.Pool) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        return [
            await loop.run_in_executor(pool, pow, 2, 3),
            await asyncio.wrap_future(pool.submit(pow, 2, 4)),
        ]

    assert asyncio.run(main()) == [8, 16]


def test_callbacks_may_submit(pool: mob.Pool) -> None:
    found: list[Any] = []
    futures = [pool.submit(abs, i) for i in range(100)]
    for future in futures:
        future.add_done_callback(lambda _: found.append(pool.submit(pow, 2, 3)))
    wait(futures, PATIENCE)
    assert [future.result(PATIENCE) for future in found] == [8] * len(found)


def test_workers_are_replaced_after_so_many_calls() -> None:
    """A worker goes on until its successor is ready."""
    seen: set[int] = set()
    with mob.Pool(1, max_calls=2) as pool:

        def look() -> bool:
            seen.add(pool.submit(os.getpid).result(PATIENCE))
            return len(seen) >= 3

        wait_until(look, "there is a third worker")
