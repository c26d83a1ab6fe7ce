"""Calls of every kind, each answer compared; `some(n)` makes so many and returns how many it has made."""

import asyncio
import gc

import mob

back = mob.require("back")
KIB = 1024
SIZES = (64 * KIB, 200 * KIB, 1024 * KIB)
ROUND = 200
"""Ordinary calls in a round, half of them of `def` exports; besides them the rest of `one_round`."""


async def one_round(number):
    values = range(number, number + ROUND)
    calls = [(back.aecho if value % 2 else back.echo)(value) for value in values]
    assert await asyncio.gather(*calls) == list(values)
    made = ROUND
    assert await asyncio.gather(*(back.call_back(lambda n: 2 * n, n) for n in range(10))) == list(range(0, 20, 2))
    made += 20  # there, and the callback back
    assert [item async for item in back.items(70)] == list(range(70))  # more than a window
    stopped = back.items(1000)
    async for _ in stopped:
        break  # left early, so it is closed
    data = bytes([number % 256]) * SIZES[number // ROUND % len(SIZES)]
    assert bytes(await back.echo(data)) == data
    return made + 3


async def some(count):
    made = 0
    while made < count:
        made += await one_round(made)
    return made


def collect():
    gc.collect()
