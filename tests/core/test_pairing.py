"""Pairing, as stories: what happens between a member here and one of another machine, and what is done about it."""

from __future__ import annotations

import pytest

from mob.core.gateways import Gateways
from mob.core.membership import NODE_TIMEOUT
from mob.core.pairing import Drop, GiveEnd, MakeLink, Pairing, PairStep, TurnAway
from mob.core.roster import Roster
from mob.core.routing import gateway_for
from mob.core.states import PairState
from mob.plan import GATEWAY
from mob.wire import messages as m

NOW = 1024.0
LOWER, UPPER = 7, 9


def uid_of(node: int, number: int) -> int:
    return (node << m.NODE_SHIFT) + number


def member(uid: int, role: str = "back", state: str = "ready") -> m.Member:
    return m.Member(uid, 100, role, 0, 1, state)


class Machine:
    """A machine with a member and two gateways, and another with a member and a gateway.

    Of the two gateways "chosen" is the one that both machines draw for the pair.
    """

    def __init__(self, here: int = LOWER, there: int = UPPER) -> None:
        self.now = NOW
        self.local, self.remote = uid_of(here, 1), uid_of(there, 1)
        self.far = uid_of(there, 9)
        gateways = [uid_of(here, 8), uid_of(here, 9)]
        chosen = gateway_for(self.local, self.remote, gateways)
        assert chosen is not None
        self.uids = {"chosen": chosen, "spare": next(uid for uid in gateways if uid != chosen)}
        self.names = {uid: name for name, uid in self.uids.items()}
        self.there = {self.local, *gateways}
        self.roster = Roster(nodes=[m.Node(here, "here"), m.Node(there, "there")])
        for each in (self.local, self.remote):
            self.roster.put(member(each))
        for each in (*gateways, self.far):
            self.roster.put(member(each, GATEWAY))
        self.gateways = Gateways(self.roster, here, self.there.__contains__)
        for each in gateways:
            self.gateways.handle_opened(each)
            self.gateways.handle_connected(each, "")
        self.pairing = Pairing(self.roster, self.gateways, 0)

    @property
    def state(self) -> PairState:
        pair = self.pairing._pairs.get((self.local, self.remote))
        return PairState.APART if pair is None else pair.state

    def happens(self, event: str) -> list[str]:
        """Play one line of a story; return what is done about it."""
        match event.split():
            case ["wants"]:
                steps = self.pairing.want(self.local, self.remote)
            case ["arrives", "over", name, *carried]:
                number = int(carried[1]) if carried else 0
                arriving = m.Arriving(self.local, self.remote, number)
                steps = self.pairing.handle_arriving(self.uids[name], arriving, self.now)
            case ["taken", number]:
                steps = self.pairing.handle_taken(int(number))
            case ["hung", number]:
                steps = self.pairing.handle_hung(int(number), self.now)
            case ["news"]:
                steps = self.pairing.handle_news(self.now)
            case ["wake", "after", seconds]:
                self.now += float(seconds)
                steps = self.pairing.handle_wake(self.now)
            case ["gateway", name, "gone"]:
                uid = self.uids[name]
                self.lose(uid)
                assert self.gateways.handle_gone(uid)
                steps = self.pairing.handle_gateway_gone(uid, self.now)
            case ["unreached", "by", name]:
                self.gateways.handle_connected(self.uids[name], "NATS is out of reach")
                steps = []
            case ["reached", "by", name]:
                self.gateways.handle_connected(self.uids[name], "")
                steps = self.pairing.handle_news(self.now)
            case ["upgrade"]:
                arrivals = self.pairing.arrivals()
                self.pairing = Pairing(self.roster, self.gateways, 100)
                steps = self.pairing.take_over(arrivals, self.now)
            case ["local", "gone"]:
                self.lose(self.local)
                steps = []
            case [name, "gone"]:
                self.lose(self.remote if name == "remote" else self.far)
                steps = []
            case [name, "known"]:
                self.roster.put(member(self.remote) if name == "remote" else member(self.far, GATEWAY))
                steps = self.pairing.handle_news(self.now)
            case _:
                raise AssertionError(event)
        return [self._text(step) for step in steps]

    def lose(self, uid: int) -> None:
        self.roster.remove(uid)
        self.there.discard(uid)

    def _text(self, step: PairStep) -> str:
        match step:
            case MakeLink(number=number, gateway=gateway):
                return f"carry {number} over {self.names[gateway]}"
            case GiveEnd(number=number):
                return f"meet {number}"
            case Drop(number=number):
                return f"drop {number}"
            case TurnAway(gateway=gateway, why=why):
                return f"turn away over {self.names[gateway]}: {why}"


