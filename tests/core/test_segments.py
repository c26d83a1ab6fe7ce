"""The accounts of a pool of shared memory: by tables, and as a sender with holders that keep, return and die."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mob.core.segments import GONE_REMEMBERED, IDLE, MOST_AHEAD, UNIT, Extents, Quiet, Segment, SegmentPool

A, B = 2, 3


def placed(pool: SegmentPool, size: int = UNIT) -> Segment:
    segment = pool.place(size)
    assert segment is not None
    return segment


# --- counting ---------------------------------------------------------------------------------------------------------

Step = tuple[Any, ...]
SENT: list[Step] = [("hold", A), ("unpin",)]
FREED: list[tuple[str, list[Step]]] = [  # each begins when the buffer was placed, and ends when its segment is free
    ("never sent", [("unpin",)]),
    ("given back", [*SENT, ("release", A, 1)]),
    ("given back while the call is under way", [("hold", A), ("release", A, 1), ("unpin",)]),
    ("several arrivals, given back as one", [("hold", A), *SENT, ("release", A, 2)]),
    ("several arrivals, given back in parts", [("hold", A), *SENT, ("release", A, 1), ("release", A, 1)]),
    ("two holders", [("hold", B), *SENT, ("release", A, 1), ("release", B, 1)]),
    ("the holder died", [*SENT, ("dies", A)]),
    ("one gave it back, one died", [("hold", B), *SENT, ("release", B, 1), ("dies", A)]),
    (
        "sent again: the first receiver died",
        [("hold", A), ("dies", A), ("hold", B), ("unpin",), ("release", B, 1)],
    ),
    ("given back once too often", [*SENT, ("release", A, 5)]),
]


def carry_out(pool: SegmentPool, number: int, step: Step) -> None:
    match step:
        case ("unpin",):
            pool.unpin(number)
        case ("hold", holder):
            pool.hold(number, holder)
        case ("release", holder, count):
            pool.release(number, holder, count)
        case ("dies", holder):
            pool.forget_holder(holder)
        case _:
            raise AssertionError(step)


@pytest.mark.parametrize("steps", [row[1] for row in FREED], ids=[row[0] for row in FREED])
def test_a_segment_is_taken_until_the_last_step_and_then_free(steps: list[Step]) -> None:
    pool = SegmentPool(2 * UNIT)
    segment = placed(pool)
    for step in steps:
        assert pool.get(segment.number) is segment
        carry_out(pool, segment.number, step)
    assert pool.get(segment.number) is None
    assert (len(pool), pool.used) == (0, 0)
    assert placed(pool, 2 * UNIT).number > segment.number


def test_what_is_said_of_a_free_segment_changes_nothing() -> None:
    pool = SegmentPool(UNIT)
    old = placed(pool)
    pool.unpin(old.number)
    new = placed(pool)
    for step in [("unpin",), ("hold", A), ("release", A, 1), ("dies", A)]:
        carry_out(pool, old.number, step)
    assert pool.get(new.number) is new
    assert new.pins == 1


def test_a_holder_that_never_had_it_gives_nothing_back() -> None:
    pool = SegmentPool(UNIT)
    segment = placed(pool)
    carry_out(pool, segment.number, ("hold", A))
    pool.unpin(segment.number)
    pool.release(segment.number, B, 1)
    assert pool.get(segment.number) is segment


# --- placing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "sizes", "offsets"),
    [
        (4, [UNIT, UNIT], [0, 1]),
        (4, [1, UNIT + 1, UNIT], [0, 1, 3]),
        (4, [4 * UNIT, 1], [0, None]),
        (4, [5 * UNIT, UNIT], [None, 0]),
        (0, [1], [None]),
    ],
)
def test_segments_lie_as_low_as_they_fit(limit: int, sizes: list[int], offsets: list[int | None]) -> None:
    pool = SegmentPool(limit * UNIT)
    found = [pool.place(size) for size in sizes]
    assert [segment and segment.offset // UNIT for segment in found] == offsets


def test_a_limit_that_is_no_multiple_is_rounded_down() -> None:
    assert SegmentPool(UNIT - 1).place(1) is None
    assert SegmentPool(2 * UNIT - 1).limit == UNIT


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1)])
def test_free_neighbours_become_one(order: tuple[int, ...]) -> None:
    pool = SegmentPool(3 * UNIT)
    segments = [placed(pool) for _ in range(3)]
    for index in order:
        pool.unpin(segments[index].number)
    assert placed(pool, 3 * UNIT).offset == 0


def test_it_can_be_looked_at() -> None:
    pool = SegmentPool(4 * UNIT)
    segment = placed(pool)
    pool.hold(segment.number, A)
    assert repr(pool) == "<SegmentPool: 1 segments, 65,536 of 262,144 bytes>"
    assert repr(segment) == "<Segment 1 at 0, 65536 bytes, held by 1>"


# --- warm and cold ----------------------------------------------------------------------------------------------------


def test_memory_is_asked_for_once() -> None:
    pool = SegmentPool(8 * UNIT)
    first = placed(pool, 2 * UNIT)
    assert pool.warm_up(first) == (0, 2 * UNIT)
    pool.unpin(first.number)
    assert pool.warm_up(placed(pool, UNIT)) is None
    assert pool.warm_up(placed(pool, 3 * UNIT)) == (2 * UNIT, 4 * UNIT)


def test_memory_that_lies_idle_behind_all_segments_is_given_back() -> None:
    pool = SegmentPool(8 * UNIT)
    kept, gone = placed(pool), placed(pool, 3 * UNIT)
    for segment in (kept, gone):
        pool.warm_up(segment)
    pool.unpin(gone.number)
    assert pool.cool(100.0) is None  # there was a new one since the last look
    assert pool.cool(100.0 + IDLE - 1) is None
    assert pool.cool(100.0 + IDLE) == (UNIT, 4 * UNIT)
    assert pool.cool(200.0) is None
    assert pool.warm_up(placed(pool)) == (UNIT, 2 * UNIT)


# --- a sender and its holders -----------------------------------------------------------------------------------------


class Sender(RuleBasedStateMachine):
    """No segment in use is written again, no unused one is lost, and segments never overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = SegmentPool(10 * UNIT)
        self.pinned: list[Segment] = []
        self.views: Counter[tuple[int, int]] = Counter()  # (number, holder)
        self.segments: dict[int, Segment] = {}
        self.next_uid = 10
        self.holders = [2, 3]

    @rule(units=st.integers(1, 6), cut=st.integers(0, UNIT - 1))
    def place(self, units: int, cut: int) -> None:
        segment = self.pool.place(units * UNIT - cut)
        if segment is not None:
            self.pinned.append(segment)
            self.segments[segment.number] = segment
        else:
            taken = sorted((each.offset, each.end) for each in self.alive())
            edges = [0, *(edge for pair in taken for edge in pair), 10 * UNIT]
            assert all(end - start < units * UNIT for start, end in zip(edges[::2], edges[1::2], strict=True))

    @precondition(lambda self: self.pinned)
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        segment, holder = data.draw(st.sampled_from(self.pinned)), data.draw(st.sampled_from(self.holders))
        self.pool.hold(segment.number, holder)
        self.views[segment.number, holder] += 1

    @precondition(lambda self: self.pinned)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        segment = self.pinned.pop(data.draw(st.integers(0, len(self.pinned) - 1)))
        self.pool.unpin(segment.number)

    @precondition(lambda self: self.views)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        number, holder = data.draw(st.sampled_from(sorted(self.views)))
        count = data.draw(st.integers(1, self.views[number, holder]))
        self.pool.release(number, holder, count)
        self.views -= Counter({(number, holder): count})

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        holder = self.holders.pop(data.draw(st.integers(0, len(self.holders) - 1)))
        self.pool.forget_holder(holder)
        self.views = Counter({key: count for key, count in self.views.items() if key[1] != holder})
        self.holders.append(self.next_uid)
        self.next_uid += 1

    def alive(self) -> list[Segment]:
        numbers = {segment.number for segment in self.pinned} | {number for number, _ in self.views}
        return [self.segments[number] for number in numbers]

    @invariant()
    def what_may_be_looked_at_is_there_and_nothing_else(self) -> None:
        alive = self.alive()
        assert all(self.pool.get(segment.number) is segment for segment in alive)
        assert len(self.pool) == len(alive)
        assert self.pool.used == sum(segment.size for segment in alive)

    @invariant()
    def no_two_segments_meet(self) -> None:
        taken = sorted((segment.offset, segment.end) for segment in self.alive())
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(taken))
        assert all(0 <= start < end <= 10 * UNIT for start, end in taken)

    def teardown(self) -> None:
        for segment in self.pinned:
            self.pool.unpin(segment.number)
        for holder in self.holders:
            self.pool.forget_holder(holder)
        assert (len(self.pool), self.pool.used) == (0, 0)
        assert placed(self.pool, 10 * UNIT).offset == 0


