"""Sums tables."""

from bench.tables_work import total

__all__ = ["total"]
