"""docs/grafana.json shows existing metrics: each of its expressions is compared with the exposition, label by label."""

from __future__ import annotations

import json
import re
from itertools import chain, combinations
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mob.core.jobs import COUNTED
from mob.exposition import exposition
from tests.docs.blocks import ROOT
from tests.test_exposition import FULL

DASHBOARD: dict[str, Any] = json.loads((ROOT / "docs" / "grafana.json").read_text("utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
FOLDED = [panel["panels"] for panel in PANELS if panel.get("collapsed")]
GRAPHS = [panel for panel in chain(PANELS, *FOLDED) if panel["type"] != "row"]
FAMILIES = list(text_string_to_metric_families(exposition(FULL)))
LABELS: dict[str, set[str]] = {}
KINDS: dict[str, str] = {}
for _family in FAMILIES:
    for _sample in _family.samples:
        LABELS.setdefault(_sample.name, set()).update(_sample.labels)
        KINDS[_sample.name] = _family.type
for _file in ("jobs/giving.py", "stores/metrics.py"):  # what mob's own queues and stores declare
    _text = (ROOT / "src" / "mob" / _file).read_text("utf-8").replace("(COUNTED,", f'("{COUNTED}",')
    for _kind, _name, _labels in re.findall(r'\bown_(counter|gauge)\("(\w+)", "[^"]+"(?:, \[(.*)\])?\)', _text):
        _shown = f"{_name}_total" if _kind == "counter" else _name
        LABELS[_shown], KINDS[_shown] = {"role", *re.findall(r"\w+", _labels)}, _kind
BY_PROMETHEUS = {"instance", "job"}
"""Labels that Prometheus adds to every sample."""
QUERIES = [(panel["title"], target) for panel in GRAPHS for target in panel["targets"]]
EXPRESSIONS = [
    *((title, target["expr"]) for title, target in QUERIES),
    *((each["name"], each["expr"]) for each in DASHBOARD["annotations"]["list"]),
    *((each["name"], each["query"]["query"]) for each in DASHBOARD["templating"]["list"] if each["type"] == "query"),
]
VARIABLES = {each["name"] for each in DASHBOARD["templating"]["list"]}


def problems(expression: str) -> list[str]:
    """Return what an expression uses that does not exist."""
    found: list[str] = []
    names = re.findall(r"\b(?:mob|queue|store)_\w+", expression)
    for name in names:
        if name not in LABELS:
            found.append(f"{name} is not measured")
    for name, selector in re.findall(r"\b((?:mob|queue|store)_\w+)\{([^}]*)\}", expression):
        for label, value in re.findall(r'(\w+)\s*(?:=~|!=|!~|=)\s*"([^"]*)"', selector):
            if label not in LABELS.get(name, set()) | BY_PROMETHEUS:
                found.append(f"{name} has no label {label}")
            if value.startswith("$") and value[1:] not in VARIABLES:
                found.append(f"there is no variable {value}")
    for name in re.findall(r"(?:rate|increase)\((\w+)", expression):
        if KINDS.get(name) not in ("counter", "histogram"):
            found.append(f"the rate of {name}, which is not a counter")
    known = set.intersection(*(LABELS.get(name, set()) for name in names)) | BY_PROMETHEUS if names else set()
    for labels in re.findall(r"\bby \(([^)]*)\)", expression):
        found += [f"no label {label} to sum by" for label in re.split(r",\s*", labels) if label not in known]
    if "histogram_quantile" in expression and not (
        "_bucket" in expression and re.search(r"by \([^)]*\ble\b", expression)
    ):
        found.append("a quantile needs buckets, summed by le")
    if any(expression.count(one) != expression.count(other) for one, other in ("()", "{}", "[]")):
        found.append("brackets")
    return found


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_an_expression_asks_for_what_is_measured(title: str, expression: str) -> None:
    assert re.search(r"\b(?:mob|queue|store)_\w+", expression)
    assert problems(expression) == []


def test_each_metric_is_shown() -> None:
    def family(name: str) -> str:
        return re.sub(r"_(bucket|count|sum)$", "", name) if KINDS[name] == "histogram" else name

    shown = re.findall(r"\b(?:mob|queue|store)_\w+", " ".join(expression for _, expression in EXPRESSIONS))
    assert {family(name) for name in LABELS} - {family(name) for name in shown} == set()


@pytest.mark.parametrize(("title", "target"), QUERIES)
def test_a_legend_names_labels_that_the_answer_has(title: str, target: dict[str, Any]) -> None:
    named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    summed = re.findall(r"\bby \(([^)]*)\)", target["expr"])
    name = re.findall(r"\b(?:mob|queue|store)_\w+", target["expr"])[0]
    kept = (
        set.intersection(*(set(re.split(r",\s*", each)) for each in summed)) if summed else LABELS[name] | BY_PROMETHEUS
    )
    assert named <= kept


def test_panels_have_their_place_and_their_name() -> None:
    numbers = [panel["id"] for panel in chain(PANELS, *FOLDED)]
    assert len(set(numbers)) == len(numbers)
    assert len({panel["title"] for panel in GRAPHS}) == len(GRAPHS) > 20
    assert {panel["datasource"]["uid"] for panel in GRAPHS} == {"${datasource}"}
    places = [[panel["gridPos"] for panel in panels] for panels in (PANELS, *FOLDED)]
    for one, other in chain.from_iterable(combinations(each, 2) for each in places):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in chain(PANELS, *FOLDED))


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ('mob_call_total{role="x"}', "mob_call_total is not measured"),
        ('mob_calls_total{index="x"}', "mob_calls_total has no label index"),
        ('mob_calls_total{role=~"$rolle"}', "there is no variable $rolle"),
        ("rate(mob_role_workers_ready[5m])", "the rate of mob_role_workers_ready, which is not a counter"),
        ("sum by (pid) (mob_calls_total)", "no label pid to sum by"),
        ("histogram_quantile(0.5, sum by (role) (rate(mob_call_run_seconds_bucket[5m])))", "a quantile needs buckets"),
        ("sum(mob_calls_total", "brackets"),
    ],
)
def test_the_check_complains(expression: str, problem: str) -> None:
    assert any(each.startswith(problem) for each in problems(expression))
