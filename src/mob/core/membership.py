"""Membership: which machines are in the cluster, and which members each has.

Every Kingpin announces changes among its own members to all others, with a version that counts them, and once a second
it sends its version. A node that missed something asks for everything; a new node sends everything to all and gets
everything from each. A node that is silent for three seconds counts as lost, with all of its members; each Kingpin
decides so for itself: there is no leader and nothing to agree on. (Heartbeats and versions instead of gossip: NATS is a
broadcast, so a heartbeat costs its sender one message whatever the size. `docs/internals/cluster-scale.md` has the
numbers.)

A node is a *run* of a Kingpin: it draws a number when it starts, which is in the uids of all its members, so a node
that comes back is a different one. Its name is for people; of two runs with the same name the newer one stays outside.

Letters go in, decisions come out. The members of other machines are put into the roster of the crew, next to its own.
No clock: `now` is passed in; an age is a difference of its machine's own clock, so clocks may disagree.
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
"""Seconds between two heartbeats."""
NODE_TIMEOUT = 3.0
"""Seconds of silence after which a node counts as lost."""
GATHER = 0.01
"""Seconds for which changes are gathered into one letter."""
CHECK = 0.1
"""Seconds after a change within which a heartbeat repeats the version: a node that missed the letter soon learns it."""
ROLL_CALL_RETRY = 1.0
"""Seconds after which everything is requested again."""
EARLY = 0.005
"""Seconds by which a wake-up may come too soon: timers are inexact."""
WAKE_DELAY = 1.0
"""Maximum seconds by which a wake-up may be late.