Story = list[tuple[str, list[str], PairState]]
CARRIED = ("wants", ["carry 1 over chosen"], PairState.OFFERED)
LINKED: Story = [CARRIED, ("taken 1", ["meet 1"], PairState.LINKED)]
ANSWERED = ("arrives over chosen", ["carry 1 over chosen"], PairState.ANSWERED)
SOON = f"{NODE_TIMEOUT - 0.1:g}"

STORIES: dict[str, Story] = {
    # one side asks
    "a link is made, taken, and ends": [*LINKED, ("hung 1", [], PairState.APART)],
    "nothing is made twice": [CARRIED, ("wants", [], PairState.OFFERED), ("taken 1", ["meet 1"], PairState.LINKED)],
    "it is taken once": [*LINKED, ("taken 1", [], PairState.LINKED)],
    "what never came to be is tried again, but not at once": [
        CARRIED,
        ("hung 1", ["drop 1"], PairState.WANTED),
        ("wake after 9", [], PairState.WANTED),
        ("wants", ["carry 2 over chosen"], PairState.OFFERED),
        ("hung 2", ["drop 2"], PairState.WANTED),
        ("news", ["carry 3 over chosen"], PairState.OFFERED),
    ],
    "a request while there is a link leads to another when that ends": [
        *LINKED,
        ("wants", [], PairState.AGAIN),
        ("wants", [], PairState.AGAIN),
        ("hung 1", ["carry 2 over chosen"], PairState.OFFERED),
        ("taken 2", ["meet 2"], PairState.LINKED),
        ("hung 2", [], PairState.APART),
    ],
    "a request while the other's link is made is one for that": [
        ANSWERED,
        ("wants", [], PairState.OFFERED),
        ("taken 1", ["meet 1"], PairState.LINKED),
        ("hung 1", [], PairState.APART),
    ],
    "what is no longer known does nothing": [
        ("taken 1", [], PairState.APART),
        ("hung 1", [], PairState.APART),
        ("news", [], PairState.APART),
    ],
    # a member is not there
    "a member that ended is given nothing": [("local gone", [], PairState.APART), ("wants", [], PairState.APART)],
    "a stranger cannot be wanted": [("remote gone", [], PairState.APART), ("wants", [], PairState.APART)],
    "what waits for a member that goes is given up": [
        CARRIED,
        ("hung 1", ["drop 1"], PairState.WANTED),
        ("remote gone", [], PairState.WANTED),
        ("news", [], PairState.APART),
    ],
    "it is given up although there is no news from other machines": [
        ("far gone", [], PairState.APART),
        ("wants", [], PairState.WANTED),
        ("remote gone", [], PairState.WANTED),
        ("wake after 0", [], PairState.APART),
    ],
    # gateways
    "a gateway there is waited for": [
        ("far gone", [], PairState.APART),
        ("wants", [], PairState.WANTED),
        ("wants", [], PairState.WANTED),
        ("far known", ["carry 1 over chosen"], PairState.OFFERED),
    ],
    "a gateway that cannot reach NATS is not given anything": [
        ("unreached by chosen", [], PairState.APART),
        ("wants", ["carry 1 over spare"], PairState.OFFERED),
    ],
    "without any gateway one waits": [
        ("unreached by chosen", [], PairState.APART),
        ("unreached by spare", [], PairState.APART),
        ("wants", [], PairState.WANTED),
        ("reached by chosen", ["carry 1 over chosen"], PairState.OFFERED),
    ],
    "what a dead gateway had offered goes over another": [
        CARRIED,
        ("gateway chosen gone", ["drop 1", "carry 2 over spare"], PairState.OFFERED),
    ],
    "what a dead gateway had carried has ended": [*LINKED, ("gateway chosen gone", [], PairState.APART)],
    "what a dead gateway had carried is made again if it was asked for": [
        *LINKED,
        ("wants", [], PairState.AGAIN),
        ("gateway chosen gone", ["carry 2 over spare"], PairState.OFFERED),
    ],
    "the death of another gateway changes nothing": [*LINKED, ("gateway spare gone", [], PairState.LINKED)],
    # the other side asks
    "the other machine's link is answered": [
        ANSWERED,
        ("taken 1", ["meet 1"], PairState.LINKED),
        ("hung 1", [], PairState.APART),
    ],
    "what the other machine wanted is not requested again": [ANSWERED, ("hung 1", ["drop 1"], PairState.APART)],
    "a member that ended is not found": [
        ("local gone", [], PairState.APART),
        ("arrives over spare", ["turn away over spare: it has ended"], PairState.APART),
    ],
    "a caller that is not known yet waits for its letter": [
        ("remote gone", [], PairState.APART),
        ("arrives over chosen", [], PairState.APART),
        (f"wake after {SOON}", [], PairState.APART),
        ("remote known", ["carry 1 over chosen"], PairState.ANSWERED),
    ],
    "a caller that is never known is turned away": [
        ("remote gone", [], PairState.APART),
        ("arrives over chosen", [], PairState.APART),
        (f"wake after {SOON}", [], PairState.APART),
        ("wake after 0.2", ["turn away over chosen: the caller is not known there"], PairState.APART),
        ("remote known", [], PairState.APART),
    ],
    "an arrival dies with its gateway": [
        ("remote gone", [], PairState.APART),
        ("arrives over chosen", [], PairState.APART),
        ("gateway chosen gone", [], PairState.APART),
        ("remote known", [], PairState.APART),
    ],
    "the death of another gateway leaves it": [
        ("remote gone", [], PairState.APART),
        ("arrives over chosen", [], PairState.APART),
        ("gateway spare gone", [], PairState.APART),
        ("remote known", ["carry 1 over chosen"], PairState.ANSWERED),
    ],
    "an arrival outlives the Kingpin": [
        ("remote gone", [], PairState.APART),
        ("arrives over chosen", [], PairState.APART),
        ("upgrade", [], PairState.APART),
        ("remote known", ["carry 101 over chosen"], PairState.ANSWERED),
        ("hung 1", [], PairState.ANSWERED),
        ("taken 101", ["meet 101"], PairState.LINKED),
    ],
    # both ask
    "two that ask over one gateway meet": [
        CARRIED,
        ("arrives over chosen", [], PairState.OFFERED),
        ("taken 1", ["meet 1"], PairState.LINKED),
    ],
    "a gateway that has seen the offer before asks for something new": [
        *LINKED,
        ("arrives over chosen after 1", [], PairState.LINKED),
        ("hung 1", ["carry 2 over chosen"], PairState.ANSWERED),
    ],
    "one offer answers one arrival: another waits": [
        CARRIED,
        ("arrives over chosen", [], PairState.OFFERED),
        ("arrives over chosen", [], PairState.OFFERED),
        ("hung 1", ["drop 1", "carry 2 over chosen"], PairState.OFFERED),
    ],
    "one answer answers one arrival, too": [
        ("remote gone", [], PairState.APART),
        ("arrives over chosen", [], PairState.APART),
        ("arrives over chosen", [], PairState.APART),
        ("remote known", ["carry 1 over chosen"], PairState.ANSWERED),
        ("hung 1", ["drop 1", "carry 2 over chosen"], PairState.ANSWERED),
    ],
    "over two gateways the link of the lower stays": [
        CARRIED,
        ("arrives over spare", [], PairState.OFFERED),
        ("taken 1", ["meet 1"], PairState.LINKED),
        (f"wake after {SOON}", [], PairState.LINKED),
        ("wake after 0.2", ["turn away over spare: the two have another link"], PairState.LINKED),
    ],
    "if that ends, the other's is taken": [
        CARRIED,
        ("arrives over spare", [], PairState.OFFERED),
        ("hung 1", ["drop 1", "carry 2 over spare"], PairState.OFFERED),
        ("taken 2", ["meet 2"], PairState.LINKED),
    ],
    "if its gateway dies, the other's is taken": [
        CARRIED,
        ("arrives over spare", [], PairState.OFFERED),
        ("gateway chosen gone", ["drop 1", "carry 2 over spare"], PairState.OFFERED),
    ],
    "a repeated request for a member that ended leads to nothing": [
        *LINKED,
        ("wants", [], PairState.AGAIN),
        ("remote gone", [], PairState.AGAIN),
        ("hung 1", [], PairState.APART),
    ],
    "one link answers both that ask": [
        *LINKED,
        ("wants", [], PairState.AGAIN),
        ("arrives over spare", [], PairState.AGAIN),
        ("hung 1", ["carry 2 over spare"], PairState.OFFERED),
    ],
}

