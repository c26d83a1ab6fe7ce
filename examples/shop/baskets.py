"""What visitors have in their baskets. It lives in memory, and goes to the next process in a reload."""

from __future__ import annotations

import mob

baskets: dict[str, dict[str, int]] = {}


@mob.on("start")
def begin() -> None:
    """Go on with the baskets of the process before. After a crash, or at the first start, there are none."""
    baskets.update(mob.inherited() or {})


@mob.on("hand_over")
def pass_on() -> dict[str, dict[str, int]]:
    return baskets


@mob.export
async def show(visitor: str) -> dict[str, int]:
    return baskets.get(visitor, {})


@mob.export
async def add(visitor: str, good: str) -> dict[str, int]:
    basket = baskets.setdefault(visitor, {})
    basket[good] = basket.get(good, 0) + 1
    return basket


@mob.export
async def empty(visitor: str) -> None:
    baskets.pop(visitor, None)
