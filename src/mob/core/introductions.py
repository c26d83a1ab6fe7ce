"""Who has asked to be linked to whom, and who is.

A member asks once for a role ("*": all roles) or for one member, and is introduced to everybody there, now and in
future. A pair is introduced once; a member may want itself (a worker that calls its own role): a link to itself.

Members of other machines are wanted one by one, when there is something to say, and are no business of this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mob.core.roster import Roster
from mob.wire.messages import Member, node_of

ALL = "*"


class Introductions:
    """The wishes and the pairs."""

    __slots__ = ("_pairs", "_wishes")

    def __init__(self) -> None:
        self._wishes: dict[str, set[int]] = {}  # role -> uids of those who want it
        self._pairs: set[tuple[int, int]] = set()

    def __repr__(self) -> str:
        return f"<Introductions {len(self._pairs)} pairs, wishes for {', '.join(self._wishes) or 'nobody'}>"

    @property
    def is_empty(self) -> bool:
        """Whether nobody is linked and nobody wants to be."""
        return not self._pairs and not self._wishes

    def want_role(self, uid: int, role: str, roster: Roster) -> list[tuple[int, int]]:
        """Notes the wish; the pairs to be introduced at once."""
        self._wishes.setdefault(role, set()).add(uid)
        there = roster.mobsters() if role == ALL else roster.of_role(role)
        return self._new_pairs((uid, member.uid) for member in there if node_of(member.uid) == node_of(uid))

    def want_member(self, uid: int, other: int, roster: Roster) -> list[tuple[int, int]]:
        """The pair to be introduced, if both are there and not linked yet."""
        return self._new_pairs([(uid, other)]) if other in roster and uid in roster else []

    def forget_pair(self, uid: int, other: int) -> None:
        """The link between two members has broken: they may be introduced again."""
        self._pairs.discard((min(uid, other), max(uid, other)))

    def joined(self, member: Member) -> list[tuple[int, int]]:
        """The pairs that a new mobster makes with those who want its role."""
        wanting = self._wishes.get(member.role, set()) | self._wishes.get(ALL, set())
        return self._new_pairs((uid, member.uid) for uid in sorted(wanting))

    def known(self) -> tuple[dict[str, list[int]], list[tuple[int, int]]]:
        """All wishes and pairs, to be written down."""
        return {role: sorted(uids) for role, uids in self._wishes.items()}, sorted(self._pairs)

    def learn(self, wishes: Mapping[str, Iterable[int]], pairs: Iterable[tuple[int, int]]) -> None:
        """Takes up what was written down."""
        self._wishes = {role: set(uids) for role, uids in wishes.items()}
        self._pairs = set(pairs)

    def left(self, uid: int) -> None:
        """Forgets a member's wishes and links."""
        self._wishes = {role: left for role, uids in self._wishes.items() if (left := uids - {uid})}
        self._pairs = {pair for pair in self._pairs if uid not in pair}

    def _new_pairs(self, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        new: list[tuple[int, int]] = []
        for first, second in pairs:
            pair = (min(first, second), max(first, second))
            if pair not in self._pairs:
                self._pairs.add(pair)
                new.append(pair)
        return new
