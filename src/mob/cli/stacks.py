"""`mob stacks`: shows what the threads and tasks of running workers are executing, even if they are stuck.

The text comes from the worker's liveness thread or, if C code holds the interpreter, from faulthandler. Both are
converted to the same shape, the most recent call last, with source lines where available. mob's own outer frames say
nothing about the application; they are left out without `--full`.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from mob.cli.apps import CommandError, app_option, complete_role_or_pid, connected, json_option, node_option, print_json
from mob.cli.output import console
from mob.client import Client
from mob.core.selector import mobsters_meant
from mob.plan import place_name
from mob.rim.places import PACKAGE

FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+),? in (?P<function>.*)')
LIBRARY = re.compile(r"/(site-packages|python3\.\d+)/")
THREAD = re.compile(r"thread (?P<name>.*):")
TASK = re.compile(r"task (?P<name>.*):")
FAULT = re.compile(r"(?:Current thread|Thread) (?P<name>0x[0-9a-f]+)(?: \[(?P<own>.*)\])? \(most recent call first\):")


@dataclass(frozen=True)
class StackFrame:
    """One call of a stack."""

    file: str
    line: int
    function: str
    source: str = ""


@dataclass(frozen=True)
class Stack:
    """The stack of a thread or a task, the most recent call last."""

    kind: str
    """"thread" or "task"."""
    name: str
    frames: list[StackFrame] = field(default_factory=list[StackFrame])


@dataclass(frozen=True)
class Standing:
    """What a worker is executing."""

    pid: int
    role: str
    index: int
    state: str
    stacks: list[Stack] = field(default_factory=list[Stack])
    notes: list[str] = field(default_factory=list[str])
    """Other facts: the calls that are being served, and why there are no stacks."""

    @property
    def is_known(self) -> bool:
        """True if there are stacks."""
        return bool(self.stacks)


def read(text: str) -> tuple[list[Stack], list[str]]:
    """Return the stacks in a worker's text, and its other lines."""
    stacks, notes, backwards = list[Stack](), list[str](), list[Stack]()
    for line in text.splitlines():
        if found := FAULT.fullmatch(line):
            stacks.append(Stack("thread", found["own"] or found["name"]))
            backwards.append(stacks[-1])
        elif found := THREAD.fullmatch(line) or TASK.fullmatch(line):
            stacks.append(Stack("thread" if line.startswith("thread") else "task", found["name"]))
        elif stacks and (found := FRAME.fullmatch(line)):
            stacks[-1].frames.append(StackFrame(found["file"], int(found["line"]), found["function"]))
        elif stacks and line.startswith("    ") and stacks[-1].frames:
            last = stacks[-1].frames[-1]
            if not last.source:
                stacks[-1].frames[-1] = replace(last, source=line.strip())
        elif line.strip():
            notes.append(line.strip().removesuffix("; its threads, the most recent call first:"))
    for stack in backwards:
        stack.frames.reverse()
    return [_with_sources(stack) for stack in stacks], notes


def _with_sources(stack: Stack) -> Stack:
    """Add source lines, which faulthandler does not print; the files are on this machine."""
    frames = [each if each.source else replace(each, source=_source(each)) for each in stack.frames]
    return replace(stack, frames=frames)


def _source(frame: StackFrame) -> str:
    return linecache.getline(frame.file, frame.line).strip()


def is_own(frame: StackFrame) -> bool:
    """Return whether a frame belongs to mob, or to the interpreter before it."""
    return frame.file.startswith(PACKAGE) or frame.file == "<string>"


def _is_below(frame: StackFrame) -> bool:
    """Return whether it is one of the frames in which threads start."""
    return frame.file.endswith("/threading.py") and frame.function in ("_bootstrap", "_bootstrap_inner", "run")


def without_own(stack: Stack) -> Stack:
    """Return the part of a stack that belongs to the application, without the outer frames that every stack has."""
    frames = stack.frames
    at = next((at for at, frame in enumerate(frames) if not (is_own(frame) or _is_below(frame))), len(frames))
    return replace(stack, frames=frames[at:])


# ------------------------------------------------------------------------------------------------------------ asking


def standings(app: Client, target: str) -> list[Standing]:
    """Return what the selected workers are executing. `MobError` if there are none."""
    context = app._context  # pyright: ignore[reportPrivateUsage]
    wanted = mobsters_meant(context.roster, context.uid, target)
    told = app.stacks(target)
    found: list[Standing] = []
    for member in wanted:
        stacks, notes = read(told.get(member.pid, "it has exited."))
        found.append(Standing(member.pid, member.role, member.index, member.state, stacks, notes))
    return found


@click.command()
@click.argument("target", metavar="PID|ROLE|ROLE.INDEX", shell_complete=complete_role_or_pid)
@click.option("--full", is_flag=True, help="Show mob's own frames and threads too.")
@json_option
@app_option
@node_option("default: this machine")
def stacks(target: str, full: bool, as_json: bool, name: str | None, node: str | None) -> None:
    """Show what the threads and tasks of workers execute.

    This works even if they are stuck. The exit status is 1 if a worker could not report its stacks.
    """
    with connected(name, node) as app:
        found = standings(app, target)
    if as_json:
        print_json([as_data(each) for each in found])
    else:
        screen = console(highlight=False, soft_wrap=True)
        for number, each in enumerate(found):
            if number:
                screen.print()
            screen.print(*_lines(each, full), sep="\n")
    unknown = [each for each in found if not each.is_known]
    if unknown:
        raise CommandError(
            "no stacks from "
            + ", ".join(f"{place_name(each.role, each.index)} (pid {each.pid})" for each in unknown)
            + "."
        )


def as_data(standing: Standing) -> dict[str, Any]:
    """Return the data for other programs."""
    return {
        "pid": standing.pid,
        "role": standing.role,
        "index": standing.index,
        "state": standing.state,
        "notes": standing.notes,
        "stacks": [
            {"kind": stack.kind, "name": stack.name, "frames": [vars(frame) for frame in stack.frames]}
            for stack in standing.stacks
        ],
    }


# ----------------------------------------------------------------------------------------------------------- drawing


def _lines(standing: Standing, full: bool) -> Iterator[Text]:
    head = Text(place_name(standing.role, standing.index), "bold")
    yield head.append(f" · pid {standing.pid} · {standing.state}", "not bold")
    for note in standing.notes:
        yield Text(f"  {note}", "yellow" if standing.is_known else "red")
    for stack in standing.stacks:
        shown = stack if full else without_own(stack)
        if not shown.frames and stack.name != "MainThread":
            continue  # a thread of mob's own, or a task that has not started
        yield Text(f"  {stack.kind} ", "cyan").append(stack.name, "bold")
        if not shown.frames:
            yield Text("    waits for work", "green")
        for frame in shown.frames:
            yield from _frame(frame)


def _frame(frame: StackFrame) -> Iterator[Text]:
    style = "dim" if is_own(frame) or _is_of_a_library(frame.file) else ""
    where = Text("    ").append(_short(frame.file), style or "magenta").append(f":{frame.line}", style or "yellow")
    yield where.append(" in ", "dim").append(frame.function, style or "green")
    if frame.source:
        yield Text(f"      {frame.source}", style)


def _is_of_a_library(file: str) -> bool:
    return bool(LIBRARY.search(file))


def _short(file: str) -> str:
    """Return a path relative to the current directory, if it lies below it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
