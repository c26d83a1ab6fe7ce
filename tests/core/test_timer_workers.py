"""Which workers are asked for room for a run; in which order runs then begin is tested in `test_timers`."""

from __future__ import annotations

import pytest

from mob.core.timer_state import RoleTimer
from mob.core.timer_workers import FIRST_ASKED, AskForRoom, ReadyWorker, ask
from mob.wire.messages import TimerInfo

IDLE_1, IDLE_2, BUSY_3 = ReadyWorker(1), ReadyWorker(2), ReadyWorker(3, queued=1, in_hand=1)


def timer() -> RoleTimer:
    return RoleTimer("back", TimerInfo("tick", every=60.0), 60.0, 60.0, pending=60.0)


def asked(found: list[AskForRoom]) -> list[int]:
    assert {each.name for each in found} <= {"tick"}
    return [each.uid for each in found]


@pytest.mark.parametrize(
    ("workers", "uids"),
    [
        ([], []),
        ([BUSY_3], [3]),
        ([BUSY_3, IDLE_1], [1]),
        ([ReadyWorker(1, in_hand=5), IDLE_2], [2]),  # of two that can begin the one that does less
        ([BUSY_3, ReadyWorker(4, queued=2, in_hand=2)], [3, 4]),
        ([IDLE_1], [1]),
    ],
)
def test_one_that_seems_idle_is_asked_alone_and_else_all_are(workers: list[ReadyWorker], uids: list[int]) -> None:
    assert asked(ask(timer(), workers, 100.0, {})) == uids


def test_the_others_are_asked_if_it_does_not_answer() -> None:
    waiting, workers = timer(), [IDLE_1, IDLE_2, BUSY_3]
    assert asked(ask(waiting, workers, 100.0, {})) == [1]
    assert ask(waiting, workers, 100.0, {}) == []
    assert asked(ask(waiting, workers, 100.0 + FIRST_ASKED, {})) == [2, 3]
    assert ask(waiting, workers, 101.0, {}) == []
    assert asked(ask(waiting, [*workers, ReadyWorker(4)], 101.0, {})) == [4]


def test_one_that_has_gone_is_forgotten_and_one_that_comes_back_is_asked_again() -> None:
    waiting = timer()
    ask(waiting, [BUSY_3], 100.0, {})
    assert ask(waiting, [], 100.0, {}) == []
    assert waiting.asked == []
    assert asked(ask(waiting, [BUSY_3], 100.0, {})) == [3]


def test_those_that_are_equally_idle_take_turns() -> None:
    turns: dict[int, int] = {}
    first = [asked(ask(timer(), [IDLE_1, IDLE_2, BUSY_3], 100.0, turns)) for _ in range(4)]
    assert first == [[1], [2], [1], [2]]
