"""What visitors have in their baskets. The data is in memory, and is handed over to the next process in a reload.

Each basket has a number, which becomes the number of its order. So however often an order is sent, there is only one.
"""

from __future__ import annotations

import secrets
from collections import Counter
from typing import TypedDict

import mob


class Basket(TypedDict):
    number: str
    goods: dict[str, int]


baskets: dict[str, Basket] = {}
filled = mob.gauge("shop_baskets", "Baskets with something in them.")


@mob.on("start")
def begin() -> None:
    """Continue with the baskets of the previous process. After a crash, or at the first start, there are none."""
    baskets.update(mob.inherited() or {})
    filled.set(len(baskets))


@mob.on("hand_over")
def pass_on() -> dict[str, Basket]:
    return baskets


@mob.export(idempotent=True)
async def show(visitor: str) -> Basket:
    return baskets.get(visitor, Basket(number="", goods={}))


@mob.export
async def add(visitor: str, good: str) -> Basket:
    basket = baskets.get(visitor) or fill(visitor, {})
    basket["goods"][good] = basket["goods"].get(good, 0) + 1
    return basket


@mob.export(idempotent=True)
async def take_out(visitor: str, number: str, ordered: dict[str, int]) -> None:
    """Take an order out of its basket, once. What was added in the meantime stays, in a basket with a new number."""
    basket = baskets.get(visitor)
    if basket and basket["number"] == number:
        del baskets[visitor]
        if rest := Counter(basket["goods"]) - Counter(ordered):
            fill(visitor, dict(rest))
    filled.set(len(baskets))


def fill(visitor: str, goods: dict[str, int]) -> Basket:
    baskets[visitor] = Basket(number=secrets.token_hex(5), goods=goods)
    filled.set(len(baskets))
    return baskets[visitor]
