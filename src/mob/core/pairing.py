"""Pairing: which member is linked to which across machines.

A link between a member here and one on another machine is carried by a gateway of each. This Kingpin gives one end of a
socket to its gateway (`MakeLink`) and holds the other end back until the far member has its own (`GiveEnd`): calls on a
link that never came into being would count as lost, so they wait here and can go elsewhere.

There is one `Pair` for each member here and member there, by the table `states.PAIR`. Two members that want each other
at the same moment mostly meet on one link, because both machines choose the same pair of gateways. If a machine did not
know all gateways yet, the link of the member with the lower uid stays; the other one is refused, or ends with its
gateway.

A link that was established and then ended is made again as soon as a member asks for it, or has asked meanwhile. One
that was never established is retried when there is news from the other machines, not at once: the same gateway might
refuse it forever. If another machine requests a member here before the caller is known, the request waits for as long
as a machine may be silent.

Events go in, decisions come out. No I/O and no clock; those that carry out the decisions hold the sockets, under the
number of their link.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from mob.core.gateways import Gateways
from mob.core.membership import NODE_TIMEOUT
from mob.core.roster import Roster
from mob.core.states import PAIR, PairState, step
from mob.wire import messages as m


class MakeLink(Struct, frozen=True):
    """Make a link: give one end to this gateway, and hold the other under this number."""

    number: int
    gateway: int
    local: int
    remote: int


class GiveEnd(Struct, frozen=True):
    """Give the end that is held under this number to the member here, or take it if that is this Kingpin."""

    number: int
    local: int
    remote: int


class Drop(Struct, frozen=True):
    """Close the end that is held under this number."""

    number: int


class TurnAway(Struct, frozen=True):
    """Tell a gateway that the link that another machine asks for is refused, and why."""

    gateway: int
    local: int
    remote: int
    why: str


PairStep = MakeLink | GiveEnd | Drop | TurnAway
"""A step to carry out."""


class Arrival:
    """A link that another machine asks for, and that waits for an answer."""

    __slots__ = ("carried", "gateway", "since")

    def __init__(self, gateway: int, carried: int, since: float) -> None:
        self.gateway: int = gateway
        self.carried: int = carried
        """Number of the last `MakeLink` that the gateway had seen when it asked."""
        self.since: float = since

    def __repr__(self) -> str:
        return f"<Arrival over {self.gateway} since {self.since:.3f}>"


class Carried:
    """A link that a gateway carries."""

    __slots__ = ("gateway", "is_answer", "is_held", "number", "pair")

    def __init__(self, number: int, gateway: int, pair: Pair, is_answer: bool) -> None:
        self.number: int = number
        self.gateway: int = gateway
        self.pair: Pair = pair
        self.is_answer: bool = is_answer
        """True if the gateway joins it to a link that arrived; it joins each to one."""
        self.is_held: bool = True
        """True if the far member does not have its end yet, so the member here does not have its own."""

    def __repr__(self) -> str:
        return f"<Carried {self.number} over {self.gateway}{', held' if self.is_held else ''}>"


class Pair:
    """A member of this machine and one of another, and all that is under way between them."""

    __slots__ = ("arrivals", "links", "local", "remote", "state")

    def __init__(self, local: int, remote: int) -> None:
        self.local: int = local
        self.remote: int = remote
        self.state: PairState = PairState.APART
        self.links: list[Carried] = []
        """Mostly one link; two for a moment, if both asked over different gateways."""
        self.arrivals: list[Arrival] = []

    def __repr__(self) -> str:
        return f"<Pair {self.local} and {self.remote}, {self.state}, {len(self.arrivals)} arrivals>"

    @property
    def is_idle(self) -> bool:
        """True if nothing is left to know about it."""
        return self.state is PairState.APART and not self.links and not self.arrivals

    @property
    def is_open(self) -> bool:
        """True if it has to be checked again when something changes."""
        return self.state is PairState.WANTED or bool(self.arrivals)

    @property
    def gives_way(self) -> bool:
        """True if the link of the other member stays when both asked over different gateways: the lower uid wins."""
        return self.local > self.remote

    def step(self, event: str) -> None:
        """Take the next state."""
        self.state = step(PAIR, self.state, event)


class Pairing:
    """All pairs of this machine. `number`: greater than that of any link of a Kingpin before this one."""

    def __init__(self, roster: Roster, gateways: Gateways, number: int) -> None:
        self._roster = roster
        self._gateways = gateways
        self._number = number
        self._pairs: dict[tuple[int, int], Pair] = {}
        self._open: dict[tuple[int, int], Pair] = {}  # those with something left to do
        self._links: dict[int, Carried] = {}  # by their numbers

    def __repr__(self) -> str:
        return f"<Pairing of {len(self._pairs)} pairs, {len(self._open)} open, {len(self._links)} links>"

    def statistics(self) -> dict[str, int]:
        """Return the sizes of the tables."""
        held = sum(link.is_held for link in self._links.values())
        return {"pairs": len(self._pairs), "open": len(self._open), "links": len(self._links), "held": held}

    def is_held(self, number: int) -> bool:
        """Return True if the end of that number is held back; otherwise there is nothing to carry any more."""
        link = self._links.get(number)
        return link is not None and link.is_held

    # ------------------------------------------------------------------------------------------ handed over

    def arrivals(self) -> list[tuple[int, int, int]]:
        """Return the arrivals that wait, as (gateway, local, remote), for the Kingpin that follows in this process.

        Members here repeat what they want, and links do not need a Kingpin.
        """
        return [(each.gateway, pair.local, pair.remote) for pair in self._open.values() for each in pair.arrivals]

    def take_over(self, arrivals: Iterable[tuple[int, int, int]], now: float) -> list[PairStep]:
        """Take over the arrivals of a Kingpin before this one."""
        return [
            step
            for gateway, local, remote in arrivals
            for step in self.handle_arriving(gateway, m.Arriving(local, remote, self._number), now)
        ]

    # ----------------------------------------------------------------------------------------- what happens

    def want(self, local: int, remote: int) -> list[PairStep]:
        """Handle the wish of a member here for a link to one on another machine, or to the Kingpin there."""
        if not self._is_possible(local, remote):
            return []
        pair = self._pair(local, remote)
        pair.step("wanted")
        return self._settle(pair, self._try(pair))

    def handle_arriving(self, gateway: int, arriving: m.Arriving, now: float) -> list[PairStep]:
        """Handle the wish of another machine for a link to a member here, or to this Kingpin."""
        pair = self._pair(arriving.local, arriving.remote)
        pair.arrivals.append(Arrival(gateway, arriving.carried, now))
        return self._settle(pair, self._answer_all(pair, now))

    def handle_taken(self, number: int) -> list[PairStep]:
        """Give the member here its end of a link: the far member has its own."""
        if not self.is_held(number):
            return []
        link = self._links[number]
        link.is_held = False
        link.pair.step("taken")
        return [GiveEnd(number, link.pair.local, link.pair.remote)]

    def handle_hung(self, number: int, now: float) -> list[PairStep]:
        """Handle the end of a link."""
        link = self._links.get(number)
        return [] if link is None else self._end(link, now)

    def handle_gateway_gone(self, gateway: int, now: float) -> list[PairStep]:
        """Handle the end of a gateway, and with it of the links that it carried."""
        for pair in list(self._open.values()):
            pair.arrivals = [each for each in pair.arrivals if each.gateway != gateway]
            self._settle(pair, [])
        steps: list[PairStep] = []
        for link in [each for each in self._links.values() if each.gateway == gateway]:
            steps += self._end(link, now)
        return steps + self.handle_news(now)

    def handle_news(self, now: float) -> list[PairStep]:
        """Retry what waited: there is news from the other machines, or a gateway reaches them."""
        steps = self.handle_wake(now)
        for pair in list(self._open.values()):
            steps += self._settle(pair, self._try(pair))
        return steps

    def handle_wake(self, now: float) -> list[PairStep]:
        """Handle the passing of time: refuse arrivals that waited too long, forget wishes for members that ended."""
        steps: list[PairStep] = []
        for pair in list(self._open.values()):
            self._give_up(pair)
            steps += self._settle(pair, self._answer_all(pair, now))
        return steps

    # -------------------------------------------------------------------------------------------- decisions

    def _is_possible(self, local: int, remote: int) -> bool:
        """Return True if both members are there."""
        is_known = remote in self._roster or m.is_kingpin(remote)
        return is_known and m.node_of(remote) in self._roster.nodes and self._gateways.is_there(local)

    def _try(self, pair: Pair) -> list[PairStep]:
        """Make the link that a member here wants, if there is a gateway on both machines."""
        self._give_up(pair)
        if pair.state is not PairState.WANTED:
            return []
        gateway = self._gateways.choose(pair.local, pair.remote)
        if gateway is None or not self._gateways.is_served(m.node_of(pair.remote)):
            return []
        return [self._carry(pair, gateway, is_answer=False)]

    def _give_up(self, pair: Pair) -> None:
        """Forget a wish if one of the two members ended."""
        if pair.state is PairState.WANTED and not self._is_possible(pair.local, pair.remote):
            pair.step("member gone")

    def _carry(self, pair: Pair, gateway: int, is_answer: bool = True) -> MakeLink:
        self._number += 1
        link = self._links[self._number] = Carried(self._number, gateway, pair, is_answer)
        pair.links.append(link)
        pair.step("carried")
        return MakeLink(link.number, gateway, pair.local, pair.remote)

    def _end(self, link: Carried, now: float) -> list[PairStep]:
        pair = link.pair
        del self._links[link.number]
        pair.links.remove(link)
        steps: list[PairStep] = [Drop(link.number)] if link.is_held else []
        is_due = pair.state is PairState.AGAIN
        if not pair.links:
            pair.step("ended")
        steps += self._answer_all(pair, now)
        if is_due:
            steps += self._try(pair)
        return self._settle(pair, steps)

    def _answer_all(self, pair: Pair, now: float) -> list[PairStep]:
        arrivals, pair.arrivals = pair.arrivals, []
        return [answer for each in arrivals for answer in self._answer(pair, each, now)]

    def _answer(self, pair: Pair, arrival: Arrival, now: float) -> list[PairStep]:
        """Carry a link that another machine asks for, refuse it, or let it wait."""
        gateway, local, remote = arrival.gateway, pair.local, pair.remote
        if m.is_kingpin(local):  # it never asks by itself, and may have many links with one client
            return [self._carry(pair, gateway)]
        for link in pair.links:
            if link.number > arrival.carried and link.gateway == gateway and not link.is_answer:
                link.is_answer = True
                return []  # both asked at the same moment: the answer is on its way to the gateway
        if local not in self._roster:
            return [TurnAway(gateway, local, remote, "it has ended")]
        is_known = remote in self._roster  # if not, the letter about it takes another way
        if is_known and (not pair.links or pair.gives_way):
            # If there is a link, either its other end is closed, and this one will be soon, or both asked at the same
            # moment over different gateways.
            return [self._carry(pair, gateway)]
        if now - arrival.since > NODE_TIMEOUT:
            why = "the two have another link" if is_known else "the caller is not known there"
            return [TurnAway(gateway, local, remote, why)]
        pair.arrivals.append(arrival)
        return []

    # ---------------------------------------------------------------------------------------------- tables

    def _pair(self, local: int, remote: int) -> Pair:
        return self._pairs.setdefault((local, remote), Pair(local, remote))

    def _settle(self, pair: Pair, steps: list[PairStep]) -> list[PairStep]:
        """Note what is left to do for a pair, or forget it; return the steps to carry out now."""
        key = pair.local, pair.remote
        if pair.is_idle:
            self._pairs.pop(key, None)
        if pair.is_open:
            self._open[key] = pair
        else:
            self._open.pop(key, None)
        return steps
