"""Calls, from inside the mob. Each export does n units of one row and returns the seconds that they took."""

import asyncio
from time import perf_counter

import mob

back = mob.require("back")


async def at_once(n, width):
    echo = back.echo
    start = perf_counter()
    for _ in range(n):
        await asyncio.gather(*(echo(1) for _ in range(width)))
    return perf_counter() - start


async def awaited(n):
    echo = back.echo
    start = perf_counter()
    for _ in range(n):
        await echo(1)
    return perf_counter() - start


async def payload(n, size):
    value = bytes(size)
    start = perf_counter()
    for _ in range(n):
        assert await back.size(value) == size
    return perf_counter() - start
