"""How a worker runs the calls of an export, as far as a choice among workers depends on it."""

from __future__ import annotations

from typing import NamedTuple

UNLIMITED = 1 << 30
MESSAGE = ""
"""The name for a message that any worker of a role may get, where an export's name would be."""


class Lane(NamedTuple):
    """How a worker runs the calls of an export."""

    width: int = 1
    """Number of calls that run at once."""
    is_beside: bool = False
    """True if they run beside others (tasks, streams) or wait in a queue of their own: they block no other call."""


LOOP = Lane()
FREE = Lane(UNLIMITED, True)
