"""Callbacks next to plain code: in order, one at a time, and not delayed forever by one that waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from mob.rim.runner import Runner
from tests.patience import PATIENCE

NUMBER: ContextVar[int] = ContextVar("NUMBER", default=0)


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner()
    yield runner
    runner.end()
    for thread in threading.enumerate():
        if thread.name == "mob-callbacks":
            thread.join(PATIENCE)


def test_jobs_are_run_in_order_in_one_thread(runner: Runner) -> None:
    seen: list[tuple[int, str]] = []
    over = threading.Event()
    for number in range(100):
        runner.submit(lambda number=number: seen.append((number, threading.current_thread().name)))
    runner.submit(over.set)
    assert over.wait(PATIENCE)
    assert [number for number, _ in seen] == list(range(100))
    assert {name for _, name in seen} == {"mob-callbacks"}


def test_one_that_waits_for_one_behind_it_does_not_wait_for_ever(runner: Runner) -> None:
    second, over = threading.Event(), threading.Event()

    def wait_for_the_second() -> None:
        if second.wait(PATIENCE):
            over.set()

    runner.submit(wait_for_the_second)
    runner.submit(second.set)
    assert over.wait(PATIENCE)


def test_what_has_not_ended_is_counted(runner: Runner) -> None:
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        end.wait(PATIENCE)

    assert runner.in_hand == 0
    runner.submit(hold)
    assert begun.wait(PATIENCE)
    assert runner.in_hand == 1
    assert repr(runner) == "<Runner, 1 callbacks run and 0 wait>"
    end.set()


def test_a_thread_that_is_not_needed_ends(runner: Runner) -> None:
    for _ in range(3):
        together = threading.Barrier(4)
        for _ in range(3):
            runner.submit(lambda together=together: void(together.wait(PATIENCE)))
        together.wait(PATIENCE)
    over = threading.Event()
    runner.submit(over.set)
    assert over.wait(PATIENCE)


def test_the_context_of_the_loop_holds(runner: Runner) -> None:
    token = NUMBER.set(7)
    other = Runner()
    NUMBER.reset(token)
    seen: list[int] = []
    over = threading.Event()
    other.submit(lambda: seen.append(NUMBER.get()))
    other.submit(over.set)
    assert over.wait(PATIENCE)
    assert seen == [7]
    other.end()


def void(_: object) -> None:
    """Drop a value."""
