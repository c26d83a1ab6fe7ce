"""What is being served in this context: its sender, and the call if it is one.

A context variable, so it holds in tasks that an export starts, in threads of the role, and in nested callbacks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from mob.rim.link import Link
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.links.contact import Contact

Served = tuple["Contact", m.Invoke | None, Link]
"""The sender, the call if it is one, and the link on which it came."""

SERVED: ContextVar[Served | None] = ContextVar("mob_served", default=None)

KEEPER: ContextVar[tuple[m.Invoke, int] | None] = ContextVar("mob_keeper", default=None)
"""A durable call that is served on behalf of its maker, and the uid of the keeper, which sent it."""

current: Callable[[], Served | None] = SERVED.get
"""Returns what is being served in this context."""


def caller() -> Contact | None:
    """Return the sender of what is being served in this context."""
    served = SERVED.get()
    return None if served is None else served[0]
