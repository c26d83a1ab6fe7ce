"""The tables of load_side.py. Starts nothing and imports no mob.

Each figure is the median over the rounds; a ratio is the median of the ratios of the single rounds.
"""

from __future__ import annotations

from statistics import median

from bench.measure import as_rate, as_time, significant, table

STEPS = (1, 2, 4, 8)
WIDTH = 10  # calls under way per caller
RATE = 40  # calls per second from each caller, at a pace
MOB, TURN = "chosen by mob", "each worker in turn"

Cell = tuple[float, float, float]  # calls per second, p50 and p99 in seconds


def grid_table(rounds: list[list[list[Cell]]]) -> str:
    def cell(callers: int, workers: int) -> str:
        rate, half, most = (median(values) for values in zip(*(one[callers][workers] for one in rounds), strict=True))
        return f"{as_rate(1 / rate)} {as_time(half)} / {as_time(most)}"

    title = f"## Callers by workers\n\nCalls per second, p50 / p99 of a call; {WIDTH} under way per caller, awaited."
    head = ["", *(f"{count} worker{'s' * (count > 1)}" for count in STEPS)]
    indices = range(len(STEPS))
    lines = ([f"{STEPS[row]} caller{'s' * (row > 0)}", *(cell(row, column) for column in indices)] for row in indices)
    return f"{title}\n\n{table(head, lines)}"


def overload_table(rounds: list[dict[str, list[float]]]) -> str:
    title = (
        "## Short calls behind slow ones\n\n8 callers, 4 workers; 99 of 100 calls take 1 ms, one takes 200 ms. "
        f"At a pace: {RATE} calls a second from each caller, 30 % of what the workers can do."
    )
    lines = []
    for index, row in enumerate(("p99 of short calls behind slow ones", "p90 of the same", "p99, one after another")):
        mob, turn = (median(one[way][index] for one in rounds) for way in (MOB, TURN))
        ratio = median(one[TURN][index] / one[MOB][index] for one in rounds)
        lines.append([row, as_time(mob), as_time(turn), significant(ratio)])
    return f"{title}\n\n{table(['', MOB, TURN, 'ratio'], lines)}"
