"""Calls, from inside the mob, and gives back how long each call took."""

import asyncio
import itertools
import random
from time import perf_counter

import mob

SHORT, LONG, RARE = 0.001, 0.2, 0.01  # seconds; which part of the calls is long


async def spin(role, seconds, width):
    """`width` calls under way all the time."""
    echo, took = mob.require(role).echo, []
    end = perf_counter() + seconds

    async def one_after_another():
        now = perf_counter()
        while now < end:
            await echo(1)
            start, now = now, perf_counter()
            took.append(now - start)

    await asyncio.gather(*(one_after_another() for _ in range(width)))
    return took


def ways(role, pids):
    """Where the calls go, in turn: to `pids`, or where mob thinks best."""
    back = mob.require(role)
    works = [back.options(pid=pid).work for pid in pids] or [back.work]
    start = mob.me().index % len(works)  # so that the callers do not go round in step
    return itertools.cycle(works[start:] + works[:start])


async def paced(role, seconds, rate, seed, pids):
    """Calls at random moments, `rate` a second; the times of the short ones, from when each was due."""
    works, dice, took = ways(role, pids), random.Random(seed), []

    async def call(work, due, is_long):
        await work(LONG if is_long else SHORT)
        if not is_long:
            took.append(perf_counter() - due)

    due, end, calls = perf_counter(), perf_counter() + seconds, []
    while (due := due + dice.expovariate(rate)) < end:
        await asyncio.sleep(due - perf_counter())
        calls.append(asyncio.create_task(call(next(works), due, dice.random() < RARE)))
    await asyncio.gather(*calls)
    return took


async def steady(role, seconds, seed, pids):
    """One call after another; the times of the short ones."""
    works, dice, took = ways(role, pids), random.Random(seed), []
    end = perf_counter() + seconds
    while (start := perf_counter()) < end:
        is_long = dice.random() < RARE
        await next(works)(LONG if is_long else SHORT)
        if not is_long:
            took.append(perf_counter() - start)
    return took