TestSender = Sender.TestCase
TestSender.settings = settings(max_examples=100, stateful_step_count=40)


# --- ahead ------------------------------------------------------------------------------------------------------------


def test_memory_for_another_segment_like_the_largest_is_had_in_steps() -> None:
    pool = SegmentPool(100 * UNIT)
    assert pool.ahead(UNIT) is None  # nothing was sent
    pool.warm_up(placed(pool, 3 * UNIT))
    parts: list[tuple[int, int]] = []
    while (part := pool.ahead(2 * UNIT)) is not None:
        parts.append(part)
        pool.handle_ready(*part)
    assert parts == [(3 * UNIT, 5 * UNIT), (5 * UNIT, 6 * UNIT)]
    assert pool.warm_up(placed(pool, 3 * UNIT)) is None
    assert pool.ahead(UNIT) is None
    assert pool.warm_up(placed(pool, UNIT)) == (6 * UNIT, 7 * UNIT)  # nothing is allocated for a third one


@pytest.mark.parametrize(
    ("limit", "size", "end"),
    [(3 * UNIT, 2 * UNIT, 3 * UNIT), (8 * MOST_AHEAD, 4 * MOST_AHEAD, 5 * MOST_AHEAD)],
    ids=["the pool", "the most"],
)
def test_what_is_had_ahead_is_bounded(limit: int, size: int, end: int) -> None:
    pool = SegmentPool(limit)
    pool.warm_up(placed(pool, size))
    assert pool.ahead(limit) == (size, end)


