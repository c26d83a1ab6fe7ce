"""Which callers a worker invites, and when. The callers' side is in test_dispatch.py."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from mob.core.costs import FAR_TRIP, TRIP, most_in_hand
from mob.core.invitations import INVITATION_TIMEOUT, Invitations, WorkerLoad
from mob.core.lanes import FREE, LOOP, MESSAGE, UNLIMITED, Lane

A, B, C = 1, 2, 3
GROUPS = {"add": "loop", "tiny": "loop", "slow": "loop", "task": "tasks", "fetch": "tasks", "gate": "gate", MESSAGE: ""}
COSTS = {"tiny": 100, "slow": 20_000}


class Worker:
    """A worker's load, and its invitations."""

    def __init__(self, **lanes: Lane) -> None:
        self.invitations = Invitations()
        self.in_hand: Counter[str] = Counter()
        self.pace = 0
        self.now = 0.0
        self.lanes = {"loop": LOOP, "tasks": Lane(2, True), "gate": Lane(1, True), "": FREE} | lanes

    def look(self, name: str) -> WorkerLoad:
        group = GROUPS[name]
        return WorkerLoad(group, self.lanes[group], self.in_hand[group], COSTS.get(name, 0), self.pace)

    def invite(self) -> list[tuple[int, int, int]]:
        invites = self.invitations.invite(self.look, self.now)
        return [(uid, line, calls) for uid, line, calls, _ in invites]

    def hear(self, uid: int, line: int, name: str = "add", is_far: bool = False) -> list[tuple[int, int, int]]:
        self.invitations.handle_waiting(uid, line, name, is_far)
        return self.invite()

    def take(self, uid: int, name: str = "add", calls: int = 1) -> None:
        """Let calls arrive."""
        for _ in range(calls):
            self.invitations.handle_call(uid, name)
            self.in_hand[GROUPS[name]] += 1

    def finish(self, group: str = "loop", calls: int = 1) -> list[tuple[int, int, int]]:
        self.in_hand[group] -= calls
        return self.invite()

    @property
    def is_clean(self) -> bool:
        """True if nothing is known, expected, in turn or reserved."""
        invitations = self.invitations
        return not (
            len(invitations)
            or invitations.waiting
            or invitations.expected
            or invitations._reserved
            or invitations._queues
        )


def test_an_idle_worker_invites_at_once_and_a_busy_one_when_it_is_done() -> None:
    worker = Worker()
    assert worker.hear(A, 7) == [(A, 7, 1)]
    assert repr(worker.invitations) == "<Invitations, 0 callers wait, 1 invited>"
    worker.take(A)
    assert worker.invite() == []
    assert worker.hear(B, 3) == []
    assert (len(worker.invitations), worker.invitations.waiting) == (2, 2)
    assert worker.finish() == [(A, 7, 1)]  # it has not said that it has nothing left


def test_the_place_is_kept_until_the_invited_has_answered() -> None:
    worker = Worker()
    assert worker.hear(A, 1) == [(A, 1, 1)]
    assert worker.hear(B, 1) == []
    assert worker.invite() == []
    worker.invitations.handle_declined(A, 1)
    assert worker.invite() == [(B, 1, 1)]
    worker.invitations.handle_declined(A, 1)  # once too often
    worker.invitations.handle_declined(C, 5)  # it is unknown
    assert worker.invite() == []
    worker.invitations.handle_declined(B, 1)
    assert worker.is_clean


def test_callers_get_their_turns_one_after_the_other() -> None:
    worker = Worker()
    turns = [invite for uid in (A, B, C) for invite in worker.hear(uid, 1)]
    for _ in range(8):
        worker.take(turns[-1][0])
        turns += worker.finish()
    assert [uid for uid, _, _ in turns] == [A, B, C] * 3


def test_and_so_do_exports() -> None:
    worker = Worker()
    worker.in_hand["loop"] = 1
    lines = {(A, 1): "add", (A, 2): "slow", (B, 1): "slow", (B, 5): "add"}
    for (uid, line), name in lines.items():
        assert worker.hear(uid, line, name) == []
    turns: list[tuple[int, int]] = []
    for _ in range(8):
        ((uid, line, _),) = worker.finish()
        turns.append((uid, line))
        worker.take(uid, lines[uid, line])
    assert turns == [*lines] * 2


def test_one_whose_calls_are_long_is_not_overtaken_for_ever_by_others_whose_calls_are_short() -> None:
    worker = Worker()
    worker.pace = COSTS["tiny"]
    worker.in_hand["loop"] = 3
    assert worker.hear(A, 1, "slow") == []  # it is not prefetched
    assert worker.hear(B, 1, "tiny") == []  # it would be, but it came later
    assert worker.finish() == worker.finish() == []
    assert worker.finish() == [(A, 1, 1)]
    worker.take(A, "slow")
    assert worker.finish() == [(B, 1, most_in_hand(1, 100, 100))]


