"""Takes orders. The annotations give the types of arguments here, and of results at the caller."""

import uuid
from collections.abc import Iterator
from decimal import Decimal

from shop import Order

PRICES = {"tea": Decimal("2.50"), "cake": Decimal("3.20")}


def order(items: list[str], discount: Decimal = Decimal(0)) -> Order:
    """Take an order. `KeyError` for items that are not sold here."""
    return Order(uuid.uuid4(), items, sum((PRICES[item] for item in items), Decimal(0)) - discount)


async def menu(below: float = 100.0) -> set[str]:
    """Return the items that cost less than that."""
    return {item for item, price in PRICES.items() if price < below}


def prices() -> Iterator[tuple[str, Decimal]]:
    yield from PRICES.items()
