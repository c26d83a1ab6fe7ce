"""Calls, a hundred at once."""

import asyncio
import time
from time import perf_counter

import mob

back = mob.require("back")


async def at_once(name, n, width):
    export = getattr(back, name)
    start = perf_counter()
    for _ in range(n):
        await asyncio.gather(*(export(1) for _ in range(width)))
    return perf_counter() - start


def cpu():
    return time.process_time()
