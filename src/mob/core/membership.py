"""Membership: which machines are in the cluster, and who is on each.

Every Kingpin tells all others of the changes among its own members, with a version that counts them, and says once a
second which version it is at. Who has missed something asks for everything; who comes, tells everything to all and
gets everything from each. Who is silent for three seconds is gone, and all of its members with it; so says each Kingpin
for itself, there is no leader and nothing to agree upon. (Beats and versions instead of gossip: NATS is a broadcast, so
a beat costs its sender one message whatever the size. `docs/internals/cluster-scale.md` has the numbers.)

A node is a *run* of a Kingpin: it draws a number when it starts, which is in the uids of all its members, so whoever
comes back is somebody else. Its name is for people; of two runs with one name the younger stays outside.

Letters in, decisions out. The members of other machines are put into the roster of the crew, beside its own. No clock:
`now` is passed in; an age is a difference of its machine's own clock, so clocks may disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from mob.core.crew import Crew
from mob.core.decisions import (
    Announce,
    Decision,
    HearTimers,
    PassOn,
    SeekLease,
    Tell,
    WakeAt,
    Write,
)
from mob.core.namesakes import Name
from mob.wire import messages as m

BEAT = 1.0
"""Seconds between two signs of life."""
NODE_TIMEOUT = 3.0
"""Seconds of silence after which a node is gone."""
GATHER = 0.01
"""Seconds for which changes are gathered into one letter."""
CHECK = 0.1
"""Seconds after a change within which a beat says so again: who has not got the letter learns it soon."""
ROLL_CALL_RETRY = 1.0
"""Seconds after which everything is asked for again."""
EARLY = 0.005
"""Seconds by which a wake may come too soon: timers are not exact."""
WAKE_DELAY = 1.0
"""Seconds by which a wake may come too late; beyond that this process has stood still, and it was not the others who
were silent."""
UNCONNECTED = "NATS has not been reached yet"


class Neighbour:
    """Another node."""

    __slots__ = ("asked_at", "heard_at", "is_complete", "members", "name", "number", "places", "version")

    def __init__(self, number: int, name: str, now: float) -> None:
        self.number: int = number
        self.name: str = name
        self.heard_at: float = now
        self.asked_at: float = now
        self.version: int = 0
        """The version of what is known of its members."""
        self.is_complete: bool = False
        """Whether they are known."""
        self.members: dict[int, m.Member] = {}
        self.places: dict[str, int] = {}
        """How many workers each role has there."""

    def __repr__(self) -> str:
        return f"<Neighbour {self.name}, {len(self.members)} members at version {self.version}>"

    def node(self) -> m.Node:
        """As the members know it."""
        return m.Node(self.number, self.name, tuple(sorted(self.places.items())))


class Membership:
    """The cluster as one Kingpin knows it."""

    def __init__(self, crew: Crew, name: str, now: float) -> None:
        self._crew = crew
        self.number: int = m.node_of(crew.last_uid)
        """The number of this node."""
        self.name = name
        self.neighbours: dict[int, Neighbour] = {}
        """The other nodes, by their numbers."""
        self.cut: str = UNCONNECTED
        """Why the others cannot be reached, if they cannot. As long as it has not been tried nobody is told: calls that
        are made at the very start wait."""
        self.namesake_at: float | None = None
        """When something was heard of an older node with this one's name: this one stays outside then."""
        self._namesake = 0
        crew.roster.nodes[self.number] = m.Node(self.number, name)
        self._name = Name(self.number, now)
        self._cut_at = -NODE_TIMEOUT
        self._version = int(now * 1000)  # greater than any of a Kingpin before this one
        self._changed: set[int] = set()  # one's own members that have come or changed, and were not told of yet
        self._gone: dict[int, str] = {}
        self._overran: dict[int, m.Overrun] = {}
        self._roles: set[str] = set()
        self._places: dict[str, int] = {}  # how many workers the others were told that each role has here
        self._owed: set[int] = set()  # nodes that are to be told everything
        self._beat_due = now
        self._wake_due = now
        self._told: set[int] = set()  # strangers that were told that they are

    def __repr__(self) -> str:
        return f"<Membership of {self.name!r}, {len(self.neighbours)} other nodes>"

    def __iter__(self) -> Iterator[Neighbour]:
        return iter(list(self.neighbours.values()))

    # ------------------------------------------------------------------------------------------ one's own

    def start(self, now: float) -> list[Decision]:
        """The app begins, or goes on."""
        self._wake_due = now + BEAT
        return [WakeAt(self._wake_due)]

    def adopt(self, nodes: Iterable[m.Node], born: float, now: float) -> None:
        """The nodes that a Kingpin before this one knew; their members are in the roster. What has changed meanwhile
        is asked for. `born`: when the first of them has begun."""
        self._name.born = born
        for node in nodes:
            if node.number != self.number:
                neighbour = self.neighbours[node.number] = Neighbour(node.number, node.name, now)
                neighbour.places = dict(node.places)
                self._crew.roster.nodes[node.number] = node
        for member in self._crew.roster:
            if (known := self.neighbours.get(m.node_of(member.uid))) is not None:
                known.members[member.uid] = member

    def handle_decisions(self, decisions: Iterable[Decision], now: float) -> list[Decision]:
        """What was decided here: what concerns one's own members is told to the others, soon."""
        had_news = self._has_news
        for decision in decisions:
            match decision:
                case Announce(m.MemberIs(member=member)) if not self._crew.is_remote(member.uid):
                    self._changed.add(member.uid)
                case Announce(m.MemberGone(uid=uid, why=why, overran=overran)) if not self._crew.is_remote(uid):
                    self._changed.discard(uid)
                    self._gone[uid] = why
                    if overran is not None:
                        self._overran[uid] = overran
                case Announce(m.RoleIs(role=role)) if role.workers or self._places.get(role.name):
                    self._roles.add(role.name)  # of a role that runs elsewhere only, those tell who run it
                case _:
                    pass
        return [WakeAt(now + GATHER)] if self._has_news and not had_news else []

    @property
    def _has_news(self) -> bool:
        return bool(self._changed or self._gone or self._roles)

    def _tell(self) -> list[Decision]:
        """What the others do not know yet, if anything."""
        if not self._has_news:
            return []
        news = self._news()
        return [Write(0, news)] if self.namesake_at is None else []

    def _tell_everything(self, *nodes: int, wanted: bool = True) -> list[Decision]:
        """All of one's own; what is new is told to all before, so a version is the same to everybody."""
        told = self._tell()
        if self.namesake_at is not None:
            return []
        everything = self._everything(wanted)
        return [*told, *(Write(node, everything) for node in nodes)]

    def _introduce(self, now: float) -> list[Decision]:
        """Tells everything to all, who do not know this node or not any more, and wants everything of each."""
        if self._has_news:
            self._news()  # it is in everything
        self._beat_due = now + BEAT
        return self._tell_everything(0)

    def handle_connected(self, why_not: str, now: float) -> list[Decision]:
        """The others can be reached, or cannot any more."""
        if why_not == self.cut:
            return []
        was_cut, self.cut = self.cut, why_not
        if not was_cut:
            self._cut_at = now
        decisions: list[Decision] = self._announce_cut()
        if not why_not:
            decisions.append(Tell(f"this machine, {self.name!r}, takes part in the cluster."))
            was_missed = now - self._cut_at >= NODE_TIMEOUT - EARLY
            decisions += self._introduce(now) if was_missed else self._beat(now)
        elif not was_cut or was_cut == UNCONNECTED:
            decisions.append(Tell(f"the other machines cannot be reached: {why_not}"))
        return decisions

    def leave(self) -> list[Decision]:
        """The app ends here."""
        return [Write(0, m.Leaving())]

    # --------------------------------------------------------------------------------------------- letters

    def handle_letter(self, data: bytes, now: float) -> list[Decision]:
        """A letter has come; garbage is not read."""
        try:
            letter = m.decode_letter(data)
            if letter.sender == self.number:
                return []
            if letter.app not in ("", self._crew.plan.name):
                return self._handle_other_app(letter)
            words = m.decode_words(letter.body) if letter.protocol == m.PROTOCOL else None
        except m.UNREADABLE:
            return []
        if words is None:
            return self._handle_stranger(letter)
        if letter.name == self.name:
            return self._handle_namesake(letter.sender, words, now)
        return self._handle_words(letter, words, now) if self.namesake_at is None else []

    def _handle_other_app(self, letter: m.Letter) -> list[Decision]:
        """Ignore it, and say so once for each sender."""
        if letter.sender in self._told:
            return []
        self._told.add(letter.sender)
        return [
            Tell(
                f"the machine {letter.name!r} of another app, {letter.app!r}, writes to the subjects of this one "
                f"({self._crew.plan.name!r}) on NATS; it is ignored. Does something forward subjects there?"
            )
        ]

    def _handle_words(self, letter: m.Letter, words: m.Words, now: float) -> list[Decision]:
        sender = letter.sender
        neighbour = self.neighbours.get(sender)
        if isinstance(words, m.LeaseFree):  # the last thing that a node says, after it has left
            return [SeekLease(words.role)]
        if isinstance(words, m.CrashedHere):
            return [] if neighbour is None else [PassOn(words.report)]
        if isinstance(words, m.TimersAt):
            return [] if neighbour is None else [HearTimers(words)]
        if isinstance(words, m.Leaving):
            return [] if neighbour is None else self._lose(neighbour, "has ended")
        decisions: list[Decision] = []
        if neighbour is None:
            neighbour = self.neighbours[sender] = Neighbour(sender, letter.name, now)
            decisions.append(Tell(f"the machine {letter.name!r} has joined the cluster."))
            if not isinstance(words, m.Everything):
                decisions += self._tell_everything(sender)  # neither knows the other
        neighbour.heard_at = now
        match words:
            case m.WantEverything():
                decisions += self._owe(sender, now)
            case m.Everything():
                decisions += self._handle_everything(neighbour, words, now)
            case m.Changed(version=version) if neighbour.is_complete and version == neighbour.version + 1:
                neighbour.version = version
                places = {**neighbour.places, **_places(words.roles)}
                decisions += self._apply(neighbour, places, words.members, words.gone, words.roles, now, words.overran)
            case _:  # m.Changed | m.Alive
                is_behind = not neighbour.is_complete or words.version > neighbour.version
                if is_behind and now - neighbour.asked_at >= ROLL_CALL_RETRY - EARLY:
                    neighbour.asked_at = now
                    decisions.append(Write(sender, m.WantEverything()))
        return decisions

    def _owe(self, node: int, now: float) -> list[Decision]:
        """A node wants everything; soon, for others may want it as well."""
        self._owed.add(node)
        return [WakeAt(now + GATHER)] if len(self._owed) == 1 else []

    def _pay(self) -> list[Decision]:
        """Tells everything to those who want it: one by one if they are few, to all at once if they are many."""
        owed, self._owed = sorted(self._owed & self.neighbours.keys()), set()
        if 2 * len(owed) > max(2, len(self.neighbours)):
            owed = [0]
        return self._tell_everything(*owed, wanted=False) if owed else []

    def _handle_everything(self, neighbour: Neighbour, words: m.Everything, now: float) -> list[Decision]:
        decisions = self._owe(neighbour.number, now) if words.wanted else []
        if neighbour.is_complete and words.version < neighbour.version:
            return decisions
        there = {member.uid for member in words.members}
        gone = [(uid, "has gone") for uid in neighbour.members if uid not in there]
        neighbour.version, neighbour.is_complete = words.version, True
        return decisions + self._apply(neighbour, _places(words.roles), words.members, gone, words.roles, now)

    def _apply(
        self,
        neighbour: Neighbour,
        places: dict[str, int],
        members: Iterable[m.Member],
        gone: Iterable[tuple[int, str]],
        roles: Iterable[m.RoleInfo],
        now: float,
        overran: Mapping[int, m.Overrun] = MappingProxyType({}),
    ) -> list[Decision]:
        crew, decisions = self._crew, list[Decision]()
        if places != neighbour.places or neighbour.number not in crew.roster.nodes:
            neighbour.places = places
            crew.roster.nodes[neighbour.number] = neighbour.node()
            decisions.append(Announce(m.NodeIs(neighbour.node())))
        for role in roles:
            known = crew.roster.roles.get(role.name)
            runs_there_only = known is not None and not known.workers and role.workers > 0
            if runs_there_only and role.exports is not None:
                decisions += crew.role_changed(
                    role.name, exports=role.exports, complete=role.complete, hears=role.hears
                )
        for member in members:
            if m.node_of(member.uid) == neighbour.number and neighbour.members.get(member.uid) != member:
                neighbour.members[member.uid] = member
                crew.roster.put(member)
                decisions.append(Announce(m.MemberIs(member)))
        for uid, why in gone:
            decisions += self._forget(neighbour, uid, why, overran.get(uid))
        return decisions + crew.release_held(now)

    def _forget(self, neighbour: Neighbour, uid: int, why: str, overran: m.Overrun | None = None) -> list[Decision]:
        if neighbour.members.pop(uid, None) is None:
            return []
        self._crew.roster.remove(uid)
        self._crew.introductions.left(uid)
        return [Announce(m.MemberGone(uid, why, overran))]

    def _lose(self, neighbour: Neighbour, why: str) -> list[Decision]:
        """A node is there no more."""
        del self.neighbours[neighbour.number]
        self._crew.roster.nodes.pop(neighbour.number, None)
        decisions: list[Decision] = [Tell(f"the machine {neighbour.name!r} {why}.")]
        for uid in list(neighbour.members):
            decisions += self._forget(neighbour, uid, f"is gone, for its machine {neighbour.name!r} {why}")
        return [*decisions, Announce(m.NodeGone(neighbour.number, why))]

    # ------------------------------------------------------------------------------------------- strangers

    def _handle_stranger(self, letter: m.Letter) -> list[Decision]:
        """A node that speaks another version is not heard, and does not hear this one; each says so on its terminal."""
        if letter.sender in self._told:
            return []
        self._told.add(letter.sender)
        own, other = f"version {m.PROTOCOL}", f"version {letter.protocol}"
        update = "Update the older one; in a rolling upgrade each machine joins those of its own version."
        return [
            Tell(
                f"the machine {letter.name!r} speaks {other} of mob's protocol, this one {own}: not admitted. {update}"
            ),
        ]

    def _handle_namesake(self, number: int, words: m.Words, now: float) -> list[Decision]:
        """Another node has this one's name. The older one keeps it; the younger stays outside until that has gone."""
        if self.namesake_at is not None and number == self._namesake:
            self.namesake_at = now
            return self._come_in(now) if isinstance(words, m.Leaving) else []
        if not isinstance(words, m.Alive) or self._name.is_kept(number, words.age, now):
            may_answer = self.namesake_at is None and self._name.may_answer(now)
            return [Write(number, m.Alive(self._version, now - self._name.born))] if may_answer else []
        was_inside, self.namesake_at, self._namesake = self.namesake_at is None, now, number
        if not was_inside:
            return []
        why = f"another machine of the cluster is called {self.name!r}"
        decisions: list[Decision] = [
            Tell(f"this machine stays outside the cluster: {why}. Give it a name of its own (--node, MOB_NODE)."),
            *self._announce_cut(why),
            Write(0, m.Leaving()),
        ]
        for neighbour in self:
            decisions += self._lose(neighbour, "is out of reach")
        return decisions

    def _come_in(self, now: float) -> list[Decision]:
        """The namesake has gone."""
        self.namesake_at = None
        told = [*self._announce_cut(), Tell("the other machine of this one's name has gone.")]
        return told if self.cut else [*told, *self._introduce(now)]

    # ------------------------------------------------------------------------------------------------ time

    def handle_wake(self, now: float) -> list[Decision]:
        """Time has passed: news and beats that are due, and who is silent."""
        lateness = now - self._wake_due
        if lateness > WAKE_DELAY:
            for neighbour in self:
                neighbour.heard_at = min(now, neighbour.heard_at + lateness)
        decisions: list[Decision] = []
        if self.namesake_at is not None and now - self.namesake_at >= NODE_TIMEOUT - EARLY:
            decisions += self._come_in(now)
        if self._has_news:
            self._beat_due = min(self._beat_due, now + CHECK)
        decisions += self._tell()
        if self._owed:
            decisions += self._pay()
        if lateness >= NODE_TIMEOUT - BEAT:  # they have missed this node, or nearly so
            decisions += self._introduce(now)
        if now >= self._beat_due - EARLY:
            decisions += self._beat(now)
        for neighbour in self:
            if now - neighbour.heard_at >= NODE_TIMEOUT - EARLY:
                decisions += self._lose(neighbour, f"was silent for {NODE_TIMEOUT:g} s")
        due = min([self._beat_due, *(neighbour.heard_at + NODE_TIMEOUT for neighbour in self)])
        if due != self._wake_due or lateness >= -EARLY:
            self._wake_due = due
            decisions.append(WakeAt(due))
        return decisions

    def _announce_cut(self, why: str = "") -> list[Decision]:
        """Why the others cannot be reached, as the members are to know it."""
        self._crew.roster.cut = why or self.cut
        return [Announce(m.Cut(self._crew.roster.cut))]

    def _beat(self, now: float) -> list[Decision]:
        self._beat_due = now + BEAT
        return [] if self.namesake_at is not None else [Write(0, m.Alive(self._version, now - self._name.born))]

    def _news(self) -> m.Changed:
        roster = self._crew.roster
        members = tuple(member for uid in sorted(self._changed) if (member := roster.get(uid)) is not None)
        roles = tuple(roster.roles[name] for name in sorted(self._roles) if name in roster.roles)
        self._version += 1
        self._places.update({role.name: role.workers for role in roles})
        changed = m.Changed(self._version, members, tuple(self._gone.items()), roles, self._overran)
        self._changed.clear()
        self._gone.clear()
        self._overran = {}
        self._roles.clear()
        return changed

    def _everything(self, wanted: bool) -> m.Everything:
        roster = self._crew.roster
        own = tuple(member for member in roster if not self._crew.is_remote(member.uid))
        roles = tuple(role for role in roster.roles.values() if role.workers)
        self._places = _places(roles)
        return m.Everything(self._version, own, roles, wanted)


def _places(roles: Iterable[m.RoleInfo]) -> dict[str, int]:
    return {role.name: role.workers for role in roles}
