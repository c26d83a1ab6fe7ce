"""The fenced blocks of a page, and what each of them wants to have done with it: read and decided, nothing is run here.

CONTRIBUTING.md has the convention. What does not follow it is a `PageError` that names page and line: no block of the
documentation goes unseen.
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
"""By language, in which ways a block can be run; the first is that of a block without a comment."""
RUN = ("script", "client", "in", "plan", "shell", "background", "status", "test")
"""The ways in which something happens."""


class PageError(AssertionError):
    """A page that is not as it should be: where, what was seen, and what was wanted."""


@dataclass(frozen=True)
class Block:
    """A fenced block. `line` is that of its fence; `how` is the way it is run and `what` the rest of the comment."""

    page: Path
    line: int
    language: str
    title: str
    how: str
    what: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, as editors and terminals understand it."""
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page of the documentation."""
    found = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*/README.md"),
    ]
    return sorted(found)


def block(page: str, test: str) -> str:
    """The text of the block of that page (`docs/cluster.md`) that is run by this test (`tests/x.py::test_y`)."""
    found = [each.text for each in blocks(ROOT / page) if each.how == "test" and each.what == test]
    if len(found) != 1:
        raise PageError(
            f"{page} has {len(found)} blocks with <!-- run: {test} --> in the line before them; wanted: one."
        )
    return found[0]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order. `PageError` if one of them cannot be run in any way, or never is."""
    found = list(_read(page, page.read_text("utf-8").splitlines()))
    for number, each in enumerate(found):
        if each.title.endswith(".py") and not any(other.how in RUN for other in found[number:]):
            raise PageError(f"{each.place}: nothing runs {each.title}: wanted is a block below it that does.")
    return found


def _read(page: Path, lines: list[str]) -> Iterator[Block]:
    """Goes through the lines once: a fence begins a block, and what stands between blocks is text."""
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
    """Four blanks after an empty line begin a block of code, unless a list or a table goes on with them."""
    if not lines[number].startswith("    ") or not number or lines[number - 1].strip():
        return
    above = next((line for line in reversed(lines[:number]) if line and not line.startswith(" ")), "")
    if not re.match(r"([*+-]|\d+\.|!!!|\?\?\?|===) ", above):
        raise PageError(f"{page}:{number + 1}: an indented block, which nobody runs. Wanted: one between ``` lines.")


def _block(page: Path, line: int, info: str, comment: str, text: str) -> Block:
    """Decides how a block is run."""
    language = info.partition(" ")[0]
    titled = TITLE.search(info)
    where = Block(page, line, language, titled["title"] if titled else "", "", "", text)
    if language not in WAYS:
        raise PageError(f"{where.place}: a block of {language or 'no language'}. Wanted: one of {', '.join(WAYS)}.")
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
            f"{where.place}: <!-- run: {comment} -->. Wanted before a block of {language}: {ways}, or a test."
        )
    if (how == "in" and not what.isidentifier()) or (how == "status" and not what.isdigit()):
        raise PageError(f"{where.place}: <!-- run: {comment} --> lacks {'a role' if how == 'in' else 'a number'}.")
    return replace(where, how=how, what=what)


def _check_test(each: Block, file: str, name: str) -> None:
    path = ROOT / file
    if not path.is_file() or f"def {name}(" not in path.read_text("utf-8"):
        raise PageError(f"{each.place}: there is no test {file}::{name} that would run it.")
