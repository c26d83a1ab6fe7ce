"""The tables of `python -m bench.fanout`, and what mob is meant to reach in them. Starts nothing, reads no clock.

A ratio is the median of the ratios of the single rounds, and is compared with its target in hundredths, as it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.measure import Figures, Row, as_time, table

PLAIN, MAPS, POOL = ("client", "role"), ("client .map", "role .map"), ("submit", "map")
SIDES = ("ideal", *PLAIN, *MAPS, *POOL)
BEST = "best of the pool"  # of submit and map in each round


@dataclass(frozen=True)
class Work:
    """Calls that take so long each: asleep, or busy."""

    milliseconds: float
    is_busy: bool = False

    @property
    def plain(self) -> str:
        return "burn" if self.is_busy else "nap"

    @property
    def single(self) -> str:
        """The function that does the same with one argument."""
        return "turn" if self.is_busy else "rest"

    def count(self, total: float) -> int:
        """Return how many calls keep two workers busy for about so many seconds."""
        return 2 * max(2, round(total * 1000 / self.milliseconds))

    def row(self) -> Row:
        title = f"{'busy' if self.is_busy else 'asleep'} for {self.milliseconds:g} ms"
        return Row(f"{self.plain}_{self.milliseconds:g}", title, as_time)


@dataclass(frozen=True)
class Target:
    """One line of the targets: the worst of `values`, each with its place, beside what is wanted."""

    title: str
    wanted: float
    values: Mapping[str, float | None]
    at_most: bool = False
    unit: str = ""

    def line(self) -> list[str]:
        known = {place: value for place, value in self.values.items() if value is not None}
        wanted = f"{'at most' if self.at_most else 'at least'} {self.wanted:g}{self.unit}"
        if not known:
            return [self.title, wanted, "-", "not measured"]
        place = (max if self.at_most else min)(known, key=lambda place: known[place])
        met = sum(map(self.is_met, known.values()))
        many = len(known) > 1
        verdict = "met" if met == len(known) else f"missed (met {met} of {len(known)})" if many else "missed"
        return [self.title, wanted, f"{known[place]:.2f}{self.unit}{f' ({place})' if many else ''}", verdict]

    def is_met(self, value: float) -> bool:
        shown = round(value, 2)
        return shown <= self.wanted if self.at_most else shown >= self.wanted


@dataclass
class Part:
    """What one part of the bench found, as text."""

    title: str
    tables: list[str]
    targets: list[Target] = field(default_factory=list)


def targets_table(targets: Iterable[Target]) -> str:
    return table(["", "wanted", "measured (worst)", ""], [target.line() for target in targets])


# ------------------------------------------------------------------------------------------ calls over two workers


def calls_table(figures: Figures, works: Sequence[Work], counts: Mapping[Work, int], chunks: Mapping[Work, int]) -> str:
    shown = [side for side in SIDES if any(figures.measured(work.row(), side) for work in works)]

    def cell(work: Work, side: str) -> str:
        row = work.row()
        seconds, share = figures.measured(row, side), figures.ratio(row, "ideal", side)
        if not seconds or share is None:
            return "-"
        chunk = f" by {chunks[work]}" if side == "map" else ""
        return as_time(median(seconds)) if side == "ideal" else f"{as_time(median(seconds))} {share:.2f}{chunk}"

    lines = ([f"{w.row().title} x {counts[w]}", *(cell(w, side) for side in shown)] for w in works)
    return table(["", *shown], lines)


def calls_targets(figures: Figures, works: Sequence[Work]) -> list[Target]:
    def share(works: Iterable[Work]) -> dict[str, float | None]:
        return {_place(w, side): figures.ratio(w.row(), "ideal", side) for w in works for side in PLAIN}

    asleep = [work for work in works if not work.is_busy]
    to_map = {_place(w, side): figures.ratio(w.row(), "map", side) for w in works for side in PLAIN}
    maps = zip(PLAIN, MAPS, strict=True)
    own_map = {_place(w, one): figures.ratio(w.row(), one, other) for one, other in maps for w in works}
    return [
        Target("calls of 1 to 100 ms, of ideal", 0.97, share(w for w in asleep if w.milliseconds >= 1)),
        Target("calls of 0.2 ms, of ideal", 0.85, share(w for w in asleep if w.milliseconds < 1)),
        Target("CPU-bound calls, of ideal", 0.97, share(w for w in works if w.is_busy)),
        Target("calls, beside `map` with its best chunk size", 1, to_map),
        Target("`.map` of mob, beside its plain calls", 1, own_map),
    ]


def busy_targets(figures: Figures, works: Sequence[Work]) -> list[Target]:
    values = {_place(w, side): figures.ratio(w.row(), BEST, side) for w in works for side in PLAIN}
    return [Target("beside a taken core: calls, to the best of ProcessPoolExecutor", 1, values)]


def _place(work: Work, side: str) -> str:
    return f"{work.row().title}, {side}"


# ------------------------------------------------------------------------------------------------- the other parts


def waiting_part(rounds: Mapping[int, Mapping[str, list[float]]], length: float) -> Part:
    """`rounds`: by calls pending and way to wait, the shares of a core."""
    ways = list(next(iter(rounds.values())))
    shares = {
        pending: {way: 100 * median(values) for way, values in found.items()} for pending, found in rounds.items()
    }
    lines = [[f"{pending:,} pending", *(f"{found[way]:.2f} %" for way in ways)] for pending, found in shares.items()]
    values = {f"{n:,}, {way}": found[way] for n, found in shares.items() if n > 2 for way in ways}
    return Part(
        f"CPU of a caller that waits, for two workers busy with calls of {length * 1000:g} ms: of one core",
        [table(["", *ways], lines)],
        [Target("CPU of a caller that waits, 3 to 10,000 pending", 0.5, values, at_most=True, unit=" %")],
    )


def callers_part(rounds: Mapping[int, list[float]]) -> Part:
    """`rounds`: by number of callers, calls per second."""
    one = rounds[min(rounds)]
    ratios = {n: median(b / a for a, b in zip(one, rates, strict=True)) for n, rates in rounds.items()}
    lines = [
        [f"{n} caller{'s' * (n > 1)}", f"{median(rates):.1f}/s", f"{ratios[n]:.3f}"] for n, rates in rounds.items()
    ]
    values: dict[str, float | None] = {f"{n} callers": ratio for n, ratio in ratios.items() if n > min(rounds)}
    return Part(
        "Two workers of CPU-bound calls of 20 ms, callers with 5 calls under way each",
        [table(["", "calls", "of one caller"], lines)],
        [Target("throughput of CPU-bound workers, of that with one caller", 0.97, values)],
    )


def fairness_part(rounds: Sequence[Sequence[int]], seconds: float) -> Part:
    """`rounds`: the calls done of each caller."""
    ratios = [max(done) / max(min(done), 1) for done in rounds]
    head = ["round", "all", "luckiest", "unluckiest", "ratio"]
    lines = [
        [f"{number}", f"{sum(done)}", f"{max(done)}", f"{min(done)}", f"{ratio:.2f}"]
        for number, (done, ratio) in enumerate(zip(rounds, ratios, strict=True), 1)
    ]
    return Part(
        f"Calls done by each of {len(rounds[0])} callers in {seconds:g} s: 5 ms asleep, two workers, 10 under way each",
        [table(head, lines)],
        [Target("luckiest to unluckiest caller", 1.2, {"": median(ratios)}, at_most=True)],
    )


def early_part(rounds: Mapping[str, list[list[int]]]) -> Part:
    """`rounds`: by caller, the calls that each worker has done."""
    spreads = {side: median(spread(done) for done in found) for side, found in rounds.items()}
    lines = [
        [side, ", ".join(map(str, sorted(found[-1]))), f"{100 * spreads[side]:.1f} %"] for side, found in rounds.items()
    ]
    values: dict[str, float | None] = {side: 100 * value for side, value in spreads.items()}
    return Part(
        "1,000 calls of 2 ms made before four workers are ready",
        [table(["", "calls of each worker, last round", "(most - least) / mean"], lines)],
        [Target("spread of calls made before the app is up", 10, values, at_most=True, unit=" %")],
    )


def spread(done: Sequence[int]) -> float:
    return (max(done) - min(done)) * len(done) / sum(done)


def scatter_part(one: Sequence[float], eight: Sequence[float]) -> Part:
    """Calls per second with one worker and with eight, by round."""
    ratio = median(b / a for a, b in zip(one, eight, strict=True))
    lines = [["1 worker", f"{median(one):,.0f}/s", ""], ["8 workers", f"{median(eight):,.0f}/s", f"{ratio:.2f}"]]
    return Part(
        "One caller of tiny calls, 10 under way",
        [table(["", "calls", "of one worker"], lines)],
        [Target("one caller and eight workers, of one and one", 0.9, {"": ratio})],
    )
