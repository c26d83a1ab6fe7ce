"""`python -m bench.batches`: inference one by one and in batches. Writes bench/BATCHES.md.

A network of two layers in NumPy (1024 x 4096 x 1024, 32-bit) in one worker, its weights larger than the processor's
caches for one core: a single input reads all of them, and so does a batch. Callers are 64 tasks of one client; each
calls again as soon as it is answered. Rounds of the ways alternate; figures are medians.

Limits: NumPy may use one thread, because the caller needs the other core. A GPU gains more, and a model that is busy
with each input by itself gains nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import numpy as np

import mob
from bench.measure import cpu_model, versions
from bench.mob_side import new_name

REPORT = Path(__file__).with_name("BATCHES.md")
MODEL = """
import mob
import numpy as np

rng = np.random.default_rng(0)
first = rng.standard_normal((1024, 4096), dtype=np.float32)
second = rng.standard_normal((4096, 1024), dtype=np.float32)

def forward(inputs):
    return (np.maximum(inputs @ first, 0) @ second).argmax(axis=-1)

@mob.export
def single(picture: np.ndarray) -> int:
    return int(forward(picture))

@mob.export(batch=32)
def batch(pictures: list[np.ndarray]) -> list[int]:
    return forward(np.stack(pictures)).tolist()

@mob.export(batch=32, within=0.005)
def batch_within(pictures: list[np.ndarray]) -> list[int]:
    return forward(np.stack(pictures)).tolist()
"""
WAYS = {
    "single": "one by one",
    "batch": "`batch=32`",
    "batch_within": "`batch=32, within=0.005`",
}
CALLERS = (1, 8, 64)


async def load(export: Any, callers: int, seconds: float) -> tuple[float, list[float]]:
    """Return calls per second, and how long each call took."""
    picture = np.ones(1024, np.float32)
    times: list[float] = []
    began = perf_counter()

    async def call_again() -> None:
        while (start := perf_counter()) < began + seconds:
            await export(picture)
            times.append(perf_counter() - start)

    await asyncio.gather(*[call_again() for _ in range(callers)])
    return len(times) / (perf_counter() - began), times


def measured(rounds: int, seconds: float) -> list[str]:
    rates: dict[tuple[str, int], list[float]] = {}
    times: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "model.py").write_text(MODEL)
        app = mob.start(new_name()).base(directory)
        app.role("model", "./model.py", env={"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})
        with app.up() as client:
            model = client.require("model")
            for _ in range(rounds + 1):  # the first is to warm up
                for way in WAYS:
                    for callers in CALLERS:
                        rate, found = asyncio.run(load(getattr(model, way), callers, seconds))
                        rates.setdefault((way, callers), []).append(rate)
                        times.setdefault((way, callers), []).extend(found)
    head = " | ".join(f"{callers} callers" if callers > 1 else "1 caller" for callers in CALLERS)
    title = "calls per second (median, 99th percentile of a call in ms)"
    lines = [f"| {title} | {head} |", "|---|" + "---|" * len(CALLERS)]
    for way, name in WAYS.items():
        cells = []
        for callers in CALLERS:
            taken = [1000 * each for each in times[way, callers]]
            rate, slow = median(rates[way, callers][1:]), quantiles(taken, n=100)[98]
            cells.append(f"{rate:,.0f} ({median(taken):.1f}, {slow:.1f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Inference one by one and in batches.")
    parser.add_argument("--quick", action="store_true", help="to see that it works, not to quote")
    is_quick = parser.parse_args().quick
    lines = measured(1, 0.5) if is_quick else measured(5, 2.0)
    print("\n".join(lines))
    if not is_quick:
        head = ["# Batches", "", "Written by `python -m bench.batches`, which says what is measured.", ""]
        foot = ["", f"{cpu_model()}, {os.cpu_count()} cores; {versions(('numpy',))}."]
        REPORT.write_text("\n".join([*head, *lines, *foot]) + "\n")


if __name__ == "__main__":
    main()
