"""Runs CPython's tests of executors with a pool of mob: see `executors`.

With `--kill` random workers are killed meanwhile and the calls are repeated; tests that a repetition changes are left
out.
"""

from __future__ import annotations

import os
import sys
import unittest
from contextlib import nullcontext

from tests.foreign import executors
from tests.foreign.counting import Result
from tests.foreign.killer import Killer
from tests.foreign.known import EXPECTED, LEFT_OUT
from tests.foreign.pools import Pool

RETRIES = 20
"""How often a call is repeated whose worker was killed."""
EVERY = 1.0
"""Seconds from one kill to the next. Calls that sleep for six must end some day."""


def main(kill: bool) -> int:
    left_out = {**LEFT_OUT["executors"], **(LEFT_OUT["executors-killed"] if kill else {})}
    suite = executors.suite(left_out, EXPECTED["executors"])
    killer = Killer(Pool.all_pids, seed=int(os.environ.get("SEED", "7")), every=EVERY) if kill else None
    Pool.retries = RETRIES if kill else 0
    with killer or nullcontext():
        result = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(suite)
    return not result.wasSuccessful() or not result.testsRun or (killer is not None and not killer.count)


if __name__ == "__main__":
    sys.exit(main("--kill" in sys.argv))