UPPERS: dict[str, Story] = {
    "the upper answers, and its own offer is turned away": [
        CARRIED,
        ("arrives over spare", ["carry 2 over spare"], PairState.OFFERED),
        ("taken 2", ["meet 2"], PairState.LINKED),
        ("hung 1", ["drop 1"], PairState.LINKED),
        ("hung 2", [], PairState.APART),
    ],
    "the upper keeps its own if the other never comes to be": [
        CARRIED,
        ("arrives over spare", ["carry 2 over spare"], PairState.OFFERED),
        ("hung 2", ["drop 2"], PairState.OFFERED),
        ("taken 1", ["meet 1"], PairState.LINKED),
    ],
    "neither comes to be": [
        CARRIED,
        ("arrives over spare", ["carry 2 over spare"], PairState.OFFERED),
        ("hung 1", ["drop 1"], PairState.OFFERED),
        ("hung 2", ["drop 2"], PairState.WANTED),
        ("news", ["carry 3 over chosen"], PairState.OFFERED),
    ],
    "both come to be": [
        CARRIED,
        ("arrives over spare", ["carry 2 over spare"], PairState.OFFERED),
        ("taken 1", ["meet 1"], PairState.LINKED),
        ("taken 2", ["meet 2"], PairState.LINKED),
        ("hung 1", [], PairState.LINKED),
        ("hung 2", [], PairState.APART),
    ],
    "the other end is closed, and this one will be soon": [
        *LINKED,
        ("arrives over chosen after 1", ["carry 2 over chosen"], PairState.ANSWERED),
        ("hung 1", [], PairState.ANSWERED),
        ("taken 2", ["meet 2"], PairState.LINKED),
    ],
    "the same, and it was asked for here": [
        *LINKED,
        ("wants", [], PairState.AGAIN),
        ("arrives over chosen after 1", ["carry 2 over chosen"], PairState.OFFERED),
        ("hung 1", [], PairState.OFFERED),
        ("hung 2", ["drop 2"], PairState.WANTED),
    ],
    "the first of two links is taken after all": [
        *LINKED,
        ("arrives over spare after 0", ["carry 2 over spare"], PairState.ANSWERED),
        ("wants", [], PairState.OFFERED),
        ("taken 2", ["meet 2"], PairState.LINKED),
        ("wants", [], PairState.AGAIN),
        ("arrives over chosen after 2", ["carry 3 over chosen"], PairState.OFFERED),
        ("gateway chosen gone", ["drop 3"], PairState.OFFERED),
        ("gateway spare gone", [], PairState.WANTED),
    ],
}


