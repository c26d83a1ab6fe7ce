"""What a suite tells of itself, whichever runner it has."""

from __future__ import annotations

import os
import subprocess
import sys
import unittest
from pathlib import Path

import pytest

from tests.foreign import counting, known
from tests.foreign.counting import Counts, Result

HERE = Path(__file__).resolve().parent


class Some(unittest.TestCase):
    __test__ = False  # not for pytest

    def test_that_passes(self) -> None:
        for number in range(3):
            with self.subTest(number):
                pass

    @unittest.expectedFailure
    def test_that_fails(self) -> None:
        raise AssertionError

    def test_that_skips(self) -> None:
        raise unittest.SkipTest("reason")

    def test_that_is_left_out(self) -> None:
        raise AssertionError


def test_a_result_of_unittest_tells_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Result, "left_out", 0)
    monkeypatch.setenv(counting.VARIABLE, str(tmp_path / "counts"))
    names = counting.kept(unittest.defaultTestLoader.getTestCaseNames(Some), ["test_that_is_left_out"])
    with open(os.devnull, "w", encoding="ascii") as stream:
        unittest.TextTestRunner(stream, resultclass=Result).run(unittest.TestSuite(map(Some, names)))
    assert counting.told(tmp_path / "counts") == Counts(passed=1, expected_failures=1, left_out=2)


SOME = """
import pytest
def test_that_passes(): pass
@pytest.mark.xfail(reason="known")
def test_that_fails(): assert False
@pytest.mark.parametrize("server", ["reloader", "other"])
def test_server(server): assert server == "other"
"""


def test_the_plugin_of_pytest_tells_them_too_and_leaves_out_what_is_known(tmp_path: Path) -> None:
    assert "test_server[reloader]" in known.LEFT_OUT["werkzeug"]
    (tmp_path / "test_some.py").write_text(SOME, encoding="ascii")
    command = ["-m", "pytest", "-q", "-p", "counting", "--known=werkzeug", "test_some.py"]
    environment = {**os.environ, "PYTHONPATH": str(HERE), counting.VARIABLE: str(tmp_path / "counts")}
    ended = subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert counting.told(tmp_path / "counts") == Counts(passed=2, expected_failures=1, left_out=1)


def test_each_known_test_has_a_reason() -> None:
    for table in (known.LEFT_OUT, known.EXPECTED):
        for tests in table.values():
            assert all(reason.strip() for reason in tests.values())
