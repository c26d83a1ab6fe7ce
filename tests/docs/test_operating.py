"""The alerts in docs/operating.md use metrics that exist."""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import ROOT
from tests.docs.test_grafana import problems

PAGE = (ROOT / "docs" / "operating.md").read_text("utf-8")
SECTION = PAGE.partition("## Metrics and alerts")[2].partition("\n## ")[0]
ALERTS = re.findall(r"^\| [^|]+ \| `(.*?)` \| \w+ \|", SECTION, re.MULTILINE)


def test_there_are_alerts() -> None:
    assert len(ALERTS) > 10


@pytest.mark.parametrize("query", ALERTS)
def test_an_alert_asks_for_what_is_measured(query: str) -> None:
    assert re.search(r"\b(mob|queue|store)_\w+", query)
    assert problems(query) == []