def test_nothing_is_asked_for_that_would_wait_behind_a_long_call_which_was_asked_for() -> None:
    worker = Worker(loop=Lane(2))
    worker.pace = COSTS["tiny"]
    assert worker.hear(A, 1, "slow") == [(A, 1, 2)]
    assert worker.hear(B, 1, "tiny") == []
    worker.invitations.handle_declined(A, 1)
    assert worker.invite() == [(B, 1, most_in_hand(2, 100, 100))]


def test_exports_that_do_not_share_their_places_do_not_wait_for_each_other() -> None:
    worker = Worker()
    worker.in_hand["loop"] = 1
    assert worker.hear(A, 1, "slow") == []
    assert worker.hear(A, 2, "task") == [(A, 2, 2)]
    assert worker.hear(B, 1, "fetch") == []
    assert worker.hear(B, 2, "gate") == [(B, 2, 1)]
    worker.take(A, "task")
    assert worker.invite() == [(B, 1, 1)]
    assert worker.finish() == [(A, 1, 1)]


def test_messages_are_asked_for_without_a_limit_from_all_at_once() -> None:
    worker = Worker()
    worker.in_hand["loop"] = 5
    for uid in (A, B, C):
        (invite,) = worker.hear(uid, 1, MESSAGE)
        assert invite[:2] == (uid, 1)
        assert invite[2] >= UNLIMITED
    assert worker.invitations.wake_at() == math.inf
    worker.invitations.handle_call(A, MESSAGE)
    (invite,) = worker.invite()
    assert invite[0] == A
    for uid in (A, B, C):
        worker.invitations.handle_declined(uid, 1)
    assert worker.is_clean


