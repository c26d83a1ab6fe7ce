"""Counts what all workers have made. Nobody else counts, so it needs no lock: its functions run one at a time."""

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
    """A thumbnail was made."""
    totals.pictures += 1
    totals.bytes_in += bytes_in
    totals.bytes_out += bytes_out
    totals.seconds += seconds
    mob.all("front").send(totals)  # whichever front a page is connected to, it hears of it


def refuse() -> None:
    """A file was none of which a thumbnail could be made."""
    totals.refused += 1
    mob.all("front").send(totals)


def so_far() -> Totals:
    """For a page that has just been opened."""
    return totals
