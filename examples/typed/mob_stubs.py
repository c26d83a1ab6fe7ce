"""What the roles of main.py export. Written by `mob stubs main.py`: write it anew, do not edit it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Protocol, Self, Unpack

import mob
from shop import Order


class Back(Protocol):
    """The exports of the role 'back'."""

    def order(self, items: list[str], discount: Decimal = ...) -> mob.Call[Order]:
        """Takes an order. `KeyError` for what is not sold here."""

    def menu(self, below: float = 100.0) -> mob.Call[set[str]]:
        """What is sold for less than that."""

    # A generator: iterate over the call, with `for` or `async for`.
    def prices(self) -> mob.Call[Iterator[tuple[str, Decimal]]]: ...

    def options(self, **changes: Unpack[mob.CallOptions]) -> Self:
        """A view of this proxy that calls with other options."""


class Front(Protocol):
    """The exports of the role 'front'."""

    def dine(self) -> mob.Call[None]: ...

    def options(self, **changes: Unpack[mob.CallOptions]) -> Self:
        """A view of this proxy that calls with other options."""
