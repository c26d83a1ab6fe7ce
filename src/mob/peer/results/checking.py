"""Checks of requests to the Kingpin before they are sent, so that invalid arguments are reported at once.

A message contains 64-bit numbers and UTF-8, and its reader expects the declared types. A message that does not fit
would end the link at the other end, or remain unsent along with all that follows. Pure.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from mob.errors import ArgumentError, GarbageFrame
from mob.wire import messages as m

_SAID = (GarbageFrame, msgspec.MsgspecError, OverflowError, RecursionError, TypeError, ValueError)
SHOWN = 60
"""Maximum number of characters of a value in an error."""


def checked(label: str, message: m.Up) -> m.Up:
    """Return the message; raise an `ArgumentError` that names the argument that cannot be sent."""
    if _is_sayable(message):
        return message
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if why := _why_not(message, name):
            raise ArgumentError(f"{label}: {name}={_shown(value)} {why}.", executed="no", argument=name)
    raise ArgumentError(f"{label}: {_shown(message)} cannot be sent to a Kingpin.", executed="no")


def check_seconds(name: str, value: Any) -> None:
    """Raise `TypeError` or `ValueError` unless it is a number of seconds, or None."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={_shown(value)} is not a number of seconds or None.")
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{name}=nan is not a number of seconds. For no limit use None.")


def _is_sayable(message: Any) -> bool:
    try:
        m.decode_up(m.encode([message]))
    except _SAID:
        return False
    return True


def _why_not(message: Any, name: str) -> str:
    """Return why this field cannot be sent; empty if it can."""
    value = getattr(message, name)
    try:
        payload = msgspec.msgpack.encode(value)
    except OverflowError:
        return "does not fit in 64 bits"
    except UnicodeEncodeError:
        return "contains characters that are not text (surrogates)"
    except _SAID:
        return "cannot be sent"
    wanted: Any = next(field.type for field in msgspec.structs.fields(message) if field.name == name)
    try:
        msgspec.msgpack.decode(payload, type=wanted)
    except msgspec.MsgspecError as error:
        told = {int: "is not a whole number", float: "is not a number", str: "is not text"}
        return told.get(wanted) or f"does not fit: {error}"
    return ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
