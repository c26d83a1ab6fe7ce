"""The links of one machine's members to those of others: the product's pairing and gateways, carried out with `End`s.

A member says who it is on each link that it is given, and hears who is at the other end. It asks its Kingpin once for
each member that it wants, and again if the link ends or the other machines can be reached again, as in `peer.links`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mob.core.gateways import Gateways
from mob.core.pairing import Drop, GiveEnd, MakeLink, Pairing, PairStep, TurnAway
from mob.wire import messages as m
from tests.simulation.clock import claim
from tests.simulation.gateways import HOP, End, Station

if TYPE_CHECKING:
    from tests.simulation.cluster import Node

EXIT = 0.003
"""Seconds until the Kingpin is told that a gateway has ended."""


class Talk:
    """A member's end of a link, and what it has heard there."""

    def __init__(self, afar: Afar, local: int, remote: int, end: End) -> None:
        self.afar = afar
        self.local = local
        self.remote = remote
        self.end = end
        self.number = next(afar.node.letters.talk_numbers)
        self.met: Talk | None = None
        self.has_spoken = False
        afar.node.letters.talks[self.number] = self
        if not m.is_kingpin(local):
            self.speak()
        end.read(self._hear)

    def __repr__(self) -> str:
        return f"<Talk {self.number} of {self.local} with {self.remote}>"

    def speak(self) -> None:
        if not self.has_spoken:
            self.has_spoken = True
            self.end.say(b"%d." % self.number)

    def _hear(self, data: bytes) -> None:
        if not data:
            self.end.close()
            self.afar.handle_closed(self)
            return
        for number in data.split(b".")[:-1]:
            other = self.afar.node.letters.talks[int(number)]
            claim((other.local, other.remote) == (self.remote, self.local), "a link joins its pair", self, other)
            claim(self.met in (None, other), "a link has two ends", self, other)
            self.met = other
            self.speak()

    @property
    def is_whole(self) -> bool:
        """Both ends are open and have heard of one another."""
        met = self.met
        return met is not None and met.met is self and not (self.end.is_closed or met.end.is_closed)


