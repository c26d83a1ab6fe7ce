"""The tables that are sent, and what is done with them where they arrive. The same for every side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

ROWS = 1_000_000


def _columns() -> dict[str, Any]:
    chance = np.random.default_rng(1)
    floats = {name: chance.random(ROWS) for name in "abc"}
    return {**floats, "d": np.arange(ROWS), "e": np.arange(ROWS)}


def _texts() -> dict[str, Any]:
    return {**_columns(), "s": [f"customer {number % 1000}" for number in range(ROWS)]}


MADE: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.DataFrame(_columns()),
    "polars": lambda: pl.DataFrame(_columns()),
    "pandas_texts": lambda: pd.DataFrame(_texts()),
    "polars_texts": lambda: pl.DataFrame(_texts()),
    "small": lambda: pd.DataFrame(_columns()).head(10),
}
TITLES = {
    "pandas": "pandas, 5 columns of numbers",
    "polars": "polars, 5 columns of numbers",
    "pandas_texts": "pandas, and a column of texts",
    "polars_texts": "polars, and a column of texts",
    "small": "pandas, 10 rows of 5 numbers",
}


def total(table: Any) -> float:
    """Return the sum of all numbers."""
    if isinstance(table, pl.DataFrame):
        return float(sum(table.select(pl.selectors.numeric()).sum().row(0)))
    return float(table.sum(numeric_only=True).sum())
