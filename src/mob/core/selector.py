"""Which workers a name means: the one interpretation of `role`, `role.index` and pid, and of `node:` before a name.

A role may have a dot in its name, so the existing roles decide where an index begins. A role cannot begin with a digit,
so digits are a pid.
"""

from __future__ import annotations

from collections.abc import Container

import msgspec

from mob.core.roster import Roster
from mob.errors import MobError
from mob.wire.messages import Member, node_of

MOST_DIGITS = 18
"""Maximum number of digits of a pid or an index: a longer number would not fit in 64 bits."""


class Selector(msgspec.Struct, frozen=True):
    """The workers that a name means; an unset field matches all."""

    role: str = ""
    index: int | None = None
    pid: int | None = None

    def has(self, member: Member) -> bool:
        """Return True if the name means this mobster."""
        is_of_role = self.role in ("", member.role) and self.index in (None, member.index)
        return is_of_role and self.pid in (None, member.pid)


def selector_of(target: str | int, roles: Container[str] = ()) -> Selector:
    """Return what a text means: one of these roles, a place in one, or a pid. Any other text is read as a role.

    >>> selector_of("back.2", {"back"}), selector_of("4242").pid
    (Selector(role='back', index=2, pid=None), 4242)
    """
    if isinstance(target, int):
        return Selector(pid=target)
    role, dot, index = target.rpartition(".")
    if not _is_number(index):
        return Selector(target)
    if not dot:
        return Selector(pid=int(index))
    return Selector(role, int(index)) if role in roles and target not in roles else Selector(target)


def parted(name: str) -> tuple[str, str]:
    """Return the machine and the rest of a name that may begin with a machine.

    >>> parted("back"), parted("b:back")
    (('', 'back'), ('b', 'back'))
    """
    node, _, rest = name.rpartition(":")
    return node, rest


def mobsters_meant(roster: Roster, uid: int, target: str | int) -> list[Member]:
    """Return the mobsters that are meant, on the machine of that member. Raise `MobError` if there are none."""
    selector = selector_of(target, roster.roles)
    node = roster.node_name(uid)
    on = f" on the machine {node!r}" if node else ""
    here = [each for each in roster.mobsters() if node_of(each.uid) == node_of(uid)]
    here.sort(key=lambda each: (each.role, each.index, each.uid))
    found = list(filter(selector.has, here))
    if selector.pid is not None:
        if not found:
            raise MobError(f"no worker has pid {target}{on}; `mob ps` lists them.")
        return [max(found, key=lambda each: each.uid)]  # a pid may come again before the first one's end is known
    roster.check_role(selector.role)
    if not found and selector.index is None:
        raise MobError(f"the role {target!r} has no worker{on} right now; `mob ps` shows why.")
    if not found:
        places = ", ".join(f"{each.role}.{each.index}" for each in here if each.role == selector.role)
        raise MobError(f"there is no {target}{on} right now. There are: {places or 'none of this role'}.")
    return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS
