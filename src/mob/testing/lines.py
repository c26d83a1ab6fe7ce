"""What an app under test prints, line by line, and the wait for a line."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable

WAIT_TIMEOUT = 30.0
"""Seconds that anything may take on a loaded machine; a test that needs them all fails, none waits for them."""


class PrintedLines:
    """The lines so far; added by one thread, looked at by any."""

    def __init__(self) -> None:
        self.all: list[str] = []
        """Each without its end."""
        self._news = threading.Condition()

    def __repr__(self) -> str:
        return f"<PrintedLines, {len(self.all)}>"

    @property
    def text(self) -> str:
        """All of them."""
        return "\n".join(self.all)

    def add(self, lines: Iterable[str]) -> None:
        """Whole lines were printed."""
        with self._news:
            self.all += lines
            self._news.notify_all()

    def wait_for(self, pattern: str, count: int = 1, patience: float = WAIT_TIMEOUT) -> list[re.Match[str]]:
        """Waits until so many lines match; the matches."""
        found: list[re.Match[str]] = []

        def is_enough() -> bool:
            found[:] = [match for line in self.all if (match := re.search(pattern, line))]
            return len(found) >= count

        with self._news:
            if not self._news.wait_for(is_enough, patience):
                wanted = f"no line like {pattern!r}" if count == 1 else f"no {count} lines like {pattern!r}"
                raise AssertionError(f"{wanted} within {patience:g} s in:\n{self.text}")
        return found
