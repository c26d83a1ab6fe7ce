"""The back office. An order arrives as a durable job: after a crash of anything it is done again, until it is done."""

from __future__ import annotations

import time

import books

import mob

taken = mob.counter("shop_orders", "Orders that were packed.")
values = mob.histogram("shop_order_euros", "What an order is worth.", buckets=(10, 20, 50, 100, 200))

books.prepare()


@mob.export
def pack(number: str, day: str, cents: int, goods: str) -> str:
    """Pack an order. It may run twice for one order, if a worker dies: what it writes is the same each time."""
    tell(number, day, cents, goods, "waiting")
    time.sleep(0.3)  # somebody walks to the shelf
    tell(number, day, cents, goods, "packed")
    taken.inc()
    values.observe(cents / 100)
    return number


def tell(number: str, day: str, cents: int, goods: str, state: str) -> None:
    """Write the state of an order down, and have all open pages show it."""
    books.write(number, day, cents, goods, state)
    mob.all("front").send("orders changed")
