"""The roster: the members of the mob, and what is known of the roles.

The Kingpin's roster is the authority; every member holds a copy that the Kingpin's announcements keep up to date. Both
are of this class. It only answers questions, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mob.core.states import MobsterState
from mob.errors import UnknownRole, nearest, suggested
from mob.wire.messages import Member, Node, RoleInfo, node_of


def is_ready(member: Member, role: str = "") -> bool:
    """Return True if a member is a mobster that may be given work: of that role, or of any."""
    return member.state == MobsterState.READY and bool(member.role) and role in ("", member.role)


class Roster:
    """The members by uid, and the roles by name."""

    __slots__ = ("_members", "cut", "nodes", "roles")

    def __init__(
        self,
        roles: Iterable[RoleInfo] = (),
        members: Iterable[Member] = (),
        nodes: Iterable[Node] = (),
        cut: str = "",
    ) -> None:
        self.roles: dict[str, RoleInfo] = {role.name: role for role in roles}
        self._members: dict[int, Member] = {member.uid: member for member in members}
        self.nodes: dict[int, Node] = {node.number: node for node in nodes}
        """The machines of the cluster by their numbers, this one first; empty if there is no cluster."""
        self.cut: str = cut
        """The reason why the other machines cannot be reached now; empty if they can."""

    def __repr__(self) -> str:
        return f"<Roster of {len(self._members)} members, roles {', '.join(self.roles) or 'none'}>"

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._members.values()))  # as it is now: a client's thread asks while another one changes it

    def __contains__(self, uid: int) -> bool:
        return uid in self._members

    def put(self, member: Member) -> None:
        """Add a member, or replace what was known of it."""
        self._members[member.uid] = member

    def remove(self, uid: int) -> Member | None:
        """Remove a member and return it; None if it is unknown."""
        return self._members.pop(uid, None)

    def get(self, uid: int) -> Member | None:
        """Return the member of that uid; None if it is unknown."""
        return self._members.get(uid)

    def put_role(self, role: RoleInfo) -> None:
        """Replace what was known of a role."""
        self.roles[role.name] = role

    def mobsters(self) -> list[Member]:
        """Return all members except the clients."""
        return [member for member in self if member.role]

    def of_role(self, role: str) -> list[Member]:
        """Return the mobsters of a role, in any state."""
        return [member for member in self if member.role == role]

    def ready(self, role: str = "") -> list[Member]:
        """Return the mobsters that may be given work: of one role, or all."""
        return [member for member in self if is_ready(member, role)]

    def is_out_of_reach(self, role: str) -> bool:
        """Return True if a role runs on other machines only, and none of them can be reached now."""
        info = self.roles.get(role)
        return bool(self.cut) and info is not None and not info.workers

    def is_over(self, role: str) -> bool:
        """Return True if no worker of the role will come: it is given up or has ended, and no other machine runs it."""
        info = self.roles.get(role)
        if info is None or not (info.given_up or info.ended):
            return False
        return not any(count for _, count in self.places(role)[1:])

    def places(self, role: str) -> list[tuple[str, int]]:
        """Return the number of places of the role on each machine, by its name ("" if there is no cluster)."""
        info = self.roles.get(role)  # an upgrade may add a role: its first member is known before it is described
        own = 0 if info is None else info.workers
        if not self.nodes:
            return [("", own)]
        first, *others = self.nodes.values()
        return [(first.name, own), *((node.name, dict(node.places).get(role, 0)) for node in others)]

    def node_name(self, uid: int) -> str:
        """Return the name of the machine that a member runs on; empty if there is no cluster."""
        node = self.nodes.get(node_of(uid))
        return "" if node is None else node.name

    def check_role(self, role: str, kind: str = "role") -> RoleInfo:
        """Return the role of that name; raise `UnknownRole` with the nearest name if the app has none.

        `kind`: what it should be, which is also the name of the method that adds it in the main script.
        """
        try:
            return self.roles[role]
        except KeyError:
            help = nearest(role, self.roles)
            if kind != "role":
                help = f"{suggested(role, self.roles)}Add it in the main script: mob.start(...).{kind}({role!r})."
            raise UnknownRole(f"this app has no {kind} {role!r}. {help}") from None
