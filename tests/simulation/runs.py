"""Episode after episode, and what is said when one fails."""

from __future__ import annotations

import traceback
from collections import Counter

from tests.simulation.episode import Episode

EPISODE = 10_000
"""Events of one episode before the faults cease."""


class Result:
    """What a run has come to."""

    def __init__(self) -> None:
        self.events = 0
        self.episodes = 0
        self.calls = 0
        self.deaths = 0
        self.outcomes: Counter[str] = Counter()
        self.failure = ""

    def __str__(self) -> str:
        outcomes = ", ".join(f"{name} {count:,}" for name, count in self.outcomes.most_common())
        return (
            f"{self.events:,} events in {self.episodes} episodes, {self.calls:,} calls ({outcomes}), "
            f"{self.deaths:,} deaths"
        )


def run(seed: int, events: int, length: int = EPISODE) -> Result:
    """Runs episodes with the seeds `seed`, `seed + 1`, ... until there were so many events, or one fails."""
    result = Result()
    while result.events < events:
        episode = Episode(seed + result.episodes, min(length, events))
        try:
            episode.run()
        except Exception as error:  # noqa: BLE001  also an error of the core is a failure with a seed
            result.failure = report(episode, error)
            return result
        result.events += episode.clock.events
        result.episodes += 1
        result.calls += episode.kingpin.ledger.made
        result.deaths += sum(mobster.status == -9 for mobster in episode.kingpin.mobsters.values())
        result.outcomes.update(episode.kingpin.ledger.outcomes)
    return result


def report(episode: Episode, error: Exception) -> str:
    """What is shown of a failure."""
    length = episode.limit
    again = "" if length == EPISODE else f" --episode {length}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    lines = [
        *episode.clock.history(),
        f"seed {episode.seed}, event {episode.clock.events:,}: {type(error).__name__}: {error}",
        f"at {place.name}, line {place.lineno}",
        f'again: make simulate ARGS="--seed {episode.seed} --events {length}{again}"',
    ]
    return "\n".join(lines)
