"""Options that may be written as text: sizes in bytes ("500M") and numbers of workers ("cores").

`plan.py` has only plain numbers. Code that reads options from a person converts them here first: `App.role`, a
`mob.toml`, a main script that is read without being run. Floor 0: the number of cores is passed in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from mob.errors import PlanError

SIZES = frozenset({"shared_memory", "max_memory", "frame_limit", "backlog", "max_bytes"})
"""Options that are a number of bytes."""
COUNTS = frozenset({"workers", "max_workers"})
"""Options that are a number of workers."""

UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
"""Powers of 1024, the base that Docker and systemd use."""
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])I?)?B?", re.ASCII | re.IGNORECASE)
WORKERS = re.compile(r"cores(?:\s*([-+*/])\s*(\d{1,4}))?", re.ASCII)


def size_of(text: str) -> int:
    """Return the number of bytes that a text means; raise `ValueError` if it is not a size.

    >>> size_of("500M"), size_of("1.5 GiB"), size_of("64 kB"), size_of("500Mi"), size_of("4096")
    (524288000, 1610612736, 65536, 524288000, 4096)
    """
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    return round(Fraction(found[1]) * 1024 ** UNITS[(found[2] or "").upper()])


def workers_of(text: str, cores: int) -> int:
    """Return the number of workers, at least 1, that a text means with these cores; `ValueError` if it is not one.

    >>> workers_of("cores", 8), workers_of("cores*2", 8), workers_of("cores - 1", 8), workers_of("cores/2", 1)
    (8, 16, 7, 1)
    """
    found = WORKERS.fullmatch(text.strip())
    if found is None or (found[1] == "/" and int(found[2]) == 0):
        raise ValueError(text)
    number = int(found[2] or 0)
    counts = {None: cores, "+": cores + number, "-": cores - number, "*": cores * number}
    return max(1, counts[found[1]] if found[1] in counts else cores // number)


def settled(options: Mapping[str, Any], cores: Callable[[], int]) -> dict[str, Any]:
    """Return the options with text replaced by numbers; raise `PlanError` for one that cannot be read.

    `cores` is called if a number of workers depends on the number of cores.

    >>> settled({"max_memory": "1k", "workers": "cores*2", "loop": "asyncio"}, lambda: 4)
    {'max_memory': 1024, 'workers': 8, 'loop': 'asyncio'}
    """
    return {option: _number(option, value, cores) for option, value in options.items()}


def _number(option: str, value: Any, cores: Callable[[], int]) -> Any:
    if not isinstance(value, str):
        return value
    try:
        if option in SIZES:
            return size_of(value)
        if option in COUNTS:
            return workers_of(value, cores())
    except ValueError:
        wanted = (
            'a size. Expected: a number of bytes, or one with k, M, G or T, such as "500M" or "1.5G"'
            if option in SIZES
            else 'a number of workers. Expected: a whole number of at least 1, "cores", or one such as "cores*2"'
        )
        raise PlanError(f"{option}={value!r} is not {wanted}.") from None
    return value
