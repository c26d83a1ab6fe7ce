"""A pydantic model of ten fields there and back, beside the same as a dict. `python -m bench.models`

The model goes to an export that is annotated with it, is validated there, goes back, and is validated for a typed
proxy. The dict goes to an export that is not annotated, and back. 100 calls are under way at any time; the rounds of
the two are interleaved, and the share is the median of the shares of the single rounds. The share of the processor time
of both processes says the same on a machine that is busy with something else.
"""

from __future__ import annotations

import argparse
from statistics import median

from bench.mob_side import APPS, PATIENCE, new_name, running

WIDTH = 100
WAYS = {"async def": ("model", "plain"), "def": ("model_in_turn", "plain_in_turn")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=5000, help="in a round of each (5000)")
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    with running(APPS / "models.py", new_name(), 2) as app:
        caller = app.client.require("caller")

        def rates(way: str) -> tuple[float, float]:
            seconds, used = caller.seconds(way, asked.calls, WIDTH).result(PATIENCE)
            return asked.calls / seconds, asked.calls / used

        for title, ways in WAYS.items():
            rounds = [[rates(way) for way in ways] for _ in range(asked.rounds)]
            model, plain = (median(each[side][0] for each in rounds) for side in (0, 1))
            share, of_cpu = (median(each[0][kind] / each[1][kind] for each in rounds) for kind in (0, 1))
            shares = f"share {share:.0%}   of processor time {of_cpu:.0%}"
            print(f"{title:10} model {model:8,.0f}/s   dict {plain:8,.0f}/s   {shares}", flush=True)


if __name__ == "__main__":
    main()
