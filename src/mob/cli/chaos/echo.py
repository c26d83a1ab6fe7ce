"""The called role of a chaos run: returns what it gets, in every way that mob offers, and keeps a book.

It records the start of a call before it does anything else, so that `executed` can be checked.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mob.cli.chaos.ledger import DIRECTORY, LIE, Book, CallKind, CallOutcome
from mob.peer.serving.selection import export

MIB = 1024 * 1024
PAGE = 4096

_book = Book(Path(os.environ[DIRECTORY]), "started")
_spoils = os.environ.get(LIE) == "wrong"


def _begin(number: int, kind: CallKind) -> None:
    _book.write(number, kind, CallOutcome.STARTED)


@export
def plain(number: int, value: Any) -> list[Any]:
    """Return the arguments: an ordinary call."""
    _begin(number, CallKind.PLAIN)
    return [number, "spoilt" if _spoils and number % 20 == 0 else value]


@export(idempotent=True)
def again(number: int, value: Any) -> list[Any]:
    """Return the arguments; the call may be repeated after a crash."""
    _begin(number, CallKind.AGAIN)
    return [number, value]


@export
async def waits(number: int, value: Any, seconds: float) -> list[Any]:
    """Return the arguments later, while other calls run."""
    _begin(number, CallKind.WAITS)
    await asyncio.sleep(seconds)
    return [number, value]


@export
def stream(number: int, count: int) -> Iterator[int]:
    """Yield that many items."""
    _begin(number, CallKind.STREAM)
    for item in range(count):
        yield number + item


@export
async def calls_back(number: int, double: Callable[[int], Any], count: int) -> list[Any]:
    """Call the caller's function that many times; return the sum of its results."""
    _begin(number, CallKind.CALLBACK)
    total = 0
    for item in range(count):
        total += await double(item)
    return [number, total]


@export
def big(number: int, data: bytes) -> list[Any]:
    """Return a large buffer."""
    _begin(number, CallKind.BIG)
    return [number, data]


@export
def fails(number: int) -> None:
    """Raise an exception, which must arrive at the caller."""
    _begin(number, CallKind.FAILS)
    raise ValueError(number)


@export
def hog(megabytes: int, seconds: float) -> int:
    """Allocate that much memory for that long, and block in the meantime."""
    block = bytearray(megabytes * MIB)
    block[::PAGE] = b"x" * len(range(0, len(block), PAGE))
    time.sleep(seconds)
    return len(block)


@export
def chatter(lines: int) -> None:
    """Print that many lines."""
    for line in range(lines):
        print(f"line {line} of {lines}: {'chaos ' * 10}")
