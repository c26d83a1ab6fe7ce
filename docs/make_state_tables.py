"""Makes the state tables of docs/internals/states.md from `mob.core.states`, so that they cannot lie.

python docs/make_state_tables.py            # prints them
python docs/make_state_tables.py --write    # puts them into docs/internals/states.md, between the two markers
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from mob.core import states

PAGE = Path(__file__).parent / "internals" / "states.md"
BEGIN = "<!-- state tables: made by docs/make_state_tables.py --write -->\n"
END = "<!-- end of the state tables -->\n"

TABLES: list[tuple[str, type[StrEnum], Mapping[tuple[Any, str], Any]]] = [
    ("A mobster", states.MobsterState, states.MOBSTER),
    ("A slot", states.SlotState, states.SLOT),
    ("A call", states.CallState, states.CALL),
    ("A pair of members on two machines", states.PairState, states.PAIR),
]


def markdown() -> str:
    """Return the tables, each with what its states mean."""
    return "".join(line + "\n" for each in TABLES for line in _section(*each))


def inserted(text: str) -> str:
    """The text with the tables between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{PAGE} lacks the lines {BEGIN!r} and {END!r}, between which the tables belong.")
    return before + BEGIN + "\n" + markdown() + end + after


def _section(title: str, kind: type[StrEnum], table: Mapping[tuple[Any, str], Any]) -> Iterator[str]:
    yield f"### {title}"
    yield ""
    yield inspect.getdoc(kind) or ""
    yield ""
    meanings = _meanings(kind)
    for state in kind:
        yield f"* **{state}**" + (f": {meanings[state.name]}" if meanings[state.name] else "")
    yield ""
    yield from _rows(kind, table)
    yield ""


def _rows(kind: type[StrEnum], table: Mapping[tuple[Any, str], Any]) -> Iterator[str]:
    starts = [state for state in kind if any(before is state for before, _ in table)]
    yield "| what happens | " + " | ".join(f"when {state}" for state in starts) + " |"
    yield "|---" * (len(starts) + 1) + "|"
    for event in dict.fromkeys(event for _, event in table):
        yield f"| {event} | " + " | ".join(str(table.get((state, event), "")) for state in starts) + " |"


def _meanings(kind: type[StrEnum]) -> dict[str, str]:
    """The comments beside the states."""
    found = re.finditer(r"^ +(\w+) = \"\w+\"(?: +# (.*))?$", inspect.getsource(kind), re.MULTILINE)
    return {each[1]: each[2] or "" for each in found}


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(inserted(PAGE.read_text("utf-8")), "utf-8")
    else:
        print(markdown(), end="")
