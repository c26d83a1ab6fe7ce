"""`mob timers`: when the timers of an app run next, and how they last went; `mob timers run`: to run one now."""

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
"""The colour of an outcome."""
LIST = ("list", "ls", "show")
"""As other commands call what this one does without a word."""


class TimerRow(msgspec.Struct, frozen=True):
    """A line of the table, under the names that JSON gives to its fields."""

    timer: str
    schedule: str
    next: float
    """Seconds since the epoch; 0 if it is not known."""
    last: float
    """When the last run began that has ended, in seconds since the epoch; 0 if none has."""
    seconds: float
    """How long it took."""
    outcome: str
    """"ok", "failed" or "lost"; "" if none has ended."""
    error: str
    running: int
    runs: dict[str, int]
    """Runs since the app was started, by outcome; "missed" are those that never began."""
    note: str
    node: str = ""
    """The machine; nothing if the app is in no cluster."""
    app: str = ""


def complete_words(context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`run` and the apps; after `run`, the timers."""
    words = context.params.get("words") or ()
    if words[:1] == ("run",):
        try:
            with connected(context.params.get("name"), any_node=True) as app:
                found = [each.label for each in app.timers()]
        except click.ClickException:
            return []
        return [CompletionItem(each) for each in found if each.startswith(incomplete)]
    own = [CompletionItem("run", help="run one now")] if "run".startswith(incomplete) else []
    return [*own, *complete_app(context, _param, incomplete)]


@click.command()
@click.argument("words", nargs=-1, metavar="[APP | run ROLE.NAME]", shell_complete=complete_words)
@app_option
@node_option("without it, all of them are shown, and a run is on that which has the timer")
@json_option
def timers(words: tuple[str, ...], name: str | None, node: str | None, as_json: bool) -> None:
    """Show the timers of a running app, or run one of them now.

    `mob timers` shows when each runs next, and when its last run began, how long that took and how it went. Times are
    in this machine's zone, which a heading names, whatever zone a schedule names.
    `mob timers run back.report` runs one, waits for its end and says how it went, with status 1 if it failed; when it
    is due next stays as it is.
    """
    if words[:1] == ("run",):
        if len(words) != 2:
            raise click.UsageError("say which timer, as in `mob timers run back.report`. `mob timers` lists them.")
        _run(words[1], name, node)
    elif words and words[0] not in app_names() and (words[0] in LIST or "." in words[0]):
        meant = f"`mob timers run {words[0]}` runs one" if "." in words[0] else "`mob timers` alone lists all"
        raise click.UsageError(f"no app named {words[0]!r} is running here. {meant}; `mob timers APP` names the app.")
    elif len(words) > 1:
        raise click.UsageError(f"one app can be named, not {len(words)}; to run a timer: `mob timers run ROLE.NAME`.")
    else:
        _show(words[0] if words else name, node, as_json)


def _run(timer: str, name: str | None, node: str | None) -> None:
    with connected(name, any_node=True) as app:
        if "." not in timer:
            meant = [each.label for each in app.timers() if each.label.endswith(f".{timer}")]
            hint = f"Did you mean {meant[0]!r}?" if meant else "`mob timers` lists them."
            raise click.UsageError(f"{timer!r} does not say of which role: a timer is named ROLE.NAME. {hint}")
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
            echo(f"{app.app} has no timers. @mob.every(60) on a function of a role makes one.")
        if not_ready:
            more = "may have more" if rows else f"may have some; {app.app} knows of none yet"
            echo(f"A role tells its timers when it is ready. These are not, and {more}:", err=True)
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
