"""The output of an app under test, line by line, and the wait for a line."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable

WAIT_TIMEOUT = 30.0
"""Seconds that any step may take on a loaded machine; only a failing test waits that long."""


class PrintedLines:
    """The lines so far; one thread adds them, any thread reads them."""

    def __init__(self) -> None:
        self.all: list[str] = []
        """The lines, without their ends."""
        self._news = threading.Condition()

    def __repr__(self) -> str:
        return f"<PrintedLines, {len(self.all)}>"

    @property
    def text(self) -> str:
        """All lines as one text."""
        return "\n".join(self.all)

    def add(self, lines: Iterable[str]) -> None:
        """Add lines that were printed."""
        with self._news:
            self.all += lines
            self._news.notify_all()

    def wait_for(self, pattern: str, count: int = 1, patience: float = WAIT_TIMEOUT) -> list[re.Match[str]]:
        """Wait until `count` lines match the pattern, and return the matches."""
        found: list[re.Match[str]] = []

        def is_enough() -> bool:
            found[:] = [match for line in self.all if (match := re.search(pattern, line))]
            return len(found) >= count

        with self._news:
            if not self._news.wait_for(is_enough, patience):
                wanted = f"no line like {pattern!r}" if count == 1 else f"no {count} lines like {pattern!r}"
                raise AssertionError(f"{wanted} within {patience:g} s in:\n{self.text}")
        return found
