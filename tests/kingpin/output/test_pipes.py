"""The unfinished line of a pipe: rewritten, cut, and shown after a moment."""

from __future__ import annotations

import pytest

from mob.kingpin.output.lines import Origin
from mob.kingpin.output.pipes import FIRST_PAUSE, LIVE_PAUSE, LONGEST_LINE, LONGEST_PAUSE, Pipe, cut, last_state


def pipe(is_live: bool = False) -> Pipe:
    return Pipe(7, 0, Origin("back", 0, 42, False, 36), is_live)


def test_lines_are_whole_however_they_come() -> None:
    source, lines = pipe(), b""
    for n in range(0, 100, 7):
        lines += source.feed((b"one\ntwo\n\nthree\nfo" * 5)[n : n + 7], 0.0)
    assert lines + source.take_begun() == b"one\ntwo\n\nthree\nfo" * 5
    assert source.begun == b""


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("printed", "seen"),
    [
        (b"\r 1%\r50%\r99%\n", b"99%\n"),
        (b" 1%\r50%\r99%\r\n", b"99%\r\n"),
        (b"dos\r\nlines\r\n", b"dos\r\nlines\r\n"),
        (b"\r50%\r          \rready\n", b"ready\n"),
        (b"\r50%\r          \r\n", b"\n"),
        (b"   \n", b"   \n"),
        (b"\r\n\r\r\n", b"\n\n"),
        (b"50%\r  indented\n", b"  indented\n"),
        (b"a\nb\rc\nd\n", b"a\nc\nd\n"),
    ],
)
def test_a_line_that_is_rewritten_is_what_it_was_last(printed: bytes, seen: bytes, size: int) -> None:
    source, lines = pipe(), b""
    for n in range(0, len(printed), size):
        lines += source.feed(printed[n : n + size], 0.0)
    assert lines == seen


def test_what_is_rewritten_takes_no_room() -> None:
    source = pipe()
    for n in range(10_000):
        assert source.feed(b"\r%d%%" % n, 0.0) == b""
        assert len(source.begun) < 20
    assert last_state(source.begun) == b"9999%"


@pytest.mark.parametrize("size", [1, 1000, LONGEST_LINE])
def test_any_number_of_returns_is_no_line_and_takes_no_room(size: int) -> None:
    source = pipe()
    assert source.feed(b"50%", 0.0) == b""
    for _ in range(0, 2 * LONGEST_LINE, size):
        assert source.feed(b"\r" * size, 0.0) == b""
        assert source.begun == b"50%\r"
    assert source.feed(b"\n", 0.0) == b"50%\r\n"


@pytest.mark.parametrize("size", [1000, 65_536, 65_537, 10_000_000])
@pytest.mark.parametrize("character", ["x", "é", "€", "😀"])
def test_a_long_line_is_cut_between_characters(size: int, character: str) -> None:
    printed = (f"short\n{character * 200_000}\n{character}\n").encode()
    source, lines = pipe(), b""
    for n in range(0, len(printed), size):
        lines += source.feed(printed[n : n + size], 0.0)
        assert len(source.begun) <= LONGEST_LINE
    texts = lines.decode().split("\n")[:-1]
    assert texts[0] == "short"
    assert texts[-1] == character
    assert "".join(texts[1:-1]) == character * 200_000
    assert max(len(text.encode()) for text in texts) <= LONGEST_LINE


def test_a_line_of_the_longest_length_stays_one() -> None:
    assert cut(b"x" * LONGEST_LINE + b"\n") == b"x" * LONGEST_LINE + b"\n"
    assert cut(b"x" * LONGEST_LINE + b"y\n") == b"x" * LONGEST_LINE + b"\ny\n"
    assert cut(b"\x80" * 2 * LONGEST_LINE).count(b"\n") >= 1  # not UTF-8 at all


def test_a_line_without_an_end_is_due_after_a_moment_and_again_when_it_has_changed() -> None:
    source = pipe()
    source.feed(b"whole\n", 10.0)
    assert not source.has_news
    source.feed(b"load", 20.0)
    source.feed(b"ing", 20.5)
    assert source.has_news
    assert source.due == 20.0 + FIRST_PAUSE
    source.note_shown(21.0)
    assert not source.has_news
    source.feed(b" ...", 21.5)
    assert source.has_news
    assert source.due == 21.0 + 2 * FIRST_PAUSE
    for n in range(20):
        source.note_shown(float(n))
    assert source.due == 19.0 + LONGEST_PAUSE
    assert source.feed(b"done\n", 99.0) == b"loading ...done\n"
    assert not source.has_news
    source.feed(b"next", 100.0)
    assert source.due == 100.0 + FIRST_PAUSE


def test_on_a_terminal_it_is_due_at_a_steady_pace() -> None:
    source = pipe(is_live=True)
    for n in range(5):
        source.feed(b"\r%d" % n, 10.0)
        assert source.visible == b"%d" % n
        source.note_shown(10.0)
        assert source.due == 10.0 + LIVE_PAUSE
