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
settings.load_profile("busy")  # the duration of an example depends on the machine, not on mob

# Tests start thousands of processes, each of which would compile mob itself: half of the time of all tests.
sys.dont_write_bytecode = False
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # a role that is rewritten within a second is read again


def pytest_configure(config: pytest.Config) -> None:
    """Compile mob, once for all processes."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(mob.__path__[0], quiet=1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Stretch the time limit of each test; `--timeout` on the command line is used as it is."""
    if FACTOR == 1:
        return
    for item in items:
        marker = item.get_closest_marker("timeout")
        if marker is not None:
            item.add_marker(pytest.mark.timeout(patient(marker.args[0])), append=False)
        elif config.getoption("timeout") is None:
            item.add_marker(pytest.mark.timeout(patient(float(config.getini("timeout")))))


def pytest_collection_finish() -> None:
    """Exclude the objects of thousands of tests from garbage collection.

    Many tests collect garbage again and again while they wait for something to be freed.
    """
    gc.freeze()


@pytest.fixture
def apps(tmp_path: Path) -> Iterator[Apps]:
    """Start real apps, and leave nothing of them behind."""
    with apps_in(tmp_path) as running:
        yield running
