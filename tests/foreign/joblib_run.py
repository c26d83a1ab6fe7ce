"""Runs joblib's own tests of `Parallel` with the backend "mob" in the place of loky: `joblib_run.py [--kill]`.

The module with the tests is imported with "mob" where its text has "loky", also in the scripts that it starts. Tests of
other backends alone are none of ours. With `--kill` a random worker is killed each second, and tasks are repeated.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec
from types import CodeType
from typing import Any

import pytest

import mob.joblib
from mob.joblib import _MobBackend, warm
from tests.foreign.killer import Killer
from tests.foreign.pools import Watched

parallel: Any = importlib.import_module("joblib.parallel")
backends: Any = importlib.import_module("joblib._parallel_backends")
loky: Any = importlib.import_module("joblib.externals.loky")

IS_KILLED = "--kill" in sys.argv
SUITE = "joblib-killed" if IS_KILLED else "joblib"
SEED = int(os.environ.get("SEED", "19"))
TESTS = "joblib.test.test_parallel"
OTHERS = ("loky", "multiprocessing", "sequential", "spawn", "threading")
"""What tests call backends that are not this one."""


class Repeating(_MobBackend):
    """The backend in whose pools tasks are repeated, and nothing large is to be imported again after each death."""

    def configure(self, *args: Any, **options: Any) -> int:
        return super().configure(*args, **{"retries": 20, "preload": ("mob.joblib", TESTS), **options})


Repeating.__name__ = _MobBackend.__name__  # which tests compare
Backend = Repeating if IS_KILLED else _MobBackend


class WithMob(SourceFileLoader):
    """Imports the tests with changes to their text."""

    def get_code(self, fullname: str) -> CodeType:
        text = self.get_data(self.path).decode()
        text = text.replace('"loky"', '"mob"')
        text = text.replace("\nfrom joblib import Parallel", "\nimport mob.joblib\nfrom joblib import Parallel")
        text = text.replace('("mob", True),', '("mob", False),')  # an abort leaves the tasks of others alone
        return self.source_to_code(text.encode(), self.path)


def import_tests() -> str:
    """Import the tests where `mob` is the default, and return the path of their file."""
    parallel.register_parallel_backend("mob", Backend, make_default=True)
    backends.LokyBackend = Backend  # the class that tests look for, and derive from
    loky.get_reusable_executor = lambda reuse: warm
    spec: Any = find_spec(TESTS)
    spec.loader = WithMob(TESTS, spec.origin)
    sys.modules[TESTS] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[TESTS])
    return spec.origin


class Selection:
    """The tests that are of the backend."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        items[:] = [item for item in items if not is_of_others(item)]


def is_of_others(item: pytest.Function) -> bool:
    """Return whether a test is given backends, and not this one."""
    given = list(item.callspec.params.values()) if hasattr(item, "callspec") else []
    if any(value == "mob" or isinstance(value, _MobBackend) for value in given):
        return False
    return any(value in OTHERS or hasattr(value, "nesting_level") or hasattr(value, "Pool") for value in given)


def main() -> int:
    options = ["-q", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=", "-o", "xfail_strict=false"]
    options += ["-W", "ignore", "--timeout=120", "-p", "tests.foreign.counting", f"--known={SUITE}"]
    arguments = [*options, import_tests(), *sys.argv[1 + IS_KILLED :]]
    if not IS_KILLED:
        return pytest.main(arguments, [Selection()])
    mob.joblib.Pool = Watched
    with Killer(lambda: warm.pids, SEED, answered=Watched.all_answered) as killer:
        return pytest.main(arguments, [Selection()]) or not killer.count


if __name__ == "__main__":
    sys.exit(main())