def test_short_calls_are_asked_for_in_batches() -> None:
    worker = Worker()
    most = most_in_hand(1, COSTS["tiny"], COSTS["tiny"])
    worker.pace = COSTS["tiny"]
    assert worker.hear(A, 1, "tiny") == [(A, 1, most)]
    worker.take(A, "tiny", most)
    counts = [sum(calls for _, _, calls in worker.finish()) for _ in range(most)]
    assert [count for count in counts if count] == [most - most // 2]


def test_from_far_away_more_is_asked_for() -> None:
    near, far = Worker(), Worker()
    near.pace = far.pace = COSTS["tiny"]
    assert near.hear(A, 1, "tiny") == [(A, 1, most_in_hand(1, 100, 100, TRIP))]
    assert far.hear(A, 1, "tiny", is_far=True) == [(A, 1, most_in_hand(1, 100, 100, FAR_TRIP))]


def test_but_no_more_at_a_time_than_from_others_if_others_wait() -> None:
    worker = Worker()
    worker.pace = COSTS["tiny"]
    near = most_in_hand(1, 100, 100, TRIP)
    worker.in_hand["loop"] = near
    for uid in (A, B, C):
        assert worker.hear(uid, 1, "tiny", is_far=uid == A) == []
    assert worker.finish(calls=near) == [(A, 1, (near + 1) // 2)]


@pytest.mark.parametrize(("in_hand", "calls"), [(0, 4), (2, 2), (3, 1), (4, 0), (9, 0)])
def test_threads_are_filled(in_hand: int, calls: int) -> None:
    worker = Worker(loop=Lane(4))
    worker.in_hand["loop"] = in_hand
    assert worker.hear(A, 1, "slow") == ([(A, 1, calls)] if calls else [])


def test_one_invitation_of_a_caller_and_an_export_is_open_at_a_time() -> None:
    worker = Worker(loop=Lane(10))
    assert worker.hear(A, 1) == [(A, 1, 10)]
    worker.invitations.handle_call(A, "add")
    worker.in_hand["loop"] = 1
    assert worker.invite() == [(A, 1, 9)]
    assert worker.hear(A, 2) == []  # of the same export: their answers could not be distinguished
    assert worker.hear(B, 1) == []
    worker.invitations.handle_declined(A, 1)
    assert worker.invite() == [(A, 2, 9)]


def test_who_is_silent_keeps_no_places() -> None:
    """The loop of a caller is blocked. When it answers, its calls are still accepted."""
    worker = Worker()
    worker.hear(A, 1)
    worker.hear(B, 1)
    assert worker.invitations.wake_at() == INVITATION_TIMEOUT
    worker.now = INVITATION_TIMEOUT / 2
    assert worker.invite() == []
    worker.now = INVITATION_TIMEOUT
    assert worker.invite() == [(B, 1, 1)]
    assert worker.invitations.wake_at() == math.inf  # no other caller waits for the place
    worker.take(B)
    worker.take(A)
    assert worker.in_hand["loop"] == 2
    worker.in_hand["loop"] = 0
    assert worker.invite() == [(B, 1, 1)]
    assert not worker.invitations._reserved.get("loop", 0) > 1


def test_if_nobody_else_waits_nothing_must_be_looked_at() -> None:
    worker = Worker()
    worker.hear(A, 1)
    assert worker.invitations.wake_at() == math.inf
    worker.now = 10.0
    assert worker.invite() == []
    worker.take(A)
    assert worker.finish() == [(A, 1, 1)]


def test_who_says_again_what_waits_is_the_last_in_turn_and_keeps_nothing() -> None:
    """The next call of a line is of another export; or the link to its caller was replaced."""
    worker = Worker()
    assert worker.hear(A, 1, "add") == [(A, 1, 1)]
    assert worker.hear(B, 1, "add") == []
    assert worker.hear(A, 1, "task") == [(B, 1, 1), (A, 1, 2)]
    assert worker.hear(C, 1, "task") == []
    assert worker.hear(A, 1, "task") == [(C, 1, 2)]


def test_places_of_lost_callers_are_given_to_others() -> None:
    worker = Worker()
    worker.hear(A, 1, "add")
    worker.hear(A, 2, "slow")
    worker.hear(A, 3, "task")
    worker.hear(B, 1, "add")
    worker.hear(C, 1, "task")
    worker.invitations.handle_lost(A)
    assert worker.invite() == [(B, 1, 1), (C, 1, 2)]
    worker.invitations.handle_lost(B)
    worker.invitations.handle_lost(C)
    worker.invitations.handle_lost(C)
    assert worker.is_clean


def test_a_worker_that_ends_invites_nobody_and_keeps_nothing() -> None:
    worker = Worker()
    worker.hear(A, 1, "add")
    worker.hear(B, 1, "add")
    worker.hear(C, 1, "task")
    worker.invitations.clear()
    assert worker.is_clean
    assert worker.invite() == []
    worker.take(A)  # it was on its way
    assert worker.is_clean


# --- anything may happen ----------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["add", "tiny", "slow", "task", "fetch", "gate", MESSAGE])
UIDS = st.integers(1, 4)
LINES = st.integers(1, 3)
EVENTS = st.one_of(
    st.tuples(st.just("waiting"), UIDS, LINES, NAMES, st.booleans()),
    st.tuples(st.just("declined"), UIDS, LINES),
    st.tuples(st.just("call"), UIDS, NAMES, st.integers(1, 12)),
    st.tuples(st.just("lost"), UIDS),
    st.tuples(st.just("finish"), st.sampled_from(["loop", "tasks", "gate"]), st.integers(1, 12)),
    st.tuples(st.just("later"), st.floats(0.0, 2 * INVITATION_TIMEOUT)),
    st.tuples(st.just("clear")),
)


@settings(max_examples=200)
@given(st.lists(EVENTS, max_size=60), st.sampled_from([1, 4]))
def test_no_place_stays_free_while_somebody_waits_for_it(events: list[tuple[object, ...]], threads: int) -> None:
    worker = Worker(loop=LOOP if threads == 1 else Lane(threads))
    worker.pace = 100
    invitations = worker.invitations
    for event in events:
        match event:
            case ("waiting", int(uid), int(line), str(name), bool(is_far)):
                invitations.handle_waiting(uid, line, name, is_far)
            case ("declined", int(uid), int(line)):
                invitations.handle_declined(uid, line)
            case ("call", int(uid), str(name), int(calls)):
                worker.take(uid, name, calls)
            case ("lost", int(uid)):
                invitations.handle_lost(uid)
            case ("finish", str(group), int(calls)):
                worker.in_hand[group] = max(0, worker.in_hand[group] - calls)
            case ("later", float(seconds)):
                worker.now += seconds
            case _:
                invitations.clear()
        invites = worker.invite()
        assert len({(uid, line) for uid, line, _ in invites}) == len(invites)
        assert worker.invite() == []
        check(worker)
    for uid in range(1, 5):
        invitations.handle_lost(uid)
    assert worker.is_clean


def check(worker: Worker) -> None:
    invitations = worker.invitations
    reserved = invitations._reserved
    kept: Counter[str] = Counter()
    for waiting in invitations.expected.values():
        kept[waiting.group] += waiting.count
    assert +kept == Counter(reserved)
    in_turn = [each for queue in invitations._queues.values() for each in queue.values()]
    assert len(in_turn) == invitations.waiting == len(invitations) - len(invitations.expected)
    for each in in_turn:
        if (each.uid, each.name) not in invitations.expected:
            load = worker.look(each.name)
            assert load.in_hand + reserved.get(load.group, 0) >= load.lane.width
            assert load.lane.width < UNLIMITED
    if in_turn and +kept:
        assert worker.now < invitations.wake_at() <= worker.now + INVITATION_TIMEOUT


def test_after_an_error_in_the_middle_of_a_change_all_wait_in_turn_again() -> None:
    worker = Worker()
    assert worker.hear(A, 1) == [(A, 1, 1)]
    assert worker.hear(B, 1) == []
    worker.invitations.recover()
    assert (worker.invitations.waiting, worker.invitations.expected) == (2, {})
    assert worker.invite() == [(A, 1, 1)]
    worker.invitations.handle_declined(A, 1)
    assert worker.invite() == [(B, 1, 1)]
    worker.invitations.handle_declined(B, 1)
    assert worker.is_clean
