"""The plugin for pytest: the fixture `mob_app`, `--mob-one-process`, and the marker `mob_leaks`.

Every run of pytest imports it, even if no app is tested, so the fixture loads the rest of the kit.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mob import testing

if TYPE_CHECKING:
    from mob.testing.app import AppUnderTest

ONE_PROCESS = "mob_one_process"
_failed = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option, and the setting for pyproject.toml."""
    text = "run apps under test in pytest's own process, except those with one_process=False"
    parser.getgroup("mob").addoption("--mob-one-process", action="store_true", default=None, help=text)
    parser.addini(ONE_PROCESS, text, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker, and set where apps run."""
    chosen = config.getoption(ONE_PROCESS)
    testing.in_one_process = config.getini(ONE_PROCESS) if chosen is None else chosen
    config.addinivalue_line("markers", "mob_leaks(*kinds): what the test may leave behind, such as 'descriptors'.")


@pytest.fixture
def mob_app(request: pytest.FixtureRequest) -> Iterator[Callable[..., AppUnderTest]]:
    """Return a function that starts apps for a test, as `mob.testing.start` does.

    The apps end with the test; what they left behind fails it.

    >>> def test_foo(mob_app):                                # doctest: +SKIP
    ...     app = mob_app("main.py")
    ...     assert app.require("back").foo(1).result() == 2
    """
    item = request.node
    places = list(dict.fromkeys([Path(request.path).parent, request.config.rootpath]))
    stage = _kit("stage").Stage(places)
    allowed = [kind for mark in item.iter_markers("mob_leaks") for kind in mark.args]
    _kit("leaks").check_kinds(allowed)
    yield stage.start
    left = stage.end(allowed)
    if left and not item.stash.get(_failed, False):  # a failed test keeps its variables alive, and has enough to report
        pytest.fail(str(_kit("leaks").Leaked(left)), pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Route output again, because pytest has replaced the streams that route what mobsters print."""
    if (lives := sys.modules.get("mob.testing.lives")) is not None and _kit("one_process").is_any_running():
        lives.route_output()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the output of the apps to the report of a failed test."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
        stage = sys.modules.get("mob.testing.stage")
        for app in stage.running if stage is not None else ():
            report.sections.append((f"Output of the app {app.app}", app.output))
    return report


def _kit(part: str) -> Any:
    return importlib.import_module(f"mob.testing.{part}")
