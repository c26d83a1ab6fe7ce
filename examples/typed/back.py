"""Takes orders. The annotations say what arrives: of arguments here, of results at the caller."""

import uuid
from collections.abc import Iterator
from decimal import Decimal

from shop import Order

PRICES = {"tea": Decimal("2.50"), "cake": Decimal("3.20")}


def order(items: list[str], discount: Decimal = Decimal(0)) -> Order:
    """Takes an order. `KeyError` for what is not sold here."""
    return Order(uuid.uuid4(), items, sum((PRICES[item] for item in items), Decimal(0)) - discount)


async def menu(below: float = 100.0) -> set[str]:
    """What is sold for less than that."""
    return {item for item, price in PRICES.items() if price < below}


def prices() -> Iterator[tuple[str, Decimal]]:
    yield from PRICES.items()
