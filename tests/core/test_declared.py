"""Which metrics may be declared, and what is said of the others."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any

import pytest

import mob
from mob.core.declared import (
    BUCKETS,
    MOST_BUCKETS,
    MOST_CHARACTERS,
    MOST_HELP,
    OWN,
    clash,
    names_of,
    shown,
    spec_of,
)
from mob.wire.messages import MetricSpec


@pytest.mark.parametrize(
    ("kind", "name", "options", "expected"),
    [
        ("counter", "orders", {}, MetricSpec("orders", "counter")),
        ("counter", "orders_total", {}, MetricSpec("orders", "counter")),
        ("counter", "_total", {}, MetricSpec("_total", "counter")),
        ("counter", "a", {"labels": ["b", "c"], "help": "x"}, MetricSpec("a", "counter", "x", ("b", "c"))),
        ("counter", "a", {"help": "x" * 5000}, MetricSpec("a", "counter", "x" * MOST_HELP)),
        ("gauge", "size_total", {"across": "max"}, MetricSpec("size_total", "gauge", across="max")),
        ("histogram", "t", {"buckets": (1, 2, math.inf)}, MetricSpec("t", "histogram", bounds=(1.0, 2.0))),
        ("histogram", "t", {"buckets": ()}, MetricSpec("t", "histogram")),
    ],
)
def test_declarations_that_hold(kind: str, name: str, options: dict[str, Any], expected: MetricSpec) -> None:
    assert spec_of(kind, name, **options) == expected


@pytest.mark.parametrize(
    ("kind", "name", "options", "error", "text"),
    [
        ("counter", 7, {}, TypeError, r"mob\.counter\(7\): the name must be a string, not int"),
        ("counter", "", {}, ValueError, "not a valid metric name"),
        ("counter", "2x", {}, ValueError, "no digit at the beginning"),
        ("counter", "a:b", {}, ValueError, "Use ASCII letters, digits and underscores"),
        ("counter", "größe", {}, ValueError, "not a valid metric name"),
        ("counter", "a" * (MOST_CHARACTERS + 1), {}, ValueError, "not a valid metric name"),
        ("gauge", "mob_calls", {"across": "sum"}, ValueError, "begin with 'mob_' are reserved"),
        ("gauge", "__x", {"across": "sum"}, ValueError, "begin with '_' are reserved"),
        (
            "counter",
            "store_hits",
            {"labels": ["city"]},
            ValueError,
            r"mob\.counter\('store_hits'\): mob has a metric of that name\. Choose another\. Reserved are queue_",
        ),
        ("gauge", "store_hits", {"across": "sum"}, ValueError, "mob has a metric of that name"),
        ("gauge", "queue_attempts_total", {"across": "sum"}, ValueError, "mob has a metric of that name"),
        ("histogram", "queue_jobs", {}, ValueError, "all names that begin with 'mob_'"),
        ("counter", "a", {"help": None}, TypeError, "help must be a string, not NoneType"),
        ("counter", "a", {"labels": "kind"}, TypeError, r"Write labels=\['kind'\]"),
        ("counter", "a", {"labels": ["x", "x"]}, ValueError, "each only once"),
        ("counter", "a", {"labels": [f"l{n}" for n in range(11)]}, ValueError, "at most 10 names"),
        ("counter", "a", {"labels": ["a-b"]}, ValueError, "'a-b' is not a valid label name"),
        ("counter", "a", {"labels": [3]}, ValueError, "3 is not a valid label name"),
        ("counter", "a", {"labels": ["__a"]}, ValueError, "'__a' is not a valid label name"),
        ("counter", "a", {"labels": ["role"]}, ValueError, "the label 'role' is reserved"),
        ("gauge", "a", {"across": "summ"}, ValueError, "unknown across='summ'.*'sum'"),
        ("histogram", "a", {"buckets": [2, 1]}, ValueError, r"buckets=\[2\.0, 1\.0\].*ascending"),
        ("histogram", "a", {"buckets": [1, 1]}, ValueError, "ascending"),
        ("histogram", "a", {"buckets": [1, math.nan]}, ValueError, "finite"),
        ("histogram", "a", {"buckets": range(MOST_BUCKETS + 1)}, ValueError, "101 buckets. Use at most 100"),
    ],
)
def test_others_are_refused(kind: str, name: Any, options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        spec_of(kind, name, **options)


@pytest.mark.parametrize("name", OWN)
def test_names_of_mobs_own_are_reserved(name: str) -> None:
    options: dict[str, Any] = {"across": "sum"} if OWN[name] == "gauge" else {}
    assert spec_of(OWN[name], name, is_own=True, **options).name == name
    with pytest.raises(ValueError, match="mob has a metric of that name"):
        spec_of(OWN[name], name, **options)


def test_mob_declares_no_other_metrics() -> None:
    with pytest.raises(AssertionError, match="is missing in OWN"):
        spec_of("counter", "surprise", is_own=True)
    for file in Path(mob.__path__[0]).rglob("*.py"):
        calls = (node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))
        named = {each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "") for each in calls}
        assert named.isdisjoint({"counter", "gauge", "histogram"}), f"{file}: use own_counter or own_gauge"


def test_a_declaration_as_people_read_it() -> None:
    assert shown(spec_of("histogram", "t", buckets=BUCKETS)) == "mob.histogram('t')"
    assert shown(spec_of("histogram", "t", buckets=[1])) == "mob.histogram('t', buckets=[1.0])"
    assert shown(spec_of("gauge", "g", across="max")) == "mob.gauge('g', across='max')"
    assert shown(spec_of("gauge", "g", labels=["a"], across="sum")) == "mob.gauge('g', labels=['a'])"


@pytest.mark.parametrize(
    ("one", "other", "clashes"),
    [
        (MetricSpec("a", "counter"), MetricSpec("a", "counter", "other words"), False),
        (MetricSpec("a", "counter"), MetricSpec("a", "gauge"), True),
        (MetricSpec("a", "counter"), MetricSpec("a", "counter", labels=("x",)), True),
        (MetricSpec("a", "histogram", bounds=(1.0,)), MetricSpec("a", "histogram", bounds=(2.0,)), True),
        (MetricSpec("a", "gauge", across="sum"), MetricSpec("a", "gauge", across="max"), True),
        (MetricSpec("a", "histogram"), MetricSpec("a_count", "gauge"), True),
        (MetricSpec("a", "counter"), MetricSpec("a_total", "gauge"), True),
        (MetricSpec("a", "counter"), MetricSpec("b", "counter"), False),
    ],
)
def test_which_cannot_stand_side_by_side(one: MetricSpec, other: MetricSpec, clashes: bool) -> None:
    assert clash(one, [other]) == (other if clashes else None)
    assert clash(other, [one]) == (one if clashes else None)


def test_the_names_of_a_counter() -> None:
    assert names_of(MetricSpec("a", "counter")) == {"a_total"}
