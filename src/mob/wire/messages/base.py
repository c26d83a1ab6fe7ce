"""The base of all messages: frozen, and on the wire an array that begins with the number of its kind."""

from __future__ import annotations

import msgspec

PROTOCOL = 3
"""Version of all messages; a client gives its own in `Hello`, and is refused if it differs."""


class Base(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message, or a part of one."""
