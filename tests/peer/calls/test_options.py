"""The options of a view of a proxy: editors see those that exist, and invalid changes are refused."""

from __future__ import annotations

import math
from typing import Any, get_type_hints

import pytest

from mob.peer.calls.options import DEFAULTS, CallOptions, Options, changed

REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "none of them": ({"timeuot": 2}, TypeError, "a proxy has no option 'timeuot'. Did you mean 'timeout'?"),
    "no number": ({"wait": "long"}, TypeError, "wait='long' is not a number of seconds or None."),
    "nan": ({"timeout": math.nan}, ValueError, "timeout=nan is not a number of seconds. For no limit use None."),
    "no count": ({"retries": 1.5}, TypeError, "retries=1.5 is not a whole number."),
}


def test_the_options_that_editors_see_are_those_that_there_are() -> None:
    assert get_type_hints(CallOptions) == get_type_hints(Options)


def test_what_is_not_changed_stays() -> None:
    options = changed(changed(DEFAULTS, {"timeout": 2, "pid": 7}), {"timeout": None, "key": "ada"})
    assert options == Options(pid=7, key="ada")


@pytest.mark.parametrize("fault", REFUSED)
def test_a_change_that_cannot_be(fault: str) -> None:
    changes, kind, text = REFUSED[fault]
    with pytest.raises(kind) as caught:
        changed(DEFAULTS, changes)  # type: ignore[arg-type]
    assert str(caught.value) == text
