"""The screen of `mob top` at several sizes, as text."""

from __future__ import annotations

import io

import pytest
from click.shell_completion import ShellComplete
from rich.cells import cell_len
from rich.console import Console

from mob.cli.top.columns import MOBSTERS as COLUMNS, fit
from mob.cli.top.command import top as command
from mob.cli.top.model import Action, Top
from mob.cli.top.pager import Pager, PagerLine
from mob.cli.top.screen import Screen, frame
from mob.wire.messages import RoleMetrics
from tests.cli.measured import export, metrics, mobster, queued, timer

SIZES = [(200, 50), (120, 30), (80, 24), (60, 15), (40, 10), (20, 6), (7, 3), (1, 1)]


@pytest.fixture
def top() -> Top:
    """The state of an app with everything that a table can show."""
    top = Top("myapp")
    top.handle_metrics(0.0, metrics(mobster(1), mobster(2, index=1), mobster(3, "漢字の役割", 0), cpu=1.0))
    mobsters = (
        mobster(1, calls=1234, in_hand=3, waiting=7, load=0.42, memory=34_000_000, lag=0.0123, restarts=2),
        mobster(2, index=1, state="launching", pid=0, note="waits for its turn\x1b[2J"),
        mobster(3, "漢字の役割", 0, state="draining", stuck=2.5),
    )
    exports = (export("back", "foo", {0.002: 98, 0.05: 2}, failed={"ValueError": 4}),)
    top.handle_metrics(1.0, metrics(*mobsters, exports=exports, cpu=1.05, clients=3, dropped_lines=1234))
    return top


def shown(top: Top, width: int, height: int | None) -> str:
    """Return the screen as text."""
    console = Console(width=width, height=height or 25, file=io.StringIO(), record=True, color_system=None)
    console.print(Screen(top, width, height), end="")
    return console.export_text()


def words(top: Top, width: int = 160) -> list[str]:
    """Return the rows, with one space between words."""
    return [" ".join(row.split()) for row in shown(top, width, 12).splitlines()]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("keys", ["", "e", "s", "?", "l", "R", "/x", "G"])
def test_no_screen_is_larger_than_the_terminal(top: Top, size: tuple[int, int], keys: str) -> None:
    for key in keys:
        top.handle_key(key)
    lines = shown(top, *size).split("\n")
    assert len(lines) == size[1]
    assert max(map(cell_len, lines)) <= size[0]


def test_a_wide_terminal_has_all_of_it(top: Top) -> None:
    lines = words(top)
    assert lines[0] == "myapp up 1h 00m workers 1/3 calls/s 1,234 fails/s 4.0 queue 7 █"
    assert lines[1] == "Kingpin 999 cpu 5.0% mem 17M workers 3 lines dropped 1,234 clients 2"
    assert lines[2] == " ".join(column.name for column in COLUMNS)
    assert lines[3] == "back 1/2 1m 00s 2 1,234 3 7 42.0 32M 12.3ms 1.86ms 57.5ms █"
    assert lines[4] == "back.0 1001 ready 1m 00s 2 1,234 3 7 42.0 32M 12.3ms █"
    assert lines[5] == "back.1 - launchi… 1m 00s 0 0 0 0 0 - - ▁ waits for its turn"
    assert lines[7] == "漢字の役割.0 1003 draining 1m 00s 0 0 0 0 0 - 2.5s ▁"


def test_timers_and_jobs_are_above_the_table_of_a_terminal_that_has_room(top: Top) -> None:
    seen = metrics(mobster(1), timers=(timer("sync", outcome="failed"),), custom=(queued(back={"dead": 1}),))
    top.handle_metrics(2.0, seen)
    rows = [" ".join(row.split()) for row in shown(top, 80, 15).splitlines()]
    assert rows[2:4] == ["timers 1 failing back.sync", "jobs 1 dead"]
    assert rows[4].startswith("name pid state")
    assert len(rows) == 15
    assert top.rows == 8
    assert "timers" not in shown(top, 80, 14)
    assert "timers 1" in shown(top, 80, None)


LEFT_OUT = {
    160: "",
    100: "minute note",
    80: "restarts p50 p99 minute note",
    60: "up restarts queue lag p50 p99 minute note",
    40: "up restarts hand queue cpu% mem lag p50 p99 minute note",
}


@pytest.mark.parametrize("width", LEFT_OUT)
def test_a_narrow_terminal_has_fewer_columns(width: int) -> None:
    columns = fit(COLUMNS, width, ["  background.0"])
    left_out = [column.name for column in COLUMNS if column not in dict(columns)]
    assert left_out == LEFT_OUT[width].split()
    assert sum(each for _, each in columns) + len(columns) - 1 <= width


def test_a_narrow_header_leaves_out_what_does_not_fit_whole(top: Top) -> None:
    assert words(top, 60)[0] == "myapp up 1h 00m workers 1/3 calls/s 1,234 queue 7"


