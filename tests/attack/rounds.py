"""Rounds of examples: hypothesis makes them from a seed until the time is over, and makes a failing one small.

A round has a seed of its own, which is shown when it fails; with that seed it is the first one of the next run.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed as seeded, settings, strategies as st

T = TypeVar("T")
EXAMPLES = 200
"""Examples of a round."""
PHASES = (Phase.generate, Phase.shrink)


class Found(AssertionError):
    """An input that does harm, and the seed of its round."""

    def __init__(self, text: str, seed: int) -> None:
        super().__init__(text)
        self.seed = seed


CHECKS: list[Any] = list(HealthCheck)


def play(strategy: st.SearchStrategy[T], examine: Callable[[T], object], seed: int, examples: int = EXAMPLES) -> None:
    """One round; what `examine` raises is raised, for the smallest example that makes it do so."""

    @seeded(seed)
    @settings(max_examples=examples, database=None, deadline=None, phases=PHASES, suppress_health_check=CHECKS)
    @given(strategy)
    def look(example: T) -> None:
        examine(example)

    look()


def attack(
    name: str, strategy: st.SearchStrategy[Any], examine: Callable[[Any], object], seed: int, seconds: float
) -> int:
    """Rounds until the time is over; how many examples there were. `Found` names the seed of the round that failed."""
    deadline, count = monotonic() + seconds, 0

    def look(example: Any) -> None:
        nonlocal count
        count += 1
        examine(example)

    while monotonic() < deadline:
        try:
            play(strategy, look, seed)
        except Exception as error:
            raise Found(f"{name}, seed {seed}: {type(error).__name__}: {error}", seed) from error
        seed += 1
    return count
