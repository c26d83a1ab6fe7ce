"""The threads of a WSGI application: how many there are, the order of their jobs, and their end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from mob.mobster.http.pool import ThreadPool
from tests.patience import PATIENCE


class Work:
    """A job that calls a function."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function

    def run(self) -> None:
        self._function()


def ended(pool: ThreadPool) -> None:
    over = threading.Event()
    pool.end(over.set)
    assert over.wait(PATIENCE)


def test_jobs_of_one_thread_run_in_order_and_one_at_a_time() -> None:
    pool, seen = ThreadPool(1, 100), list[tuple[int, int]]()
    for number in range(50):
        pool.submit(Work(lambda number=number: seen.append((number, len(pool.running)))))
    ended(pool)
    assert seen == [(number, 1) for number in range(50)]


def test_as_many_run_at_once_as_there_are_threads() -> None:
    pool, meeting = ThreadPool(3, 100), threading.Barrier(3)
    for _ in range(6):
        pool.submit(Work(lambda: meeting.wait(PATIENCE)))
    ended(pool)
    assert not meeting.broken


def test_threads_are_made_on_demand() -> None:
    pool, names = ThreadPool(10, 100), set[str]()
    for _ in range(20):
        done = threading.Event()

        def work(done: threading.Event = done) -> None:
            names.add(threading.current_thread().name)
            done.set()

        pool.submit(Work(work))
        assert done.wait(PATIENCE)
    ended(pool)
    assert 1 <= len(names) <= 3  # a thread may not be asleep again when the next job comes


def test_a_job_that_raises_ends_no_thread(capfd: pytest.CaptureFixture[str]) -> None:
    pool, done = ThreadPool(1, 100), threading.Event()
    pool.submit(Work(lambda: 1 // 0))
    pool.submit(Work(done.set))
    assert done.wait(PATIENCE)
    ended(pool)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_what_waits_is_counted_bounded_and_can_be_withdrawn() -> None:
    pool, begun, may_end = ThreadPool(1, 2), threading.Event(), threading.Event()
    seen: list[str] = []

    def work() -> None:
        begun.set()
        may_end.wait(PATIENCE)

    first = Work(work)
    pool.submit(first)
    assert begun.wait(PATIENCE)
    assert (pool.waiting, pool.is_full) == (0, False)
    second, third = Work(lambda: seen.append("second")), Work(lambda: seen.append("third"))
    pool.submit(second)
    pool.submit(third)
    assert (pool.waiting, pool.is_full) == (2, True)
    assert repr(pool) == "<ThreadPool, 1 of 1 threads work and 2 jobs wait>"
    assert pool.withdraw(second)
    assert not pool.withdraw(first)
    assert (pool.waiting, pool.is_full) == (1, False)
    may_end.set()
    ended(pool)
    assert seen == ["third"]


def test_a_pool_that_has_done_nothing_ends_at_once() -> None:
    ended(ThreadPool(4, 4))
