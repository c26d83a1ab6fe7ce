"""When requested workers count as ready, and when the wait fails because they do not start."""

from __future__ import annotations

from typing import Any

from mob.cli.waiting import Workers
from mob.wire.messages import Metrics, MobsterMetrics, RoleMetrics


def mobster(uid: int, role: str, index: int, state: str = "ready") -> MobsterMetrics:
    fields: dict[str, Any] = dict.fromkeys(MobsterMetrics.__struct_fields__, 0)
    fields |= {"uid": uid, "role": role, "index": index, "pid": uid, "state": state, "note": ""}
    return MobsterMetrics(**fields)


def metrics(*mobsters: MobsterMetrics, target: int = 2, crashes: int = 0, failing: str = "") -> Metrics:
    roles = (RoleMetrics("back", target, 0, 0, crashes, 0, failing), RoleMetrics("front", 1, 1, 1, 0, 0))
    return Metrics("myapp", 1, 0.0, 0.0, 0, roles, mobsters, (), 0)


BEFORE = metrics(mobster(1, "back", 0), mobster(2, "back", 1), mobster(3, "front", 0))


def test_a_larger_role_is_ready_with_its_new_workers() -> None:
    workers = Workers(BEFORE, {"back"})
    one_more = (mobster(1, "back", 0), mobster(2, "back", 1), mobster(4, "back", 2, "booting"))
    assert workers.progress(metrics(*one_more, target=3)) == {"back": (2, 3)}
    one_more = (*one_more[:2], mobster(4, "back", 2))
    assert workers.progress(metrics(*one_more, target=3)) == {"back": (3, 3)}


def test_a_smaller_role_is_ready_when_the_others_have_left_or_finish() -> None:
    now = metrics(mobster(1, "back", 0), mobster(2, "back", 1, "draining"), target=1)
    assert Workers(BEFORE, {"back"}).progress(now) == {"back": (1, 1)}


def test_those_that_are_replaced_do_not_count() -> None:
    workers = Workers(BEFORE, {"back"}).replacing(BEFORE)
    assert workers.progress(BEFORE) == {"back": (0, 2)}
    assert workers.progress(metrics(mobster(4, "back", 0), mobster(2, "back", 1))) == {"back": (1, 2)}
    assert workers.progress(metrics(mobster(4, "back", 0), mobster(5, "back", 1))) == {"back": (2, 2)}


def test_of_one_place_nothing_else_is_waited_for() -> None:
    workers = Workers(BEFORE, {"back"}, {("back", 1)}).replacing(BEFORE)
    assert workers.progress(BEFORE) == {"back": (0, 1)}
    assert workers.progress(metrics(mobster(1, "back", 0), mobster(5, "back", 1))) == {"back": (1, 1)}
    assert workers.progress(metrics(mobster(4, "back", 0), mobster(2, "back", 1))) == {"back": (0, 1)}


def test_a_role_that_failed_before_may_still_come_up() -> None:
    before = metrics(crashes=3, failing="back.0: ValueError")
    workers = Workers(before, {"back"})
    assert workers.problem(before) == ""
    assert workers.problem(metrics(crashes=4)) == ""
    assert workers.problem(metrics(crashes=4, failing="back.0: KeyError")) == "back.0: KeyError"
    assert Workers(before, {"front"}).problem(metrics(crashes=4, failing="back.0: KeyError")) == ""
