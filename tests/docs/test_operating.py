"""What docs/operating.md has one watch is measured under these names."""

from __future__ import annotations

import re

import pytest

from mob.exposition import exposition
from mob.wire.messages import Metrics
from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "operating.md").read_text("utf-8")
FAMILIES = dict(re.findall(r"# TYPE (\w+) (\w+)", exposition(Metrics("myapp", 1, 0.0, 0.0, 0, (), (), (), 0))))
SECTION = PAGE.partition("## Metrics and alerts")[2].partition("\n## ")[0]
ALERTS = re.findall(r"^\| [^|]+ \| `(.*?)` \| \w+ \|", SECTION, re.MULTILINE)


def test_there_are_alerts() -> None:
    assert len(ALERTS) > 10


@pytest.mark.parametrize("query", ALERTS)
def test_an_alert_asks_for_what_is_measured(query: str) -> None:
    names = re.findall(r"\bmob_\w+", query)
    assert names
    for name in names:
        kind = FAMILIES[name.removesuffix("_bucket")]
        assert (kind == "histogram") == name.endswith("_bucket")


@pytest.mark.parametrize("query", ALERTS)
def test_only_counters_are_asked_for_their_rate(query: str) -> None:
    for name in re.findall(r"(?:rate|increase)\((\w+)", query):
        assert FAMILIES[name.removesuffix("_bucket")] in ("counter", "histogram")
