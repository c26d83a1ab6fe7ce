"""The counting of functions that cross: by tables, and as three processes that lend, pass on, drop and die."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mob.core import callbacks
from mob.core.callbacks import Borrowed, Lent

OWNER, A, B = 1, 2, 3


def f() -> None: ...


class Thing:
    def method(self) -> None: ...


def lend(lent: Lent, function: Callable[..., Any], *holders: int) -> int:
    """As a message does that is encoded once and sent to each of them."""
    number = lent.pin(function)
    for holder in holders:
        lent.hold(number, holder)
    lent.unpin(number)
    return number


# --- the owner's table ------------------------------------------------------------------------------------------------

Step = tuple[Any, ...]
SENT: list[Step] = [("hold", A), ("unpin",)]
FREED: list[tuple[str, list[Step]]] = [  # each begins when the function was encoded once, and ends when it is freed
    ("never sent", [("unpin",)]),
    ("encoded twice in one message", [("pin",), ("unpin",), ("unpin",)]),
    ("given back", [*SENT, ("release", A, 1)]),
    ("given back while it is still being sent", [("hold", A), ("release", A, 1), ("unpin",)]),
    ("several arrivals, given back as one", [*SENT, ("hold", A), ("hold", A), ("release", A, 3)]),
    ("given back in parts", [*SENT, ("hold", A), ("release", A, 1), ("release", A, 1)]),
    ("both holders gave it back", [*SENT, ("hold", B), ("release", B, 1), ("release", A, 1)]),
    ("the holder died", [*SENT, ("hold", A), ("dies", A)]),
    ("one gave it back, one died", [*SENT, ("hold", B), ("release", A, 1), ("dies", B)]),
    ("the third gave it back before the owner knew", [*SENT, ("release", B, 1), ("hold", B), ("release", A, 1)]),
    ("the third died before the owner knew", [*SENT, ("release", B, 1), ("dies", B), ("hold", B), ("release", A, 1)]),
    ("who passed it on died before he could say so", [*SENT, ("release", B, 1), ("dies", A)]),
    ("sent to a dead one", [("dies", A), ("hold", A), ("unpin",)]),
    ("came home", [*SENT, ("hold", OWNER), ("release", OWNER, 1), ("release", A, 1)]),
]


def carry_out(lent: Lent, number: int, step: Step) -> None:
    match step:
        case ("pin",):
            assert lent.pin(f) == number
        case ("unpin",):
            lent.unpin(number)
        case ("hold", holder):
            lent.hold(number, holder)
        case ("release", holder, count):
            lent.release(number, holder, count)
        case ("dies", holder):
            lent.forget_holder(holder)
        case _:
            raise AssertionError(step)


@pytest.mark.parametrize("steps", [row[1] for row in FREED], ids=[row[0] for row in FREED])
def test_a_function_is_there_until_the_last_step_and_then_no_more(steps: list[Step]) -> None:
    lent = Lent()
    number = lent.pin(f)
    for step in steps:
        assert lent.get(number) is f
        carry_out(lent, number, step)
    assert lent.get(number) is None
    assert repr(lent) == "<Lent 0 functions to 0 holders>"


@pytest.mark.parametrize(
    "steps",
    [
        [("release", B, 1)],  # before A's word that it passed the function on
        [("release", B, 1), ("release", B, 1)],
        [("dies", B)],
        [("hold", B), ("dies", B)],
        [("pin",), ("release", A, 1)],
        [("hold", B), ("release", A, 1)],
    ],
)
def test_a_function_stays_as_long_as_somebody_may_have_it(steps: list[Step]) -> None:
    lent = Lent()
    number = lend(lent, f, A)
    for step in steps:
        carry_out(lent, number, step)
    assert lent.get(number) is f


def test_a_function_has_one_number_while_it_is_lent_and_then_never_again() -> None:
    lent = Lent()
    first = lend(lent, f, A)
    assert lend(lent, f, B) == first
    assert lend(lent, lambda: None, A) != first
    lent.forget_holder(A)
    lent.forget_holder(B)
    assert lend(lent, f, 4) > first + 1
    assert lent.get(first) is None


def test_a_bound_method_is_the_same_function_at_every_access() -> None:
    lent = Lent()
    one, other = Thing(), Thing()
    assert lend(lent, one.method, A) == lend(lent, one.method, A)
    assert lend(lent, other.method, A) != lend(lent, one.method, A)
    assert len(lent) == 2


def test_what_is_said_of_a_freed_function_changes_nothing() -> None:
    lent = Lent()
    number = lend(lent, f, A)
    lent.release(number, A, 1)
    for step in [("hold", B), ("release", A, 1), ("unpin",), ("dies", A)]:
        carry_out(lent, number, step)
    assert len(lent) == 0


def test_the_dead_are_remembered_up_to_a_bound() -> None:
    lent = Lent()
    for holder in range(10, 10 + callbacks.GONE_REMEMBERED):
        lent.forget_holder(holder)
    number = lend(lent, f, A)
    lent.hold(number, 10)
    lent.release(number, A, 1)
    assert len(lent) == 0
    lent.forget_holder(9)
    number = lend(lent, f, 10)  # forgotten by now, as if it were new
    assert lent.get(number) is f


def test_the_owner_can_be_looked_at() -> None:
    lent = Lent()
    lend(lent, f, A, B)
    lend(lent, print, B)
    assert len(lent) == 2
    assert repr(lent) == "<Lent 2 functions to 2 holders>"


def test_what_was_dropped_is_given_back_once_and_summed() -> None:
    borrowed = Borrowed()
    borrowed.drop(OWNER, 7, 2)
    borrowed.drop(OWNER, 7, 1)
    borrowed.drop(OWNER, 8, 1)
    borrowed.drop(A, 7, 1)
    assert repr(borrowed) == "<Borrowed, to be given back to 2 owners>"
    assert borrowed.give_back() == {OWNER: {7: 3, 8: 1}, A: {7: 1}}
    assert borrowed.give_back() == {}


# --- three processes --------------------------------------------------------------------------------------------------


class Passage(NamedTuple):
    """A message that carries a reference."""

    owner: int
    number: int


class Release(NamedTuple):
    counts: dict[int, int]


class Lend(NamedTuple):
    number: int
    holder: int


@dataclass
class Process:
    """One of the three: its tables, the remote functions that live in it, and whom it knows to be dead."""

    uid: int
    lent: Lent = field(default_factory=Lent)
    borrowed: Borrowed = field(default_factory=Borrowed)
    held: Counter[Passage] = field(default_factory=Counter)  # how many arrivals each remote function stands for
    functions: list[Callable[[], None]] = field(default_factory=lambda: [lambda: None, lambda: None])
    alive: bool = True
    mourned: set[int] = field(default_factory=set)


UIDS = (1, 2, 3)
processes = st.sampled_from(UIDS)
ways = st.sampled_from([(a, b) for a in UIDS for b in UIDS])
choice = st.integers(0, 100)


class ThreeProcesses(RuleBasedStateMachine):
    """Links keep order, but one may be slower than another; the news of a death comes when it comes."""

    loses_words_of_the_dying = False

    @initialize()
    def begin(self) -> None:
        self.processes = {uid: Process(uid) for uid in UIDS}
        self.links: dict[tuple[int, int], deque[Passage | Release | Lend]] = {
            (a, b): deque() for a in UIDS for b in UIDS
        }

    def living(self) -> list[Process]:
        return [process for process in self.processes.values() if process.alive]

    def post(self, sender: Process, to: int, message: Passage | Release | Lend) -> None:
        if to not in sender.mourned:
            self.links[sender.uid, to].append(message)

    # what may happen

    @rule(owner=processes, to=processes, which=choice)
    def lends(self, owner: int, to: int, which: int) -> None:
        """An owner sends a function of its own (perhaps to itself)."""
        process = self.processes[owner]
        if process.alive and to not in process.mourned:
            number = process.lent.pin(process.functions[which % len(process.functions)])
            process.lent.hold(number, to)
            self.post(process, to, Passage(owner, number))
            process.lent.unpin(number)

    @rule(owner=processes, which=choice)
    def cannot_send(self, owner: int, which: int) -> None:
        """A message is encoded, and then something else in it cannot be."""
        process = self.processes[owner]
        if process.alive:
            process.lent.unpin(process.lent.pin(process.functions[which % len(process.functions)]))

    @rule(holder=processes, to=processes, which=choice)
    def passes_on(self, holder: int, to: int, which: int) -> None:
        """A holder sends a remote function to another, or home."""
        process = self.processes[holder]
        if process.alive and process.held and to not in process.mourned:
            passage = sorted(process.held)[which % len(process.held)]
            self.post(process, passage.owner, Lend(passage.number, to))
            self.post(process, to, passage)

    @rule(holder=processes, which=choice, sweeps=st.booleans())
    def drops(self, holder: int, which: int, sweeps: bool) -> None:
        """The last reference to a remote function goes away."""
        process = self.processes[holder]
        if process.alive and process.held:
            passage = sorted(process.held)[which % len(process.held)]
            process.borrowed.drop(*passage, process.held.pop(passage))
            if sweeps:
                self.sweeps(holder)

    @rule(holder=processes)
    def sweeps(self, holder: int) -> None:
        """What was dropped is given back."""
        process = self.processes[holder]
        if process.alive:
            for owner, counts in process.borrowed.give_back().items():
                self.post(process, owner, Release(counts))

    @rule(way=ways)
    def arrives(self, way: tuple[int, int]) -> None:
        """The next message of a link arrives."""
        if self.links[way] and self.processes[way[1]].alive:
            self.deliver(*way)

    @rule(way=ways)
    def all_arrive(self, way: tuple[int, int]) -> None:
        """A link is read to its end."""
        while self.links[way] and self.processes[way[1]].alive:
            self.deliver(*way)

    @precondition(lambda self: len(self.living()) > 1)
    @rule(uid=processes, lost=choice)
    def dies(self, uid: int, lost: int) -> None:
        """Killed. What it had not yet given to the kernel goes with it."""
        process = self.processes[uid]
        if not process.alive:
            return
        process.alive = False
        if self.loses_words_of_the_dying:
            for other in UIDS:
                link = self.links[uid, other]
                for _ in range(min(len(link), lost % 4)):
                    link.pop()

    @rule(uid=processes, dead=processes)
    def mourns(self, uid: int, dead: int) -> None:
        """A process hears of a death; it reads what the dead one has still said, and forgets it."""
        process = self.processes[uid]
        if process.alive and not self.processes[dead].alive and dead not in process.mourned:
            self.all_arrive((dead, uid))
            process.mourned.add(dead)
            self.links[uid, dead].clear()
            process.lent.forget_holder(dead)

    def deliver(self, sender: int, to: int) -> None:
        process = self.processes[to]
        match self.links[sender, to].popleft():
            case Passage(owner, number) as passage:
                if owner == to:
                    if not self.loses_words_of_the_dying:
                        assert process.lent.get(number) is not None, "a function came home and was not there any more"
                    process.lent.release(number, to, 1)
                else:
                    process.held[passage] += 1
            case Lend(number, holder):
                process.lent.hold(number, holder)
            case Release(counts):
                for number, count in counts.items():
                    process.lent.release(number, sender, count)

    # what must hold

    def passages_under_way(self) -> set[Passage]:
        """References that a living process is going to get."""
        return {
            message
            for (_, to), link in self.links.items()
            if self.processes[to].alive
            for message in link
            if isinstance(message, Passage)
        }

    @invariant()
    def what_is_held_or_under_way_is_there(self) -> None:
        if self.loses_words_of_the_dying:
            return
        for passage in self.passages_under_way().union(*(process.held for process in self.living())):
            owner = self.processes[passage.owner]
            assert not owner.alive or owner.lent.get(passage.number) is not None

    def settle(self) -> None:
        """All that is under way arrives, all deaths are known, all that was dropped is given back."""
        for _ in range(2):
            for process in self.living():
                for other in UIDS:
                    self.all_arrive((other, process.uid))
                    self.mourns(process.uid, other)
                self.sweeps(process.uid)

    def teardown(self) -> None:
        self.settle()
        self.check_at_rest()
        for process in self.living():
            for passage in list(process.held):
                process.borrowed.drop(*passage, process.held.pop(passage))
        self.settle()
        self.check_at_rest()
        if not self.loses_words_of_the_dying:
            assert {repr(process.lent) for process in self.living()} == {"<Lent 0 functions to 0 holders>"}

    def check_at_rest(self) -> None:
        """A function is in its owner's table exactly as long as a living process has it."""
        for owner in self.living():
            held = {passage.number for other in self.living() for passage in other.held if passage.owner == owner.uid}
            if not self.loses_words_of_the_dying:
                assert {number for number in range(1, 1000) if owner.lent.get(number)} == held
            elif len(self.living()) == 1:
                assert len(owner.lent) == 0


class ThreeProcessesThatLoseLastWords(ThreeProcesses):
    """A killed process takes with it what it had not sent: nothing may outlive its last holder even so."""

    loses_words_of_the_dying = True


MANY = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestThreeProcesses = ThreeProcesses.TestCase
TestThreeProcesses.settings = MANY
TestThreeProcessesThatLoseLastWords = ThreeProcessesThatLoseLastWords.TestCase
TestThreeProcessesThatLoseLastWords.settings = MANY
