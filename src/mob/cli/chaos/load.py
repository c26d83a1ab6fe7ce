"""The calling role of a chaos run: always a few calls at once, in every way, each answer compared with the question.

Players are tasks, plus one thread for calls from sync code. Each call is recorded before it is made and when it ends.
They stop when the file `quiet` exists.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mob.cli.chaos.ledger import CALLS, DIRECTORY, LIE, Book, CallKind, CallOutcome
from mob.errors import ArgumentError, CallError, Quarantined, RemoteError
from mob.mobster import api
from mob.peer.serving.selection import export

PLAYERS = 16
CALL_INTERVAL = 0.02  # maximum number of seconds between two calls of a player
HANGS_AFTER = 40.0
"""Seconds; a call waits for a ready worker for at most 15 s, and no fault lasts that long."""
EXECUTED = {"no": CallOutcome.NO, "maybe": CallOutcome.MAYBE, "yes": CallOutcome.YES}

_directory = Path(os.environ[DIRECTORY])
_book = Book(_directory, "calls")
_quiet = str(_directory / "quiet")
_echo = api.require("chaos-echo").options(wait=15)
_own = [tuple(name.split(".", 1)) for name in os.environ.get(CALLS, "").split(",") if name]
_repeats = os.environ.get(LIE) == "twice"
_open: set[int] = set()
_players: list[asyncio.Task[None]] = []
_ends = threading.Event()


class Wrong(Exception):
    """Raised for an answer that differs from the expected one."""


# --- one call of each kind --------------------------------------------------------------------------------------------


async def _plain(number: int, chance: random.Random) -> None:
    value = _value(chance)
    if _repeats and number % 20 == 0:
        await _echo.plain(number, value)
    _compare(await _echo.plain(number, value), [number, value])


async def _again(number: int, chance: random.Random) -> None:
    value = _value(chance)
    _compare(await _echo.again(number, value), [number, value])


async def _waits(number: int, chance: random.Random) -> None:
    value = _value(chance)
    _compare(await _echo.waits(number, value, chance.uniform(0, 0.05)), [number, value])


async def _stream(number: int, chance: random.Random) -> None:
    count = chance.randrange(200)
    items = [item async for item in _echo.stream(number, count)]
    _compare(items, list(range(number, number + count)))


async def _callback(number: int, chance: random.Random) -> None:
    count = chance.randrange(5)
    _compare(await _echo.calls_back(number, lambda item: 2 * item, count), [number, count * (count - 1)])  # pyright: ignore[reportUnknownLambdaType]


async def _big(number: int, chance: random.Random) -> None:
    data = chance.randbytes(64) * chance.randrange(1024, 16 * 1024)  # 64 KiB to 1 MiB
    answer = await _echo.big(number, data)
    _compare([answer[0], bytes(answer[1])], [number, data])


async def _fails(number: int, chance: random.Random) -> None:
    try:
        answer = await _echo.fails(number)
    except ValueError as error:
        if not isinstance(error, RemoteError) or error.remote_args != (number,):
            raise
    else:
        raise Wrong(f"an answer instead of an exception: {answer!r}")


async def _call_own(number: int, chance: random.Random) -> None:
    role, name = chance.choice(_own)
    try:
        await getattr(api.require(role), name)()
    except (RemoteError, ArgumentError):
        pass  # expected: the export may raise


ACTS: dict[CallKind, Callable[[int, random.Random], Awaitable[None]]] = {
    CallKind.PLAIN: _plain,
    CallKind.AGAIN: _again,
    CallKind.WAITS: _waits,
    CallKind.STREAM: _stream,
    CallKind.CALLBACK: _callback,
    CallKind.BIG: _big,
    CallKind.FAILS: _fails,
    **({CallKind.OWN: _call_own} if _own else {}),
}


def _value(chance: random.Random) -> Any:
    return {"n": chance.getrandbits(40), "text": "x" * chance.randrange(300), "row": [None, True, 0.5]}


def _compare(answer: Any, wanted: Any) -> None:
    if answer != wanted:
        raise Wrong(f"{str(answer)[:200]} instead of {str(wanted)[:200]}")


# --- the players ------------------------------------------------------------------------------------------------------


async def _play(player: int) -> None:
    chance = random.Random(f"{_book.serial} {player}")
    kinds = list(ACTS)
    while not _is_over():
        await asyncio.sleep(chance.uniform(0, CALL_INTERVAL))
        kind = chance.choice(kinds)
        number = _begin(kind)
        try:
            async with asyncio.timeout(HANGS_AFTER):
                outcome = await _outcome_of(kind, number, chance)
        except TimeoutError:  # not a `CallTimeout`, which `_outcome_of` handles
            outcome = CallOutcome.HUNG
            _note("problems", kind, number, "no answer")
        _end(number, kind, outcome)


async def _outcome_of(kind: CallKind, number: int, chance: random.Random) -> CallOutcome:
    try:
        await ACTS[kind](number, chance)
    except Exception as error:  # noqa: BLE001  a caller would receive the same exception
        return _judged(kind, number, error)
    return CallOutcome.RIGHT


def _play_in_thread() -> None:
    """Make calls from sync code, which blocks its thread."""
    chance = random.Random(f"{_book.serial} thread")
    while not _is_over():
        time.sleep(chance.uniform(0, CALL_INTERVAL))
        number, value = _begin(CallKind.PLAIN), _value(chance)
        call = _echo.plain(number, value)
        outcome = CallOutcome.RIGHT
        try:
            _compare(call.result(HANGS_AFTER), [number, value])
        except Exception as error:  # noqa: BLE001  as above
            outcome = _judged(CallKind.PLAIN, number, error) if call.done() else CallOutcome.HUNG
        _end(number, CallKind.PLAIN, outcome)


def _begin(kind: CallKind) -> int:
    number = _book.next_number()
    _open.add(number)
    _book.write(number, kind, CallOutcome.BEGUN)
    return number


def _end(number: int, kind: CallKind, outcome: CallOutcome) -> None:
    _book.write(number, kind, outcome)
    _open.discard(number)


def _judged(kind: CallKind, number: int, error: Exception) -> CallOutcome:
    """Return what an exception says of the call; anything except a `CallError` is a mistake of mob."""
    if isinstance(error, Quarantined):
        return CallOutcome.REFUSED
    is_excused = isinstance(error, CallError) and (kind is CallKind.CALLBACK or not isinstance(error, RemoteError))
    _note("failures" if is_excused else "problems", kind, number, f"{type(error).__name__}: {error}")
    if isinstance(error, CallError) and is_excused:
        return EXECUTED[error.executed]
    return CallOutcome.WRONG


def _note(where: str, kind: CallKind, number: int, text: str) -> None:
    with (_directory / f"{where}.txt").open("a") as file:
        file.write(f"{_book.serial}.{number & 0xFFFFFFFF} {kind.name.lower()}: {text}\n")


def _is_over() -> bool:
    return _ends.is_set() or os.path.exists(_quiet)


@api.on("ready")
async def _begin_to_play() -> None:
    _players.extend(asyncio.create_task(_play(player)) for player in range(PLAYERS))
    threading.Thread(target=_play_in_thread, daemon=True).start()


@api.on("stop")
async def _stop_playing() -> None:
    _ends.set()
    await asyncio.wait(_players, timeout=5)


# --- what the conductor asks for --------------------------------------------------------------------------------------


@export
async def open_calls() -> int:
    """Return how many calls are open; a player that failed counts as a call that never ends."""
    failed = [player for player in _players if player.done() and player.exception() is not None]
    for player in failed:
        print("a player failed:", player.exception(), file=sys.stderr)
    return len(_open) + len(failed)


@export
async def garble(seed: int) -> str:
    """Write random bytes between two frames to a link to the echo role; return the name of the link."""
    chance = random.Random(seed)
    contacts = [each for each in api.current("garble").contacts if each.member.role == "chaos-echo"]
    links = [each.link for each in contacts if each.link is not None and not each.link.is_closed]
    if not links:
        return ""
    link = chance.choice(links)
    body = chance.randbytes(chance.randrange(8, 200))
    length = chance.choice([len(body), 0, 2**32 - 1])  # a frame of nonsense, or an impossible one
    with link._lock:  # pyright: ignore[reportPrivateUsage]
        if not link._backlog:  # pyright: ignore[reportPrivateUsage]
            os.write(link._fd, length.to_bytes(4, "little") + body)  # pyright: ignore[reportPrivateUsage]
    return link.name
