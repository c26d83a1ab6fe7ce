"""What is said of a value or an error never fails itself."""

from __future__ import annotations

from typing import Any

import pytest

from mob.wire.refusals import brief, text_of


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no"), "ValueError: no"),
        (ValueError(), "ValueError"),
        (KeyError("a"), "KeyError: 'a'"),
        (Broken("never seen"), "Broken"),
    ],
)
def test_an_error_in_words(error: Exception, text: str) -> None:
    assert text_of(error) == text


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("a", "'a'"),
        (1, "1"),
        (None, "None"),
        (b"x", "b'x'"),
        (2**200, "<int>"),
        (Broken(), "<Broken>"),
        ("a" * 100, "'" + "a" * 39 + "..." + "a" * 14 + "'"),
    ],
)
def test_a_key_in_words(key: Any, text: str) -> None:
    assert brief(key) == text
