"""Tables with notes are never truncated, however narrow the screen is."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from rich.console import Console

from mob.cli.shown import moment, zone
from mob.cli.tables import print_with_notes

HEADINGS = ("id", "state")
ROWS = (("6617fa6d32c070004512d92bf3", "[red]dead[/]"), ("6617fa6d3ab4d0014512d92bf3", "later"))
NOTE = "ValueError: [no] " + "word " * 20


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def printed(width: int, notes: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_with_notes(Console(width=width), HEADINGS, ROWS, notes, ["state"])
    return [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip(" ─")]


def test_a_wide_screen_has_the_note_beside_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    head, dead, later = printed(200, (NOTE, ""), capsys)
    assert head.split() == ["id", "state", "note"]
    assert dead.split(maxsplit=2) == [ROWS[0][0], "dead", NOTE.strip()]
    assert later.split() == [ROWS[1][0], "later"]


@pytest.mark.parametrize("width", [80, 36, 30])
def test_a_narrow_one_has_it_below_its_row(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    head, dead, note, later = printed(width, (NOTE, ""), capsys)
    assert head.split() == ["id", "state"]
    assert dead.split() == [ROWS[0][0], "dead"]
    assert note == f"   {NOTE.strip()}"
    assert later.split() == [ROWS[1][0], "later"]


def test_without_notes_there_is_no_column_for_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(80, ("", ""), capsys)[0].split() == ["id", "state"]


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize(
    ("when", "now", "text"),
    [
        (0.0, 1_800_000_000.0, "-"),
        (1_800_000_000.0, 1_800_000_000.0, "09:00:00"),  # Friday, 15 January 2027
        (1_800_000_000.0 + 86400, 1_800_000_000.0, "16 Jan 09:00"),
        (1_800_000_000.0 + 200 * 86400, 1_800_000_000.0, "03 Aug 10:00 CEST"),
        (1_800_000_000.0 - 20 * 86400, 1_800_000_000.0, "2026-12-26"),
    ],
)
def test_a_time_is_as_short_as_it_may_be(when: float, now: float, text: str) -> None:
    assert moment(when, now) == text
    assert zone(now) == "CET"
