"""The bodies of a chunk: one call that carries many items of a `map`, and its answer.

Strategy. Each item is encoded by itself, when it is drawn or when its function returns: so later changes to it are not
seen at the other end, and an item that cannot be sent fails alone. Then all bodies are joined, which costs one C call.

Limits. A body with references (functions, sockets, shared memory) cannot be part of an array of arguments: such an item
travels as a call of its own. An answer may contain some; its sender counts them.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw
from msgspec.msgpack import Decoder, Encoder

from mob.wire.failures import Failure
from mob.wire.kinds import MAX_INT, MIN_INT

ChunkAnswer = tuple[float, list[Any], list[tuple[int, bytes]]]
"""Seconds that the items ran, the value of each (nothing for one that failed), and the failures by index."""

_encode = Encoder().encode
_rows = Decoder(list[Raw]).decode
_raw_answer = Decoder(tuple[float, list[Raw], list[tuple[int, bytes]]]).decode
_failure = Decoder(Failure).decode


def rows_of(args: Raw) -> list[Raw]:
    """Return the arguments of each item of a chunk, undecoded; `msgspec.MsgspecError` if they are not an array."""
    return _rows(args)


def is_plain(value: Any) -> bool:
    """Return whether a value never changes and can certainly be sent, so that it can be encoded later.

    >>> is_plain(7), is_plain("7"), is_plain(2**70)
    (True, True, False)
    """
    kind = value.__class__
    if kind is int:
        return MIN_INT <= value <= MAX_INT
    if kind is str:
        return value.isascii()
    return value is None or kind is float or kind is bool


def answer(seconds: float, values: list[Any], failures: list[tuple[int, Failure]]) -> bytes:
    """Return the body of an answer. Each value is plain, or a `Raw` that was encoded before."""
    return _encode((seconds, values, [(index, _encode(failure)) for index, failure in failures]))


def failure_of(body: bytes) -> Failure:
    """Return the failure of an item; raise `msgspec.MsgspecError` if it is not one."""
    return _failure(body)


def raw_answer(body: Raw) -> ChunkAnswer | None:
    """Return an answer whose values are `Raw`, or None if the body is not an answer."""
    try:
        return _raw_answer(body)
    except msgspec.MsgspecError:
        return None
