"""Errors of `mob.Pool` about its options, before any process is started."""

from __future__ import annotations

from typing import Any

import pytest

import mob


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"max_workers": 2}, TypeError, "mob.Pool has no option 'max_workers'. Here it is 'workers'."),
        (
            {"max_tasks_per_child": 2},
            TypeError,
            "mob.Pool has no option 'max_tasks_per_child'. Here it is 'max_calls'.",
        ),
        ({"retrys": 2}, TypeError, "mob.Pool has no option 'retrys'. Did you mean 'retries'?"),
        ({"workers": 0}, ValueError, "workers=0 is not a whole number of at least 1."),
        ({"workers": 2.5}, TypeError, "workers=2.5 is not a whole number of at least 1."),
        ({"threads": None}, TypeError, "threads=None is not a whole number of at least 1."),
        ({"retries": -1}, ValueError, "retries=-1 is not a whole number of at least 0."),
        ({"timeout": 0}, ValueError, "timeout=0 is not a number of seconds above 0, or None."),
        ({"timeout": "x"}, ValueError, "timeout='x' is not a number of seconds above 0, or None."),
        ({"preload": "numpy"}, TypeError, "preload='numpy' is not a sequence of module names, such as ('numpy',)."),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        mob.Pool(**options)
    assert str(caught.value) == text
