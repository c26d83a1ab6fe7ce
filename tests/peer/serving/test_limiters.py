"""Lines and limiters, without a process: a loop that only keeps its timers, and links that are only names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest
from msgspec import Raw

import mob
from mob.peer.serving.exports import Export
from mob.peer.serving.limiters import CallLine, Limiter, QueuedCall, WaitingCalls
from mob.wire import messages as m
from mob.wire.codec import Codec
from mob.wire.encoders import as_function


class Timer:
    def __init__(self, after: float, ring: Callable[[], None]) -> None:
        self.after = after
        self.ring = ring
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    """The part of a loop that `WaitingCalls` uses."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, after: float, function: Callable[..., None], *args: Any) -> Timer:
        self.timers.append(Timer(after, lambda: function(*args)))
        return self.timers[-1]


LINK: Any = "a link"
OTHER: Any = "another link"


def call(number: int, seconds: float | None = None) -> m.Invoke:
    times = None if seconds is None else (monotonic(), monotonic() + seconds)
    return m.Invoke(number, "foo", Raw(b"\x90"), (), times, ())


def take(waiting_calls: WaitingCalls, line: CallLine) -> QueuedCall | None:
    """Take the first call of a line."""
    return waiting_calls.drop(*next(iter(line))) if line else None


@pytest.fixture
def loop() -> Any:
    return Loop()


@pytest.fixture
def expired() -> list[int]:
    return []


@pytest.fixture
def waiting_calls(loop: Any, expired: list[int]) -> WaitingCalls:
    return WaitingCalls(loop, lambda waiting: expired.append(waiting.call.id))


@pytest.fixture
def line() -> CallLine:
    return OrderedDict()


def taken(waiting: QueuedCall | None) -> int | None:
    return None if waiting is None else waiting.call.id


def test_a_line_keeps_its_order(waiting_calls: WaitingCalls, line: CallLine) -> None:
    for number in (3, 1, 2):
        waiting_calls.put(line, LINK, call(number), None)
    assert [taken(take(waiting_calls, line)) for _ in range(4)] == [3, 1, 2, None]
    assert not waiting_calls.lines


def test_a_call_leaves_from_anywhere(waiting_calls: WaitingCalls, line: CallLine) -> None:
    for number in (1, 2, 3):
        waiting_calls.put(line, LINK, call(number), f"work {number}")
    dropped = waiting_calls.drop(LINK, 2)
    assert dropped is not None
    assert (dropped.work, dropped.is_read) == ("work 2", True)
    assert waiting_calls.drop(LINK, 2) is None
    assert waiting_calls.drop(OTHER, 1) is None
    assert [taken(take(waiting_calls, line)) for _ in range(3)] == [1, 3, None]


def test_lines_are_counted_together_and_emptied_apart(waiting_calls: WaitingCalls, line: CallLine) -> None:
    second: CallLine = OrderedDict()
    waiting_calls.put(line, LINK, call(1), None)
    waiting_calls.put(second, LINK, call(2), None, is_read=False)
    waiting_calls.put(second, OTHER, call(1), None)
    assert len(waiting_calls.lines) == 3
    assert waiting_calls.of_link(LINK) == [1, 2]
    assert taken(take(waiting_calls, second)) == 2
    assert [(waiting.link, waiting.call.id) for waiting in waiting_calls.take_all()] == [(LINK, 1), (OTHER, 1)]
    assert not line
    assert not second
    assert repr(waiting_calls) == "<WaitingCalls, 0 calls wait>"


def test_a_call_leaves_when_its_time_is_over(
    loop: Any, waiting_calls: WaitingCalls, line: CallLine, expired: list[int]
) -> None:
    waiting_calls.put(line, LINK, call(1), None)
    waiting_calls.put(line, LINK, call(2, seconds=5), None)
    (timer,) = loop.timers
    assert 4 < timer.after <= 5
    timer.ring()
    assert expired == [2]
    assert [taken(take(waiting_calls, line)) for _ in range(2)] == [1, None]


def test_a_call_that_has_left_needs_no_timer(
    loop: Any, waiting_calls: WaitingCalls, line: CallLine, expired: list[int]
) -> None:
    waiting_calls.put(line, LINK, call(1, seconds=5), None)
    waiting_calls.put(line, LINK, call(2, seconds=-5), None)
    take(waiting_calls, line)
    waiting_calls.drop(LINK, 2)
    assert [(timer.is_cancelled, timer.after >= 0) for timer in loop.timers] == [(True, True), (True, True)]
    loop.timers[0].ring()  # it was on its way already
    assert expired == []


def test_a_gate_lets_so_many_in() -> None:
    limiter = Limiter(2)
    assert [limiter.enter((LINK, n)) for n in range(3)] == [True, True, False]
    assert limiter.leave((LINK, 0)) is False
    assert limiter.leave((LINK, 0)) is False  # the second time it no longer has a place
    assert [limiter.enter((LINK, n)) for n in (3, 4)] == [True, False]
    assert repr(limiter) == "<Limiter, 2 of 2 run, 0 wait>"


def test_a_place_that_is_given_back_is_kept_for_the_line(waiting_calls: WaitingCalls) -> None:
    limiter = Limiter(1)
    limiter.enter((LINK, 0))
    waiting_calls.put(limiter.line, LINK, call(1), None)
    assert limiter.leave((LINK, 0)) is True
    assert limiter.enter((LINK, 2)) is False  # no call overtakes the one that waits
    take(waiting_calls, limiter.line)
    limiter.hand_over((LINK, 1))
    assert limiter.enter((LINK, 2)) is False
    assert limiter.leave((LINK, 1)) is False
    assert limiter.enter((LINK, 2)) is True


def test_a_place_that_is_kept_for_nobody_is_free_again() -> None:
    limiter = Limiter(1)
    limiter.enter((LINK, 0))
    limiter.line[LINK, 1] = QueuedCall(LINK, call(1), None, True, None)
    assert limiter.leave((LINK, 0)) is True
    limiter.line.clear()
    limiter.hand_over(None)
    assert (limiter.running, limiter.handed) == (0, 1)


@pytest.mark.parametrize("concurrency", [0, -1, 1.0, "1", True])
def test_a_concurrency_that_is_none_is_refused_where_it_is_written(concurrency: Any) -> None:
    with pytest.raises(
        ValueError, match=r"expected the number of calls that may run at once in one worker, a whole"
    ) as it:
        mob.export(concurrency=concurrency)
    assert str(it.value).startswith(f"@mob.export(concurrency={concurrency!r}): ")


def test_only_an_export_that_limits_itself_has_a_gate() -> None:
    @mob.export(concurrency=3)
    def limited() -> None: ...

    @mob.export
    def free() -> None: ...

    codec = Codec(as_function, as_function)
    limiter = Export("back", "limited", limited, codec).limiter
    assert limiter is not None
    assert limiter.limit == 3
    assert Export("back", "free", free, codec).limiter is None
