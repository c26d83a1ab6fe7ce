"""Counts what all workers have made. It is one process and needs no lock: its functions run one at a time."""

from dataclasses import dataclass

import mob

__all__ = ["add", "refuse", "so_far"]


@dataclass
class Totals:
    pictures: int = 0
    refused: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0


totals = Totals()


def add(bytes_in: int, bytes_out: int, seconds: float) -> None:
    """Count a thumbnail."""
    totals.pictures += 1
    totals.bytes_in += bytes_in
    totals.bytes_out += bytes_out
    totals.seconds += seconds
    mob.all("front").send(totals)  # so every page gets them, on whichever front it is


def refuse() -> None:
    """Count a file of which no thumbnail could be made."""
    totals.refused += 1
    mob.all("front").send(totals)


def so_far() -> Totals:
    """Return the totals for a page that was just opened."""
    return totals
