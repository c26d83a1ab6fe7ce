"""Requests to the Kingpin are checked before they are sent: an error names the invalid argument and the reason."""

from __future__ import annotations

from typing import Any

import pytest

from mob.errors import ArgumentError
from mob.peer.results.checking import check_seconds, checked
from mob.wire import messages as m


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (m.Restart(1, pid=2**64), "pid=18446744073709551616 does not fit in 64 bits."),
        (m.Restart(1, roles=("\ud800",)), r"roles=('\ud800',) contains characters that are not text (surrogates)."),
        (m.Restart(1, roles=(object,)), "cannot be sent."),  # type: ignore[arg-type]
        (m.Restart(1, roles=(5,)), "does not fit: Expected `str`, got `int`"),  # type: ignore[arg-type]
        (m.Restart(1, pid="x" * 99), f"pid='{'x' * 59}... is not a whole number."),  # type: ignore[arg-type]
        (m.Scale(1, 5, 1), "role=5 is not text."),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_said_is_named(message: Any, text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        checked("restart", message)
    assert text in str(caught.value)
    assert str(caught.value).startswith("restart: ")
    assert caught.value.executed == "no"


def test_what_can_be_said_is_returned() -> None:
    message = m.Restart(1, roles=("back",))
    assert checked("restart", message) is message


@pytest.mark.parametrize("value", [None, 0, 1.5, float("inf")])
def test_seconds_are_a_number_or_none(value: Any) -> None:
    check_seconds("timeout", value)


@pytest.mark.parametrize(("value", "kind"), [(True, TypeError), ("1", TypeError), (float("nan"), ValueError)])
def test_what_is_no_number_of_seconds_is_refused(value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="timeout="):
        check_seconds("timeout", value)