def test_the_exports(top: Top) -> None:
    top.handle_key("e")
    lines = words(top)
    assert lines[2].startswith("name calls/s fails/s flight p50 ")
    assert lines[3].startswith("back.foo 100 4.0 0 ")
    assert lines[3].endswith(" ValueError 4")


def test_a_flat_table_has_no_columns_of_roles(top: Top) -> None:
    top.handle_key("s")
    assert "p99" not in shown(top, 160, 12)


def test_why_there_is_nothing(top: Top) -> None:
    assert shown(Top("myapp"), 80, 10).splitlines()[0].split() == ["myapp", "asking", "..."]
    for key in "/xyz":
        top.handle_key(key)
    assert "Nothing matches 'xyz'. Esc shows all." in shown(top, 80, 10)
    top = Top("myapp")
    top.handle_metrics(0.0, metrics(mobster(1)))
    top.handle_key("e")
    assert "No call of an export has finished yet." in shown(top, 80, 10)


def test_the_app_is_waited_for(top: Top) -> None:
    top.handle_gone("waiting for 'myapp' ...")
    assert "waiting for 'myapp' ..." in shown(top, 60, 15).splitlines()[0]


def test_the_line_of_messages(top: Top) -> None:
    top.say("no,\n not\x1b[2J so", is_error=True)
    assert shown(top, 80, 10).splitlines()[-2] == " no, not so"
    top.say("")
    assert shown(top, 80, 10).splitlines()[-2] == ""
    top.handle_key("j")
    top.handle_key("R")
    assert shown(top, 80, 10).splitlines()[-2] == " Restart back.0 (pid 1001)?   y/n"
    top.handle_key("y")
    assert shown(top, 80, 10).splitlines()[-2] == " restart of back.0 (pid 1001) ..."


def test_the_note_of_the_selected_line_has_room_below() -> None:
    top = Top("myapp")
    failing = RoleMetrics("back", 2, 0, 3, 3, 0, "No module named 'numpyy'")
    top.handle_metrics(0.0, metrics(roles=(failing,)))
    assert shown(top, 60, 10).splitlines()[-2] == " back: No module named 'numpyy'"


def test_a_text_has_its_labels_in_a_column(top: Top) -> None:
    top.pager = Pager("logs of back", follows=True)
    assert shown(top, 60, 8).splitlines()[0].split() == ["logs", "of", "back", "nothing", "yet"]
    top.pager.add([PagerLine("back.0", "one"), PagerLine("back.10", "漢" * 60)])
    lines = shown(top, 60, 8).splitlines()
    assert lines[0].split() == ["logs", "of", "back", "1-2", "of", "2"]
    assert lines[1:3] == ["back.0  one", "back.10 " + "漢" * 26]
    top.handle_key("right")
    assert shown(top, 60, 8).splitlines()[1].split() == ["back.0"]
    top.pager.look_for("xyz")
    assert "Nothing matches 'xyz'. Esc shows all." in shown(top, 60, 8)


def test_only_what_is_seen_is_made() -> None:
    top = Top("myapp")
    top.handle_metrics(0.0, metrics(*(mobster(uid, index=uid) for uid in range(200))))
    top.handle_key("end")
    rows = frame(top, 80, 24)
    text = shown(top, 80, 24)
    assert len(rows) == 24
    assert "back.199" in text
    assert "back.180 " not in text


def test_for_a_pipe_there_are_all_lines_and_no_trailing_blanks() -> None:
    top = Top("myapp")
    top.handle_metrics(0.0, metrics(*(mobster(uid, index=uid) for uid in range(200))))
    lines = shown(top, 160, None).split("\n")
    assert len(lines) == 2 + 1 + 1 + 200 + 1
    assert all(line == line.rstrip() for line in lines)
    assert lines[-1] == ""


def test_colours_are_left_out_if_they_are_not_wanted(top: Top, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> str:
        file = io.StringIO()
        console = Console(file=file, force_terminal=True, width=80, height=24, color_system="standard")
        console.print(Screen(top, 80, 24))
        return file.getvalue()

    assert "\x1b[7;32m" in drawn()
    monkeypatch.setenv("NO_COLOR", "1")
    colours = {code for part in drawn().split("\x1b[")[1:] for code in part.partition("m")[0].split(";")}
    assert colours <= {"0", "1", "2", "4", "5", "7"}
    assert "7" in colours  # the selected line is visible nevertheless


def test_a_wish_is_a_sentence() -> None:
    assert Action("scale", "back", count=-1, label="back").sentence == "back -1"


def test_the_columns_to_sort_by_are_completed() -> None:
    def completed(*words: str) -> list[str]:
        completion = ShellComplete(command, {}, "mob-top", "_COMPLETE")
        return [item.value for item in completion.get_completions(list(words[:-1]), words[-1])]

    assert completed("--sort", "c") == ["calls/s", "cpu%"]
    assert completed("--exports", "--sort", "wait") == ["wait50", "wait99"]