def tell(machine: Machine, story: Story) -> None:
    for number, (event, done, state) in enumerate(story):
        assert (machine.happens(event), machine.state) == (done, state), f"line {number}: {event}"


@pytest.mark.parametrize("name", STORIES)
def test_a_story(name: str) -> None:
    tell(Machine(), STORIES[name])


@pytest.mark.parametrize("name", UPPERS)
def test_a_story_of_the_upper(name: str) -> None:
    tell(Machine(UPPER, LOWER), UPPERS[name])


@pytest.mark.parametrize("name", [*STORIES, *UPPERS])
def test_nothing_is_left_of_it(name: str) -> None:
    machine = Machine() if name in STORIES else Machine(UPPER, LOWER)
    tell(machine, STORIES.get(name) or UPPERS[name])
    for uid in machine.uids.values():
        machine.gateways.handle_gone(uid)
        machine.pairing.handle_gateway_gone(uid, machine.now)
    machine.lose(machine.local)
    machine.pairing.handle_news(machine.now + 2 * NODE_TIMEOUT)
    assert machine.pairing.statistics() == {"pairs": 0, "open": 0, "links": 0, "held": 0}


def test_clients_of_this_kingpin_have_a_link_each() -> None:
    machine = Machine()
    machine.local = m.kingpin_of(LOWER)
    story: Story = [
        ("arrives over chosen", ["carry 1 over chosen"], PairState.ANSWERED),
        ("arrives over chosen", ["carry 2 over chosen"], PairState.ANSWERED),
        ("taken 1", ["meet 1"], PairState.LINKED),
        ("taken 2", ["meet 2"], PairState.LINKED),
        ("arrives over spare", ["carry 3 over spare"], PairState.ANSWERED),
        ("hung 1", [], PairState.ANSWERED),
        ("gateway chosen gone", [], PairState.ANSWERED),
        ("hung 3", ["drop 3"], PairState.APART),
    ]
    tell(machine, story)
    assert machine.pairing.statistics()["pairs"] == 0