def test_what_was_had_too_late_changes_nothing() -> None:
    pool = SegmentPool(100 * UNIT)
    pool.warm_up(placed(pool, 4 * UNIT))
    part = pool.ahead(UNIT)
    pool.warm_up(placed(pool, 3 * UNIT))  # in the meantime a segment has needed it
    assert part is not None
    pool.handle_ready(*part)
    assert pool.warm == 7 * UNIT


def test_memory_that_was_asked_for_ahead_is_given_back_also_if_nobody_said_that_it_is_there() -> None:
    pool = SegmentPool(100 * UNIT)
    pool.warm_up(placed(pool, UNIT))
    assert pool.ahead(UNIT) == (UNIT, 2 * UNIT)
    assert [pool.cool(now) for now in (0.0, IDLE, 2 * IDLE)] == [None, (UNIT, 2 * UNIT), None]
    assert pool.ahead(UNIT) is None


def test_it_is_quiet_when_a_number_has_not_changed_for_long() -> None:
    quiet = Quiet()
    assert [quiet.has_come(number, now) for number, now in ((3, 5.0), (3, 5.0 + IDLE), (4, 6.0 + IDLE))] == [
        False,
        True,
        False,
    ]


# --- loans, and what is passed on -------------------------------------------------------------------------------------


def test_a_loan_is_held_by_its_owner_until_that_drops_it() -> None:
    pool = SegmentPool(4 * UNIT)
    segment = pool.place(UNIT)
    assert segment is not None
    pool.hold(segment.number, 1)
    pool.unpin(segment.number)
    assert not pool.is_held_by_others(segment.number, 1)
    pool.pin(segment.number)
    assert pool.is_held_by_others(segment.number, 1)
    pool.hold(segment.number, 2)
    pool.unpin(segment.number)
    assert pool.is_held_by_others(segment.number, 1)
    pool.release(segment.number, 1, 1)
    assert pool.used == UNIT
    pool.release(segment.number, 2, 1)
    assert pool.used == 0
    assert not pool.is_held_by_others(segment.number, 1)


@pytest.mark.parametrize("passed_first", [True, False])
def test_what_is_passed_on_stays_until_the_third_has_given_it_back(passed_first: bool) -> None:
    pool = SegmentPool(4 * UNIT)
    segment = pool.place(UNIT)
    assert segment is not None
    number = segment.number
    pool.hold(number, 2)
    pool.unpin(number)
    steps = [lambda: pool.hold(number, 3), lambda: pool.release(number, 3, 1)]
    for step in steps if passed_first else reversed(steps):
        step()
        assert pool.used == UNIT  # the second holds it
    pool.hold(number, 3)
    pool.release(number, 2, 1)
    assert pool.used == UNIT
    pool.forget_holder(3)
    assert pool.used == 0
    pool.hold(number, 3)  # said late, of what is free
    assert len(pool) == 0


def test_who_gave_back_what_the_owner_never_heard_of_keeps_nothing() -> None:
    pool = SegmentPool(4 * UNIT)
    segment = pool.place(UNIT)
    assert segment is not None
    pool.release(segment.number, 3, 1)
    pool.unpin(segment.number)
    assert (pool.used, len(pool)) == (0, 0)


def test_a_dead_one_holds_nothing_of_what_is_passed_on_to_it() -> None:
    pool = SegmentPool(4 * UNIT)
    segment = pool.place(UNIT)
    assert segment is not None
    for uid in range(10, 10 + GONE_REMEMBERED + 1):
        pool.forget_holder(uid)
    pool.hold(segment.number, 11)
    pool.unpin(segment.number)
    assert pool.used == 0


def test_extents_find_the_segment_of_a_part() -> None:
    extents = Extents()
    extents.add(5, 300, 400)
    extents.add(4, 0, 100)
    extents.add(6, 200, 250)
    extents.add(6, 210, 300)  # another slice of it
    assert (len(extents), repr(extents)) == (3, "<Extents of 3 segments>")
    assert [extents.find(*part) for part in ((0, 100), (10, 20), (200, 300), (300, 301))] == [4, 4, 6, 5]
    assert [extents.find(*part) for part in ((100, 200), (90, 110), (250, 350), (350, 401))] == [None] * 4
    extents.remove(6)
    assert extents.find(200, 210) is None
