"""Episode after episode, and what is said when one fails."""

from __future__ import annotations

import traceback
from collections import Counter
from multiprocessing import Pool

from tests.simulation.episode import Episode
from tests.simulation.turmoil import play

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

    def add(self, other: Result) -> None:
        """Another run has come to that."""
        self.events += other.events
        self.episodes += other.episodes
        self.calls += other.calls
        self.deaths += other.deaths
        self.outcomes.update(other.outcomes)
        self.failure = self.failure or other.failure


def run(seed: int, events: int, length: int = EPISODE, step: int = 1) -> Result:
    """Runs episodes with the seeds `seed`, `seed + step`, ... until there were so many events, or one fails."""
    result = Result()
    while result.events < events:
        episode = Episode(seed + step * result.episodes, min(length, events))
        try:
            episode.run()
        except Exception as error:  # noqa: BLE001  also an error of the core is a failure with a seed
            result.failure = report(episode, error)
            return result
        result.events += episode.clock.events
        result.episodes += 1
        result.calls += episode.kingpin.ledger.made
        result.deaths += episode.kingpin.kills
        result.outcomes.update(episode.kingpin.ledger.outcomes)
    return result


def run_beside(seed: int, events: int, length: int, jobs: int) -> Result:
    """As `run`, in so many processes, each with every so-many-th seed; it ends with the first failure."""
    if jobs == 1:
        return run(seed, events, length)
    result = Result()
    with Pool(jobs) as pool:
        parts = [(seed + number, events // jobs, length, jobs) for number in range(jobs)]
        for part in pool.imap_unordered(_run_part, parts):
            result.add(part)
            if result.failure:
                break
    return result


def _run_part(part: tuple[int, int, int, int]) -> Result:
    return run(*part)


def play_machines(seed: int) -> str:
    """Plays an episode of several machines; what has failed, if anything."""
    try:
        play(seed, loss=(0.0, 0.1)[seed % 2])
    except Exception as error:  # noqa: BLE001  as above
        return f"machines, seed {seed}: {type(error).__name__}: {error}"
    return ""


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
