"""How many tests of a suite passed, which the process that runs them tells the one that has started it.

`Result` is for the runners of `unittest`. The rest is a plugin of pytest (`-p counting --known=SUITE`): it leaves out
the tests that `known` names for a suite, or expects them to fail. As a plugin this file is imported from its own
directory, because a suite may have a package `tests` too.
"""

from __future__ import annotations

import faulthandler
import json
import os
import runpy
import unittest
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

VARIABLE = "MOB_FOREIGN_COUNTS"
"""The environment variable that says to which file the numbers are to be written."""
TIMEOUT = 120
"""Seconds after which a test of `unittest` counts as stuck; its process then ends."""


class Counts(NamedTuple):
    """The numbers of one run of a suite."""

    passed: int
    expected_failures: int
    left_out: int

    def tell(self) -> None:
        """Write the numbers for the process that waits for them; called by the one that has run the tests."""
        if path := os.environ.get(VARIABLE):
            Path(path).write_text(json.dumps(self), encoding="ascii")


def told(path: Path) -> Counts:
    """Return the numbers that were written to a file."""
    return Counts(*json.loads(path.read_text(encoding="ascii")))


class Result(unittest.TextTestResult):
    """A result that tells its numbers at the end."""

    left_out = 0
    """How many tests were found and not run."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.passed = 0

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802  the names are unittest's
        faulthandler.dump_traceback_later(TIMEOUT, exit=True)
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().addSuccess(test)
        self.passed += 1

    def stopTestRun(self) -> None:  # noqa: N802
        super().stopTestRun()
        Counts(self.passed, len(self.expectedFailures), self.left_out + len(self.skipped)).tell()


def kept(names: Iterable[str], left_out: Iterable[str]) -> list[str]:
    """Return the names of tests without those that are left out, which are counted."""
    names = list(names)
    found = [name for name in names if name not in left_out]
    Result.left_out += len(names) - len(found)
    return found


# ------------------------------------------------------------------------------------- the plugin of pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--known", metavar="SUITE", required=True, help="the suite whose tests these are")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    suite: str = config.getoption("--known")  # pyright: ignore[reportAssignmentType]  it is required
    known = runpy.run_path(str(Path(__file__).with_name("known.py")))
    left_out, expected = known["LEFT_OUT"].get(suite, {}), known["EXPECTED"].get(suite, {})
    names = {item: item.nodeid.partition("::")[2] for item in items}
    out = {item for item in items if not {names[item], names[item].partition("[")[0]}.isdisjoint(left_out)}
    config.hook.pytest_deselected(items=[item for item in items if item in out])
    items[:] = [item for item in items if item not in out]
    for item in items:
        if reason := expected.get(names[item]):
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    passed, failing, deselected, skipped = (
        len(terminalreporter.stats.get(kind, ())) for kind in ("passed", "xfailed", "deselected", "skipped")
    )
    Counts(passed, failing, deselected + skipped).tell()
