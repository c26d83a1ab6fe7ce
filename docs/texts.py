"""The texts of the repository as people read them: pages, docstrings, comments and messages, each with its place.

What is code is left out: blocks and quoted names of a page, and strings that are no sentence. The linter of prose and
the list of messages are made from these.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^\s*(```|~~~)")
IN_PAGES = (
    (re.compile(r"<!--.*?-->|<[^>\n]*>", re.DOTALL), ""),
    (re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL), "`x`"),
    (re.compile(r"!?\[([^\]]*)\]\([^)]*\)"), r"\1"),
)
"""What is no prose in a page, and what stands in its place; the lines stay as they are."""
SENTENCE = re.compile(r"[A-Za-z]{2,}[,.:;]? +[A-Za-z{]")


class Text(NamedTuple):
    """One text of a file."""

    path: Path
    line: int
    kind: str
    """"page", "docstring", "comment" or "message"."""
    text: str
    user: str = ""
    """Of a message: the name of the function or class that is called with it, "help", or ""."""

    @property
    def place(self) -> str:
        """Return the file, seen from the root of the repository, and the line."""
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def files_in(paths: list[Path]) -> list[Path]:
    """Return these files, and the files in these directories, in order."""
    return sorted(each for path in paths for each in ([path] if path.is_file() else path.rglob("*")))


def of_page(path: Path) -> Text:
    """Return the prose of a page, with as many lines as the page has."""
    lines: list[str] = []
    is_code = False
    for line in path.read_text("utf-8").splitlines():
        is_fence = bool(FENCE.match(line))
        lines.append("" if is_code or is_fence else line)
        is_code ^= is_fence
    text = "\n".join(lines)
    for pattern, instead in IN_PAGES:
        text = pattern.sub(lambda found, instead=instead: _replaced(found, instead), text)
    return Text(path, 1, "page", text)


def of_module(path: Path) -> Iterator[Text]:
    """Yield the docstrings, comments and messages of a module."""
    source = path.read_text("utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(("#!", "# noqa", "# type:")):
            yield Text(path, token.start[0], "comment", token.string.lstrip("# ").partition("# noqa")[0])
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        parent = parents.get(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not isinstance(parent, ast.JoinedStr):
            if isinstance(parent, ast.Expr):
                yield Text(path, node.lineno, "docstring", _without_code(node.value))
            elif SENTENCE.search(node.value):
                yield Text(path, node.lineno, "message", node.value, _user_of(node, parents))
        elif isinstance(node, ast.JoinedStr) and SENTENCE.search(text := _template(node)):
            yield Text(path, node.lineno, "message", text, _user_of(node, parents))


def _user_of(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> str:
    """Return the name of the function or class that is called with a string, or "" if it is used otherwise."""
    while (parent := parents.get(node)) and not isinstance(parent, ast.stmt):
        if isinstance(parent, ast.keyword) and parent.arg == "help":
            return "help"
        if isinstance(parent, ast.Call):
            return ast.unparse(parent.func).rpartition(".")[2]
        node = parent
    return ""


def _replaced(found: re.Match[str], instead: str) -> str:
    return found.expand(instead) + "\n" * (found[0].count("\n") - found.expand(instead).count("\n"))


def _without_code(docstring: str) -> str:
    """Leave out the examples, and what stands in backquotes."""
    lines = ["" if re.match(r"\s*(>>>|\.\.\.) ", line) else line for line in docstring.splitlines()]
    pattern, instead = IN_PAGES[1]
    return pattern.sub(lambda found: _replaced(found, instead), "\n".join(lines))


def _template(node: ast.JoinedStr) -> str:
    """Return the text of an f-string, with `{expression}` where a value will stand."""
    parts = (each.value if isinstance(each, ast.Constant) else _placeholder(each) for each in node.values)
    return "".join(map(str, parts))


def _placeholder(part: ast.expr) -> str:
    value = part.value if isinstance(part, ast.FormattedValue) else part
    return "{" + ast.unparse(value).replace("\n", " ") + "}"
