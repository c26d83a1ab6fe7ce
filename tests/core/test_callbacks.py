"""The counting of functions that are sent: by tables, and as three processes that lend, pass on, drop and die."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mob.core import callbacks
from mob.core.callbacks import Borrowed, Lent

OWNER, A, B = 1, 2, 3


def f() -> None: ...


class Thing:
    def method(self) -> None: ...


def lend(lent: Lent, function: Callable[..., Any], *holders: int) -> int:
    """Lend as a message does that is encoded once and sent to each of them."""
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
    ("the process that passed it on died before it could say so", [*SENT, ("release", B, 1), ("dies", A)]),
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


Word = Passage | Release | Lend


@dataclass
class Process:
    """One of the three processes: its tables, its remote functions, and the processes that it knows to be dead."""

    uid: int
    lent: Lent = field(default_factory=Lent)
    borrowed: Borrowed = field(default_factory=Borrowed)
    held: Counter[Passage] = field(default_factory=Counter)  # how many arrivals each remote function stands for
    functions: list[Callable[[], None]] = field(default_factory=lambda: [lambda: None, lambda: None])
    alive: bool = True
    mourned: set[int] = field(default_factory=set)


UIDS = (1, 2, 3)
Link = tuple[int, int]  # from, to
which = st.integers(0, 99)
"""Pick one of what is possible at the moment."""


class ThreeProcesses(RuleBasedStateMachine):
    """Links keep order, but one may be slower than another; news of a death may come at any time."""

    loses_last_words = False

    @initialize()
    def begin(self) -> None:
        self.processes = {uid: Process(uid) for uid in UIDS}
        self.links: dict[Link, deque[Word]] = {(a, b): deque() for a in UIDS for b in UIDS}
        self.lost: set[tuple[Passage, int]] = set()  # passed on, but never arrived
        for uid in UIDS:
            self.lends(uid, uid, 0)

    @property
    def living(self) -> list[Process]:
        return [process for process in self.processes.values() if process.alive]

    @property
    def busy_links(self) -> list[Link]:
        return [link for link, words in self.links.items() if words and self.processes[link[1]].alive]

    @property
    def held(self) -> list[tuple[Process, Passage]]:
        return [(process, passage) for process in self.living for passage in sorted(process.held)]

    @property
    def unheard_deaths(self) -> list[Link]:
        dead = [process.uid for process in self.processes.values() if not process.alive]
        return [(uid, process.uid) for process in self.living for uid in dead if uid not in process.mourned]

    def post(self, sender: Process, to: int, word: Word) -> None:
        if to not in sender.mourned:
            self.links[sender.uid, to].append(word)

    # what may happen

    @rule(a=which, b=which, c=which)
    def lends(self, a: int, b: int, c: int) -> None:
        """Have an owner send a function of its own (perhaps to itself)."""
        owner = self.living[a % len(self.living)]
        to = [uid for uid in UIDS if uid not in owner.mourned][b % (3 - len(owner.mourned))]
        number = owner.lent.pin(owner.functions[c % 2])
        owner.lent.hold(number, to)
        self.post(owner, to, Passage(owner.uid, number))
        owner.lent.unpin(number)

    @rule(a=which, b=which)
    def cannot_send(self, a: int, b: int) -> None:
        """Encode a message, part of which then cannot be encoded."""
        owner = self.living[a % len(self.living)]
        owner.lent.unpin(owner.lent.pin(owner.functions[b % 2]))

    @precondition(lambda self: self.held)
    @rule(a=which, b=which)
    def passes_on(self, a: int, b: int) -> None:
        """Have a holder send a remote function to another process, or to its owner. It notifies the owner first."""
        holder, passage = self.held[a % len(self.held)]
        to = [uid for uid in UIDS if uid not in holder.mourned][b % (3 - len(holder.mourned))]
        self.post(holder, passage.owner, Lend(passage.number, to))
        self.post(holder, to, passage)

    @precondition(lambda self: self.held)
    @rule(a=which, is_swept=st.booleans())
    def drops(self, a: int, is_swept: bool) -> None:
        """Drop the last reference to a remote function."""
        holder, passage = self.held[a % len(self.held)]
        holder.borrowed.drop(*passage, holder.held.pop(passage))
        if is_swept:
            self.give_back(holder)

    @rule(a=which)
    def sweeps(self, a: int) -> None:
        """Return what was dropped."""
        self.give_back(self.living[a % len(self.living)])

    @precondition(lambda self: self.busy_links)
    @rule(a=which)
    def arrives(self, a: int) -> None:
        """Deliver the next message of a link."""
        self.deliver(self.busy_links[a % len(self.busy_links)])

    @precondition(lambda self: self.busy_links)
    @rule(a=which)
    def all_arrive(self, a: int) -> None:
        """Read a link to its end."""
        self.read_all(self.busy_links[a % len(self.busy_links)])

    @precondition(lambda self: len(self.living) > 1)
    @rule(a=which, luck=which, lost=st.tuples(*[st.integers(0, 2)] * 3))
    def dies(self, a: int, luck: int, lost: tuple[int, ...]) -> None:
        """End a process, perhaps by a kill. What it had not yet given to the kernel is lost then."""
        if luck < 80:
            return
        process = self.living[a % len(self.living)]
        process.alive = False
        for other, count in zip(UIDS, lost, strict=True) if self.loses_last_words else ():
            words = self.links[process.uid, other]
            for _ in range(min(len(words), count)):
                word = words.pop()
                if isinstance(word, Passage):
                    self.lost.add((word, other))

    @precondition(lambda self: self.unheard_deaths)
    @rule(a=which)
    def mourns(self, a: int) -> None:
        """Notify a process of a death; it reads the last messages of the dead process, and forgets it."""
        dead, uid = self.unheard_deaths[a % len(self.unheard_deaths)]
        self.read_all((dead, uid))
        self.links[uid, dead].clear()
        self.processes[uid].mourned.add(dead)
        self.processes[uid].lent.forget_holder(dead)

    # how it happens

    def read_all(self, link: Link) -> None:
        while self.links[link]:
            self.deliver(link)

    def deliver(self, link: Link) -> None:
        sender, process = link[0], self.processes[link[1]]
        match self.links[link].popleft():
            case Passage(owner, number) as passage:
                if owner == process.uid:
                    assert self.loses_last_words or process.lent.get(number), (
                        "it came back to its owner and was no longer there"
                    )
                    process.lent.release(number, process.uid, 1)
                else:
                    process.held[passage] += 1
            case Lend(number, holder):
                process.lent.hold(number, holder)
            case Release(counts):
                for number, count in counts.items():
                    process.lent.release(number, sender, count)

    def give_back(self, process: Process) -> None:
        for owner, counts in process.borrowed.give_back().items():
            self.post(process, owner, Release(counts))

    # what must hold

    @invariant()
    def what_is_held_or_under_way_is_there(self) -> None:
        if not self.loses_last_words:
            words = {word for link in self.busy_links for word in self.links[link] if isinstance(word, Passage)}
            for owner, number in words.union(passage for _, passage in self.held):
                assert not self.processes[owner].alive or self.processes[owner].lent.get(number) is not None

    def teardown(self) -> None:
        self.come_to_rest()
        self.check_at_rest()
        for process, passage in self.held:
            process.borrowed.drop(*passage, process.held.pop(passage))
        self.come_to_rest()
        self.check_at_rest()

    def come_to_rest(self) -> None:
        """Deliver everything under way, announce all deaths, return everything that was dropped."""
        while self.unheard_deaths:
            self.mourns(0)
        for process in self.living:
            self.give_back(process)
        while self.busy_links:
            self.deliver(self.busy_links[0])

    def check_at_rest(self) -> None:
        """Check that a function is in its owner's table exactly as long as a living process has it."""
        held = {passage for _, passage in self.held}
        for owner in self.living:
            numbers = range(1, 100)
            there = {Passage(owner.uid, number) for number in numbers if owner.lent.get(number) is not None}
            assert len(there) == len(owner.lent)
            if self.loses_last_words:
                assert there <= held | {passage for passage, to in self.lost if self.processes[to].alive}
            else:
                assert there == {passage for passage in held if passage.owner == owner.uid}


class ThreeProcessesThatLoseLastWords(ThreeProcesses):
    """A killed process loses what it had not sent: even then nothing leaks, except what never arrived."""

    loses_last_words = True


MANY = settings(max_examples=50, stateful_step_count=40)
TestThreeProcesses: Any = ThreeProcesses.TestCase
TestThreeProcesses.settings = MANY
TestThreeProcesses.pytestmark = [pytest.mark.timeout(600)]  # finding the shortest way to a failure takes its time
TestThreeProcessesThatLoseLastWords: Any = ThreeProcessesThatLoseLastWords.TestCase
TestThreeProcessesThatLoseLastWords.settings = MANY
TestThreeProcessesThatLoseLastWords.pytestmark = TestThreeProcesses.pytestmark


def test_who_holds_what_is_told() -> None:
    lent = Lent()
    lend(lent, f, 7, 7, 9)
    assert lent.held() == [(f, {7: 2, 9: 1})]
