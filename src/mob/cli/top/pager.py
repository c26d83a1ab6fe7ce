"""A text shown within `mob top`: logs, stacks, crash reports, the help. Scrolls, filters, and follows new lines.

Pure. It keeps the last `MOST` lines; the visible part does not move while new lines arrive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from mob.core.printable import plain

MOST = 10_000
"""Maximum number of lines that are kept."""
PAN = 8
"""Characters by which an arrow key moves the text sideways."""


class PagerLine(NamedTuple):
    """A line with its prefix; `is_error` for stderr and notes about missing lines."""

    label: str
    text: str
    is_error: bool = False


class Pager:
    """A text and its visible part."""

    def __init__(self, title: str, text: str | None = None, *, follows: bool = False) -> None:
        self.title = title
        self.follows = follows
        """True if more lines are to come; the end is shown then, unless the user scrolled back."""
        self.is_loading: bool = text is None and not follows
        self.filter: str = ""
        self.pan: int = 0
        self.rows = 20
        """Number of visible lines; set by the screen."""
        self.label_width: int = 0
        """Width of the longest label so far."""
        self._lines: deque[PagerLine] = deque(maxlen=MOST)
        self._shown: list[PagerLine] = []
        self._top = 0
        self._at_end = follows
        self.show(text or "")

    def __repr__(self) -> str:
        return f"<Pager {self.title!r}, {len(self._lines)} lines>"

    @property
    def count(self) -> int:
        """Number of lines that match the filter."""
        return len(self._shown)

    @property
    def top(self) -> int:
        """Number of the first visible line."""
        most = max(0, len(self._shown) - self.rows)
        return most if self._at_end else min(self._top, most)

    def visible(self) -> list[PagerLine]:
        """Return the visible lines."""
        return self._shown[self.top : self.top + self.rows]

    def show(self, text: str) -> None:
        """Set the complete text."""
        self.is_loading = self.is_loading and not text
        self._lines.extend(PagerLine("", plain(line)) for line in text.splitlines())
        self._choose()

    def add(self, lines: Iterable[PagerLine]) -> None:
        """Add lines at the end."""
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
        """Keep only lines that contain this text."""
        self.filter = text
        self._choose()

    def move(self, lines: int) -> None:
        """Scroll by that many lines; at the end, new lines are followed again."""
        wanted = self.top + lines
        self._top = max(0, wanted)
        self._at_end = self.follows and wanted >= len(self._shown) - self.rows

    def handle_key(self, key: str) -> None:
        """Handle a key that scrolls."""
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
