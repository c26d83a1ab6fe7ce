"""The plugin for pytest: the fixture `mob_app`, `--mob-one-process`, and the marker `mob_leaks`.

It is imported in every run of pytest, also of those who test no app: the rest of the kit is loaded by the fixture.
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
    """The option, and the setting for pyproject.toml."""
    text = "run apps under test in pytest's own process, but for those that say one_process=False"
    parser.getgroup("mob").addoption("--mob-one-process", action="store_true", default=None, help=text)
    parser.addini(ONE_PROCESS, text, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and where apps are to run."""
    chosen = config.getoption(ONE_PROCESS)
    testing.in_one_process = config.getini(ONE_PROCESS) if chosen is None else chosen
    config.addinivalue_line("markers", "mob_leaks(*kinds): what the test may leave behind, such as 'descriptors'.")


@pytest.fixture
def mob_app(request: pytest.FixtureRequest) -> Iterator[Callable[..., AppUnderTest]]:
    """Starts apps for a test, as `mob.testing.start` does, and ends them with it; what was left fails the test.

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
    if left and not item.stash.get(_failed, False):  # a failed test holds its variables, and has enough to tell
        pytest.fail(str(_kit("leaks").Leaked(left)), pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """pytest has put its own streams in the place of those that route what mobsters print."""
    if (lives := sys.modules.get("mob.testing.lives")) is not None and _kit("one_process").is_any_running():
        lives.route_output()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the apps have printed."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
        stage = sys.modules.get("mob.testing.stage")
        for app in stage.running if stage is not None else ():
            report.sections.append((f"Output of the app {app.app}", app.output))
    return report


def _kit(part: str) -> Any:
    return importlib.import_module(f"mob.testing.{part}")
