"""A load of every kind of call between machines, with books: that of `mob chaos` (`mob.cli.chaos`).

Both roles, on any of the machines, write into one directory. `judge` compares the books when everything is over.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import mob
from mob.cli.chaos.ledger import DIRECTORY, CallKind, CallOutcome, Judgement, judge
from mob.cli.chaos.runner import ECHO, LOAD
from tests.patience import patient
from tests.running import wait_until

ROLES = f'.role("{ECHO}", "mob.cli.chaos.echo", workers=2).role("{LOAD}", "mob.cli.chaos.load")'
SOME = 300
"""Minimum number of ended calls for a meaningful result."""


class Books:
    """The books of a test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "books"
        self.directory.mkdir()
        (self.directory / "start").write_text(str(time.monotonic()))
        self.env: dict[str, Any] = {DIRECTORY: str(self.directory)}

    @property
    def size(self) -> int:
        """Return their size in bytes, which grows as calls are made and end."""
        return sum(path.stat().st_size for path in self.directory.glob("calls-*"))

    def wait_for_calls(self, count: int = SOME) -> None:
        """Wait until that many more calls are written down."""
        before, each = self.size, 32  # one record when a call begins, one when it ends
        wait_until(lambda: self.size >= before + count * each, f"{count} more calls are in the books")

    def close(self, client: mob.Client) -> Judgement:
        """Stop making calls; when all have ended, return what the books say."""
        (self.directory / "quiet").touch()
        wait_until(lambda: _is_quiet(client), "all calls have ended")
        judgement = judge(self.directory, float("inf"))
        assert not judgement.faults, (judgement.samples, self.notes("problems"))
        return judgement

    def notes(self, what: str) -> str:
        """Return the notes of callers: `problems` or `failures`."""
        path = self.directory / f"{what}.txt"
        return path.read_text() if path.exists() else ""


def _is_quiet(client: Any) -> bool:
    try:
        return sum(client.all(LOAD).call.open_calls().result(patient(5)).values()) == 0
    except mob.CallError:
        return False


def failed(judgement: Judgement) -> int:
    """Return the number of failed calls, of any kind."""
    return sum(
        judgement.count(kind, CallOutcome.NO, CallOutcome.MAYBE, CallOutcome.YES, CallOutcome.REFUSED)
        for kind in CallKind
    )


def right(judgement: Judgement) -> int:
    """Return the number of calls that were answered correctly."""
    return sum(judgement.count(kind, CallOutcome.RIGHT) for kind in CallKind)
