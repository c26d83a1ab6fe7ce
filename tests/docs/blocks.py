"""Finds the fenced blocks of a page and decides how each one is run, without running any.

CONTRIBUTING.md has the convention. A block that does not follow it is a `PageError` that names page and line, so no
block of the documentation is skipped unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>.*)$")
COMMENT = re.compile(r"^ *<!-- run: (?P<how>.+?) -->$")
TITLE = re.compile(r'\btitle="(?P<title>[^"]+)"')
TEST = re.compile(r"^(?P<file>tests/\S+\.py)::(?P<name>test_\w+)$")
DATA = ("toml", "json", "ini")
WAYS = {
    "python": ("script", "client", "in", "plan"),
    "console": ("shell", "background", "parse", "status"),
    **dict.fromkeys(DATA, ("data",)),
    "text": ("text",),
}
"""Ways to run a block, by language; the first is that of a block without a comment."""
RUN = ("script", "client", "in", "plan", "shell", "background", "status", "test")
"""Ways that execute something."""


class PageError(AssertionError):
    """An invalid page: the place, what was seen, and what was expected."""


@dataclass(frozen=True)
class Block:
    """A fenced block. `line` is the line of its fence, `how` the way to run it, and `what` the rest of the comment."""

    page: Path
    line: int
    language: str
    title: str
    how: str
    what: str
    text: str

    @property
    def place(self) -> str:
        """Page and line, in the form that editors and terminals understand."""
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page}:{self.line}"


def pages() -> list[Path]:
    """Return every page of the documentation."""
    found = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*/README.md"),
    ]
    return sorted(found)


def block(page: str, test: str) -> str:
    """Return the text of the block of a page (`docs/cluster.md`) that this test (`tests/x.py::test_y`) runs."""
    found = [each.text for each in blocks(ROOT / page) if each.how == "test" and each.what == test]
    if len(found) != 1:
        raise PageError(
            f"{page} has {len(found)} blocks with <!-- run: {test} --> in the line before them; expected: one."
        )
    return found[0]


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in order. `PageError` if a block cannot be run, or never is."""
    found = list(_read(page, page.read_text("utf-8").splitlines()))
    for number, each in enumerate(found):
        if each.title.endswith(".py") and not any(other.how in RUN for other in found[number:]):
            raise PageError(f"{each.place}: nothing runs {each.title}: expected a block below it that does.")
    return found


def _read(page: Path, lines: list[str]) -> Iterator[Block]:
    """Yield the blocks: a fence begins a block, and everything between blocks is text."""
    number = 0
    while number < len(lines):
        opened = FENCE.match(lines[number])
        if not opened:
            _refuse_indented(page, lines, number)
            number += 1
            continue
        close = re.compile(rf"^ *{re.escape(opened['fence'])}{opened['fence'][0]}* *$")
        end = next((i for i in range(number + 1, len(lines)) if close.match(lines[i])), None)
        if end is None:
            raise PageError(f"{page}:{number + 1}: this block has no end.")
        text = "".join(f"{line.removeprefix(opened['indent'])}\n" for line in lines[number + 1 : end])
        comment = COMMENT.match(lines[number - 1]) if number else None
        yield _block(page, number + 1, opened["info"].strip(), comment["how"] if comment else "", text)
        number = end + 1


def _refuse_indented(page: Path, lines: list[str], number: int) -> None:
    """Refuse an indented block of code: four spaces after an empty line, unless they continue a list."""
    if not lines[number].startswith("    ") or not number or lines[number - 1].strip():
        return
    above = next((line for line in reversed(lines[:number]) if line and not line.startswith(" ")), "")
    if not re.match(r"([*+-]|\d+\.|!!!|\?\?\?|===) ", above):
        raise PageError(
            f"{page}:{number + 1}: an indented block, which is never run. Expected: a block between ``` lines."
        )


def _block(page: Path, line: int, info: str, comment: str, text: str) -> Block:
    """Return a block with the way to run it."""
    language = info.partition(" ")[0]
    titled = TITLE.search(info)
    where = Block(page, line, language, titled["title"] if titled else "", "", "", text)
    if language not in WAYS:
        raise PageError(f"{where.place}: a block of {language or 'no language'}. Expected: one of {', '.join(WAYS)}.")
    if test := TEST.match(comment):
        _check_test(where, test["file"], test["name"])
        return replace(where, how="test", what=comment)
    if not comment:
        if where.title and language in ("python", "text", *DATA):
            return replace(where, how="file")
        return replace(where, how=WAYS[language][0])
    how, _, what = comment.partition(" ")
    if how not in WAYS[language]:
        ways = ", ".join(WAYS[language][1:]) or "none"
        raise PageError(
            f"{where.place}: <!-- run: {comment} -->. Expected before a block of {language}: {ways}, or a test."
        )
    if (how == "in" and not what.isidentifier()) or (how == "status" and not what.isdigit()):
        raise PageError(f"{where.place}: <!-- run: {comment} --> lacks {'a role' if how == 'in' else 'a number'}.")
    return replace(where, how=how, what=what)


def _check_test(each: Block, file: str, name: str) -> None:
    path = ROOT / file
    if not path.is_file() or f"def {name}(" not in path.read_text("utf-8"):
        raise PageError(f"{each.place}: there is no test {file}::{name} that would run it.")
