"""A model of ten fields, of the kinds that an order has."""

import datetime as dt

from pydantic import BaseModel, Field


class Order(BaseModel):
    number: int
    customer: str
    mail: str
    paid: bool = False
    total: float = Field(ge=0)
    currency: str = "EUR"
    tags: list[str] = []
    lines: dict[str, int] = {}
    at: dt.datetime
    note: str | None = None


ORDER = Order(
    number=4711,
    customer="Ann Example",
    mail="ann@example.org",
    paid=True,
    total=129.5,
    tags=["new", "gift"],
    lines={"tea": 2, "cake": 1},
    at=dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
)
