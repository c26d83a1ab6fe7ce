"""Which worker gets a call, and what waits at its caller. The worker's side is in test_invitations.py."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from mob.core.costs import FAR_TRIP, TRIP, most_in_hand
from mob.core.dispatch import FAR, SPILL, WAKE, AskForPlace, Queued, Route
from mob.core.lanes import FREE, LOOP, MESSAGE, Lane
from mob.core.routing import Place

COSTS = {"tiny": 5, "short": 300, "slow": 20_000, "new": 0}
FULL = 2**31
MARKS = {name: number for number, name in enumerate(COSTS)}


@dataclass(eq=False)
class Worker:
    name: str
    in_hand: int = 0
    beside: int = 0
    pace: int = 0
    is_distant: bool = False
    is_choked: bool = False
    place: Place = ("", 0)
    uid: int = field(default=0)

    def __post_init__(self) -> None:
        self.uid = self.uid or ord(self.name)
        if self.place == ("", 0):
            self.place = ("far" if self.is_distant else "", ord(self.name) - ord("a"))

    @property
    def outstanding(self) -> int:
        return self.in_hand + self.beside

    @property
    def pending(self) -> range:
        return range(self.outstanding)

    def __repr__(self) -> str:
        return self.name


def workers(text: str) -> list[Worker]:
    """`a b3+2 C! D~`: their names (capital letters are far away), what they have in hand, what runs beside that;
    callers wait for those with `!`, those with `~` are choked."""
    made: list[Worker] = []
    for word in text.split():
        digits, _, beside = word[1:].rstrip("!~").partition("+")
        in_hand = FULL if "!" in word else int(digits or 0)
        worker = Worker(word[0], in_hand, int(beside or 0), is_distant=word[0].isupper())
        worker.is_choked = "~" in word
        made.append(worker)
    return made


def route_to(text: str, places: int = 2, **lanes: Lane) -> Route[Worker]:
    route = Route[Worker]("back", [*COSTS.values()].__getitem__)
    route.places = places
    route.lanes |= lanes
    put(route, workers(text))
    return route


def put(route: Route[Worker], targets: list[Worker], now: float = 0.0) -> list[tuple[str, int, str]]:
    near = [worker for worker in targets if not worker.is_distant]
    return told(route.put(near, [worker for worker in targets if worker.is_distant], now))


def told(asks: list[AskForPlace[Worker]]) -> list[tuple[str, int, str]]:
    return [(worker.name, line, name) for worker, line, name in asks]


def choose(route: Route[Worker], name: str = "slow", can_leave: bool = True, place: Place | None = None) -> str:
    worker = route.choose(name, MARKS.get(name, 0), can_leave, place)
    return "-" if worker is None else worker.name


def choices(route: Route[Worker], count: int, name: str = "slow") -> str:
    """Return the next choices; no load changes meanwhile."""
    return "".join(choose(route, name) for _ in range(count))


def filled(route: Route[Worker], count: int, name: str) -> str:
    """Return the next choices, each of which is sent; `-` for those that would wait."""
    names: list[str] = []
    for _ in range(count):
        names.append(choose(route, name))
        if names[-1] != "-":
            chosen, is_beside = worker(route, names[-1]), route.lanes.get(name, LOOP).is_beside
            chosen.beside += is_beside
            chosen.in_hand += not is_beside
    return "".join(names)


def worker(route: Route[Worker], name: str) -> Worker:
    return next(worker for worker in route.targets if worker.name == name)


# --- choosing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "chosen"),
    [
        ("", "---"),
        ("a", "aaa"),
        ("a1", "---"),
        ("a1 b", "bbb"),
        ("a b", "baba"),  # in turn
        ("a b c", "bcabca"),
        ("a b3 c", "cacaca"),  # around a busy one, none twice as often
        ("a b c3 d3", "bababa"),
        ("a+1 b", "bbb"),  # what runs beside others takes some time as well
        ("a+1 b+1", "baba"),
        ("a! b", "bbb"),  # others wait for it: no call goes in front of them
        ("a! b!", "---"),
        ("a~ b", "bbb"),  # its link takes nothing more
        ("a~", "---"),
        ("a!", "---"),
        ("a B", "aaa"),  # another machine is the second choice
        ("a1 B", "BBB"),  # but better than to wait
        ("a1 B C", "BCBC"),
        ("a1 B1", "---"),
        ("a1 B~", "---"),
        ("B C", "CBCB"),
    ],
)
def test_a_call_goes_where_it_begins_first(targets: str, chosen: str) -> None:
    assert choices(route_to(targets), len(chosen)) == chosen


@pytest.mark.parametrize("name", ["slow", "new"])
def test_what_is_long_or_new_spreads_and_then_waits(name: str) -> None:
    assert Counter(filled(route_to("a b c d"), 6, name)) == {"a": 1, "b": 1, "c": 1, "d": 1, "-": 2}


def test_tiny_calls_gather_at_a_worker_that_is_awake() -> None:
    route = route_to("a b c d e f g h")
    first = choose(route, "tiny")
    worker(route, first).in_hand = 1
    assert filled(route, WAKE // COSTS["tiny"] - 1, "tiny") == first * (WAKE // COSTS["tiny"] - 1)
    assert choose(route, "tiny") != first  # now it would begin later there than after a wake-up


def test_they_spread_where_they_would_wait_behind_longer_ones() -> None:
    route = route_to("a b")
    worker(route, "b").pace = 500
    worker(route, "b").in_hand = 1
    assert choices(route, 3, "tiny") == "aaa"


def test_short_ones_fill_idle_workers_first_and_then_wait_behind_others() -> None:
    route = route_to("a b")
    for each in route.targets:
        each.pace = COSTS["short"]
    most = most_in_hand(1, COSTS["short"], COSTS["short"])
    assert most > 1
    assert Counter(filled(route, 2, "short")) == {"a": 1, "b": 1}
    assert Counter(filled(route, 2 * most, "short")) == {"a": most - 1, "b": most - 1, "-": 2}


def test_calls_of_many_callers_spread_by_what_the_workers_have_in_hand() -> None:
    routes = [route_to("") for _ in range(10)]
    shared = workers("a b c d e")
    for route in routes:
        put(route, shared)
    assert "-" not in "".join(filled(route, 1, "new") for route in routes[:5])
    assert [each.in_hand for each in shared] == [1] * 5


def test_the_workers_may_change_between_two_choices() -> None:
    route = route_to("a b c d e")
    assert choices(route, 4) == "bcde"
    put(route, list(route.targets[:2]))
    assert choices(route, 4) in ("abab", "baba")
    put(route, [])
    assert choose(route) == "-"


# other machines


def test_a_far_worker_gets_what_would_wait_longer_here_than_the_way_takes() -> None:
    route = route_to("a B")
    here = worker(route, "a")
    here.in_hand, here.pace = 1, SPILL - 100
    assert choose(route, "short") == "B"  # behind one call here; but the far one has to be woken besides
    here.pace = SPILL - 100 + WAKE
    here.in_hand = 1
    assert choose(route, "short") == "B"
    here.pace = 400
    assert choose(route, "short") == "a"


def test_more_may_be_in_hand_far_away_because_the_way_is_longer() -> None:
    route = route_to("B")
    assert len(filled(route, 100, "short").rstrip("-")) == most_in_hand(1, COSTS["short"], 0, FAR_TRIP)
    route = route_to("a")
    assert len(filled(route, 100, "short").rstrip("-")) == most_in_hand(1, COSTS["short"], 0, TRIP)


@pytest.mark.parametrize(("targets", "chosen"), [("a1 B", "-"), ("a B", "a"), ("B", "-"), ("a1+2 b B", "b")])
def test_what_cannot_leave_stays_here(targets: str, chosen: str) -> None:
    assert choose(route_to(targets), can_leave=False) == chosen


# lanes


def test_calls_spread_over_the_threads_of_all_workers() -> None:
    route = route_to("a b", slow=Lane(4), new=Lane(4))
    assert Counter(filled(route, 4, "new")) == {"a": 2, "b": 2}
    assert Counter(filled(route, 5, "slow")) == {"a": 2, "b": 2, "-": 1}


def test_tiny_calls_gather_in_the_threads_of_one() -> None:
    route = route_to("a b", tiny=Lane(4))
    assert filled(route, 4, "tiny") in ("aaaa", "bbbb")


def test_tasks_go_where_the_fewest_calls_are_until_their_number_is_reached() -> None:
    route = route_to("a2 b", task=Lane(3, True))
    assert Counter(filled(route, 5, "task")) == {"b": 3, "a": 1, "-": 1}


def test_tasks_spread_evenly() -> None:
    route = route_to("a b c d e", task=FREE)
    assert set(Counter(filled(route, 1000, "task")).values()) == {200}


def test_tasks_go_far_when_many_run_here() -> None:
    route = route_to("a B", task=Lane(100, True))
    assert filled(route, FAR, "task") == "a" * FAR
    assert set(filled(route, 10, "task")) == {"a", "B"}


def test_messages_go_anywhere_at_once() -> None:
    route = route_to("a50 b60")
    assert filled(route, 3, MESSAGE) == "aaa"
    worker(route, "a").is_choked = True
    assert choose(route, MESSAGE) == "b"


# --- waiting ----------------------------------------------------------------------------------------------------------


def park(route: Route[Worker], text: str, now: float = 0.0, **options: object) -> tuple[list[Queued], list[object]]:
    """Have calls of these exports wait; return the items, and the workers that were notified."""
    items = [Queued(name, 10, 30.0, **options) for name in text.split()]  # type: ignore[arg-type]
    return items, [ask for item in items for ask in told(route.park(item, now))]


def names(items: list[Queued]) -> str:
    return " ".join(item.name for item in items)


def accept(route: Route[Worker], name: str, line: int, count: int = 1) -> str:
    return names(route.accept(worker(route, name), line, count))


def test_what_waits_is_counted() -> None:
    route = route_to("a1 b1")
    items, _ = park(route, "slow slow new")
    assert (route.waiting, route.size, names(route.items())) == (3, 30, "slow slow new")
    assert repr(route) == "<Route to 2 workers of 'back', 3 waiting>"
    assert repr(items[0].line) == "<WaitQueue 1 of 2 for slow>"
    assert repr(items[0]) == "<Queued for slow>"
    assert route.forget(items[0])
    assert not route.forget(items[0])
    assert (route.waiting, route.size, names(route.items())) == (2, 20, "slow new")


def test_each_worker_is_told_once() -> None:
    route = route_to("a1 b1 C1")
    assert park(route, "slow slow slow")[1] == [("a", 1, "slow"), ("b", 1, "slow"), ("C", 1, "slow")]
    assert park(route, "new slow new")[1] == [("a", 2, "new"), ("b", 2, "new"), ("C", 2, "new")]
    while accept(route, "a", 1, 2):
        pass
    assert park(route, "slow")[1] == [("a", 1, "slow")]  # the others have not heard that nothing was left


def test_nobody_goes_in_front_of_those_that_wait() -> None:
    route = route_to("a1 b1")
    park(route, "slow")
    worker(route, "a").in_hand = 0
    assert choose(route) == "-"
    assert choose(route, "new") == "a"  # of another export: it waits for none
    assert accept(route, "a", 1) == "slow"
    assert choose(route) == "a"


def test_a_line_is_accepted_in_order_and_no_further_than_the_invitation_goes() -> None:
    route = route_to("a1 b1")
    items, _ = park(route, "slow slow slow slow slow")
    assert route.accept(worker(route, "b"), 1, 2) == items[:2]
    route.forget(items[2])
    assert route.accept(worker(route, "a"), 1, 100) == items[3:]
    assert (route.waiting, route.size) == (0, 0)
    assert route.asks_after(1) == []
    assert accept(route, "a", 1) == ""  # nothing is left: the worker must be notified


def test_who_was_declined_is_told_again_when_something_waits() -> None:
    route = route_to("a1 b1")
    items, _ = park(route, "slow")
    route.forget(items[0])
    assert accept(route, "a", 1) == ""
    assert route.asks_after(1) == []
    assert park(route, "slow")[1] == [("a", 1, "slow")]  # b still knows


def test_an_unknown_line_and_an_unknown_worker_are_declined() -> None:
    route = route_to("a1 b1")
    park(route, "slow")
    gone = worker(route, "b")
    assert accept(route, "a", 7) == ""
    assert route.asks_after(7) == []
    put(route, [worker(route, "a")])
    assert route.accept(gone, 1, 1) == []
    assert accept(route, "a", 1) == "slow"


def test_a_worker_that_was_declined_though_calls_wait_is_told_again() -> None:
    """The accepted call ended meanwhile, or the link took nothing more."""
    route = route_to("a1 b1")
    park(route, "slow slow")
    accept(route, "a", 1)
    assert told(route.asks_after(1)) == []
    route.forget_worker(worker(route, "a"), 1)
    assert told(route.asks_after(1)) == [("a", 1, "slow")]
    route.forget_worker(worker(route, "a"), 9)
    assert told(route.asks_after(1)) == []


def test_calls_that_have_no_choice_of_workers_are_never_told_to_others() -> None:
    route = route_to("a1 b1 C1")
    _, asks = park(route, "slow", place=("", 1))
    assert asks == [("b", 1, "slow")]
    _, asks = park(route, "slow", can_leave=False)
    assert asks == [("a", 2, "slow"), ("b", 2, "slow")]
    assert accept(route, "C", 2) == ""
    assert accept(route, "a", 1) == ""
    assert choose(route, can_leave=False) == "-"
    worker(route, "a").in_hand = 0
    assert choose(route) == "a"  # nothing that may leave waits


def test_what_cannot_leave_is_offered_to_others_if_there_is_nobody_here() -> None:
    """There it is refused: its caller must hear of it."""
    route = route_to("C")
    assert park(route, "slow", can_leave=False)[1] == [("C", 1, "slow")]
    put(route, workers("a1 C1"))
    assert told(route.asks_after(1)) == []  # it stands in another line now
    assert accept(route, "C", 1) == ""
    assert accept(route, "a", 2) == "slow"


# one worker


def test_one_worker_gets_calls_of_all_exports_in_order() -> None:
    route = route_to("a1", places=1, task=Lane(5, True))
    items, asks = park(route, "slow new new task slow")
    assert asks == [("a", 1, "slow")]
    assert repr(items[0].line) == "<WaitQueue 1 of 5 for the only worker>"
    got: list[str] = []
    while route.waiting:
        got.append(accept(route, "a", 1, 10))
        got += [name for _, _, name in told(route.asks_after(1))]
    assert got == ["slow", "new", "new new", "task", "task", "slow", "slow"]


def test_what_runs_beside_others_waits_apart_if_it_is_the_first() -> None:
    route = route_to("a2", places=1, task=Lane(2, True))
    assert park(route, "task")[1] == [("a", 1, "task")]
    assert park(route, "slow")[1] == [("a", 2, "slow")]
    assert park(route, "task")[1] == []  # behind the first
    assert accept(route, "a", 1, 2) == "task task"
    assert park(route, "task")[1] == []  # behind what waits for the loop: it came later
    assert choose(route, "task") == "-"
    assert accept(route, "a", 2, 2) == "slow"


def test_if_the_first_is_given_up_the_worker_is_told_of_the_next() -> None:
    route = route_to("a1", places=1)
    items, _ = park(route, "slow new slow new")
    route.forget(items[2])
    assert told(route.asks_after(1)) == []
    route.forget(items[0])
    assert told(route.asks_after(1)) == [("a", 1, "new")]
    assert accept(route, "a", 1, 5) == "new new"
    assert told(route.asks_after(1)) == []


def test_nothing_is_sent_of_which_the_worker_was_not_told() -> None:
    """The places that it keeps are for calls of another kind."""
    route = route_to("a1", places=1)
    items, _ = park(route, "slow new")
    route.forget(items[0])
    assert accept(route, "a", 1, 5) == ""
    assert told(route.asks_after(1)) == [("a", 1, "new")]
    route.forget(items[1])
    assert accept(route, "a", 1, 5) == ""
    assert told(route.asks_after(1)) == []
    assert park(route, "new")[1] == [("a", 1, "new")]


def test_a_second_worker_gives_each_export_a_line_and_the_order_of_each_stays() -> None:
    route = route_to("a1", places=1)
    items, _ = park(route, "slow new slow new")
    route.places = 2
    assert put(route, [worker(route, "a"), *workers("b1")]) == [
        ("a", 2, "slow"),
        ("b", 2, "slow"),
        ("a", 3, "new"),
        ("b", 3, "new"),
    ]
    assert route.accept(worker(route, "b"), 2, 9) == [items[0], items[2]]
    assert accept(route, "a", 1) == ""
    assert route.accept(worker(route, "a"), 3, 9) == [items[1], items[3]]


def test_one_worker_less_puts_all_into_one_line_in_the_order_in_which_they_came() -> None:
    route = route_to("a1 b1")
    items, _ = park(route, "slow new slow new")
    route.places = 1
    assert put(route, [worker(route, "a")]) == [("a", 3, "slow")]
    assert route.items() == items
    assert choose(route, "tiny") == "-"


# keys


def test_what_waits_for_a_place_waits_for_its_new_one_if_there_are_others() -> None:
    route = route_to("a1 b1", places=2)
    first, _ = park(route, "slow new", place=("", 1))
    second, asks = park(route, "slow", place=("", 3))
    assert asks == []  # no worker is there yet
    assert second[0].until == 30.0
    route.places = 1
    assert told(route.place_again(lambda item: ("", 0), 5.0)) == [("a", 3, "slow")]
    assert route.items() == [*first, *second]
    assert {item.place for item in route.items()} == {("", 0)}
    assert second[0].until == math.inf
    assert accept(route, "b", 1) == ""
    assert accept(route, "a", 3, 9) == "slow"
    assert choose(route, place=("", 0)) == "-"


def test_calls_of_one_key_keep_their_order_and_those_of_another_place_do_not_wait() -> None:
    route = route_to("a1 b1")
    park(route, "slow new", place=("", 1))
    worker(route, "a").in_hand = worker(route, "b").in_hand = 0
    assert choose(route, "tiny", place=("", 1)) == "-"
    assert choose(route, "tiny", place=("", 0)) == "a"
    assert choose(route, "tiny", place=("", 5)) == "-"


# time


def test_only_while_no_worker_is_there_the_time_to_wait_for_one_runs() -> None:
    route = route_to("")
    items, asks = park(route, "slow new", now=100.0)
    assert (asks, [item.until for item in items]) == ([], [130.0, 130.0])
    assert put(route, workers("a"), 110.0) == [("a", 1, "slow"), ("a", 2, "new")]
    assert {item.until for item in items} == {math.inf}
    put(route, [], 200.0)
    assert {item.until for item in items} == {230.0}
    put(route, [], 210.0)
    assert {item.until for item in items} == {230.0}


def test_what_has_waited_for_a_while_is_counted() -> None:
    route = route_to("a1 b1")
    park(route, "slow slow", now=1.0)
    park(route, "slow", now=2.0)
    park(route, "new", now=3.0)
    assert [route.overdue(before) for before in (0.5, 1.0, 2.5, 3.0)] == [0, 3, 3, 4]


# workers come and go


def test_new_workers_are_told_and_those_that_went_are_forgotten() -> None:
    route = route_to("a1")
    park(route, "slow")
    first = worker(route, "a")
    assert put(route, [first, *workers("b1")]) == [("b", 1, "slow")]
    assert put(route, list(route.targets)) == []
    assert put(route, []) == []
    assert put(route, [first]) == [("a", 1, "slow")]


def test_a_worker_whose_link_was_replaced_is_told_again() -> None:
    route = route_to("a1 b1")
    park(route, "slow slow new")
    park(route, "slow", place=("", 1))
    assert told(route.replace_worker(worker(route, "a"))) == [("a", 1, "slow"), ("a", 2, "new")]
    assert told(route.replace_worker(workers("z")[0])) == []


def test_lines_in_which_nothing_waits_and_of_which_nobody_knows_are_dropped() -> None:
    route = route_to("")
    for index in range(50):
        items, _ = park(route, "slow", place=("node", index))
        route.forget(items[0])
        put(route, [])
        assert len(route._lines) == 0
    route = route_to("a1 b1")
    items, _ = park(route, "slow")
    route.forget(items[0])
    put(route, list(route.targets))
    assert accept(route, "a", 1) == accept(route, "b", 1) == ""  # both knew of it
    put(route, list(route.targets))
    assert len(route._lines) == 0


# circles


@pytest.mark.parametrize(
    ("blockers", "place", "chosen"),
    [
        ("", None, "-"),
        ("a", None, "-"),  # the others can run it
        ("a b C", None, "b"),  # none can: the one that has the least to do gets it, and reports what is wrong
        ("a b C", ("", 0), "a"),
        ("a", ("", 0), "a"),
        ("a", ("", 1), "-"),
        ("a", ("", 7), "-"),
    ],
)
def test_a_call_for_which_all_workers_wait_does_not_wait(blockers: str, place: Place | None, chosen: str) -> None:
    route = route_to("a5 b3 C4")
    found = route.any_of([ord(name) for name in blockers.split()], place)
    assert ("-" if found is None else found.name) == chosen


def test_while_nobody_is_there_nobody_is_waited_for() -> None:
    assert route_to("").any_of([1], None) is None
    assert route_to("").least() is None


def test_one_who_comes_and_goes_makes_nothing_wait_for_ever() -> None:
    route = route_to("")
    (item,), _ = park(route, "slow", now=100.0)
    put(route, workers("a"), 110.0)
    put(route, [], 111.0)
    assert item.until == 111.0 + 21.0  # 20 seconds were left, and one has come back
    put(route, workers("b"), 131.0)
    put(route, [], 131.5)
    assert item.until == 131.5 + 1.5
    put(route, workers("a"), 132.0)
    put(route, [], 200.0)
    assert item.until == 230.0  # never more than it had


def test_those_who_may_wait_for_the_answer_are_not_chosen() -> None:
    route = route_to("a b")
    chosen = {route.choose("tiny", MARKS["tiny"], blockers=[ord("a"), 7]) for _ in range(10)}
    assert chosen == {worker(route, "b")}
    worker(route, "b").in_hand = FULL
    assert route.choose("tiny", MARKS["tiny"], blockers=[ord("a")]) is None
    assert route.choose("tiny", MARKS["tiny"], blockers=[ord("a"), ord("b")]) is None
    assert route.choose("tiny", MARKS["tiny"], blockers=[7]) is worker(route, "a")


@pytest.mark.parametrize("text", ["", "a1"], ids=["before the worker is there", "though it has room meanwhile"])
def test_what_could_begin_in_the_only_worker_waits_in_order_with_all_else(text: str) -> None:
    route = route_to(text, places=1, task=Lane(3, True))
    park(route, "task slow task")
    put(route, workers("a1"))
    assert choose(route, "slow") == "-"
    got: list[str] = []
    while route.waiting:
        got.append(accept(route, "a", 1, 10))
        route.asks_after(1)
    assert got == ["task", "slow", "task"]


def test_a_line_whose_items_are_just_being_sent_outlives_a_change_of_workers() -> None:
    route = route_to("a1", places=1)
    (item,), _ = park(route, "slow")
    assert route.accept(worker(route, "a"), 1, 1) == [item]
    put(route, workers("b0"))
    assert choose(route, "slow") == "-"
    assert route.asks_after(1) == []
    assert choose(route, "slow") == "b"


class AskedWhileTaken(Queued):
    """An item during whose removal another thread makes a call."""

    def __init__(self, route: Route[Worker]) -> None:
        self.route = route
        self.chosen: list[str] = []
        super().__init__("slow", 10, 30.0)

    @property
    def size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        if not self.route.waiting and not self.line.waiting and self.chosen == []:
            self.chosen.append(choose(self.route, "beside"))
        return 10

    @size.setter
    def size(self, size: int) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        pass


def test_a_call_made_in_another_thread_does_not_overtake_one_that_is_being_accepted() -> None:
    route = route_to("a0", places=1, beside=FREE)
    item = AskedWhileTaken(route)
    route.park(item, 0.0)
    item.chosen.clear()
    assert route.accept(worker(route, "a"), item.line.number, 1) == [item]
    assert item.chosen == ["-"]
    assert route.asks_after(item.line.number) == []
    assert choose(route, "beside") == "a"


def test_where_order_counts_nothing_overtakes_what_was_accepted_and_is_being_sent() -> None:
    route = route_to("a1", places=1)
    park(route, "slow")
    worker(route, "a").in_hand = 0
    assert accept(route, "a", 1) == "slow"
    assert choose(route, "new") == "-"  # another thread makes a call before the accepted one has been sent
    assert route.asks_after(1) == []
    assert choose(route, "new") == "a"


def test_an_invitation_is_over_when_what_it_was_for_was_sent() -> None:
    route = route_to("a1 b1")
    park(route, "slow slow")
    a = worker(route, "a")
    assert len(route.accept(a, 1, 1)) == 1
    assert told(route.end_invitation(a, 1, has_sent=True)) == []  # it still knows of the other
    assert len(route.accept(a, 1, 1)) == 1
    assert told(route.end_invitation(a, 1, has_sent=False)) == []  # none is left
    park(route, "slow")
    assert accept(route, "b", 1) == "slow"


def test_what_is_meant_is_taken_and_the_worker_is_told_what_comes_next() -> None:
    route = route_to("a1", places=1)
    items, _ = park(route, "slow new slow")
    taken: list[Queued] = []
    assert told(route.take(lambda item: item.name == "slow", taken)) == [("a", 1, "new")]
    assert taken == [items[0], items[2]]
    assert route.waiting == 1


@pytest.mark.parametrize("is_out", [True, False])
def test_nothing_is_forgotten_if_something_is_raised_while_it_is_taken(
    monkeypatch: pytest.MonkeyPatch, is_out: bool
) -> None:
    def forget(self: Route[Worker], item: Queued) -> bool:
        if item is items[1]:
            if is_out:
                once(self, item)
            raise KeyboardInterrupt
        return once(self, item)

    route = route_to("a1", places=1)
    items, _ = park(route, "slow slow slow")
    once = Route.forget
    monkeypatch.setattr(Route, "forget", forget)
    taken: list[Queued] = []
    with pytest.raises(KeyboardInterrupt):
        route.take(lambda item: True, taken)
    assert taken == items[: 1 + is_out]
    assert route.items() == items[1 + is_out :]


def test_what_all_workers_wait_for_must_not_wait() -> None:
    route = route_to("a1 b1")
    everybody = [target.uid for target in route.targets]
    assert route.is_blocked(Queued("slow", 1, 1.0, blockers=everybody))
    assert not route.is_blocked(Queued("slow", 1, 1.0, blockers=everybody[:1]))


def test_tiny_calls_beside_others_gather_where_a_thread_is_left() -> None:
    route = route_to("a b1", tiny=Lane(4))
    assert choices(route, 2, "tiny") == "bb"


def test_if_nobody_knows_what_workers_were_told_all_are_told_again() -> None:
    route = route_to("a b")
    assert route.ask_again() == []
    _, asks = park(route, "slow slow")
    assert told(route.ask_again()) == asks == [("a", 1, "slow"), ("b", 1, "slow")]


def test_short_calls_that_are_answered_as_fast_as_they_come_stay_with_one_worker() -> None:
    route = route_to("a1 b", places=1)
    assert filled(route, 4, "tiny") == "aaaa"
    worker(route, "a").in_hand = 0
    assert choices(route, 2, "tiny") == "ab"  # it is hardly asleep yet; then all are checked


def test_a_single_worker_is_not_looked_at_for_each_short_call() -> None:
    route = route_to("a1")
    assert filled(route, 3, "tiny") == "aaa"


def test_short_calls_beside_longer_ones_are_looked_at_one_by_one() -> None:
    route = route_to("a1 b")
    worker(route, "a").pace = WAKE // 2
    assert filled(route, 2, "tiny") == "ab"


def test_what_waits_for_no_place_waits_for_none_when_there_are_fewer() -> None:
    route = route_to("a1 b1")
    (item,), _ = park(route, "slow")
    route.places = 1
    route.place_again(lambda item: ("", 0), 5.0)
    assert item.place is None


# --- pools ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "blockers", "chosen"),
    [
        ("a b", "", "a"),
        ("a1 b", "", "b"),
        ("a0+1 b", "", "a"),  # what runs beside others is nothing that one has to wait for
        ("a! b1", "", "-"),
        ("a~ b", "", "b"),
        ("a b", "a", "b"),
        ("a1 b", "b", "-"),
        ("a1 B", "", "-"),  # not on another machine
        ("", "", "-"),
    ],
)
def test_an_idle_worker_of_this_machine(targets: str, blockers: str, chosen: str) -> None:
    found = route_to(targets).choose_idle("slow", [ord(name) for name in blockers])
    assert ("-" if found is None else found.name) == chosen


def test_no_idle_worker_while_others_of_the_line_wait() -> None:
    route = route_to("a1 b1")
    park(route, "slow")
    for each in route.targets:
        each.in_hand = 0
    assert route.choose_idle("slow") is None
    assert route.choose_idle("short") is route.targets[0]


def test_a_variant_is_run_as_its_export_is() -> None:
    route = route_to("a b", run=FREE)
    route.tags["run"] = True
    route.add_variant("run#1", "run")
    route.add_variant("foo#1", "foo")  # which is unknown
    assert (route.lanes["run#1"], "foo#1" in route.lanes) == (FREE, False)
    assert route.tags == {"run": True, "run#1": True}


@pytest.mark.parametrize(
    ("targets", "places", "options", "first"),
    [
        ("a", 1, {}, "slow"),
        ("a", 2, {}, ""),
        ("a b", 1, {}, ""),
        ("", 1, {}, ""),
        ("a1", 1, {}, ""),
        ("a~", 1, {}, ""),
        ("a", 1, {"blockers": (97,)}, ""),
        ("a", 1, {"place": ("", 0)}, "slow"),
        ("a", 1, {"place": ("", 1)}, ""),
    ],
)
def test_the_first_call_goes_at_once_to_the_only_worker_there_will_be(
    targets: str, places: int, options: dict[str, Any], first: str
) -> None:
    route = route_to("", places=places)
    put(route, [])
    items, _ = park(route, "slow short", **options)
    put(route, workers(targets))
    found = route.first_for_only_one()
    assert (found.name if found else "") == (items[0].name if first else "")


def test_nothing_waits_for_the_only_worker() -> None:
    route = route_to("a", places=1)
    assert route.first_for_only_one() is None
