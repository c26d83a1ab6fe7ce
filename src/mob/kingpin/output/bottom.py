"""The unfinished lines at the bottom of a terminal: progress bars, prompts, dots.

Each mobster may have two. They are shown below all finished lines, each in one row, and are drawn again when something
is printed above them or when they change. This file makes the bytes for that; it writes nothing.
"""

from __future__ import annotations

import re
import unicodedata

MOST_ROWS = 8
"""Maximum number of rows; of more lines the latest are shown."""
ERASE = b"\r\x1b[2K"
ERASE_ABOVE = b"\x1b[1A\x1b[2K"
RESET = "\x1b[0m"
_PARTS = re.compile(r"(\x1b\[[0-?]*[ -/]*[@-~])|.", re.DOTALL)


class Bottom:
    """The rows, and how many of them are on the screen."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, bool], bytes] = {}
        self._drawn = 0

    def __repr__(self) -> str:
        return f"<Bottom {len(self._rows)} rows>"

    def __bool__(self) -> bool:
        return bool(self._rows)

    def put(self, source: tuple[str, bool], row: bytes) -> None:
        """Show this row for the unfinished line of a source; none if it is empty."""
        self._rows.pop(source, None)
        if row:
            self._rows[source] = row

    def around(self, data: bytes, width: int, height: int) -> bytes:
        """Return the bytes that show these whole lines above the rows."""
        before = self.erased()
        rows = list(self._rows.values())[-max(1, min(MOST_ROWS, height - 1)) :]
        self._drawn = len(rows)
        return before + data + b"\n".join(fitting(row, width) for row in rows)

    def erased(self) -> bytes:
        """Return the bytes that remove the rows; the next lines bring them back."""
        drawn, self._drawn = self._drawn, 0
        return ERASE + ERASE_ABOVE * (drawn - 1) if drawn else b""


def fitting(row: bytes, width: int) -> bytes:
    r"""Return as much of a line as fits into one row.

    >>> fitting(b"back.0 42 | \x1b[32m50%\x1b[0m of it", 19)
    b'back.0 42 | \x1b[32m50%\x1b[0m of\x1b[0m'
    """
    text = row.decode(errors="replace")
    kept: list[str] = []
    left = max(1, width - 1)  # a full row would move the cursor to the next one
    for part in _PARTS.finditer(text):
        if part[1]:
            kept.append(part[1])
            continue
        columns = _columns(part[0])
        if columns > left:
            break
        left -= columns
        kept.append(part[0] if part[0].isprintable() else " ")
    return ("".join(kept) + (RESET if "\x1b" in text else "")).encode()


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
