"""CPython's tests of executors with a pool of mob: classes made of their mixins, as they make those of their own pools.

What the tests take from the module of `ProcessPoolExecutor` is replaced: the scripts that they run in an interpreter of
its own import the pool from here, and `BrokenExecutor` stands for its subclass. Semaphores and queues, which children
of multiprocessing inherit, are those of a manager.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import multiprocessing
import os
import types
import unittest
from collections.abc import Collection, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from pickle import UnpicklingError
from time import monotonic, sleep
from typing import Any

import mob
from tests.foreign.counting import kept
from tests.foreign.pools import Pool
from tests.patience import PATIENCE

KINDS = ("process_pool", "wait", "as_completed", "shutdown", "init", "deadlock")
TESTS = importlib.import_module("test.test_concurrent_futures")
MODULES: list[Any] = [TESTS]
if hasattr(TESTS, "__path__"):  # since Python 3.12
    parts = ["util", "executor", *(f"test_{kind}" for kind in KINDS)]
    MODULES = [importlib.import_module(f"{TESTS.__name__}.{part}") for part in parts]
CASES = (
    "ProcessPoolExecutorTest",
    "WaitTests",
    "AsCompletedTests",
    "ProcessPoolShutdownTest",
    "InitializerMixin",
    "FailingInitializerMixin",
    "ExecutorDeadlockTest",
)


def theirs(name: str) -> Any:
    return next(getattr(module, name) for module in MODULES if hasattr(module, name))


class Tested(Pool):
    """The pool under test. The tests know `Pool` as `ProcessPoolExecutor`, for which some leave themselves out."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut down. One more call must succeed, whatever the others have done: a call that fails fails alone."""
        survived = None
        if not cancel_futures:
            with suppress(RuntimeError):  # it was shut down before, or its initializer has failed
                survived = self.submit(pow, 2, 5)
        super().shutdown(wait, cancel_futures=cancel_futures)
        assert survived is None or survived.result(PATIENCE) == 32


class Context:
    """What the tests ask of a context of multiprocessing."""

    def __init__(self, start_method: str, case: unittest.TestCase) -> None:
        self._start_method = start_method
        self._case = case

    def get_start_method(self, allow_none: bool) -> str:
        return self._start_method

    def Manager(self) -> Any:  # noqa: N802  the names are multiprocessing's
        return multiprocessing.get_context("spawn").Manager()

    def Semaphore(self, value: int) -> Any:  # noqa: N802
        return self._manager().Semaphore(value)

    def Queue(self) -> Any:  # noqa: N802
        return self._manager().Queue()

    def _manager(self) -> Any:
        manager = self.Manager()
        self._case.addCleanup(manager.shutdown)
        return manager


MILDER: dict[str, type[BaseException]] = {
    "test_error_at_task_unpickle": mob.errors.BadMessage,
    "test_exit_at_task_unpickle": mob.errors.BadMessage,
    "test_error_during_result_unpickle_in_result_handler": UnpicklingError,
    "test_exit_during_result_unpickle_in_result_handler": SystemExit,
}
"""What breaks a pool of theirs, and is an error of one call with mob."""


class MobMixin(theirs("ExecutorMixin")):
    executor_type = Tested
    ctx = ""

    def setUp(self) -> None:
        """Wait until all workers are there, as the tests suppose, because forked ones are. Not under the killer, where
        they never are for long."""
        super().setUp()
        deadline = monotonic() + PATIENCE
        with suppress(BrokenExecutor):  # the initializer fails
            self.executor.submit(int).result(PATIENCE)
            while len(self.executor.pids) < self.worker_count and monotonic() < deadline and not Pool.retries:
                sleep(0.01)

    @contextmanager
    def _assert_logged(self, text: str) -> Iterator[None]:
        """Not logged by mob, because each call that fails says why."""
        yield
        with self.assertRaisesRegex(BrokenExecutor, text):  # noqa: PT027  as it is unittest's
            self.executor.submit(int)

    def _check_crash(self, error: type[BaseException], *args: Any, **named: Any) -> None:
        super()._check_crash(MILDER.get(self._testMethodName, error), *args, **named)

    def get_context(self) -> Context:
        # That test has its workers started one by one, but with "fork", where all are started at once as they are here.
        return Context("fork" if self._testMethodName == "test_processes_terminate" else "mob", self)


run_script = theirs("assert_python_ok")


def run_script_with_mob(*args: str, **env: str) -> Any:
    """Run a script of a test, which imports its pool from here."""
    changed = [arg.replace("from concurrent.futures import", f"from {__name__} import") for arg in args]
    return run_script(*changed, **env, __isolated=False, PYTHONPATH=os.environ["PYTHONPATH"])


futures = types.ModuleType("futures")
vars(futures).update(
    vars(concurrent.futures),
    ProcessPoolExecutor=Pool,
    process=types.SimpleNamespace(_RemoteTraceback=mob.errors.RemoteTraceback),
)
REPLACED = {"assert_python_ok": run_script_with_mob, "BrokenProcessPool": BrokenExecutor, "futures": futures}
for module in MODULES:
    vars(module).update({name: value for name, value in REPLACED.items() if hasattr(module, name)})

for case in CASES:  # calls find them here
    globals()[case] = type(case, (MobMixin, theirs(case), theirs("BaseTestCase")), {"__module__": __name__})


def suite(left_out: Collection[str], expected: Collection[str]) -> unittest.TestSuite:
    """Return the tests, some of which are expected to fail, without those that are left out.

    The names are as in "WaitTests.test_timeout"; "WaitTests" leaves out them all.
    """
    found = unittest.TestSuite()
    for case in CASES:
        names = [f"{case}.{name}" for name in unittest.defaultTestLoader.getTestCaseNames(globals()[case])]
        for name in kept(names, names if case in left_out else left_out):
            test = globals()[case](name.partition(".")[2])
            if name in expected:
                unittest.expectedFailure(test)
            found.addTest(test)
    return found
