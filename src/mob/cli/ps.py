"""`mob ps`: the processes of a running app, on this machine and on the others of its cluster."""

from __future__ import annotations

import os

import click
import msgspec
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mob.cli.apps import app_option, connected, json_option, node_option, print_json
from mob.cli.machines import ALL, ask, chosen, complain
from mob.cli.shown import STATE_STYLES, duration, size
from mob.client import Client
from mob.wire.messages import MobsterMetrics, Row

PIPE_WIDTH = 160
"""Into a pipe: lines are for another program, not for a window."""


class Process(msgspec.Struct, frozen=True):
    """A line of the table, under the names that JSON gives to its fields."""

    role: str
    index: int
    pid: int
    """0 where there is none at this moment."""
    state: str
    uptime: float
    """Seconds."""
    restarts: int
    calls: int
    cpu: float
    """Processor time per second, of late: 1.0 is a whole core."""
    memory: int
    """Bytes of resident memory."""
    shared: int
    """Bytes of shared memory."""
    note: str
    node: str = ""
    """The machine; nothing if the app is in no cluster."""


@click.command()
@app_option
@node_option("without it, all of them are shown")
@json_option
def ps(name: str | None, node: str | None, as_json: bool) -> None:
    """Show the processes of a running app, on all of its machines.

    cpu: 100 % is a whole core. shared: memory in which large buffers are on their way to others.
    """
    with connected(name, any_node=True) as app:
        answers = ask(app, chosen(app, node or ALL), _seen)
        heard = [answer.value for answer in answers if answer.value is not None]
        if as_json:
            print_json([process for _, processes in heard for process in processes])
        else:
            console = Console()
            if not console.is_terminal and "COLUMNS" not in os.environ:
                console.width = PIPE_WIDTH
            for title, processes in heard:
                console.print(table(title, processes))
        complain(app, answers)


def _seen(app: Client) -> tuple[str, list[Process]]:
    """What is there on a machine, and the title of its table."""
    measured = app.metrics()
    by_pid = {each.pid: each for each in measured.mobsters}
    processes = [_process(row, by_pid.get(row.pid), app.node) for row in app.overview()]
    where = f" · machine {app.node}" if app.node else ""
    return f"{measured.app}{where} · Kingpin {measured.kingpin_pid}", processes


def _process(row: Row, measured: MobsterMetrics | None, node: str) -> Process:
    cpu, memory = (measured.load, measured.memory) if measured else (0.0, 0)
    shown = (row.role, row.index, row.pid, row.state, row.uptime, row.restarts, row.calls)
    return Process(*shown, cpu, memory, row.shared, row.note, node)


def table(title: str, processes: list[Process]) -> Table:
    """The table. What nobody has is left out: shared memory, notes."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    headings = ["role", "index", "pid", "state", "uptime", "restarts", "calls", "cpu", "memory"]
    headings += [each for each in ("shared", "note") if any(getattr(process, each) for process in processes)]
    for heading in headings:
        justify = "left" if heading in ("role", "state", "note") else "right"
        made.add_column(heading, justify=justify, no_wrap=heading != "note", overflow="fold")
    for process in processes:
        cells = _cells(process)
        made.add_row(*(cells[heading] for heading in headings))
    return made


def _cells(process: Process) -> dict[str, str]:
    style = STATE_STYLES.get(process.state, "white")
    is_there = bool(process.pid)
    return {
        "role": process.role,
        "index": str(process.index),
        "pid": str(process.pid or "-"),
        "state": f"[{style}]{process.state}[/]",
        "uptime": duration(process.uptime) if is_there else "-",
        "restarts": str(process.restarts),
        "calls": f"{process.calls:,}",
        "cpu": f"{process.cpu:.0%}" if is_there else "-",
        "memory": size(process.memory) if process.memory else "-",
        "shared": size(process.shared) if is_there else "-",
        "note": escape(process.note),
    }
