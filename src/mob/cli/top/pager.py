"""A text that is read within `mob top`: logs, stacks, crash reports, the help. Scrolls, filters, follows what comes.

Pure. It keeps the last `MOST` lines; what is read stays where it is while others come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from mob.core.printable import plain

MOST = 10_000
"""Lines that are kept."""
PAN = 8
"""Characters that an arrow moves the text sideways."""


class PagerLine(NamedTuple):
    """A line: what stands before it, and whether it is of the bad kind."""

    label: str
    text: str
    is_error: bool = False


class Pager:
    """The text, and which part of it is seen."""

    def __init__(self, title: str, text: str | None = None, *, follows: bool = False) -> None:
        self.title = title
        self.follows = follows
        """Whether more comes; the end is shown then, unless someone has scrolled back."""
        self.is_loading: bool = text is None and not follows
        self.filter: str = ""
        self.pan: int = 0
        self.rows = 20
        """How many lines are seen; the screen says so."""
        self.label_width: int = 0
        """Of the longest label there was."""
        self._lines: deque[PagerLine] = deque(maxlen=MOST)
        self._shown: list[PagerLine] = []
        self._top = 0
        self._at_end = follows
        self.show(text or "")

    def __repr__(self) -> str:
        return f"<Pager {self.title!r}, {len(self._lines)} lines>"

    @property
    def count(self) -> int:
        """Lines that match."""
        return len(self._shown)

    @property
    def top(self) -> int:
        """The first line that is seen."""
        most = max(0, len(self._shown) - self.rows)
        return most if self._at_end else min(self._top, most)

    def visible(self) -> list[PagerLine]:
        """The lines that are seen."""
        return self._shown[self.top : self.top + self.rows]

    def show(self, text: str) -> None:
        """The text, whole."""
        self.is_loading = self.is_loading and not text
        self._lines.extend(PagerLine("", plain(line)) for line in text.splitlines())
        self._choose()

    def add(self, lines: Iterable[PagerLine]) -> None:
        """More of it has come."""
        before = len(self._lines)
        new = [PagerLine(line.label, plain(line.text), line.is_error) for line in lines]
        self._lines.extend(new)
        self.label_width = max(self.label_width, *(len(line.label) for line in new), 0)
        lost = before + len(new) - len(self._lines)
        if lost or self.filter:
            seen = self.visible()[:1]
            self._choose()
            if lost and seen and not self._at_end:
                self._top = next((n for n, line in enumerate(self._shown) if line is seen[0]), 0)
        else:
            self._shown += new

    def look_for(self, text: str) -> None:
        """Only lines with this in them."""
        self.filter = text
        self._choose()

    def move(self, lines: int) -> None:
        """Scrolls; at the end, what comes is followed again."""
        wanted = self.top + lines
        self._top = max(0, wanted)
        self._at_end = self.follows and wanted >= len(self._shown) - self.rows

    def handle_key(self, key: str) -> None:
        """One of the keys that move."""
        page = max(1, self.rows - 1)
        steps = {
            "up": -1,
            "k": -1,
            "down": 1,
            "j": 1,
            "enter": 1,
            "pgup": -page,
            "pgdn": page,
            " ": page,
            "home": -MOST,
            "g": -MOST,
            "end": MOST,
            "G": MOST,
        }
        if key in steps:
            self.move(steps[key])
        elif key in ("left", "h"):
            self.pan = max(0, self.pan - PAN)
        elif key == "right":
            self.pan += PAN

    def _choose(self) -> None:
        wanted = self.filter.lower()
        self._shown = [line for line in self._lines if wanted in f"{line.label} {line.text}".lower()]
