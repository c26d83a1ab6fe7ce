"""Tables: questions to all routes of a process."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mob.core.dispatch import Queued, Route
from mob.core.lanes import Lane
from mob.core.routes import OVERDUE, Routes
from mob.wire.messages import ExportInfo, RoleInfo


def made(backlog: int = 100) -> Routes[Any]:
    return Routes(lambda mark: 0, backlog)


def park(route: Route[Any], size: int = 1, now: float = 0.0, wait: float = 5.0) -> Queued:
    item = Queued("foo", size, wait)
    route.park(item, now)
    return item


def test_a_route_is_there_when_it_is_asked_for() -> None:
    routes = made()
    assert routes.get("back") is None
    back = routes.of("back")
    assert routes.of("back") is back is routes.get("back")
    assert list(routes) == [back]
    assert repr(routes) == "<Routes to 1 roles, 0 calls wait>"


def test_what_waits_is_counted_in_all_roles() -> None:
    routes = made()
    park(routes.of("back"), 10)
    park(routes.of("back"), 20)
    park(routes.of("front"), 30)
    assert routes.waiting == 3
    assert (routes.size(), routes.size("back"), routes.size("front"), routes.size("none")) == (60, 30, 30, 0)


@pytest.mark.parametrize(("size", "is_full"), [(40, False), (41, True)])
def test_so_much_may_wait(size: int, is_full: bool) -> None:
    routes = made(backlog=100)
    park(routes.of("back"), 60)
    assert routes.is_full(Queued("foo", size, 1.0)) is is_full


def test_what_waits_for_a_moment_only_is_no_backlog() -> None:
    routes = made()
    park(routes.of("back"), now=10.0)
    park(routes.of("front"), now=10.0 + OVERDUE)
    routes.of("idle")
    assert routes.overdue(10.0 + OVERDUE) == {"back": 1}


def test_the_first_to_have_waited_long_enough_wakes() -> None:
    routes = made()
    assert routes.wake_at() == math.inf
    park(routes.of("back"), now=10.0, wait=5.0)
    park(routes.of("front"), now=11.0, wait=3.0)
    assert routes.wake_at() == 14.0


def test_how_exports_are_run_is_learned_and_unlearned() -> None:
    routes = made()
    routes.learn(RoleInfo("back"))
    known = len(routes.of("back").lanes)
    routes.learn(RoleInfo("back", (ExportInfo("foo", "()", "", width=5, is_beside=True), ExportInfo("bar", "()", ""))))
    lanes = routes.of("back").lanes
    assert lanes["foo"] == lanes["map!foo"] == Lane(5, True)
    assert len(lanes) == known + 2
    assert routes.of("back").tags == {"foo": False, "bar": False}
    routes.learn(RoleInfo("back", (ExportInfo("foo", "()", ""),)))
    assert len(lanes) == known
