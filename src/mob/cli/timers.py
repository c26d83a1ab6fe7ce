"""`mob timers`: shows when the timers of an app run next, and how they last ended; `mob timers run` runs one now."""

from __future__ import annotations

import time
from functools import partial

import click
import msgspec
from click.shell_completion import CompletionItem
from rich.markup import escape

from mob.cli.apps import app_names, app_option, complete_app, connected, json_option, node_option, print_json
from mob.cli.machines import ALL, ask, chosen, complain
from mob.cli.output import echo
from mob.cli.ps import console_for_tables
from mob.cli.shown import moment, zone
from mob.cli.tables import print_with_notes
from mob.client import Client
from mob.core.printable import printable
from mob.core.timer_state import duration_text
from mob.wire.messages import TimerMetrics

OUTCOME_STYLES = {"ok": "green", "failed": "red", "lost": "red"}
"""Color of each outcome."""
LIST = ("list", "ls", "show")
"""Words that other programs use for what `mob timers` does by itself."""


class TimerRow(msgspec.Struct, frozen=True):
    """A line of the table; JSON uses the same field names."""

    timer: str
    schedule: str
    next: float
    """Time of the next run in seconds since the epoch; 0 if unknown."""
    last: float
    """Start of the last finished run in seconds since the epoch; 0 if there is none."""
    seconds: float
    """Duration of that run in seconds."""
    outcome: str
    """"ok", "failed" or "lost"; "" if no run has finished."""
    error: str
    running: int
    runs: dict[str, int]
    """Number of runs since the start of the app, by outcome; "missed" ones never started."""
    note: str
    node: str = ""
    """Name of the machine; empty if the app is not part of a cluster."""
    app: str = ""


def complete_words(context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return `run` and the apps; after `run`, the timers."""
    words = context.params.get("words") or ()
    if words[:1] == ("run",):
        try:
            with connected(context.params.get("name"), any_node=True) as app:
                found = [each.label for each in app.timers()]
        except click.ClickException:
            return []
        return [CompletionItem(each) for each in found if each.startswith(incomplete)]
    own = [CompletionItem("run", help="run a timer now")] if "run".startswith(incomplete) else []
    return [*own, *complete_app(context, _param, incomplete)]


@click.command()
@click.argument("words", nargs=-1, metavar="[APP | run ROLE.NAME]", shell_complete=complete_words)
@app_option
@node_option("default: all machines; `run` uses the one that has the timer")
@json_option
def timers(words: tuple[str, ...], name: str | None, node: str | None, as_json: bool) -> None:
    """Show the timers of a running app, or run one now.

    `mob timers` shows when each timer runs next, when its last run started, how long it took and how it ended. Times
    are in this machine's zone, which is named in the heading, even if a schedule names another zone. `mob timers run
    back.report` runs a timer, waits for its end and prints the outcome, with status 1 if it failed; the time of its
    next run does not change.
    """
    if words[:1] == ("run",):
        if len(words) != 2:
            raise click.UsageError("expected one timer, as in `mob timers run back.report`. `mob timers` lists them.")
        _run(words[1], name, node)
    elif words and words[0] not in app_names() and (words[0] in LIST or "." in words[0]):
        meant = f"`mob timers run {words[0]}` runs a timer" if "." in words[0] else "`mob timers` alone lists all"
        raise click.UsageError(
            f"no app named {words[0]!r} is running on this machine. {meant}; `mob timers APP` names the app."
        )
    elif len(words) > 1:
        raise click.UsageError(
            f"expected at most one app, got {len(words)} words. To run a timer: `mob timers run ROLE.NAME`."
        )
    else:
        _show(words[0] if words else name, node, as_json)


def _run(timer: str, name: str | None, node: str | None) -> None:
    with connected(name, any_node=True) as app:
        if "." not in timer:
            meant = [each.label for each in app.timers() if each.label.endswith(f".{timer}")]
            hint = f"Did you mean {meant[0]!r}?" if meant else "`mob timers` lists them."
            raise click.UsageError(f"{timer!r} does not name the role of the timer. Expected ROLE.NAME. {hint}")
        machines = chosen(app, node or ALL)
        if len(machines) > 1:  # the one that has the lease of its timers, if there is one
            having = [each.machine for each in ask(app, machines, partial(_has, timer)) if each.value]
            machines = having or machines
        if machines[0] == app.node:
            echo(app.run_timer(timer))
        else:
            with app.at(machines[0]) as there:
                echo(f"{machines[0]}: {there.run_timer(timer)}")


def _has(timer: str, app: Client) -> bool:
    """Return whether a timer runs on this machine."""
    return any(each.label == timer and each.is_here for each in app.timers())


def _show(name: str | None, node: str | None, as_json: bool) -> None:
    with connected(name, any_node=True) as app:
        answers = ask(app, chosen(app, node or ALL), _seen)
        rows = [row for answer in answers if answer.value for row in answer.value[0]]
        not_ready = [
            f"{_at(app, answer.machine)}{each}" for answer in answers if answer.value for each in answer.value[1]
        ]
        if as_json:
            print_json(rows)
        elif rows:
            _print(rows)
        elif not not_ready:
            echo(f"{app.app} has no timers. To add one, put @mob.every(60) on a function of a role.")
        if not_ready:
            more = "may have more" if rows else "may have some; none are known yet"
            echo(f"Timers of a role are known once it is ready. These roles are not ready and {more}:", err=True)
            for each in not_ready:
                echo(f"  {each}", err=True)
        complain(app, answers)


def _at(app: Client, machine: str) -> str:
    return f"{machine}: " if len(app.nodes()) > 1 else ""


def _seen(app: Client) -> tuple[list[TimerRow], list[str]]:
    return [_row(each, app) for each in app.timers()], app.not_ready()


def _row(timer: TimerMetrics, app: Client) -> TimerRow:
    shown = (timer.label, timer.schedule, timer.next, timer.last, timer.seconds, timer.outcome, timer.error)
    return TimerRow(*shown, timer.running, timer.runs, timer.note, app.node, app.app)


def _print(rows: list[TimerRow]) -> None:
    now = time.time()
    here = zone(now)
    with_node = any(row.node for row in rows)
    headings = ["timer", "schedule", f"next ({here})", "last", "took", "outcome"]
    cells = [[*_cells(row, now), *([row.node] if with_node else [])] for row in rows]
    notes = [printable(_note(row)) for row in rows]
    print_with_notes(console_for_tables(), [*headings, *(["machine"] if with_node else [])], cells, notes, ["took"])


def _cells(row: TimerRow, now: float) -> list[str]:
    style = OUTCOME_STYLES.get(row.outcome, "white")
    return [
        escape(printable(row.timer)),
        escape(printable(row.schedule)),
        moment(row.next, now),
        moment(row.last, now),
        duration_text(row.seconds) if row.last else "-",
        f"[{style}]{row.outcome}[/]" if row.outcome else "-",
    ]


def _note(row: TimerRow) -> str:
    parts = [row.note] if row.note else []
    if row.running:
        parts.append("running" if row.running == 1 else f"running {row.running} times")
    if missed := row.runs.get("missed", 0):
        parts.append(f"{missed:,} missed")
    if row.error:
        parts.append(row.error)
    return "; ".join(parts)
