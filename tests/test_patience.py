"""One factor stretches every bound of time in the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import FACTOR, PATIENCE, VARIABLE, patient, read_factor
from tests.running import wait_until

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("environ", "factor"),
    [({}, 1.0), ({VARIABLE: ""}, 1.0), ({VARIABLE: "1"}, 1.0), ({VARIABLE: "3"}, 3.0), ({VARIABLE: "0.5"}, 0.5)],
)
def test_the_factor_is_read(environ: dict[str, str], factor: float) -> None:
    assert read_factor(environ) == factor


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "long"])
def test_what_is_no_factor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=rf"MOB_TEST_PATIENCE='{text}': it must be a number above 0, such as 3"):
        read_factor({VARIABLE: text})


def test_stretched_bounds_of_waits() -> None:
    assert patient(20) == 20 * FACTOR
    assert patient(30) == PATIENCE
    assert wait_until.__defaults__ == (PATIENCE,)


@pytest.mark.timeout(60)
def test_stretched_time_of_a_marked_test(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("timeout").args == (patient(60),)


def test_stretched_time_of_any_test(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> None:
    marker = request.node.get_closest_marker("timeout")
    if FACTOR == 1 or pytestconfig.getoption("timeout") is not None:
        assert marker is None
    else:
        assert marker.args == (patient(float(pytestconfig.getini("timeout"))),)


@pytest.mark.skipif(FACTOR == 3, reason="runs with this factor already")
def test_the_environment_stretches_them() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "stretched", __file__]
    run = subprocess.run(
        command, cwd=ROOT, env={**os.environ, VARIABLE: "3"}, capture_output=True, text=True, timeout=patient(60)
    )
    assert "3 passed" in run.stdout, run.stdout + run.stderr
