"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Apps, apps_in


@pytest.fixture
def apps(tmp_path: Path) -> Iterator[Apps]:
    """Starts real apps, and leaves nothing of them behind."""
    with apps_in(tmp_path) as running:
        yield running
