"""What a user types becomes a value, and any result of a worker becomes JSON."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow
import pytest

from mob.cli.values import arguments_of, as_json, value_of


@dataclass
class Point:
    x: int
    y: float


class Strange:
    def __repr__(self) -> str:
        return "<strange>"


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1.5e3", -1500.0),
        ('"1"', "1"),
        ("one", "one"),
        ("null", None),
        ("None", "None"),
        ("true", True),
        ("True", "True"),
        ('{"a": [1]}', {"a": [1]}),
        ("{a: 1}", "{a: 1}"),
        ("", ""),
        (" 7 ", 7),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),
        (str(2**80), 2**80),
        ("[" * 100_000, "[" * 100_000),
    ],
    ids=range(18),
)
def test_an_argument_is_json_where_it_can_be(text: str, value: Any) -> None:
    assert value_of(text) == value
    assert type(value_of(text)) is type(value)
    assert value_of(text, as_text=True) == text


@pytest.mark.parametrize(
    ("words", "args", "kwargs"),
    [
        ((), [], {}),
        (("1", "x=2", "y"), [1, "y"], {"x": 2}),
        (("x=a=b",), [], {"x": "a=b"}),
        (('"x=2"',), ["x=2"], {}),
        (("2x=3", "=1", "a-b=1", "http://x/?a=1"), ["2x=3", "=1", "a-b=1", "http://x/?a=1"], {}),
        (("x=",), [], {"x": ""}),
        (("-", "k=-"), ["stdin"], {"k": "stdin"}),
        (("x=1\n2",), [], {"x": "1\n2"}),
    ],
    ids=range(8),
)
def test_words_are_arguments_by_place_or_by_name(
    words: tuple[str, ...], args: list[Any], kwargs: dict[str, Any]
) -> None:
    assert arguments_of(words, lambda: "stdin") == (args, kwargs)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (b"abc", '"YWJj"'),
        (memoryview(b"abc"), '"YWJj"'),
        ((1, 2), "[1,2]"),
        ({1: 2}, '{"1":2}'),
        ({(1, 2): Strange()}, '{"(1, 2)":"<strange>"}'),
        ({b"k": {3.5: 1}}, '{"aw==":{"3.5":1}}'),
        (float("inf"), "null"),
        (2**80, str(2**80)),
        ("\udc80", r'"\udc80"'),
        (datetime.date(2020, 1, 1), '"2020-01-01"'),
        (decimal.Decimal("1.10"), '"1.10"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Point(1, 2.5), '{"x":1,"y":2.5}'),
        (numpy.arange(3), "[0,1,2]"),
        (numpy.float32(0.5), "0.5"),
        (pyarrow.table({"a": [1, 2], "b": ["x", None]}), '[{"a":1,"b":"x"},{"a":2,"b":null}]'),
        ([Strange()], '["<strange>"]'),
        (Ellipsis, '"Ellipsis"'),
        ({"\udc80": {1: (2.5, None)}}, r'{"\udc80":{"1":[2.5,null]}}'),
        (["\udc80", numpy.float32(0.5), Strange(), Point(1, 2.5)], r'["\udc80",0.5,"<strange>",{"x":1,"y":2.5}]'),
    ],
    ids=range(21),
)
def test_any_result_can_be_printed(value: Any, text: str) -> None:
    assert as_json(value).decode() == text


def test_what_is_nested_without_end_is_printed_all_the_same() -> None:
    looped: list[Any] = []
    looped.append(looped)
    for value in (nested(50_000), looped, ["\udc80", Point(looped, 0)]):  # type: ignore[arg-type]
        assert json.loads(as_json(value))
