# Prices a book of options with the workers of a running app. Run it as a script, or cell by cell (VS Code, Jupyter).

# %% The app
import os
import sys
import time
from itertools import pairwise, product

import numpy as np
from asian import Option, estimates, geometric, moments
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

import mob

PATHS, STEPS = int(os.environ.get("PATHS", "400000")), 64
console = Console()
try:
    app = mob.connect("pricing")
except mob.AppNotRunning as error:
    sys.exit(f"{error}\nStart it first, in another terminal: python examples/pricing/main.py")
pricer = app.require("pricer")
workers = [member.pid for member in app.members() if member.role == "pricer" and member.state == "ready"]

# %% The scenarios: created once, visible to all workers
normals = np.random.default_rng(7).standard_normal((PATHS, STEPS), dtype="f4")


@app.on("join")
def give(member) -> None:
    """Send them also to a worker that is restarted during the run."""
    if member.role == "pricer":
        app.pid(member.pid).send(normals)


app.all("pricer").send(normals)  # one message to all of them, so one copy for all of them

# %% The book: one call for each option and part of the paths
book = [Option(strike, years) for strike, years in product((90, 95, 100, 105, 110), (0.5, 1, 2))]
edges = np.linspace(0, PATHS, 9, dtype=int).tolist()
parts = list(pairwise(edges))

began = time.perf_counter()
with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console) as progress:
    bar = progress.add_task("pricing", total=len(book) * len(parts))
    calls = {option: [pricer.price(option, *part) for part in parts] for option in book}
    for call in (call for calls_of_one in calls.values() for call in calls_of_one):
        call.add_done_callback(lambda _: progress.advance(bar))  # as they finish, in any order
    results = {option: [call.result() for call in calls_of_one] for option, calls_of_one in calls.items()}
took = time.perf_counter() - began

# %% The prices
table = Table("strike", "years", "price", "± 95 %", "geometric", "formula", "errors off")
for option, sums in results.items():
    (price, error), (known, its_error) = estimates(option, STEPS, *map(sum, zip(*sums, strict=True)))
    formula = geometric(option, STEPS)
    off = (known - formula) / its_error
    row = (f"{price:.4f}", f"{1.96 * error:.4f}", f"{known:.3f}", f"{formula:.3f}", f"{off:+.1f}")
    table.add_row(f"{option.strike}", f"{option.years}", *row)
console.print(table)

# %% Was anything copied? Each worker reports where its scenarios are
seen = app.all("pricer").call.where().result()
copies = len({(file, offset) for file, offset, _ in seen.values()})
parts_of_all = " + ".join(f"{part / 2**20:.0f}" for _, _, part in seen.values())
console.print(
    f"{normals.nbytes / 2**20:.0f} MiB of scenarios, {len(seen)} workers, copies for them: {copies}. "
    f"Memory that the system attributes to each: {parts_of_all} MiB."
)

# %% Was it worth it? A third of the book again, in this process alone
some = book[::3]
began = time.perf_counter()
for option in some:
    for first, last in parts:
        moments(option, normals[first:last])
alone = (time.perf_counter() - began) * len(book) / len(some)
console.print(
    f"{len(workers)} workers: {took:.2f} s. One process: {alone:.2f} s. {alone / took:.2f} times as fast, "
    f"on {os.cpu_count()} cores."
)
app.close()
