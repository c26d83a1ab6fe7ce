"""Prints all texts that a user may see, from the source: errors, log lines, notes, help. For those who edit them.

python docs/make_messages.py                 # everything
python docs/make_messages.py src/mob/core    # some files and directories
python docs/make_messages.py --user Lost     # what is raised as `Lost`, or given to a function of that name

Each line has the place, what the text is given to (an exception, a function, "help"), and the text with its
placeholders. `docs/messages-and-errors.md` explains those that an operator may meet; a test checks that each message on
that page is in this list.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from texts import ROOT, Text, files_in, of_module

NO_MESSAGES = {"execute", "executemany", "executescript", "compile", "cast", "field", "Literal"}
"""What takes strings that no user sees: SQL, regular expressions, types."""


def messages(paths: list[Path]) -> Iterator[Text]:
    """Yield the messages of files, and of the files of directories; `__repr__` makes none."""
    for path in files_in(paths):
        for text in of_module(path) if path.suffix == ".py" else ():
            if text.kind == "message" and text.user not in NO_MESSAGES and not text.text.startswith("<"):
                yield text


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT / "src" / "mob"])
    parser.add_argument("--user", help="only texts that are given to this exception or function")
    options = parser.parse_args()
    for each in messages([path.resolve() for path in options.paths]):
        if options.user in (None, each.user):
            print(f"{each.place}\t{each.user or '-'}\t{' '.join(each.text.split())}")


if __name__ == "__main__":
    main()
