"""`python -m tests.attack`: all fuzzers, or those that are named, for so many seconds each.

The seed is shown; with `--seed` the same inputs come again. The exit status is 1 if one was found that does harm.
"""

from __future__ import annotations

import argparse
import resource
import sys
import traceback
from random import SystemRandom

import psutil

from tests.attack.pure import PURE
from tests.attack.rounds import Found, attack
from tests.attack.running import RUNNING, target

ROOM = 2 * 1024**3
"""Bytes of address space that inputs may take here; what takes more fails with `MemoryError`."""


def assault(name: str, seed: int, seconds: float) -> int:
    """One fuzzer; how many inputs there were."""
    if name in PURE:
        strategy, examine = PURE[name]
        return attack(name, strategy, examine, seed, seconds)
    strategy, examiner = RUNNING[name]
    with target() as found:
        return attack(name, strategy, examiner(found), seed, seconds)


def main() -> int:
    """The command line; the exit status."""
    names = [*PURE, *RUNNING]
    parser = argparse.ArgumentParser("python -m tests.attack", description=__doc__)
    parser.add_argument("fuzzers", nargs="*", metavar="FUZZER", help=f"{', '.join(names)} (all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each lasts (60)")
    parser.add_argument("--seed", type=int, default=None, help="the seed of the first round (a random one)")
    options = parser.parse_args()
    if unknown := [name for name in options.fuzzers if name not in names]:
        parser.error(f"there is no fuzzer {unknown[0]!r}; there are {', '.join(names)}.")
    seed = SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    status = 0
    for name in options.fuzzers or names:
        print(f"{name}: seed {seed}, {options.seconds:g} s", flush=True)
        if name in PURE:
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + ROOM, hard))
        try:
            print(f"{name}: {assault(name, seed, options.seconds):,} inputs, none does harm", flush=True)
        except Exception as error:  # noqa: BLE001  whatever it is, the others have their turn, and the status tells
            traceback.print_exc()
            again = error.seed if isinstance(error, Found) else seed
            print(f'again: make attack ARGS="{name}" SEED={again}', file=sys.stderr, flush=True)
            status = 1
        finally:
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    return status


if __name__ == "__main__":
    sys.exit(main())
