"""The back office. An order arrives as a durable job: if anything crashes, the job is repeated until it is done."""

from __future__ import annotations

import json
import time

import books

import mob

packed = mob.counter("shop_orders", "Orders that were packed.")
values = mob.histogram("shop_order_euros", "What an order is worth.", buckets=(10, 20, 50, 100, 200))
baskets = mob.require("baskets")

books.prepare()


@mob.export
def pack(number: str, visitor: str, day: str, cents: int, goods: dict[str, int]) -> None:
    """Pack an order. This may run again for the same order if a worker crashes: each step is safe to repeat.

    The first two steps are those of `place_order`, which may have crashed before them.
    """
    if books.state(number) == "packed":
        return
    if books.accept(number, day, cents, json.dumps(goods)):
        tell()
    baskets.take_out(visitor, number, goods).result()
    time.sleep(0.3)  # someone walks to the shelf
    if books.finish(number):
        packed.inc()
        values.observe(cents / 100)
    tell()


def tell() -> None:
    """Tell all open pages that an order changed."""
    mob.all("front").send("orders changed")
