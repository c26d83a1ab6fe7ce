"""Functions as bytes: made again only if something has changed that they refer to."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from mob.pools.pickling import FunctionPickles


def function(text: str, **names: Any) -> FunctionType:
    """A function of `__main__`, with these globals."""
    names["__name__"] = "__main__"
    exec(text, names)
    return names["f"]


@pytest.mark.parametrize("value", [1, "a", Path("a"), re.compile("a"), logging.getLogger("a"), re])
def test_a_function_of_constants_is_pickled_once(value: Any) -> None:
    pickles = FunctionPickles()
    f = function("def f(): return CONSTANT", CONSTANT=value)
    first = pickles.dumps(f)
    assert first.variant
    assert pickles.dumps(f) is first
    f.__globals__["CONSTANT"] = 5
    assert pickles.dumps(f).variant != first.variant


def test_a_function_of_something_that_may_change_is_pickled_each_time() -> None:
    pickles = FunctionPickles()
    f = function("def f(): return LIST", LIST=[])
    first = pickles.dumps(f)
    f.__globals__["LIST"].append(1)
    assert pickles.dumps(f).data != first.data
    assert first.variant == ""
