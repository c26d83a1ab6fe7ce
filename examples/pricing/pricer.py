"""A worker: holds the scenarios that all workers use, and prices options with a part of them."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import numpy as np
from asian import Option, moments

import mob

scenarios = np.empty((0, 0))
have_arrived = asyncio.Event()


@mob.on("message")
def take(normals: np.ndarray) -> None:
    """Take the scenarios. They are in shared memory, and this is a read-only view of it, not a copy."""
    global scenarios
    scenarios = normals
    have_arrived.set()


@mob.export(idempotent=True)  # if a worker crashes, another one repeats the call
async def price(option: Option, first: int, last: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the statistics of these paths."""
    await have_arrived.wait()  # a worker that was just restarted has none yet
    return moments(option, scenarios[first:last])


@mob.export
async def where() -> tuple[int, int, int]:
    """Return where the scenarios are: the number of the memory's file, the offset, and the attributed bytes.

    Of a shared page the system attributes a part to each process that has it.
    """
    await have_arrived.wait()
    address = scenarios.ctypes.data
    for mapping in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        if found := re.match(r"(\w+)-(\w+) \S+ (\w+) \S+ (\d+)", mapping):
            begin, end, offset = (int(number, 16) for number in found.groups()[:3])
            if begin <= address < end:
                (part,) = re.findall(r"(?m)^Pss: +(\d+) kB", mapping)
                return int(found[4]), offset + address - begin, int(part) * 1024
    raise LookupError(f"process {os.getpid()} does not have the scenarios in its memory")
