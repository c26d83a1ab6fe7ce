"""Decides whether an app is up, or will not come up, from what its Kingpin reports of roles and places.

It serves those that start an app and wait for it: a script (`App.up`), a test. An app is up when every place that
should have a ready mobster has one. It will not come up when a role is failing, or, before all was ready once, a single
place is.
"""

from __future__ import annotations

from collections.abc import Iterable

from mob.plan import place_name
from mob.wire.messages import RoleInfo, Row

COMING = frozenset({"launching", "booting", "failing", "held", "waiting"})
"""States of places in which a ready mobster is still expected."""


def is_up(rows: Iterable[Row], role: str = "") -> bool:
    """Return True if all places, of a role or of all roles, have what they should have."""
    return not missing(rows, role)


def missing(rows: Iterable[Row], role: str = "") -> list[Row]:
    """Return the places in which a ready mobster is still expected. Spares are not waited for."""
    return [row for row in rows if row.state in COMING and role in ("", row.role) and row.index >= 0]


def why_failing(roles: Iterable[RoleInfo], rows: Iterable[Row], role: str = "") -> str:
    """Return why a role, or a place of it, cannot start; empty if nothing indicates that.

    `rows`: empty once all was ready, because a failing place then has others next to it.
    """
    told = [info.failing for info in roles if info.failing and role in ("", info.name)]
    told += [text_of(row) for row in missing(rows, role) if row.state == "failing"]
    return next(iter(told), "")


def text_of(row: Row) -> str:
    """Return the state of a place in a few words.

    >>> text_of(Row("back", 0, 4242, "booting", 3.0, 0, 0, "importing for 3 s"))
    'back.0: importing for 3 s'
    """
    return f"{place_name(row.role, row.index)}: {row.note or row.state}"
