"""Which worker gets the next call."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from mob.core.routing import Route


@dataclass(eq=False)
class Worker:
    name: str
    outstanding: int = 0
    queue: int = 0


def route_to(*loads: tuple[int, int]) -> Route[Worker]:
    route = Route[Worker]("back")
    route.targets = tuple(Worker("abcdef"[i], outstanding, queue) for i, (outstanding, queue) in enumerate(loads))
    return route


def chosen(route: Route[Worker], count: int) -> str:
    """The names of the next choices; nobody's load changes meanwhile."""
    workers = [route.choose() for _ in range(count)]
    return "".join(worker.name for worker in workers if worker is not None)


@pytest.mark.parametrize(
    ("loads", "choices"),
    [
        ([], ""),
        ([(7, 7)], "aaa"),
        ([(1, 0), (0, 0)], "bbbb"),  # the fewest outstanding calls
        ([(0, 0), (1, 0)], "aaaa"),
        ([(0, 50), (1, 0)], "aaaa"),  # a reported queue breaks ties only
        ([(1, 5), (1, 3), (1, 4)], "bbb"),
        ([(2, 0), (1, 9), (1, 8)], "ccc"),
        ([(0, 0), (0, 0)], "baba"),  # equals in turn
        ([(0, 0), (0, 0), (0, 0)], "bcabca"),
        ([(0, 0), (3, 0), (0, 0)], "cacaca"),  # in turn around a busy one, none twice as often
        ([(0, 0), (0, 0), (3, 0), (3, 0)], "bababa"),
        ([(1, 0), (0, 1), (0, 0), (0, 0)], "cdcdcd"),
    ],
)
def test_the_choice(loads: list[tuple[int, int]], choices: str) -> None:
    assert chosen(route_to(*loads), len(choices) or 3) == choices


def test_nobody_is_chosen_while_nobody_is_ready() -> None:
    assert Route[Worker]("back").choose() is None


def test_calls_that_are_never_answered_spread_evenly() -> None:
    route = route_to(*[(0, 0)] * 5)
    for _ in range(1000):
        worker = route.choose()
        assert worker is not None
        worker.outstanding += 1
    assert [worker.outstanding for worker in route.targets] == [200] * 5


def test_a_slow_worker_gets_what_the_others_leave() -> None:
    route = route_to((0, 0), (0, 0), (0, 0))
    slow = route.targets[0]
    counts: Counter[str] = Counter()
    for _ in range(300):  # the others answer before the next call is made
        worker = route.choose()
        assert worker is not None
        counts[worker.name] += 1
        slow.outstanding += worker is slow
    assert counts["a"] == 1
    assert abs(counts["b"] - counts["c"]) <= 1


def test_the_workers_may_change_between_two_choices() -> None:
    route = route_to(*[(0, 0)] * 5)
    assert chosen(route, 4) == "bcde"
    route.targets = route.targets[:2]
    assert chosen(route, 4) in ("abab", "baba")
    route.targets = ()
    assert route.choose() is None


def test_it_can_be_looked_at() -> None:
    route = route_to((0, 0), (0, 0))
    route.waiting.append("a call")
    assert repr(route) == "<Route to 2 workers of 'back', 1 waiting>"
