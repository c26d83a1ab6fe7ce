"""What both roles know: a module of its own, which each of them imports."""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID


@dataclass
class Order:
    id: UUID
    items: list[str]
    total: Decimal
