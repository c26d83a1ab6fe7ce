"""Is an app up, or will it not come up? Read from what its Kingpin tells of roles and places.

For whoever starts an app and waits for it: a script (`App.up`), a test. An app is up when every place that should have
a ready mobster has one. It will not come up when a role is failing, or, before all was ready once, a single place is.
"""

from __future__ import annotations

from collections.abc import Iterable

from mob.plan import place_name
from mob.wire.messages import RoleInfo, Row

COMING = frozenset({"launching", "booting", "failing", "held", "waiting"})
"""States of places of which a ready mobster is still expected."""


def is_up(rows: Iterable[Row], role: str = "") -> bool:
    """Return whether all places have what they should have; those of a role, or of all."""
    return not missing(rows, role)


def missing(rows: Iterable[Row], role: str = "") -> list[Row]:
    """Return the places of which a ready mobster is still expected. Nobody waits for spares."""
    return [row for row in rows if row.state in COMING and role in ("", row.role) and row.index >= 0]


def why_failing(roles: Iterable[RoleInfo], rows: Iterable[Row], role: str = "") -> str:
    """Return why a role cannot start, or a place of it; nothing if nothing speaks against it.

    `rows`: none, once all was ready: a place that fails then has others beside it.
    """
    told = [info.failing for info in roles if info.failing and role in ("", info.name)]
    told += [text_of(row) for row in missing(rows, role) if row.state == "failing"]
    return next(iter(told), "")


def text_of(row: Row) -> str:
    """Return how it stands with a place, in a few words.

    >>> text_of(Row("back", 0, 4242, "booting", 3.0, 0, 0, "importing for 3 s"))
    'back.0: importing for 3 s'
    """
    return f"{place_name(row.role, row.index)}: {row.note or row.state}"
