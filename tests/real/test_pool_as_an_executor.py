"""What code that knows `ProcessPoolExecutor` expects of any executor, beyond what it computes."""

from __future__ import annotations

import time
from typing import Any

import pytest

import mob
from tests.patience import PATIENCE

SECONDS = 0.3


@pytest.mark.parametrize("threads", [1, 2])
def test_a_worker_that_must_be_set_up_first_does_not_make_a_function_seem_short(threads: int) -> None:
    with mob.Pool(1, threads=threads) as pool:
        pool.submit(time.sleep, SECONDS).result(PATIENCE)
        tasks: Any = pool._tasks
        (export,) = tasks._exports.values()
        deadline = time.monotonic() + PATIENCE
        while not (microseconds := tasks.peer.context.cost_of(export.mark)):
            assert time.monotonic() < deadline, "nothing was measured"
        assert microseconds >= 0.9 * SECONDS * 1e6
