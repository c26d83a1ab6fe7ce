"""`python -m tests.simulation`: so many events, episode after episode, each with a seed of its own.

At the first violation its seed, the event, what happened last and the invariant are shown, and the exit status is 1;
`--seed` with the seed that was shown runs that very episode first. Episodes are spread over all processors.
"""

from __future__ import annotations

import argparse
import os
import sys
from multiprocessing import Pool
from random import SystemRandom
from time import perf_counter

from tests.simulation.runs import EPISODE, play_machines, run_beside

FOR_MACHINES = 20_000
"""Events of one machine for one episode of several."""


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser("python -m tests.simulation", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000, help="how many events (10,000,000)")
    parser.add_argument("--seed", type=int, default=None, help="the seed of the first episode (a random one)")
    parser.add_argument("--episode", type=int, default=EPISODE, help=f"events of one episode under fire ({EPISODE:,})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at most (one per processor)")
    options = parser.parse_args()
    jobs = max(1, min(options.jobs, options.events // options.episode))
    seed = SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}: {options.events:,} events")
    begun = perf_counter()
    result = run_beside(seed, options.events, options.episode, jobs)
    if result.failure:
        print(result.failure, file=sys.stderr)
        return 1
    machines = options.events // FOR_MACHINES
    with Pool(jobs) as pool:
        for failure in pool.imap_unordered(play_machines, range(seed, seed + machines)):
            if failure:
                print(failure, file=sys.stderr)
                return 1
    print(f"{result}, and {machines} of machines, in {perf_counter() - begun:.1f} s: every invariant holds.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
