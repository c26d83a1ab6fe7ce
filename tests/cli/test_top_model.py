"""The effect of each key of `mob top`: from keys to state and actions."""

from __future__ import annotations

import pytest

from mob.cli.top.model import Action, Top, View
from mob.cli.top.pager import Pager, PagerLine
from tests.cli.measured import export, metrics, mobster

MOBSTERS = (
    mobster(1, "front", 0, calls=10, memory=300),
    mobster(2, "front", 1, calls=500, memory=100, state="draining"),
    mobster(3, "back", 0, calls=100, memory=200, note="died: signal 9"),
    mobster(4, "back", 1, pid=0, state="launching"),
)
EXPORTS = (export("back", "foo", {0.01: 5}), export("back", "bar", {1.0: 50}))


@pytest.fixture
def top() -> Top:
    """The state of an app after two readings."""
    top = Top("myapp")
    top.handle_metrics(0.0, metrics(*(mobster(m.uid, m.role, m.index) for m in MOBSTERS)))
    top.handle_metrics(1.0, metrics(*MOBSTERS, exports=EXPORTS))
    return top


def press(top: Top, *keys: str) -> Action | None:
    """Type the keys; return the last action."""
    wish = None
    for key in keys:
        wish = top.handle_key(key)
    return wish


def names(top: Top) -> list[str]:
    return [line.name for line in top.lines()]


def selected(top: Top) -> str:
    line = top.settle(top.lines())
    return line.name if line else ""


ALL = ["front", "front.0", "front.1", "back", "back.0", "back.1"]
ORDERS = {
    "": ALL,
    "r": ["back", "back.1", "back.0", "front", "front.1", "front.0"],
    ">": ["back.0", "front.1", "front.0", "back.1"],
    "s > > > s": ["front.1", "back.0", "front.0", "back.1"],
    "s > > > s r": ["back.1", "front.0", "back.0", "front.1"],
    "> >": ["front.1", "back.1", "back.0", "front.0"],
    "<": ["back.1", "front.0", "front.1", "back.0"],
    "tab": ["back.bar", "back.foo"],
    "e r": ["back.foo", "back.bar"],
    "e > r": ["back.foo", "back.bar"],
    "e e": ALL,
}


@pytest.mark.parametrize("keys", ORDERS)
def test_tables_are_sorted(top: Top, keys: str) -> None:
    press(top, *keys.split())
    assert names(top) == ORDERS[keys]


FILTERS = {
    "front": ["front", "front.0", "front.1"],
    "FRONT.1": ["front", "front.1"],
    "1003": ["back", "back.0"],
    "drain": ["front", "front.1"],
    "signal": ["back", "back.0"],
    "back ready": ["back", "back.0"],
    "nothing like it": [],
}


@pytest.mark.parametrize("words", FILTERS)
def test_lines_are_filtered_while_one_types(top: Top, words: str) -> None:
    press(top, "/", *words)
    assert names(top) == FILTERS[words]
    press(top, "enter")
    assert top.prompt is None
    assert names(top) == FILTERS[words]
    press(top, "esc")
    assert names(top) == ALL


def test_a_filter_can_be_corrected_and_given_up(top: Top) -> None:
    press(top, "/", *"frontx", "backspace", "q")
    assert top.filter == "frontq"
    press(top, "clear", *"back", "enter", "/", "esc")
    assert (top.filter, top.prompt) == ("", None)


MOVES = {
    "": "front",
    "j": "front.0",
    "down down": "front.1",
    "j j k": "front.0",
    "up": "front",
    "end": "back.1",
    "end down": "back.1",
    "end home": "front",
    "pgdn": "back",
    "pgdn pgdn pgup": "front.1",
    "j > r": "front.0",
}


@pytest.mark.parametrize("keys", MOVES)
def test_the_selection_moves_and_stays_in_sight(top: Top, keys: str) -> None:
    top.rows = 4
    press(top, *keys.split())
    assert selected(top) == MOVES[keys]
    assert top.first <= top.position < top.first + 4


def test_the_selection_passes_on_to_the_successor(top: Top) -> None:
    press(top, "end", "k")
    assert selected(top) == "back.0"
    top.handle_metrics(2.0, metrics(*MOBSTERS[:2], mobster(9, "back", 0), MOBSTERS[3]))
    assert top.settle(top.lines()).pid == 1009  # pyright: ignore[reportOptionalMemberAccess]
    top.handle_metrics(3.0, metrics(*MOBSTERS[:2]))
    assert selected(top) == "front.1"  # the place no longer exists: the line now at its position


