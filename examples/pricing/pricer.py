"""A worker: holds the scenarios that everybody prices with, and prices with a part of them."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import numpy as np
from asian import Option, moments

import mob

scenarios = np.empty((0, 0))
have_come = asyncio.Event()


@mob.on("message")
def take(normals: np.ndarray) -> None:
    """Scenarios for all. They lie in shared memory, and this is a view of it: read-only, and no copy."""
    global scenarios
    scenarios = normals
    have_come.set()


@mob.export(idempotent=True)  # if a worker dies of it, another one does it again
async def price(option: Option, first: int, last: int) -> tuple[int, np.ndarray, np.ndarray]:
    """The sums of these paths."""
    await have_come.wait()  # a worker that has just been revived has none yet
    return moments(option, scenarios[first:last])


@mob.export
async def where() -> tuple[int, int, int]:
    """Where the scenarios lie: the number of the memory's file, and where in it; and how much of them (in bytes) the
    system puts down to this process. Shared pages count a part for each process that has them."""
    await have_come.wait()
    address = scenarios.ctypes.data
    for mapping in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        if found := re.match(r"(\w+)-(\w+) \S+ (\w+) \S+ (\d+)", mapping):
            begin, end, offset = (int(number, 16) for number in found.groups()[:3])
            if begin <= address < end:
                (part,) = re.findall(r"(?m)^Pss: +(\d+) kB", mapping)
                return int(found[4]), offset + address - begin, int(part) * 1024
    raise LookupError(f"process {os.getpid()} has the scenarios nowhere in its memory")
