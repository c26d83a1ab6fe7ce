"""The command `mob chaos`: reads the options, shows the progress, prints the report."""

from __future__ import annotations

import random
import shutil
import signal
import statistics
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
from rich import box
from rich.console import Console
from rich.table import Table

from mob.cli.chaos.conductor import ChaosReport, ChaosRun
from mob.cli.chaos.faults import CLUSTER_KINDS, FAULT_INTERVAL, KINDS, ChaosFault, schedule
from mob.cli.chaos.ledger import CallKind, CallOutcome, Judgement
from mob.errors import MobError

ALL_KINDS = {**KINDS, **CLUSTER_KINDS}
COLUMNS = {
    "right": (CallOutcome.RIGHT,),
    'failed, "no"': (CallOutcome.NO,),
    '"maybe"': (CallOutcome.MAYBE,),
    '"yes"': (CallOutcome.YES,),
    "quarantined": (CallOutcome.REFUSED,),
    "caller died": (CallOutcome.BEGUN,),
    "wrong": (CallOutcome.WRONG,),
    "hung": (CallOutcome.HUNG,),
}


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--seed", type=int, help="Repeat the faults of an earlier run. Default: a random seed, which is printed.")
@click.option(
    "--minutes",
    type=click.FloatRange(0.05),
    default=1.0,
    show_default=True,
    help="Minutes during which faults are injected.",
)
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    default=FAULT_INTERVAL,
    show_default=True,
    help="Average number of seconds between two faults.",
)
@click.option(
    "--call", "calls", multiple=True, metavar="ROLE.EXPORT", help="Also call this export of the app, without arguments."
)
@click.option("--without", multiple=True, type=click.Choice(list(ALL_KINDS)), help="Leave out this kind of fault.")
@click.option("--only", multiple=True, type=click.Choice(list(ALL_KINDS)), help="Inject only this kind of fault.")
@click.option(
    "--nodes",
    type=click.IntRange(1, 9),
    default=1,
    show_default=True,
    help="Number of cluster nodes to run on this machine, with a NATS server of their own; they are attacked too.",
)
@click.argument("script", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def chaos(
    script: Path,
    args: tuple[str, ...],
    seed: int | None,
    minutes: float,
    every: float,
    calls: tuple[str, ...],
    without: tuple[str, ...],
    only: tuple[str, ...],
    nodes: int,
) -> None:
    """Run an app under faults, and check that nothing is lost.

    SCRIPT is the app's main script; it receives all arguments that are not options of this command. Two roles are
    added: one calls the other in every way and compares each answer. Meanwhile processes of the app are killed,
    stopped, starved and reloaded. The exit status is 1 if a call was answered incorrectly, ran twice or never ended, or
    if the app did not return to its full size. Never run this in production.
    """
    for call in calls:
        if not all(part.isidentifier() for part in call.rpartition(".")[2:]) or "." not in call:
            raise click.BadParameter(f"--call {call!r} does not have the form ROLE.EXPORT, as in back.foo.")
    seed = random.randrange(10_000) if seed is None else seed
    kinds = ALL_KINDS if nodes > 1 else KINDS
    chosen = tuple(kind for kind in kinds if kind in (only or kinds) and kind not in without)
    faults = schedule(seed, minutes * 60, chosen, every)
    console = Console()
    console.print(f"seed {seed}: {len(faults)} faults in {minutes:g} minutes")
    directory = Path(tempfile.mkdtemp(prefix="mob-chaos-"))
    is_to_be_kept = False
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        run = ChaosRun(directory, script, args, calls, nodes)
        report = run.carry_out(faults, minutes * 60, lambda fault: _show(console, fault))
        is_to_be_kept = bool(report.problems)
    except MobError as error:
        raise click.ClickException(str(error)) from error
    finally:
        if not is_to_be_kept:
            shutil.rmtree(directory)
    draw(console, report, seed)
    if report.problems:
        console.print(f"The app's output, its crash reports and a note on each failed call are in {directory}")
        raise SystemExit(1)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    """End the run and what it started, as Ctrl-C does."""
    raise KeyboardInterrupt


def draw(console: Console, report: ChaosReport, seed: int) -> None:
    """Print the tables and the verdict."""
    console.print(_faults(report))
    console.print(_calls(report.judgement))
    if report.recoveries:
        median, worst = statistics.median(report.recoveries), max(report.recoveries)
        text = f"roles were below target {len(report.recoveries)} times: median {median:.2f} s, worst {worst:.2f} s"
        console.print(text, highlight=False)
    if report.spared:
        console.print(f"skipped, because one more crash would exceed the restart limit: {', '.join(report.spared)}")
    for problem in (*report.problems, *(report.judgement.samples if report.problems else ())):
        console.print(problem, markup=False, highlight=False)
    if report.problems:
        console.print(f"[red]failed[/red], seed {seed}")
    else:
        console.print(f"[green]passed[/green]: nothing lost, nothing done twice, all roles at target (seed {seed})")


def _show(console: Console, fault: ChaosFault) -> None:
    if console.is_terminal:
        console.print(f"{fault.at:7.1f} s  {ALL_KINDS[fault.kind]}", style="dim")


def _faults(report: ChaosReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("fault")
    table.add_column("times", justify="right")
    table.add_column("not made", justify="right")
    for kind, text in ALL_KINDS.items():
        missed = sum(1 for each in report.missed if each.partition(":")[0] == kind)
        if report.faults.get(kind) or missed:
            table.add_row(text, str(report.faults.get(kind, 0)), str(missed or ""))
    return table


def _calls(judgement: Judgement) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("calls")
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    for kind in CallKind:
        counts = [judgement.count(kind, *outcomes) for outcomes in COLUMNS.values()]
        if any(counts):
            table.add_row(kind.name.lower(), *(f"{count:,}" if count else "" for count in counts))
    return table
