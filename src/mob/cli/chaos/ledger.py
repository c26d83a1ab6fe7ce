"""The books of a chaos run: which calls were made, which have started, and whether the two agree.

Every process writes its own file, one record in one `write` before it goes on, so a book is correct up to the moment of
a SIGKILL. `judge` compares them at the end. Books do not know how the calls are made.
"""

from __future__ import annotations

import itertools
import os
import struct
import time
from collections import Counter
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

import msgspec

DIRECTORY = "MOB_CHAOS"
"""Environment variable with the directory of the run."""
CALLS = "MOB_CHAOS_CALLS"
"""Environment variable with the app's own exports that are called as well: `back.foo,front.bar`."""
NATS = "MOB_CHAOS_NATS"
"""Environment variable with the address of the run's own NATS server, if it has several nodes."""
LIE = "MOB_CHAOS_LIE"
"""Environment variable that tests the checker: "wrong" spoils some answers, "twice" starts some calls twice."""
RECORD = struct.Struct("<QBBxxf")
"""Number of the call, kind, outcome, seconds since the start of the run."""
SAMPLES = 5


class CallKind(IntEnum):
    """Kinds of calls."""

    PLAIN = 0
    AGAIN = 1  # idempotent: may start more than once
    WAITS = 2
    STREAM = 3
    CALLBACK = 4
    BIG = 5
    FAILS = 6
    OWN = 7  # an export of the app, which keeps no book


class CallOutcome(IntEnum):
    """Outcomes of a call; only BEGUN if its caller exited before the end."""

    BEGUN = 0
    RIGHT = 1
    NO = 2
    MAYBE = 3
    YES = 4
    REFUSED = 5  # in quarantine: mob considers the export the cause of the crashes
    WRONG = 6
    HUNG = 7
    STARTED = 8  # in the book of the called role


class Book:
    """The file of one process."""

    def __init__(self, directory: Path, stem: str) -> None:
        self._start = float((directory / "start").read_text())
        self.serial: int
        for self.serial in itertools.count(1):
            try:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._fd = os.open(directory / f"{stem}-{self.serial}", flags, 0o600)
                break
            except FileExistsError:
                continue
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"<Book {self.serial}>"

    def next_number(self) -> int:
        """Return a number that is unique in this run; callable from any thread."""
        return self.serial << 32 | next(self._numbers)

    def write(self, number: int, kind: CallKind, outcome: CallOutcome) -> None:
        """Record an event now."""
        os.write(self._fd, RECORD.pack(number, kind, outcome, time.monotonic() - self._start))


class Judgement(msgspec.Struct, frozen=True):
    """The result of comparing the books."""

    outcomes: dict[tuple[CallKind, CallOutcome], int]
    faults: dict[str, int]
    """Number of calls for each kind of misbehaviour."""
    samples: tuple[str, ...]

    def count(self, kind: CallKind, *outcomes: CallOutcome) -> int:
        """Return the number of calls of a kind with one of these outcomes."""
        return sum(self.outcomes.get((kind, outcome), 0) for outcome in outcomes)

    @property
    def calls(self) -> int:
        """Number of all calls."""
        return sum(self.outcomes.values())


def judge(directory: Path, calm_at: float) -> Judgement:
    """Compare the books of all processes. `calm_at`: seconds since the start after which every call must succeed."""
    started = Counter(number for number, _, _, _ in _records(directory, "started"))
    calls: dict[int, tuple[CallKind, CallOutcome, float]] = {}
    for number, kind, outcome, at in _records(directory, "calls"):
        began = calls[number][2] if number in calls else at
        calls[number] = (CallKind(kind), CallOutcome(outcome), began)
    outcomes: Counter[tuple[CallKind, CallOutcome]] = Counter()
    faults: Counter[str] = Counter()
    samples: list[str] = []
    for number, (kind, outcome, began) in calls.items():
        outcomes[kind, outcome] += 1
        for fault in complaints(kind, outcome, started[number], is_calm=began > calm_at):
            faults[fault] += 1
            if faults[fault] <= SAMPLES:
                samples.append(
                    f"call {number >> 32}.{number & 0xFFFFFFFF} ({kind.name.lower()}), made after {began:.1f} s, "
                    f"ended {outcome.name.lower()}, started {started[number]} times: {fault}"
                )
    return Judgement(dict(outcomes), dict(faults), tuple(samples))


def complaints(kind: CallKind, outcome: CallOutcome, started: int, is_calm: bool = False) -> list[str]:
    """Return what is wrong with a call of that outcome that has started that many times.

    >>> complaints(CallKind.PLAIN, CallOutcome.RIGHT, started=1)
    []
    >>> complaints(CallKind.PLAIN, CallOutcome.NO, started=1)
    ['executed="no", but it was started']
    """
    found: list[str] = []
    if outcome is CallOutcome.WRONG:
        found.append("answered incorrectly")
    if outcome is CallOutcome.HUNG:
        found.append("never answered")
    if is_calm and outcome in (CallOutcome.NO, CallOutcome.MAYBE, CallOutcome.YES):
        found.append("failed although the faults were over")
    if kind is CallKind.OWN:
        return found
    if started > 1 and kind is not CallKind.AGAIN:
        found.append("started twice")
    if started and outcome in (CallOutcome.NO, CallOutcome.REFUSED):
        found.append('executed="no", but it was started')
    if not started and outcome is CallOutcome.YES:
        found.append('executed="yes", but it was not started')
    if not started and outcome is CallOutcome.RIGHT:
        found.append("answered, but it was not started")
    return found


def _records(directory: Path, stem: str) -> Iterator[tuple[int, int, int, float]]:
    for path in sorted(directory.glob(f"{stem}-*")):
        data = path.read_bytes()
        yield from RECORD.iter_unpack(data[: len(data) - len(data) % RECORD.size])