WISHES = {
    "q": Action("quit"),
    "redraw": Action("redraw"),
    "j L": Action("reload", "front", label="front"),
    "j +": Action("scale", "front", count=1, label="front"),
    "=": Action("scale", "front", count=1, label="front"),
    "end -": Action("scale", "back", count=-1, label="back"),
    "j l": Action("logs", "front", 1001, label="front.0 (pid 1001)"),
    "l": Action("logs", "front", label="front"),
    "j t": Action("stacks", "front", 1001, label="front.0 (pid 1001)"),
    "c": Action("crashes", label="myapp"),
    "j R": None,
    "j R y": Action("restart", "front", 1001, label="front.0 (pid 1001)"),
    "j R Y": Action("restart", "front", 1001, label="front.0 (pid 1001)"),
    "R y": Action("restart", "front", label="all workers of front"),
    "j R n": None,
    "j R q": None,
    "end R y": None,
    "end l": None,
    "l esc": Action("unfollow"),
    "l q": Action("unfollow"),
    "t esc": None,
    "? q": None,
    "x": None,
    "e j L": Action("reload", "back", label="back"),
    "/ q": None,
}


@pytest.mark.parametrize("keys", WISHES)
def test_what_is_asked_of_the_app(top: Top, keys: str) -> None:
    assert press(top, *keys.split()) == WISHES[keys]


def test_a_restart_is_asked_about_and_left(top: Top) -> None:
    press(top, "R")
    assert top.question is not None
    press(top, "n")
    assert (top.question, top.status, top.under_way) == (None, "cancelled.", [])


def test_what_is_under_way_is_said_until_it_is_answered(top: Top) -> None:
    reload, scale = press(top, "L"), press(top, "+")
    assert reload
    assert scale
    assert [wish.sentence for wish in top.under_way] == ["reload of front", "front +1"]
    press(top, "j", "k")
    top.handle_answer(reload, "back has no such module", is_error=True)
    assert (top.status, top.is_error, top.under_way) == ("back has no such module", True, [scale])
    press(top, "j")
    assert top.status == ""


def test_a_mobster_without_a_process_cannot_be_asked(top: Top) -> None:
    press(top, "end", "t")
    assert top.pager is None
    assert top.is_error
    assert "no process yet" in top.status


def test_nothing_is_selected_in_an_empty_table() -> None:
    top = Top("myapp")
    assert press(top, "down", "R") is None
    assert top.status == "nothing is selected."


def test_a_question_ends_with_the_app_and_its_return_is_seen(top: Top) -> None:
    press(top, "R")
    top.handle_gone("waiting for 'myapp' ...")
    assert (top.question, top.trouble) == (None, "waiting for 'myapp' ...")
    top.handle_metrics(3.0, metrics(*MOBSTERS))
    assert top.trouble == ""


def test_each_table_has_its_own_order_and_filter(top: Top) -> None:
    press(top, "s", "/", "f", "enter", "e", "r", "/", "b", "enter")
    assert (top.view, top.order.column, top.order.reverse, top.filter) == (View.EXPORTS, "name", True, "b")
    press(top, "tab")
    assert (top.view, top.order.column, top.order.reverse, top.filter) == (View.MOBSTERS, "pid", False, "f")


# ------------------------------------------------------------------------------------------------------- a text


def text(pager: Pager) -> list[str]:
    return [line.text for line in pager.visible()]


def numbered(first: int, last: int) -> list[PagerLine]:
    return [PagerLine("back.0", str(number)) for number in range(first, last)]


def test_a_text_scrolls() -> None:
    pager = Pager("stacks", "\n".join(map(str, range(10))))
    pager.rows = 3
    for key, seen in [("", "0"), ("down", "1"), ("pgdn", "3"), ("end", "7"), ("j", "7"), ("up", "6"), ("home", "0")]:
        pager.handle_key(key)
        assert text(pager)[0] == seen
    assert len(text(pager)) == 3


