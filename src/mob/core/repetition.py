"""Calls whose worker has died: which are sent again, and what is known of them after that.

Only calls of idempotent exports are repeated, so many times as their callers allow, and only if they may go to any
worker of a role. A call that was sent once may have run, whatever becomes of it later: the word of a second worker
that it was not started there says nothing about the first.
"""

from __future__ import annotations

from mob.errors import Executed
from mob.wire.messages import RoleInfo, export_of


def may_repeat(role: RoleInfo | None, target: str | int, retries: int) -> bool:
    """Whether a call that its worker had is sent again. `role`: the one among whose workers it may go, if any.

    >>> may_repeat(None, "foo", 3)
    False
    """
    if role is None or retries <= 0:
        return False
    name = export_of(target)
    return any(export.idempotent for export in role.exports or () if export.name == name)


def executed_after(was_repeated: bool, executed: Executed) -> Executed:
    """What is known of a call in all, if that is known of its last attempt.

    >>> executed_after(True, "no"), executed_after(True, "yes"), executed_after(False, "no")
    ('maybe', 'yes', 'no')
    """
    return "maybe" if was_repeated and executed == "no" else executed