Beyond that this process was suspended, and it was not the others that were silent.
"""
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
        """Version of what is known of its members."""
        self.is_complete: bool = False
        """True if its members are known."""
        self.members: dict[int, m.Member] = {}
        self.places: dict[str, int] = {}
        """Number of workers of each role there."""

    def __repr__(self) -> str:
        return f"<Neighbour {self.name}, {len(self.members)} members at version {self.version}>"

    def node(self) -> m.Node:
        """Return it in the form that members know."""
        return m.Node(self.number, self.name, tuple(sorted(self.places.items())))


class Membership:
    """The cluster as one Kingpin knows it."""

    def __init__(self, crew: Crew, name: str, now: float) -> None:
        self._crew = crew
        self.number: int = m.node_of(crew.last_uid)
        """Number of this node."""
        self.name = name
        self.neighbours: dict[int, Neighbour] = {}
        """The other nodes, by their numbers."""
        self.cut: str = UNCONNECTED
        """The reason why the others cannot be reached, if they cannot.

        It is not announced before the first attempt: calls that are made at the very start wait.
        """
        self.namesake_at: float | None = None
        """Time of the last message of an older node with this one's name; while it is set, this one stays outside."""
        self._namesake = 0
        crew.roster.nodes[self.number] = m.Node(self.number, name)
        self._name = Name(self.number, now)
        self._cut_at = -NODE_TIMEOUT
        self._version = int(now * 1000)  # greater than any of a Kingpin before this one
        self._changed: set[int] = set()  # own members that came or changed, and were not announced yet
        self._gone: dict[int, str] = {}
        self._overran: dict[int, m.Overrun] = {}
        self._roles: set[str] = set()
        self._places: dict[str, int] = {}  # number of workers of each role here, as announced to the others
        self._owed: set[int] = set()  # nodes that are to get everything
        self._beat_due = now
        self._wake_due = now
        self._told: set[int] = set()  # strangers that the log has mentioned

    def __repr__(self) -> str:
        return f"<Membership of {self.name!r}, {len(self.neighbours)} other nodes>"

    def __iter__(self) -> Iterator[Neighbour]:
        return iter(list(self.neighbours.values()))

    # ------------------------------------------------------------------------------------------ one's own

    def start(self, now: float) -> list[Decision]:
        """Begin, or continue after an upgrade."""
        self._wake_due = now + BEAT
        return [WakeAt(self._wake_due)]

    def adopt(self, nodes: Iterable[m.Node], born: float, now: float) -> None:
        """Take over the nodes that a Kingpin before this one knew; their members are in the roster.

        Changes since then are requested. `born`: the time at which the first of these Kingpins began.
        """
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
        """Collect decisions about own members, to announce them to the others soon."""
        had_news = self._has_news
        for decision in decisions:
            match decision:
                case Announce(m.MemberIs(member=member)) if not self._crew.is_remote(member.uid):
                    self._changed.add(member.uid)
                case Announce(m.MemberGone(uid=uid, why=why, overran=overran)) if not self._crew.is_remote(uid):
                    self._note_gone(uid, why, overran)
                case Announce(m.RoleIs(role=role)) if role.workers or self._places.get(role.name):
                    self._roles.add(role.name)  # a role that runs elsewhere only is announced by those that run it
                case _:
                    pass
        return [WakeAt(now + GATHER)] if self._has_news and not had_news else []

    def _note_gone(self, uid: int, why: str, overran: m.Overrun | None) -> None:
        self._changed.discard(uid)
        self._gone[uid] = why
        if overran is not None:
            self._overran[uid] = overran

    @property
    def _has_news(self) -> bool:
        return bool(self._changed or self._gone or self._roles)

    def _tell(self) -> list[Decision]:
        """Announce what the others do not know yet, if anything."""
        if not self._has_news:
            return []
        news = self._news()
        return [Write(0, news)] if self.namesake_at is None else []

    def _tell_everything(self, *nodes: int, wanted: bool = True) -> list[Decision]:
        """Send all about this node; news is sent to all before, so a version means the same to every node."""
        told = self._tell()
        if self.namesake_at is not None:
            return []
        everything = self._everything(wanted)
        return [*told, *(Write(node, everything) for node in nodes)]

    def _introduce(self, now: float) -> list[Decision]:
        """Send everything to all, because they do not know this node (any more), and ask each for everything."""
        if self._has_news:
            self._news()  # it is in everything
        self._beat_due = now + BEAT
        return self._tell_everything(0)

    def handle_connected(self, why_not: str, now: float) -> list[Decision]:
        """Handle a change of whether the others can be reached."""
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
            decisions.append(Tell(f"cannot reach the other machines: {why_not}"))
        return decisions

    def leave(self) -> list[Decision]:
        """Leave the cluster: the app ends here."""
        return [Write(0, m.Leaving())]

    # --------------------------------------------------------------------------------------------- letters

    def handle_letter(self, data: bytes, now: float) -> list[Decision]:
        """Handle a letter; ignore invalid data."""
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
        """Ignore the letter, and say so once for each sender."""
        if letter.sender in self._told:
            return []
        self._told.add(letter.sender)
        return [
            Tell(
                f"ignoring the machine {letter.name!r} of another app, {letter.app!r}, which writes to the subjects of "
                f"this one ({self._crew.plan.name!r}) on NATS. Does something forward subjects there?"
            )
        ]

    def _handle_words(self, letter: m.Letter, words: m.Words, now: float) -> list[Decision]:
        sender = letter.sender
        neighbour = self.neighbours.get(sender)
        if isinstance(words, m.LeaseFree):  # the last words of a node, after it left
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
            decisions.append(Tell(f"the machine {letter.name!r} joined the cluster."))
            if not isinstance(words, m.Everything):
                decisions += self._tell_everything(sender)  # neither node knows the other
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
        """Note that a node wants everything; send it soon, because others may want it as well."""
        self._owed.add(node)
        return [WakeAt(now + GATHER)] if len(self._owed) == 1 else []

    def _pay(self) -> list[Decision]:
        """Send everything to the nodes that want it: one by one if they are few, to all at once if they are many."""
        owed, self._owed = sorted(self._owed & self.neighbours.keys()), set()
        if 2 * len(owed) > max(2, len(self.neighbours)):
            owed = [0]
        return self._tell_everything(*owed, wanted=False) if owed else []

    def _handle_everything(self, neighbour: Neighbour, words: m.Everything, now: float) -> list[Decision]:
        decisions = self._owe(neighbour.number, now) if words.wanted else []
        if neighbour.is_complete and words.version < neighbour.version:
            return decisions
        there = {member.uid for member in words.members}
        gone = [(uid, "is no longer there") for uid in neighbour.members if uid not in there]
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
        """Remove a node."""
        del self.neighbours[neighbour.number]
        self._crew.roster.nodes.pop(neighbour.number, None)
        decisions: list[Decision] = [Tell(f"the machine {neighbour.name!r} {why}.")]
        for uid in list(neighbour.members):
            decisions += self._forget(neighbour, uid, f"is out of reach because its machine {neighbour.name!r} {why}")
        return [*decisions, Announce(m.NodeGone(neighbour.number, why))]

    # ------------------------------------------------------------------------------------------- strangers

    def _handle_stranger(self, letter: m.Letter) -> list[Decision]:
        """Ignore a node with another protocol version, which ignores this one; each logs that once."""
        if letter.sender in self._told:
            return []
        self._told.add(letter.sender)
        own, other = f"version {m.PROTOCOL}", f"version {letter.protocol}"
        update = "Update the older machine; in a rolling upgrade each machine joins those of its own version."
        return [
            Tell(f"not admitted: the machine {letter.name!r} uses {other} of mob's protocol, this one {own}. {update}"),
        ]

    def _handle_namesake(self, number: int, words: m.Words, now: float) -> list[Decision]:
        """Handle another node with this one's name. The older node keeps it; the newer one stays outside meanwhile."""
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
        """Join: the node of the same name ended."""
        self.namesake_at = None
        told = [*self._announce_cut(), Tell("the other machine with this one's name has left.")]
        return told if self.cut else [*told, *self._introduce(now)]

    # ------------------------------------------------------------------------------------------------ time

    def handle_wake(self, now: float) -> list[Decision]:
        """Handle the passing of time: send news and heartbeats that are due, remove silent nodes."""
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
        if lateness >= NODE_TIMEOUT - BEAT:  # the others have missed this node, or almost
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
        """Announce to the members why the others cannot be reached."""
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
