"""How a worker runs the calls of an export, as far as a choice among workers depends on it."""

from __future__ import annotations

from typing import NamedTuple

UNLIMITED = 1 << 30
MESSAGE = ""
"""What a message that waits for any one of a role has instead of an export's name."""


class Lane(NamedTuple):
    """How a worker runs the calls of an export."""

    width: int = 1
    """How many at once."""
    is_beside: bool = False
    """They run beside others (tasks, streams) or wait in a line of their own, and so hold up no other call."""


LOOP = Lane()
FREE = Lane(UNLIMITED, True)