def test_the_kingpin_of_another_machine_is_wanted_like_a_member() -> None:
    machine = Machine()
    kingpin = m.kingpin_of(UPPER)
    assert [type(each) for each in machine.pairing.want(machine.local, kingpin)] == [MakeLink]
    del machine.roster.nodes[UPPER]
    assert machine.pairing.want(machine.local, m.kingpin_of(UPPER) + 2) == []
    assert machine.pairing.want(machine.local, m.kingpin_of(LOWER + 1)) == []


def test_numbers_go_on_from_where_the_one_before_was() -> None:
    machine = Machine()
    machine.pairing = Pairing(machine.roster, machine.gateways, 500)
    assert machine.happens("wants") == ["carry 501 over chosen"]
    assert machine.pairing.is_held(501)
    machine.happens("taken 501")
    assert not machine.pairing.is_held(501)


def test_all_of_it_says_what_it_is() -> None:
    machine = Machine()
    machine.roster.remove(machine.remote)
    machine.happens("arrives over chosen")
    pair = machine.pairing._pairs[machine.local, machine.remote]
    assert repr(pair) == f"<Pair {machine.local} and {machine.remote}, apart, 1 arrivals>"
    assert repr(pair.arrivals) == f"[<Arrival over {machine.uids['chosen']} since 1024.000>]"
    machine.happens("remote known")
    assert repr(pair.links) == f"[<Carried 1 over {machine.uids['chosen']}, held>]"
    machine.happens("taken 1")
    assert repr(pair.links) == f"[<Carried 1 over {machine.uids['chosen']}>]"
    assert repr(machine.pairing) == "<Pairing of 1 pairs, 0 open, 1 links>"
