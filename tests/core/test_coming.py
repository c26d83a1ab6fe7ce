"""When an app is up, and when it will not come up."""

from __future__ import annotations

import pytest

from mob.core.coming import is_up, missing, text_of, why_failing
from mob.wire.messages import RoleInfo, Row


def row(role: str, state: str, note: str = "") -> Row:
    return Row(role, 0, 0, state, 0.0, 0, 0, note)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((), True),
        (("ready", "ready"), True),
        (("ready", "booting"), False),
        (("launching",), False),
        (("failing",), False),
        (("held",), False),
        (("waiting",), False),
        (("draining", "ready"), True),
        (("empty", "done", "failed"), True),
    ],
)
def test_an_app_is_up_when_nothing_more_is_expected(states: tuple[str, ...], expected: bool) -> None:
    assert is_up([row("back", state) for state in states]) is expected


def test_a_single_role_can_be_asked_for() -> None:
    rows = [row("back", "ready"), row("web", "booting")]
    assert is_up(rows, "back")
    assert not is_up(rows, "web")
    assert missing(rows) == missing(rows, "web") == rows[1:]


def test_a_role_that_fails_comes_before_a_place_that_does() -> None:
    roles = [RoleInfo("back"), RoleInfo("web", failing="web.0: ValueError")]
    rows = [row("back", "failing", "exited with status 1"), row("web", "failing", "ValueError; next try in 1.0 s")]
    assert why_failing(roles, rows) == "web.0: ValueError"
    assert why_failing(roles, rows, "back") == "back.0: exited with status 1"
    assert why_failing(roles[:1], ()) == ""
    assert why_failing(roles[:1], [row("back", "booting")]) == ""


def test_a_place_is_told_with_its_note_or_its_state() -> None:
    assert text_of(row("back", "booting")) == "back.0: booting"
    assert text_of(row("back", "held", "needs 'db'")) == "back.0: needs 'db'"
