"""The table in `docs/internals/foreign.md` that says how many tests of others pass: `make foreign` writes it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.foreign.counting import Counts

PAGE = Path(__file__).resolve().parents[2] / "docs" / "internals" / "foreign.md"
BEGIN = "<!-- written by make foreign -->\n"
END = "<!-- end of what make foreign writes -->\n"
PYTHON = (3, 11)
"""The version whose numbers are published, because suites of CPython grow with it: the oldest one that is supported."""
HEAD = "| tests of | pass | fail, as expected | left out |\n|---|--:|--:|--:|\n"


def table(rows: Mapping[str, Counts]) -> str:
    """Return the table; a row begins with the title of its suite, and the last one is the sum."""
    total = Counts(*map(sum, zip(*rows.values(), strict=True)))
    lines = [f"| {title} | {' | '.join(map(str, counts))} |\n" for title, counts in [*rows.items(), ("all", total)]]
    return HEAD + "".join(lines)


def publish(rows: Mapping[str, Counts], page: Path = PAGE) -> bool:
    """Write the table into a file, between the two comments; return whether that has changed it."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    written = f"{before}{BEGIN}\n{table(rows)}\n{END}{after}"
    if sys.version_info[:2] != PYTHON or written == text:
        return False
    page.write_text(written, encoding="utf-8")
    return True
