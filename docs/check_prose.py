"""Checks the language of pages, docstrings, comments and messages: our own list of words, and proselint.

python docs/check_prose.py                    # everything
python docs/check_prose.py src/mob/wire docs  # some files and directories
python docs/check_prose.py --count            # how many places each file has

Exits with 1 if there is something to mend. The list is `docs/plain_english.toml`.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from proselint.checks import __register__
from proselint.registry import CheckRegistry
from proselint.tools import LintFile
from texts import ROOT, Text, files_in, of_module, of_page

WORDS = Path(__file__).with_name("plain_english.toml")
DEFAULT = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs", "src/mob", "examples")
CHECKS: dict[str, bool] = {
    **dict.fromkeys(("archaism", "cliches", "dates_times", "hedging", "industrial_language", "malapropisms"), True),
    **{f"misc.{each}": True for each in ("illogic", "phrasal_adjectives", "waxed", "whence", "but", "preferred_forms")},
    **dict.fromkeys(("mixed_metaphors", "mondegreens", "nonwords", "oxymorons", "redundancy", "uncomparables"), True),
}
"""Of proselint. Left out are those that stumble over code: typography, spelling, repeated words."""


class Finding(NamedTuple):
    """Something to mend."""

    path: Path
    line: int
    seen: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.seen!r}: {self.advice}"


class Words:
    """Our own list."""

    def __init__(self) -> None:
        words: dict[str, str] = tomllib.loads(WORDS.read_text("utf-8"))["words"]
        start = r"(?:\\A\\W*|(?<=[.!?:] )|(?<=\\n\\n))"
        self._patterns = [
            (re.compile(re.sub(r"^\^|(?<=[|(])\^", start, each), re.IGNORECASE), advice)
            for each, advice in words.items()
        ]

    def look(self, text: Text) -> Iterator[Finding]:
        """Yield what is on the list."""
        joined = re.sub(r"(?<=\S)\n[ \t]*(?=\S)", lambda found: " " * len(found[0]), text.text)
        squeezed, places = _squeeze(joined)
        for pattern, advice in self._patterns:
            for found in pattern.finditer(squeezed):
                line = text.line + text.text.count("\n", 0, places[found.start()])
                yield Finding(text.path, line, found[0].strip(), advice)


def _squeeze(text: str) -> tuple[str, list[int]]:
    """Return the text with single spaces, and where each character was."""
    kept = [at for at, char in enumerate(text) if char != " " or at == 0 or text[at - 1] != " "]
    return "".join(text[at] for at in kept), [*kept, len(text)]


def proselint(text: Text) -> Iterator[Finding]:
    """Yield what proselint finds."""
    for each in LintFile("text", text.text).lint({"max_errors": 1000, "checks": CHECKS}):
        start, end = each.check_result.span
        content = f"\n{text.text}\n"  # as proselint counts
        line = text.line + content.count("\n", 1, start)
        yield Finding(text.path, line, content[start:end].strip(), each.check_result.message)


def texts(paths: list[Path]) -> Iterator[Text]:
    """Yield the texts of files, and of the files of directories."""
    for path in files_in(paths):
        if path.suffix == ".md":
            yield of_page(path)
        elif path.suffix == ".py":
            yield from of_module(path)


def main() -> int:
    """Print what is to be mended; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT / each for each in DEFAULT])
    parser.add_argument("--count", action="store_true", help="only how many places each file has")
    options = parser.parse_args()
    CheckRegistry().register_many(__register__)
    words = Words()
    found = [
        finding
        for text in texts([each.resolve() for each in options.paths])
        if text.text.strip()
        for look in (words.look, proselint)
        for finding in look(text)
    ]
    if options.count:
        for path, count in Counter(str(each.path.relative_to(ROOT)) for each in found).most_common():
            print(f"{count:5} {path}")
    else:
        print("".join(f"{each}\n" for each in sorted(map(str, found))) or "The language is clean.\n", end="")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
