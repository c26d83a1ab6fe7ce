"""Makes the calls, always so many at once, and says how many seconds they took."""

import asyncio
from time import perf_counter, process_time
from typing import Protocol

from models_order import ORDER, Order

import mob


class Back(Protocol):
    def model(self, order: Order) -> mob.Call[Order]: ...
    def model_in_turn(self, order: Order) -> mob.Call[Order]: ...


typed, untyped = mob.require("back", Back), mob.require("back")
DUMP = ORDER.model_dump()


async def seconds(way: str, calls: int, width: int) -> tuple[float, float]:
    """The time of that many calls of an export, each with the order and back; and what they took of processors."""
    is_model = way.startswith("model")
    export, order = getattr(typed if is_model else untyped, way), ORDER if is_model else DUMP
    found = await export(order)
    assert found == order
    assert type(found) is type(order)
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            await export(order)

    used = process_time() + await untyped.cpu()
    began = perf_counter()
    await asyncio.gather(*(caller() for _ in range(width)))
    return perf_counter() - began, process_time() + await untyped.cpu() - used
