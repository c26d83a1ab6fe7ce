"""Lines of `mob top` about timers, durable jobs and stores, above the table: one for each that the app has.

Pure: the time is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence

from mob import beside
from mob.beside import Look
from mob.cli.shown import duration, size
from mob.core.jobs import JobState

StyledText = tuple[str, str]
"""A text and its style."""
SHOWN_FAILING = 3
"""Number of failing timers that are named; the rest are counted."""


def asides(looks: Sequence[Look], now: float) -> list[list[list[StyledText]]]:
    """Return the lines, each as a list of parts, the most important first. `now`: seconds since the epoch."""
    return [line for line in (_timers(looks, now), _jobs(looks), _stores(looks)) if line]


def _timers(looks: Sequence[Look], now: float) -> list[list[StyledText]]:
    known = [each for _, each in beside.timers(looks)]
    if not known:
        return []
    parts: list[list[StyledText]] = [[(" timers ", "dim"), (f"{len({each.label for each in known}):,}", "")]]
    failing = list(dict.fromkeys(each.label for each in known if each.outcome not in beside.OK))
    if failing:
        more = f" and {len(failing) - SHOWN_FAILING:,} more" if len(failing) > SHOWN_FAILING else ""
        parts.append([("failing ", "dim"), (", ".join(failing[:SHOWN_FAILING]) + more, "bold red")])
    if due := [(each.next, each.label) for each in known if each.next]:
        when, label = min(due)
        soon = f"in {duration(when - now)}" if when - now >= 1 else "now"
        parts.append([("next ", "dim"), (f"{label} {soon}", "")])
    return parts


def _jobs(looks: Sequence[Look]) -> list[list[StyledText]]:
    by_role = [counts for _, metrics in looks for counts in beside.jobs(metrics).values()]
    if not by_role:
        return []
    counts = beside.total(by_role)
    styles = {JobState.DEAD: "bold red", JobState.WAITING: "yellow"}
    shown = [(f"{counts[state]:,} {state}", styles.get(state, "")) for state in JobState if counts.get(state)]
    first, *others = shown or [("none", "")]
    return [[(" jobs ", "dim"), first], *([other] for other in others)]


def _stores(looks: Sequence[Look]) -> list[list[StyledText]]:
    parts: list[list[StyledText]] = []
    for _, metrics in looks:
        for name, store in beside.stores(metrics).items():
            keys = "1 key" if store.keys == 1 else f"{store.keys:,} keys"
            hits = "" if store.hit_rate is None else f", {store.hit_rate:.0%} hits"
            parts.append([(f"{name} ", "dim"), (f"{keys}, {size(store.bytes)}{hits}", "")])
    if parts:
        parts[0].insert(0, (" store ", "dim"))
    return parts