def test_logs_are_followed_until_one_scrolls_back_and_again_at_the_end() -> None:
    pager = Pager("logs", follows=True)
    pager.rows = 3
    pager.add(numbered(0, 10))
    assert text(pager) == ["7", "8", "9"]
    pager.handle_key("up")
    pager.add(numbered(10, 20))
    assert text(pager) == ["6", "7", "8"]
    pager.handle_key("end")
    pager.add(numbered(20, 22))
    assert text(pager) == ["19", "20", "21"]


def test_a_text_is_filtered_and_goes_on_to_be() -> None:
    pager = Pager("logs", follows=True)
    pager.add(numbered(0, 20))
    pager.look_for("1")
    pager.add(numbered(20, 22))
    assert text(pager) == ["1", *map(str, range(10, 20)), "21"]
    pager.look_for("BACK.0 21")
    assert text(pager) == ["21"]
    pager.look_for("")
    assert pager.count == 22


def test_only_so_many_lines_are_kept_and_what_is_read_stays() -> None:
    pager = Pager("logs", follows=True)
    pager.rows = 2
    pager.add(numbered(0, 10_000))
    for _ in range(3):
        pager.handle_key("up")
    assert text(pager) == ["9995", "9996"]
    pager.add(numbered(10_000, 10_500))
    assert (pager.count, text(pager)) == (10_000, ["9995", "9996"])
    pager.add(numbered(10_500, 25_000))
    assert text(pager) == ["15000", "15001"]


def test_what_an_app_prints_cannot_do_anything_to_the_terminal() -> None:
    pager = Pager("stacks", "\x1b[31mred\x1b[0m\x1b]0;title\x07\rx\x9b2J\u202e")
    assert text(pager) == ["red", "x·"]


def test_a_text_is_asked_for_until_it_is_there() -> None:
    pager = Pager("stacks")
    assert pager.is_loading
    pager.show("here")
    assert not pager.is_loading
    assert repr(pager) == "<Pager 'stacks', 1 lines>"


@pytest.fixture
def two() -> Top:
    """The state of an app on two machines."""
    top = Top("myapp")
    for at in (0.0, 1.0):
        top.handle_metrics(at, metrics(mobster(1, "back", 0, calls=int(10 * at))), "a")
        top.handle_other(at, metrics(mobster(7, "back", 0, calls=int(30 * at)), exports=EXPORTS), "b")
    return top


def places(top: Top) -> list[tuple[str, str]]:
    return [(line.node, line.name) for line in top.lines()]


def test_machines_stand_one_below_the_other(two: Top) -> None:
    assert places(two) == [("a", "back"), ("a", "back.0"), ("b", "back"), ("b", "back.0")]
    assert two.rates.totals is not None
    assert (two.rates.totals.machines, two.rates.totals.ready, two.rates.totals.calls) == (2, 2, pytest.approx(40))
    press(two, "s")
    assert two.order.column == "node"
    assert places(two) == [("a", "back.0"), ("b", "back.0")]
    press(two, "r")
    assert places(two) == [("b", "back.0"), ("a", "back.0")]


def test_a_key_is_for_the_machine_of_its_line(two: Top) -> None:
    press(two, "end")
    assert press(two, "R", "y") == Action("restart", "back", 1007, node="b", label="back.0 (pid 1007) on b")
    assert press(two, "+") == Action("scale", "back", count=1, node="b", label="back on b")
    assert press(two, "L") == Action("reload", "back", node="b", label="back on b")
    assert press(two, "t") == Action("stacks", "back", 1007, node="b", label="back.0 (pid 1007) on b")
    press(two, "esc", "home")
    assert press(two, "+") == Action("scale", "back", count=1, node="a", label="back on a")


def test_a_successor_is_looked_for_on_the_same_machine(two: Top) -> None:
    press(two, "end")
    two.handle_other(2.0, metrics(mobster(8, "back", 0)), "b")
    line = two.settle(two.lines())
    assert line is not None
    assert (line.node, line.pid) == ("b", 1008)


def test_a_machine_that_has_gone_is_told_and_not_shown(two: Top) -> None:
    two.handle_other_gone("b", "its Kingpin does not answer")
    assert places(two) == [("a", "back"), ("a", "back.0")]
    assert (two.status, two.is_error, two.trouble) == ("b: its Kingpin does not answer", True, "")
    assert two.rates.last == 1.0
