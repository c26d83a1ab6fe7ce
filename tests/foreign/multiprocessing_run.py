"""Runs CPython's tests of managers, containers and proxies with objects that mob holds: see `managed`.

Not run, because they test what a manager is and not what it holds: those that connect to a manager by its address and
its authkey, and those whose children inherit proxies by a fork, where mob passes handles on.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import unittest
from typing import Any

from tests.foreign import managed
from tests.foreign.counting import Result

managed.replace()  # before the tests bind the names

cpython: Any = importlib.import_module("test._test_multiprocessing")

install = cpython.install_tests_in_module_dict
has_choice = "only_type" in inspect.signature(install).parameters  # Python 3.11.2 has none
install(globals(), "fork", **{"only_type": "manager"} if has_choice else {})

CASES = ("WithManagerTestContainers", "WithManagerTestMyManager")

if __name__ == "__main__":
    load = unittest.defaultTestLoader.loadTestsFromTestCase
    suite = unittest.TestSuite(load(globals()[case]) for case in CASES)
    try:
        result = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(suite)
    finally:
        managed.end()
    sys.exit(not result.wasSuccessful() or not result.testsRun)
