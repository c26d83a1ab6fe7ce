"""Calls, from inside the mob. Each export does n units of one row and returns the seconds that they took."""

import asyncio
from time import perf_counter

import numpy

import mob

back = mob.require("back")
subscribers = mob.all("sub")


def blocking(n):
    echo = back.echo
    start = perf_counter()
    for _ in range(n):
        echo(1).result()
    return perf_counter() - start


async def awaited(n):
    echo = back.echo
    start = perf_counter()
    for _ in range(n):
        await echo(1)
    return perf_counter() - start


async def at_once(n, width):
    echo = back.echo
    start = perf_counter()
    for _ in range(n):
        await asyncio.gather(*(echo(1) for _ in range(width)))
    return perf_counter() - start


async def megabyte(n, size):
    echo, value = back.echo, bytes(size)
    start = perf_counter()
    for _ in range(n):
        reply = await echo(value)
    spent = perf_counter() - start
    assert len(reply) == size
    return spent


async def array(n, size):
    echo, value = back.echo, numpy.zeros(size // 8)
    start = perf_counter()
    for _ in range(n):
        reply = await echo(value)
    spent = perf_counter() - start
    assert reply.nbytes == value.nbytes
    return spent


class Round:
    """How many subscribers have yet to say that they have the whole burst."""

    missing = 0
    complete = asyncio.Event()


def done():
    Round.missing -= 1
    if Round.missing == 0:
        Round.complete.set()


async def broadcast(n, burst, count, size):
    await subscribers.call.expect(burst)
    message = bytes(size)
    start = perf_counter()
    for _ in range(n):
        Round.missing = count
        Round.complete.clear()
        for _ in range(burst):
            subscribers.send(message)
        await Round.complete.wait()
    return perf_counter() - start
