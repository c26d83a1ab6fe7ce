"""`mob ps`: lists the processes of a running app, on this machine and on the others of its cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import click
import msgspec
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mob.cli.apps import (
    NOT_RUNNING,
    CommandError,
    app_argument,
    app_names,
    connected,
    default_app,
    json_option,
    node_option,
    print_json,
)
from mob.cli.machines import ALL, MOST, ask, chosen, complain
from mob.cli.output import console
from mob.cli.shown import STATE_STYLES, duration, size
from mob.client import Client
from mob.core.printable import printable
from mob.rim import titles
from mob.wire.messages import CallerMetrics, MobsterMetrics, RoleMetrics, Row, TimerMetrics

PIPE_WIDTH = 160
"""Columns in a pipe, where lines are for another program and not for a window."""
SHOWN_CALLERS = 3
"""Number of callers that are named for each role: those with most waiting calls."""


class ProcessRow(msgspec.Struct, frozen=True):
    """A line of the table; JSON uses the same field names."""

    role: str
    index: int
    pid: int
    """Process id; 0 if the place has no process at this moment."""
    state: str
    uptime: float
    """Seconds since the process started."""
    restarts: int
    calls: int
    """Number of calls and HTTP requests that it has served."""
    cpu: float
    """Recent processor time per second: 1.0 is a whole core."""
    memory: int
    """Resident memory in bytes."""
    shared: int
    """Shared memory in bytes."""
    note: str
    node: str = ""
    """Name of the machine; empty if the app is not part of a cluster."""
    hand: int = 0
    """Number of calls, messages and HTTP requests that it has accepted and not finished."""
    waiting: int = 0
    """Number of calls that wait at their callers for a worker of the role; the same in each line of the role."""
    waiting_bytes: int = 0
    """Bytes that the arguments of those calls take."""
    app: str = ""


class Seen(NamedTuple):
    """What was seen on one machine."""

    title: str
    processes: list[ProcessRow]
    callers: tuple[CallerMetrics, ...]
    lacks: str
    timers: tuple[TimerMetrics, ...] = ()


@click.command()
@app_argument
@node_option("default: all machines")
@json_option
def ps(name: str | None, node: str | None, as_json: bool) -> None:
    """List the processes of running apps, on all machines.

    Without a name: the app of this directory if it runs, or else all running apps.

    hand: calls, messages and HTTP requests not finished. cpu: 100 % is a whole core. shared: memory that holds large
    buffers on their way to other processes. Below the table: calls that wait at their callers for a worker, and timers
    whose last run failed.
    """
    names = [name] if name is not None or node is not None else shown_apps()
    if len(names) == 1:
        _show([_app(names[0], node)], as_json)
        return
    with ThreadPoolExecutor(
        min(MOST, len(names)), "mob-ask"
    ) as threads:  # one that does not answer does not delay the others
        asked = [threads.submit(_app, each, node) for each in names]
    shown: list[tuple[list[Seen], Callable[[], None]]] = []
    problems: list[str] = []
    for each, answer in zip(names, asked, strict=True):
        try:
            shown.append(answer.result())
        except CommandError as error:
            if error.exit_code != NOT_RUNNING:  # else it has ended in the meantime
                problems.append(f"{each}: {error.message}")
    _show(shown, as_json)
    if problems:
        raise CommandError("\n".join(problems))


def shown_apps() -> list[str | None]:
    """Return the apps that are shown without a name: all that run, each once; [None] for the default one."""
    names = sorted(app_names())
    return list[str | None](names) if names and not default_app() else [None]


def _app(name: str | None, node: str | None) -> tuple[list[Seen], Callable[[], None]]:
    """Return what is seen of an app, and a function that then reports the machines that did not answer."""
    with connected(name, any_node=True) as app:
        answers = ask(app, chosen(app, node or ALL), _seen)
    return [answer.value for answer in answers if answer.value is not None], lambda: complain(app, answers)


def _show(shown: Sequence[tuple[list[Seen], Callable[[], None]]], as_json: bool) -> None:
    heard = [seen for apps, _ in shown for seen in apps]
    if as_json:
        print_json([process for seen in heard for process in seen.processes])
    else:
        screen = console_for_tables()
        for seen in heard:
            screen.print(table(seen.title, seen.processes))
            for line in [
                *waiting(seen.callers),
                *failing(seen.timers),
                *([f"the Kingpin (supervisor) keeps retrying: {seen.lacks}"] if seen.lacks else []),
            ]:
                screen.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    for _, complains in shown:
        complains()


def console_for_tables(cleans: bool = True) -> Console:
    """Return a console as wide as the terminal or COLUMNS; PIPE_WIDTH in a pipe.

    `cleans`: let only text and colors through.
    """
    made = console() if cleans else Console()
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPE_WIDTH
    return made


def _seen(app: Client) -> Seen:
    """Return what is seen on a machine."""
    measured = app.metrics()
    by_pid = {each.pid: each for each in measured.mobsters}
    roles = {each.name: each for each in measured.roles}
    rows = app.overview()
    processes = [_process(row, by_pid.get(row.pid), roles.get(row.role), app) for row in rows]
    where = f" · machine {app.node}" if app.node else ""
    return Seen(
        f"{measured.app}{where} · {titles.SUPERVISORS[measured.titles]} {measured.kingpin_pid}",
        processes,
        measured.callers,
        measured.lacks,
        measured.timers,
    )


def _process(row: Row, measured: MobsterMetrics | None, role: RoleMetrics | None, app: Client) -> ProcessRow:
    cpu, memory, hand = (measured.load, measured.memory, measured.in_hand) if measured else (0.0, 0, 0)
    parked = (role.parked, role.parked_bytes) if role else (0, 0)
    shown = (row.role, row.index, row.pid, row.state, row.uptime, row.restarts, row.calls)
    return ProcessRow(*shown, cpu, memory, row.shared, row.note, app.node, hand, *parked, app.app)


def waiting(callers: Sequence[CallerMetrics]) -> list[str]:
    """Return a line for each role that callers wait for: how many calls and bytes wait, and in which callers.

    >>> waiting([CallerMetrics(42, "", 0, "back", 1200, 30_000), CallerMetrics(7, "front", 1, "back", 1, 9)])
    ['1,201 calls to back wait at their callers for a worker, 29 KB: 1,200 in client (pid 42), 1 in front.1 (pid 7)']
    """
    lines: list[str] = []
    for role in dict.fromkeys(each.waits_for for each in callers):
        mine = [each for each in callers if each.waits_for == role]
        calls, taken = sum(each.calls for each in mine), size(sum(each.bytes for each in mine))
        who = [f"{each.calls:,} in {each.name}" for each in mine[:SHOWN_CALLERS]]
        more = [f"{len(mine) - SHOWN_CALLERS:,} more callers"] if len(mine) > SHOWN_CALLERS else []
        what = "1 call to {} waits at its caller" if calls == 1 else f"{calls:,} calls to {{}} wait at their callers"
        lines.append(f"{what.format(role)} for a worker, {taken}: {', '.join(who + more)}")
    return lines


def failing(timers: Sequence[TimerMetrics]) -> list[str]:
    """Return a line for each timer whose last run failed or was lost.

    >>> failing([TimerMetrics("back", "report", "every 60 s", 0.0, outcome="failed", error="ValueError: no")])
    ['the last run of the timer back.report failed: ValueError: no']
    """
    wrong = [each for each in timers if each.outcome not in ("", "ok")]
    return [f"the last run of the timer {each.label} {_ENDS[each.outcome]}: {each.error}" for each in wrong]


_ENDS = {"failed": "failed", "lost": "was lost"}


def table(title: str, processes: list[ProcessRow]) -> Table:
    """Return the table. Columns that are empty everywhere are left out: shared memory, notes."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    headings = ["role", "index", "pid", "state", "uptime", "restarts", "calls", "hand", "cpu", "memory"]
    headings += [each for each in ("shared", "note") if any(getattr(process, each) for process in processes)]
    for heading in headings:
        justify = "left" if heading in ("role", "state", "note") else "right"
        made.add_column(heading, justify=justify, no_wrap=heading != "note", overflow="fold")
    for process in processes:
        cells = _cells(process)
        made.add_row(*(cells[heading] for heading in headings))
    return made


def _cells(process: ProcessRow) -> dict[str, str]:
    style = STATE_STYLES.get(process.state, "white")
    is_there = bool(process.pid)
    return {
        "role": process.role,
        "index": str(process.index) if process.index >= 0 else "-",
        "pid": str(process.pid or "-"),
        "state": f"[{style}]{process.state}[/]",
        "uptime": duration(process.uptime) if is_there else "-",
        "restarts": str(process.restarts),
        "calls": f"{process.calls:,}",
        "hand": f"{process.hand:,}" if is_there else "-",
        "cpu": f"{process.cpu:.0%}" if is_there else "-",
        "memory": size(process.memory) if process.memory else "-",
        "shared": size(process.shared) if is_there else "-",
        "note": escape(printable(process.note)),
    }
