"""What all messages have in common: frozen, and on the wire an array that begins with the number of its kind."""

from __future__ import annotations

import msgspec

PROTOCOL = 3
"""The version of all messages; said by a client in `Hello`, and refused when it differs."""


class Base(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message, or a part of one."""
