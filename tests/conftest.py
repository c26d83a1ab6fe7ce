"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.running import Apps, apps_in

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # how long an example takes says something of the machine, and nothing of mob


@pytest.fixture
def apps(tmp_path: Path) -> Iterator[Apps]:
    """Starts real apps, and leaves nothing of them behind."""
    with apps_in(tmp_path) as running:
        yield running
