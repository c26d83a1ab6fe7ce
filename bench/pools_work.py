"""The functions that `python -m bench.pools` runs in pools, and the arrays that they take.

Limits: nothing here knows a pool. NumPy is imported where it is used, so that workers of other rows stay small.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from time import sleep, thread_time
from typing import Any

ARRAY = 10_000_000  # bytes
IN_MAIN = "def echo_in_main(value):\n    return value\n"


def echo(value: Any) -> Any:
    return value


def echo_in_main() -> Callable[[Any], Any]:
    """Define a function in `__main__` and return it: no worker that was not forked from here can import it."""
    main = sys.modules["__main__"].__dict__
    exec(IN_MAIN, main)
    return main["echo_in_main"]


def increment(value: int) -> int:
    return value + 1


def increment_all(values: list[int]) -> list[int]:
    """A chunk of a map, for what has no map of its own."""
    return list(map(increment, values))


def burn(seconds: float) -> int:
    """Use so much CPU time; return the pid."""
    end = thread_time() + seconds
    while thread_time() < end:
        pass
    return os.getpid()


def nap(seconds: float) -> int:
    sleep(seconds)
    return os.getpid()


def same(array: Any) -> Any:
    return array


def twice(array: Any) -> Any:
    return array * 2


def arrays(n: int) -> Iterator[Any]:
    """Yield n arrays, each made when it is asked for."""
    import numpy

    for i in range(n):
        yield numpy.full(ARRAY // 8, float(i))
