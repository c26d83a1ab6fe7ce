"""`mob jobs`: lists the durable jobs of an app (waiting, running or dead); `mob jobs retry` and `mob jobs drop`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem
from rich.markup import escape

from mob.cli.apps import CommandError, app_option, complete_app, connected, json_option, print_json
from mob.cli.output import echo
from mob.cli.ps import console_for_tables
from mob.cli.shown import duration
from mob.cli.tables import print_with_notes
from mob.client import CONNECT_TIMEOUT, Client
from mob.core.job_rows import JobRow
from mob.core.jobs import JobState
from mob.core.printable import printable
from mob.errors import counted
from mob.plan import QUEUE

STATES = tuple(map(str, JobState))
STYLES = {"waiting": "yellow", "later": "white", "running": "green", "dead": "red"}
"""Color of each state."""
HEADINGS = ("id", "job", "state", "age", "attempts")
ALL = "all"
"""Word used instead of job ids for all jobs that match the filters."""
MOST = 1_000_000
MEANT = {
    **{state: state for state in STATES},
    "failed": "dead",
    "pending": "waiting",
    "queued": "waiting",
    "scheduled": "later",
    "delayed": "later",
    "active": "running",
    "started": "running",
}
"""Words that users may type instead of an app's name, and the state that they mean."""


def complete_words(context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return `retry`, `drop` and the apps; after one of these, the ids of jobs."""
    words: list[str] = list(context.params.get("words") or ())
    if words and words[0] in ("retry", "drop"):
        try:
            with connected(context.params.get("name")) as app:
                found = _listed(app, ("dead",) if words[0] == "retry" else (), "", 100)
        except click.ClickException:
            return []
        return [CompletionItem(row.id, help=row.job) for row in found if row.id.startswith(incomplete)]
    own = {"retry": "try dead jobs again", "drop": "delete jobs"}
    items = [CompletionItem(word, help=text) for word, text in own.items() if word.startswith(incomplete)]
    return [*items, *complete_app(context, _param, incomplete)]


@click.command()
@click.argument("words", nargs=-1, metavar="[APP | retry ID... | drop ID...]", shell_complete=complete_words)
@app_option
@click.option(
    "--state", "states", multiple=True, type=click.Choice(STATES), help="Show only jobs in this state; may be repeated."
)
@click.option("--role", default="", metavar="ROLE", help="Show only jobs of this role.")
@click.option(
    "--last", "-n", "most", default=50, show_default=True, help="Maximum number of jobs to list, oldest first."
)
@json_option
def jobs(
    words: tuple[str, ...], name: str | None, states: tuple[str, ...], role: str, most: int, as_json: bool
) -> None:
    """List, retry or drop the durable jobs of a running app.

    `mob jobs` lists jobs that are waiting, running or dead, and counts those that are done. `mob jobs retry ID` tries
    dead jobs again, or runs at once a job that is waiting for its time; `mob jobs drop ID` deletes jobs in any state.
    `all` instead of an ID selects all jobs that match `--state` and `--role`; `retry all` without these selects all
    dead jobs.
    """
    what, *ids = words or ("",)
    if what in ("retry", "drop"):
        if not ids:
            raise click.UsageError(f"no job given. Use `mob jobs {what} ID`; `mob jobs` lists the ids.")
        _change(what, ids, name, states, role)
    elif ids:
        raise click.UsageError(
            f"expected at most one app, got {len(words)} words. For jobs: `mob jobs retry ID`, `mob jobs drop ID`."
        )
    else:
        try:
            _show(what or name, states, role, most, as_json)
        except CommandError as error:
            if what not in MEANT:
                raise
            how = f"To list jobs in the state {MEANT[what]}: `mob jobs --state {MEANT[what]}`."
            raise CommandError(f"{error.message} {how}", error.exit_code) from error


def _change(what: str, ids: Sequence[str], name: str | None, states: Sequence[str], role: str) -> None:
    with connected(name) as app:
        if ALL in ids:
            if what == "drop" and not states and not role:
                raise click.UsageError(
                    "`mob jobs drop all` requires --state or --role, so that it cannot delete every job."
                )
            chosen = states or (("dead",) if what == "retry" else ())
            ids = [row.id for row in _listed(app, chosen, role, MOST)]
        done = [id for id in ids if _ask(app, what, id)]
        missed = [id for id in ids if id not in set(done)]
        echo(f"{counted(len(done), 'job')} {'tried again' if what == 'retry' else 'dropped'}.")
        if missed:
            why = "no such job, or it is done" + (", is running, or another job has its key" if what == "retry" else "")
            raise CommandError(f"not {'tried again' if what == 'retry' else 'dropped'}: {', '.join(missed)} ({why}).")


def _show(name: str | None, states: Sequence[str], role: str, most: int, as_json: bool) -> None:
    with connected(name) as app:
        rows = _listed(app, states, role, most)
        if as_json:
            print_json(rows)
            return
        if QUEUE not in app.roles():
            echo(f"{app.app} has no durable jobs. Calls made with options(durable=True) create them.")
            return
        if rows:
            notes = [printable(_note(row)) for row in rows]
            print_with_notes(console_for_tables(), HEADINGS, [_cells(row) for row in rows], notes, ["age", "attempts"])
        echo(_summary(_ask(app, "counts"), len(rows), states, role))


def _ask(app: Client, what: str, *args: Any) -> Any:
    if QUEUE not in app.roles():
        raise CommandError(f"{app.app} has no durable jobs.")
    return getattr(app.require(QUEUE), what)(*args).result(CONNECT_TIMEOUT)


def _listed(app: Client, states: Sequence[str], role: str, most: int) -> list[JobRow]:
    return list(app.jobs(state=states, role=role, most=most))


def _summary(counts: dict[str, Any], shown: int, chosen_states: Sequence[str], role: str) -> str:
    roles: dict[str, dict[str, int]] = counts["roles"]
    chosen = {name: states for name, states in roles.items() if role in ("", name)}
    parts = [
        f"{printable(name)}: " + ", ".join(f"{states.get(state, 0):,} {state}" for state in STATES if states.get(state))
        for name, states in sorted(chosen.items())
    ]
    total = sum(states.get(state, 0) for states in chosen.values() for state in chosen_states or STATES)
    more = f" {counted(shown, 'job')} of {total:,} shown (--last)." if 0 < shown < total else ""
    return f"{'; '.join(parts) or 'no jobs'}. {counts['done']:,} done since the queue started.{more}"


def _cells(row: JobRow) -> list[str]:
    state = f"[{STYLES.get(row.state, 'white')}]{row.state}[/]"
    return [row.id, escape(printable(row.job)), state, duration(row.age), str(row.attempts)]


def _note(row: JobRow) -> str:
    parts = [f"in {duration(row.due_in)}"] if row.due_in else []
    parts += [f"at {row.worker}"] if row.worker else []
    parts += [f"key {row.key}"] if row.key else []
    parts += [f"priority {row.priority}"] if row.priority else []
    return "; ".join([*parts, row.error] if row.error else parts)
