"""Which members asked to be linked to which, and which are.

A member asks once for a role ("*": all roles) or for one member, and is introduced to every matching member, now and in
the future. A pair is introduced once; a member may want itself (a worker that calls its own role): a link to itself.

Only members that are linked to a client, or that asked for clients, learn that it comes or goes.

Members of other machines are requested one by one, when there is something to send; this file does not handle them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mob.core.roster import Roster
from mob.wire.messages import CLIENTS, Member, node_of

ALL = "*"


class Introductions:
    """The wishes and the pairs."""

    __slots__ = ("_partners", "_wanting", "_wishes")

    def __init__(self) -> None:
        self._wishes: dict[str, set[int]] = {}  # role -> uids of members that want it
        self._wanting: dict[int, set[str]] = {}  # the inverse
        self._partners: dict[int, set[int]] = {}  # links, in both directions

    def __repr__(self) -> str:
        return f"<Introductions {len(self._pairs())} pairs, wishes for {', '.join(self._wishes) or 'nothing'}>"

    def has_wishes(self, uid: int) -> bool:
        """Return True if a member asked for a role."""
        return uid in self._wanting

    def partners(self, uid: int) -> set[int]:
        """Return the members that a member is linked to, perhaps itself."""
        return set(self._partners.get(uid, ()))

    def _pairs(self) -> list[tuple[int, int]]:
        return sorted((uid, other) for uid, others in self._partners.items() for other in others if uid <= other)

    def want_role(self, uid: int, role: str, roster: Roster) -> list[tuple[int, int]]:
        """Note the wish; return the pairs to introduce at once."""
        self._wishes.setdefault(role, set()).add(uid)
        self._wanting.setdefault(uid, set()).add(role)
        there = roster.mobsters() if role == ALL else roster.of_role(role)
        return self._new_pairs((uid, member.uid) for member in there if node_of(member.uid) == node_of(uid))

    def want_clients(self, uid: int) -> None:
        """Note that a member wants to learn about all clients; this links it to none of them."""
        self._wishes.setdefault(CLIENTS, set()).add(uid)
        self._wanting.setdefault(uid, set()).add(CLIENTS)

    def wanting_clients(self) -> set[int]:
        """Return the members that want to learn about all clients."""
        return set(self._wishes.get(CLIENTS, ()))

    def want_member(self, uid: int, other: int, roster: Roster) -> list[tuple[int, int]]:
        """Return the pair to introduce, if both are there and not linked yet."""
        return self._new_pairs([(uid, other)]) if other in roster and uid in roster else []

    def forget_pair(self, uid: int, other: int) -> None:
        """Forget a link that broke: its members may be introduced again."""
        self._part(uid, other)
        self._part(other, uid)

    def _part(self, uid: int, other: int) -> None:
        partners = self._partners.get(uid)
        if partners is not None:
            partners.discard(other)
            if not partners:
                del self._partners[uid]

    def joined(self, member: Member) -> list[tuple[int, int]]:
        """Return the pairs of a new mobster with the members that want its role."""
        wanting = self._wishes.get(member.role, set()) | self._wishes.get(ALL, set())
        return self._new_pairs((uid, member.uid) for uid in sorted(wanting))

    def known(self) -> tuple[dict[str, list[int]], list[tuple[int, int]]]:
        """Return all wishes and pairs, to be stored."""
        return {role: sorted(uids) for role, uids in self._wishes.items()}, self._pairs()

    def learn(self, wishes: Mapping[str, Iterable[int]], pairs: Iterable[tuple[int, int]]) -> None:
        """Take over stored wishes and pairs."""
        self._wishes, self._wanting, self._partners = {}, {}, {}
        for role, uids in wishes.items():
            for uid in uids:
                self._wishes.setdefault(role, set()).add(uid)
                self._wanting.setdefault(uid, set()).add(role)
        self._new_pairs(pairs)

    def left(self, uid: int) -> None:
        """Forget a member's wishes and links."""
        for role in self._wanting.pop(uid, ()):
            self._wishes[role].discard(uid)
            if not self._wishes[role]:
                del self._wishes[role]
        for other in self._partners.pop(uid, ()):
            self._part(other, uid)

    def _new_pairs(self, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        new: list[tuple[int, int]] = []
        for first, second in pairs:
            pair = (min(first, second), max(first, second))
            if second not in self._partners.get(first, ()):
                self._partners.setdefault(first, set()).add(second)
                self._partners.setdefault(second, set()).add(first)
                new.append(pair)
        return new
