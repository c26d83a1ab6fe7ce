"""docs/messages-and-errors.md explains messages that exist, and every error that mob raises."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import mob.errors
from mob.errors import MobError
from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "messages-and-errors.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in PAGE.splitlines()
    if line.startswith("| `")
]
QUOTED = re.compile(r"``\s?(.+?)\s?``|`([^`]+)`")
"""Code in double backticks, which may contain single ones, or in single ones."""


def quoted() -> list[str]:
    """Return the messages that the tables quote: first cells, and second ones where the first is an error."""
    cells = [row[1] if row[0].strip("`") in vars(mob.errors) and len(row) == 4 else row[0] for row in ROWS]
    found = [twice or once for cell in cells for twice, once in QUOTED.findall(cell)]
    return [each for each in found if each not in vars(mob.errors)]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Return all texts of the source, with a NUL for each placeholder."""
    list_texts = [sys.executable, str(ROOT / "docs" / "make_messages.py")]
    listed = subprocess.run(list_texts, check=True, capture_output=True, text=True).stdout.splitlines()
    return [re.sub(r"\{[^{}]*\}|%[a-z.\d]*[a-z]", "\0", line.split("\t", 2)[2]) for line in listed]


@pytest.mark.parametrize("message", quoted())
def test_each_quoted_message_is_in_the_source(message: str, texts: list[str]) -> None:
    pieces = [re.escape(piece.strip()) for piece in message.split("...") if len(piece.strip(" .;:,()")) > 2]
    assert pieces
    pattern = re.compile(r"[\s\S]*?".join(pieces))
    assert any(pattern.search(text) for text in texts), f"no text of src/mob has the parts {pieces}"


def test_each_error_is_explained() -> None:
    errors = {
        name
        for name, value in vars(mob.errors).items()
        if isinstance(value, type) and issubclass(value, MobError) and value is not MobError
    }
    assert not {each for each in errors if f"`{each}`" not in PAGE and each != "CallError"}
    assert "mob.CallError" in PAGE
