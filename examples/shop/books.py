"""The books of the shop: one SQLite file, which every process opens itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

DATA = Path(__file__).with_name("data")
PATH = DATA / "shop.db"

TABLES = """
create table if not exists goods (name text primary key, cents integer not null);
create table if not exists orders (
    number text primary key, day text not null, cents integer not null, goods text not null, state text not null
);
insert or ignore into goods values ('Mug, blue', 900), ('Mug, green', 900), ('Teapot', 3400), ('Tea, 100 g', 650);
"""


@contextmanager
def opened() -> Iterator[sqlite3.Connection]:
    """Open the books for one transaction."""
    with closing(sqlite3.connect(PATH, timeout=30)) as books:
        books.row_factory = sqlite3.Row
        with books:
            yield books


def prepare() -> None:
    """Create the tables if they do not exist."""
    with opened() as books:
        books.execute("pragma journal_mode=wal")
        books.executescript(TABLES)


def goods() -> list[dict[str, Any]]:
    """Return all goods with their prices."""
    with opened() as books:
        return [dict(row) for row in books.execute("select name, cents from goods order by rowid")]


def accept(number: str, day: str, cents: int, goods: str) -> bool:
    """Record an order, once. Return whether it is new."""
    with opened() as books:
        row = (number, day, cents, goods)
        return books.execute("insert or ignore into orders values (?, ?, ?, ?, 'waiting')", row).rowcount == 1


def finish(number: str) -> bool:
    """Record that an order is packed. Return whether it was not packed before."""
    with opened() as books:
        change = "update orders set state = 'packed' where number = ? and state <> 'packed'"
        return books.execute(change, (number,)).rowcount == 1


def state(number: str) -> str | None:
    """Return the state of an order; None if there is none with that number."""
    with opened() as books:
        row = books.execute("select state from orders where number = ?", (number,)).fetchone()
        return row and row["state"]


def totals(day: str) -> dict[str, int]:
    """Return the number and the sum of a day's orders."""
    with opened() as books:
        return dict(
            books.execute(
                "select count(*) orders, coalesce(sum(cents), 0) cents from orders where day = ?", (day,)
            ).fetchone()
        )


def latest(count: int = 8) -> list[dict[str, Any]]:
    """Return the newest orders, newest first."""
    with opened() as books:
        rows = books.execute("select number, cents, state from orders order by rowid desc limit ?", (count,))
        return [dict(row) for row in rows]
