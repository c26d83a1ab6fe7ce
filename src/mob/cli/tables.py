"""Prints tables of rows with notes without ever truncating them: `mob timers`, `mob jobs`.

If everything fits into the width of the screen, the note is the last column. Otherwise each note is on the line below
its row. If a row is still too wide, the terminal wraps it.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.segment import Segment, Segments
from rich.table import Table

HEAD = 3
"""Number of lines before the first row: an empty one, the headings, a rule."""
NO_LIMIT = 10_000
INDENT = "   "


def print_with_notes(
    screen: Console, headings: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str], right: Sequence[str]
) -> None:
    """Print a table.

    `rows`: their cells, as markup. `notes`: plain text for each row, "" for none. `right`: the headings of columns that
    are aligned to the right.
    """
    if any(notes):
        beside = _made([*headings, "note"], right)
        for row, note in zip(rows, notes, strict=True):
            beside.add_row(*row, escape(note))
    else:
        beside = _filled(headings, rows, right)
    if _width(screen, beside) <= screen.width:
        screen.print(beside)
        return
    below = _filled(headings, rows, right)
    if _width(screen, below) > screen.width:
        below.padding = 0
    lines = screen.render_lines(below, screen.options.update(width=_width(screen, below)), pad=False)
    for number, line in enumerate(lines):
        screen.print(Segments([*line, Segment.line()]), soft_wrap=True, end="")
        if 0 <= number - HEAD < len(notes) and (note := notes[number - HEAD]):
            screen.print(INDENT + note, markup=False, highlight=False, soft_wrap=True)


def _made(headings: Sequence[str], right: Sequence[str]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", no_wrap=True)
    return made


def _filled(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> Table:
    made = _made(headings, right)
    for row in rows:
        made.add_row(*row)
    return made


def _width(screen: Console, table: Table) -> int:
    """Return the width of a table that is not truncated."""
    return Measurement.get(screen, screen.options.update(width=NO_LIMIT), table).maximum