class Afar:
    """All of them, and the Kingpin that makes them."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.clock = node.clock
        self.stations: dict[int, Station] = {}
        self.wishes: dict[tuple[int, int], None] = {}  # whom members here want to talk to; ordered, for the seed
        self.talks: dict[tuple[int, int], Talk] = {}
        self.guests: list[Talk] = []
        self.unmet = 0  # links that a member was given and on which it has heard nobody
        self._held: dict[int, End] = {}
        self._begin()

    def _begin(self) -> None:
        roster, now = self.node.crew.roster, self.clock.now
        self.gateways = Gateways(roster, self.node.number, self.is_there)
        self.pairing = Pairing(roster, self.gateways, int(now * 1e6))

    def restart(self) -> None:
        """A Kingpin takes the place of another one, whose sockets end."""
        for end in self._held.values():
            end.close()
        self._held.clear()
        arrivals = self.pairing.arrivals()
        self._begin()
        for station in self.stations.values():
            self.greet(station)
        self.do(self.pairing.take_over(arrivals, self.clock.now))

    def is_there(self, uid: int) -> bool:
        station = self.stations.get(uid)
        return uid in self.node.crew.roster if station is None else not station.is_dead

    # gateways

    def add_station(self, uid: int) -> Station:
        station = self.stations[uid] = Station(self.node, uid)
        self.greet(station)
        return station

    def greet(self, station: Station) -> None:
        self.gateways.handle_opened(station.uid)
        self.clock.after(HOP, station.handle, m.JoinCluster(self.node.cluster, self.node.number))

    def lose_station(self, station: Station) -> None:
        """It has ended, and the Kingpin is told."""
        del self.stations[station.uid]
        if self.gateways.handle_gone(station.uid):
            self.do(self.pairing.handle_gateway_gone(station.uid, self.clock.now))
            self.node.write(self.gateways.tell_news())

    def handle(self, station: Station, message: m.Up) -> None:
        """What a gateway says, as in `kingpin.cluster`."""
        now = self.clock.now
        match message:
            case m.Connected(why_not=why_not):
                self.gateways.handle_connected(station.uid, why_not)
                self.node.write(self.gateways.tell_news())
                self.node.handle_connected(self.gateways.why_cut)
                self.do(self.pairing.handle_news(now))
            case m.Arriving():
                self.do(self.pairing.handle_arriving(station.uid, message, now))
            case m.Taken(number=number):
                self.do(self.pairing.handle_taken(number))
            case m.Hung(number=number):
                self.do(self.pairing.handle_hung(number, now))
            case _:
                raise AssertionError(message)

    def do(self, steps: Iterable[PairStep]) -> None:
        for step in steps:
            match step:
                case MakeLink(number=number, gateway=gateway, local=local, remote=remote):
                    self._held[number], other = End.pair(self.clock)
                    self._tell(gateway, m.Carry(number, local, remote), other)
                case GiveEnd(number=number, local=local, remote=remote):
                    self.clock.after(HOP, self.meet, local, remote, self._held.pop(number))
                case Drop(number=number):
                    self._held.pop(number).close()
                case TurnAway(gateway=gateway, local=local, remote=remote, why=why):
                    self._tell(gateway, m.Turned(local, remote, why))

    def _tell(self, gateway: int, message: m.Down, end: End | None = None) -> None:
        if (station := self.stations.get(gateway)) is not None:
            self.clock.after(HOP, station.handle, message, end)
        elif end is not None:
            end.close()

    # members

    def want(self, local: int, remote: int) -> None:
        """A member has something to say to one of another machine."""
        if (local, remote) not in self.wishes:
            self.wishes[local, remote] = None
            if (local, remote) not in self.talks:
                self.ask(local, remote)

    def ask(self, local: int, remote: int) -> None:
        self.clock.after(HOP, self._handle_asked, local, remote)

    def _handle_asked(self, local: int, remote: int) -> None:
        if (local, remote) in self.wishes and not self.node.has_ended:
            self.do(self.pairing.want(local, remote))

    def ask_again(self) -> None:
        """The other machines can be reached again; perhaps another Kingpin says so."""
        for pair in self.wishes:
            if pair not in self.talks:
                self.ask(*pair)

    def meet(self, local: int, remote: int, end: End) -> None:
        if m.is_kingpin(local):
            self.guests.append(Talk(self, local, remote, end))
            return
        is_known = remote in self.node.crew.roster or m.is_kingpin(remote)
        if local not in self.node.crew.roster or not is_known:
            end.close()
            return
        if (old := self.talks.pop((local, remote), None)) is not None:
            old.end.close()
        self.talks[local, remote] = Talk(self, local, remote, end)

    def handle_closed(self, talk: Talk) -> None:
        self.unmet += talk.met is None
        if m.is_kingpin(talk.local):
            self.guests.remove(talk)
        elif self.talks.get((talk.local, talk.remote)) is talk:
            del self.talks[talk.local, talk.remote]
            if (talk.local, talk.remote) in self.wishes:
                self.ask(talk.local, talk.remote)

    def handle_gone(self, uid: int) -> None:
        """A member has gone, here or elsewhere: its peers hang up, or the system does."""
        for pair in [pair for pair in self.wishes if uid in pair]:
            del self.wishes[pair]
        for pair in [pair for pair in self.talks if uid in pair]:
            self.talks.pop(pair).end.close()
        for station in self.stations.values():
            self.clock.after(HOP, station.forget, uid)

    def vanish(self) -> None:
        """All processes of the machine end at once."""
        for station in self.stations.values():
            station.die()
        for talk in (*self.talks.values(), *self.guests):
            talk.end.close()

    # what must hold when all is quiet

    def complaint(self, is_waiting: bool) -> str:
        """What is not as it should be; nothing if all is well. `is_waiting`: something may still be under way."""
        for pair in self.wishes:
            talk = self.talks.get(pair)
            if talk is None or not talk.is_whole:
                return f"{pair[0]} has no link to {pair[1]}, but {talk}"
        if is_waiting:
            return ""
        live = [talk for talk in (*self.talks.values(), *self.guests) if not talk.end.is_closed]
        if any(not talk.is_whole for talk in live):
            return f"a link of {self.node} has one end"
        sizes = self.pairing.statistics()
        if sizes["open"] or sizes["held"] or self._held:
            return f"{self.node} still has {sizes}"
        trunks = [station.trunks.statistics() for station in self.stations.values()]
        circuits, joints = (sum(each[key] for each in trunks) for key in ("circuits", "splices"))
        if circuits != joints or joints != len(live):
            return f"{self.node} has {len(live)} links, {joints} spliced on {circuits} circuits"
        return "" if sizes["links"] <= len(live) else f"{self.node} has {len(live)} links, and {sizes}"
