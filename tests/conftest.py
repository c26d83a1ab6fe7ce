"""Fixtures for all tests."""

from __future__ import annotations

import compileall
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import mob
from tests.patience import FACTOR, patient
from tests.running import Apps, apps_in

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # how long an example takes says something of the machine, and nothing of mob

# Tests start thousands of processes, which would compile mob each for itself: half of the time of them all.
sys.dont_write_bytecode = False
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # a role that is written again within a second is read again


def pytest_configure(config: pytest.Config) -> None:
    """Compile mob, once for all processes."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(mob.__path__[0], quiet=1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Stretch the time that each test may take; `--timeout` on the command line is taken as it is."""
    if FACTOR == 1:
        return
    for item in items:
        marker = item.get_closest_marker("timeout")
        if marker is not None:
            item.add_marker(pytest.mark.timeout(patient(marker.args[0])), append=False)
        elif config.getoption("timeout") is None:
            item.add_marker(pytest.mark.timeout(patient(float(config.getini("timeout")))))


def pytest_collection_finish() -> None:
    """Leave what thousands of tests consist of out of each collection of garbage.

    Many tests ask for one again and again, while they wait for something to be freed.
    """
    gc.freeze()


@pytest.fixture
def apps(tmp_path: Path) -> Iterator[Apps]:
    """Starts real apps, and leaves nothing of them behind."""
    with apps_in(tmp_path) as running:
        yield running
