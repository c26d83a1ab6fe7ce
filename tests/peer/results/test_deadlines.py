"""Deadlines of calls: in order, once, and never many more entries than open calls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
import uvloop

from mob.core.states import CallState
from mob.peer.results.deadlines import SWEEP, Deadlines
from mob.rim.reactor import Reactor
from tests.patience import patient


class Open:
    """The part of a call that a deadline uses."""

    def __init__(self) -> None:
        self.state = CallState.SENT


class Expired:
    """A small process: its loop, its deadlines, and the calls that expired."""

    def __init__(self) -> None:
        self.reactor = Reactor(uvloop.new_event_loop())
        self.reactor.claim()
        self.reactor.watch(self.reactor._wake_r, self.reactor._handle_wake)
        self.calls: list[Any] = []
        self.deadlines = Deadlines(self.reactor, self.handle)
        self.error: Exception | None = None

    def handle(self, call: Any, seconds: float) -> None:
        self.calls.append(call)
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def wait_for(self, count: int) -> None:
        assert self.reactor.drive(lambda: len(self.calls) >= count, monotonic() + patient(30))


@pytest.fixture
def process() -> Iterator[Expired]:
    process = Expired()
    yield process
    process.reactor.loop.close()
    process.reactor.close()


def test_open_calls_expire_in_the_order_of_their_deadlines(process: Expired) -> None:
    late, early, ended = Open(), Open(), Open()
    process.deadlines.add(late, monotonic() + 0.03, 1.0)  # type: ignore[arg-type]
    process.deadlines.add(early, monotonic() + 0.01, 1.0)  # type: ignore[arg-type]
    process.deadlines.add(ended, monotonic() + 0.02, 1.0)  # type: ignore[arg-type]
    ended.state = CallState.DONE
    process.wait_for(2)
    assert process.calls == [early, late]
    assert len(process.deadlines) == 0


def test_a_call_that_nobody_keeps_is_freed_and_does_not_expire(process: Expired) -> None:
    process.deadlines.add(Open(), monotonic() + 0.01, 1.0)  # type: ignore[arg-type]
    kept = Open()
    process.deadlines.add(kept, monotonic() + 0.02, 1.0)  # type: ignore[arg-type]
    process.wait_for(1)
    assert process.calls == [kept]


def test_calls_that_ended_are_not_kept_until_their_time_is_over(process: Expired) -> None:
    for _ in range(20):
        for _ in range(SWEEP):
            call = Open()
            process.deadlines.add(call, monotonic() + 600, 600.0)  # type: ignore[arg-type]
            call.state = CallState.DONE
        process.reactor.poll()
        assert len(process.deadlines) <= 2 * SWEEP
        assert len(process.reactor._timers) <= 200


def test_calls_that_are_open_all_stay(process: Expired) -> None:
    calls = [Open() for _ in range(5 * SWEEP)]
    until = monotonic() + 1.0
    for call in calls:
        process.deadlines.add(call, until, 1.0)  # type: ignore[arg-type]
        process.reactor.poll()
    process.wait_for(len(calls))
    assert {id(call) for call in process.calls} == {id(call) for call in calls}


def test_one_that_raises_holds_up_no_other(process: Expired) -> None:
    calls = [Open() for _ in range(3)]
    process.error = ValueError("a callback")
    until = monotonic() + 0.01
    for call in calls:
        process.deadlines.add(call, until, 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a callback"):
        process.wait_for(3)
    process.wait_for(3)
    assert sorted(map(id, process.calls)) == sorted(map(id, calls))


def test_threads_add_while_the_loop_looks(process: Expired) -> None:
    made: list[Open] = []

    def add() -> None:
        for number in range(3000):
            call = Open()
            made.append(call)
            process.deadlines.add(call, monotonic() + number % 7 / 100, 1.0)  # type: ignore[arg-type]

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    process.wait_for(9000)
    for thread in threads:
        thread.join()
    assert len({id(call) for call in process.calls}) == 9000
