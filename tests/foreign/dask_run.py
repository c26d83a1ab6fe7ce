"""Runs Dask's own tests of bags and delayed functions with a `mob.Pool` as scheduler: `dask_run.py [--kill]`.

The pool is the scheduler of all that is computed with the default, with "processes" or with "sync". A test that
computes nothing there is skipped. With `--kill` a random worker is killed each second, and tasks are repeated.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.base
import dask.config
import dask.local
import dask.multiprocessing
import pytest

from tests.foreign.killer import Killer
from tests.foreign.pools import Watched

IS_KILLED = "--kill" in sys.argv
SUITE = "dask-killed" if IS_KILLED else "dask"
SEED = int(os.environ.get("SEED", "19"))
DASK = Path(dask.__file__).parent
FILES = ["bag/tests/test_bag.py", "tests/test_delayed.py", "tests/test_multiprocessing.py"]
PRELOAD = tuple(f"dask.{file.removesuffix('.py').replace('/', '.')}" for file in FILES)
"""The modules of the tests, which workers would have to import again after each death."""


class Counted(Watched):
    """A pool that knows how many tasks it was given."""

    submitted = 0

    def submit(self, fn: Any, /, *args: Any, **named: Any) -> Any:
        self.submitted += 1
        return super().submit(fn, *args, **named)


class OnPool:
    """Has Dask compute on a pool, and skips the tests that do not."""

    def __init__(self, pool: Counted) -> None:
        self.pool = pool
        in_pool = dask.multiprocessing.get = partial(dask.multiprocessing.get, pool=pool)
        dask.base.named_schedulers.update(processes=in_pool, sync=in_pool, synchronous=in_pool)
        dask.config.set(scheduler=pool)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        before = self.pool.submitted
        yield
        if self.pool.submitted == before:
            pytest.skip("computes nothing in the pool")


def main() -> int:
    options = ["-q", "-p", "no:cacheprovider", f"--rootdir={DASK.parent}", "-o", "addopts=", "-o", "filterwarnings="]
    options += ["-o", "xfail_strict=false", "--timeout=120", "-p", "tests.foreign.counting", f"--known={SUITE}"]
    options += [str(DASK / file) for file in FILES] + sys.argv[1 + IS_KILLED :]
    if not IS_KILLED:
        with Counted(2) as pool:
            return pytest.main(options, [OnPool(pool)])
    with (
        Counted(2, retries=20, preload=PRELOAD) as pool,
        Killer(lambda: pool.pids, SEED, answered=pool.all_answered) as killer,
    ):
        return pytest.main(options, [OnPool(pool)]) or not killer.count


if __name__ == "__main__":
    sys.exit(main())
