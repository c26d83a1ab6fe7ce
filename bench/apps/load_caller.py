"""Calls, from inside the mob, and gives back how long each call took."""

import asyncio
import random
from time import perf_counter

import mob


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


async def paced(role, seconds, rate, seed, pids):
    """Calls at random moments, `rate` a second, one in a hundred slow; the times of the short ones, from when each
    was due. With `pids` to those in turn, else where mob thinks best."""
    back, dice, took = mob.require(role), random.Random(seed), []
    works = [back.options(pid=pid).work for pid in pids] or [back.work]
    turn = mob.me().index

    async def call(work, due, slow):
        await work(0.2 if slow else 0.001)
        if not slow:
            took.append(perf_counter() - due)

    due, end, calls = perf_counter(), perf_counter() + seconds, []
    while (due := due + dice.expovariate(rate)) < end:
        await asyncio.sleep(due - perf_counter())
        calls.append(asyncio.create_task(call(works[turn % len(works)], due, dice.random() < 0.01)))
        turn += 1
    await asyncio.gather(*calls)
    return took
