"""Keys of `mob top`: from bytes to names."""

from __future__ import annotations

import pytest

from mob.cli.top.keys import Keyboard

TYPED = {
    b"jR/": ["j", "R", "/"],
    b"\x1b[A\x1b[B\x1bOC\x1bOD": ["up", "down", "right", "left"],
    b"\x1b[5~\x1b[6~\x1b[1~\x1b[4~\x1b[H\x1bOF": ["pgup", "pgdn", "home", "end", "home", "end"],
    b"\x1b[1;5A\x1b[1;2B": ["up", "down"],
    b"\t\x1b[Z": ["tab", "shift-tab"],
    b"\r\n\x7f\x08": ["enter", "enter", "backspace", "backspace"],
    b"\x1b[24~x": ["x"],
    "é漢".encode(): ["é", "漢"],
    b"\xff": ["\ufffd"],
    b"\x00\x01": [],
}


@pytest.mark.parametrize("data", TYPED, ids=repr)
def test_bytes_are_keys(data: bytes) -> None:
    assert Keyboard().feed(data) == TYPED[data]


@pytest.mark.parametrize("data", TYPED, ids=repr)
def test_they_are_the_same_when_they_come_one_by_one(data: bytes) -> None:
    keyboard = Keyboard()
    assert [key for number in data for key in keyboard.feed(bytes([number]))] == TYPED[data]
    assert not keyboard.is_within


def test_esc_alone_is_known_as_soon_as_nothing_follows() -> None:
    keyboard = Keyboard()
    assert keyboard.feed(b"\x1b") == []
    assert keyboard.is_within
    assert keyboard.left() == ["esc"]
    assert not keyboard.is_within
    assert keyboard.feed(b"\x1bq") == ["esc", "q"]
    assert keyboard.feed(b"\x1b\x1b[A") == ["esc", "up"]
