"""What both roles share: a separate module, which each of them imports."""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID


@dataclass
class Order:
    id: UUID
    items: list[str]
    total: Decimal
