"""Calls, from inside the mob."""

import asyncio
from collections import deque
from time import monotonic, perf_counter, process_time

import fanout_ways

import mob

work = mob.require("work")


def plain(name, n, argument):
    return fanout_ways.plain(work, name, n, argument)


def mapped(name, n, argument):
    return fanout_ways.mapped(work, name, n, argument)


def held(pending, seconds, length):
    return fanout_ways.held(work, pending, seconds, length)


async def awaited(pending, seconds, length):
    """As `fanout_ways.held`, on the loop."""
    calls = deque(work.nap(0, length) for _ in range(pending))

    async def turn():
        if calls:
            await calls.popleft()
            calls.append(work.nap(0, length))
        else:
            await asyncio.sleep(seconds)

    await turn()
    spent, start = process_time(), perf_counter()
    while perf_counter() - start < seconds:
        await turn()
    share = (process_time() - spent) / (perf_counter() - start)
    for call in calls:
        call.cancel()
    return share


async def kept(name, argument, begin, seconds, width):
    """Keep `width` calls under way from `begin` (monotonic) on; return how many are done after so many seconds."""
    export, end, done = getattr(work, name), begin + seconds, 0

    async def one_after_another():
        nonlocal done
        while monotonic() < end:
            await export(0, argument)
            done += monotonic() < end

    await asyncio.sleep(begin - monotonic())
    await asyncio.gather(*(one_after_another() for _ in range(width)))
    return done
