"""What a terminal may get: text, colours, ends of lines, and nothing else, however it is written or cut into pieces."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, strategies as st

from mob.core.printable import json_printable, plain, printable, printable_bytes

SGR = re.compile(r"\x1b\[[0-9;:]*m")
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
PIECES = (
    *("\x1b", "\x1b[", "\x1b]", "\x1bP", "\x1b_", "\x1b^", "\x1bX", "\x1b\\", "\x1bc", "\x1b(B", "\x1b#8", "\x1b7"),
    *("\x1b[31m", "\x1b[0m", "\x1b[m", "\x1b[38;5;8m", "\x1b[38:2::1:2:3m", "\x1b[>4;2m", "\x1b[?25l", "\x1b[2J"),
    *(
        "\x9b",
        "\x9b2J",
        "\x9d0;t\x9c",
        "\x90",
        "\x9c",
        "\x85",
        "\x8d",
        "\x07",
        "\x08",
        "\r",
        "\n",
        "\t",
        "\x0b",
        "\x0c",
    ),
    *("\x1b]0;title\x07", "\x1b]52;c;aGk=\x1b\\", "\x1bPtmux;\x1b\x1b]0;x\x07\x1b\\", "\x18", "\x1a", "\x7f", "\x00"),
    *("\u202e", "\u2066", "\ud800", "a", "m", "[", "]", ";", "0", "31", "?", "ä", "€", "界", "😀", " "),
)
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=20).map("".join)
BYTES = st.lists(
    st.sampled_from([each.encode("utf-8", "surrogatepass") for each in PIECES]) | st.binary(max_size=3), max_size=20
).map(b"".join)


def is_harmless(text: str) -> bool:
    return FORBIDDEN.search(SGR.sub("", text)) is None


@given(TEXTS)
def test_nothing_is_left_but_text_and_colours(text: str) -> None:
    cleaned = printable(text)
    assert is_harmless(cleaned)
    assert printable(cleaned) == cleaned
    assert cleaned.count("\n") == text.count("\n")


@given(TEXTS)
def test_a_cell_has_no_colours_either_and_one_line(text: str) -> None:
    cell = plain(text)
    assert FORBIDDEN.search(cell) is None
    assert "\n" not in cell
    assert "\t" not in cell
    assert plain(cell) == cell


@given(BYTES, st.integers(0, 60))
def test_bytes_are_cleaned_in_pieces_as_well(data: bytes, cut: int) -> None:
    for shown in (printable_bytes(data), printable_bytes(data[:cut]) + printable_bytes(data[cut:])):
        assert is_harmless(shown.decode())
    assert printable_bytes(printable_bytes(data)) == printable_bytes(data)


@given(TEXTS, st.integers(0, 40))
def test_text_is_cleaned_in_pieces_as_well(text: str, cut: int) -> None:
    assert is_harmless(printable(text[:cut]) + printable(text[cut:]))


@given(st.text().filter(lambda text: FORBIDDEN.search(text) is None and "\x1b" not in text))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text
    assert printable_bytes(text.encode()) == text.encode()


@given(st.lists(TEXTS.map(lambda text: text.encode("utf-8", "replace").decode())))
def test_json_means_the_same_when_it_is_cleaned(texts: list[str]) -> None:
    data = json.dumps(texts, ensure_ascii=False).encode()
    assert json.loads(json_printable(data)) == texts
    assert FORBIDDEN.search(json_printable(data).decode()) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\x1b[31mred\x1b[0m"),
        ("\x1b[31mred\nplain", "\x1b[31mred\x1b[0m\nplain"),
        ("\x1b[31mred\x1b[m", "\x1b[31mred\x1b[m"),
        ("50%\r", "50%"),
        ("a\r\nb\r\r\n", "a\nb\n"),
        ("rm -rf /\rls", "rm -rf /·ls"),
        ("pass\b\b\b\bword", "pass····word"),
        ("a\x1b]0;no end\nb", "a\nb"),
        ("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
        ("a\x1bP1$r0m\x1b\\b", "ab"),
        ("\x1b[" + "1;" * 1000 + "mlong", "long"),
        ("\x9b31mred", "red"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_long_text_of_beginnings_takes_no_longer_than_one_of_letters() -> None:
    for piece in ("\x1b]", "\x1b[", "\x1b[0;", "\x1b ", "\r", "\x1bP"):
        assert is_harmless(printable(piece * 100_000))
