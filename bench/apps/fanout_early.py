"""Calls workers that are not ready yet, while it is imported itself."""

import asyncio

import mob

late = mob.require("late")
calls = [late.who(0.002) for _ in range(1000)]


async def answers():
    return await asyncio.gather(*calls)
