"""Who is in the mob: the members, and what is known of the roles.

The Kingpin's roster is the truth; every member holds a copy that the Kingpin's announcements keep up to date. Both
are this class. Questions only; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mob.core.states import Mobster
from mob.errors import UnknownRole, nearest
from mob.wire.messages import Member, RoleInfo


class Roster:
    """The members by uid, and the roles by name."""

    __slots__ = ("_members", "roles")

    def __init__(self, roles: Iterable[RoleInfo] = (), members: Iterable[Member] = ()) -> None:
        self.roles: dict[str, RoleInfo] = {role.name: role for role in roles}
        self._members: dict[int, Member] = {member.uid: member for member in members}

    def __repr__(self) -> str:
        return f"<Roster of {len(self._members)} members, roles {', '.join(self.roles) or 'none'}>"

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def __contains__(self, uid: int) -> bool:
        return uid in self._members

    def put(self, member: Member) -> None:
        """Adds a member or replaces what was known of it."""
        self._members[member.uid] = member

    def remove(self, uid: int) -> Member | None:
        """Forgets a member; what it was."""
        return self._members.pop(uid, None)

    def get(self, uid: int) -> Member | None:
        """The member of that uid."""
        return self._members.get(uid)

    def put_role(self, role: RoleInfo) -> None:
        """Replaces what was known of a role."""
        self.roles[role.name] = role

    def mobsters(self) -> list[Member]:
        """All members but the clients."""
        return [member for member in self if member.role]

    def of_role(self, role: str) -> list[Member]:
        """The mobsters of a role, whatever their state."""
        return [member for member in self if member.role == role]

    def ready(self, role: str = "") -> list[Member]:
        """The mobsters that may be given work: of one role, or all."""
        return [m for m in self if m.role and m.state == Mobster.READY and (not role or m.role == role)]

    def by_pid(self, pid: int) -> Member | None:
        """The member with that process id, newest first."""
        return next((member for member in reversed(list(self)) if member.pid == pid), None)

    def check_role(self, role: str) -> RoleInfo:
        """The role of that name; `UnknownRole` with the nearest name if the app has none."""
        try:
            return self.roles[role]
        except KeyError:
            raise UnknownRole(f"this app has no role {role!r}. {nearest(role, self.roles)}") from None
