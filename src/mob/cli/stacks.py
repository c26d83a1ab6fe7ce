"""`mob stacks`: where the threads and tasks of live mobsters stand, also of stuck ones.

The text comes from the mobster's liveness thread, or, if code in C holds the interpreter, from faulthandler. It is read
here into the same shape, the most recent call last, with lines of source where they can be had. mob's own frames at the
outer end say nothing of the application; they are left out unless `--full` wants them.
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
    """One call on the way to where something stands."""

    file: str
    line: int
    function: str
    source: str = ""


@dataclass(frozen=True)
class Stack:
    """Where a thread or a task stands, the most recent call last."""

    kind: str
    """"thread" or "task"."""
    name: str
    frames: list[StackFrame] = field(default_factory=list[StackFrame])


@dataclass(frozen=True)
class Standing:
    """Where a mobster stands."""

    pid: int
    role: str
    index: int
    state: str
    stacks: list[Stack] = field(default_factory=list[Stack])
    notes: list[str] = field(default_factory=list[str])
    """What is said besides: the calls that are being served, and why there is no more."""

    @property
    def is_known(self) -> bool:
        """Whether it has told."""
        return bool(self.stacks)


def read(text: str) -> tuple[list[Stack], list[str]]:
    """The stacks in a mobster's text, and what else it says."""
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
    """faulthandler tells no source; the files are here as well."""
    frames = [each if each.source else replace(each, source=_source(each)) for each in stack.frames]
    return replace(stack, frames=frames)


def _source(frame: StackFrame) -> str:
    return linecache.getline(frame.file, frame.line).strip()


def is_own(frame: StackFrame) -> bool:
    """Whether it is mob's, or the interpreter's way into it."""
    return frame.file.startswith(PACKAGE) or frame.file == "<string>"


def _is_below(frame: StackFrame) -> bool:
    """Whether threads begin in it."""
    return frame.file.endswith("/threading.py") and frame.function in ("_bootstrap", "_bootstrap_inner", "run")


def without_own(stack: Stack) -> Stack:
    """What the application does: without the frames through which every stack goes."""
    frames = stack.frames
    at = next((at for at, frame in enumerate(frames) if not (is_own(frame) or _is_below(frame))), len(frames))
    return replace(stack, frames=frames[at:])


# ------------------------------------------------------------------------------------------------------------ asking


def standings(app: Client, target: str) -> list[Standing]:
    """Where the mobsters that are meant stand. `MobError` if there are none."""
    context = app._context  # pyright: ignore[reportPrivateUsage]
    wanted = mobsters_meant(context.roster, context.uid, target)
    told = app.stacks(target)
    found: list[Standing] = []
    for member in wanted:
        stacks, notes = read(told.get(member.pid, "it has ended meanwhile."))
        found.append(Standing(member.pid, member.role, member.index, member.state, stacks, notes))
    return found


@click.command()
@click.argument("target", metavar="PID|ROLE|ROLE.INDEX", shell_complete=complete_role_or_pid)
@click.option("--full", is_flag=True, help="Show mob's own frames and threads too.")
@json_option
@app_option
@node_option("without it, this one")
def stacks(target: str, full: bool, as_json: bool, name: str | None, node: str | None) -> None:
    """Show where the threads and tasks of mobsters stand, even if they are stuck.

    The exit code is 1 if one of them could not tell.
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
            "nothing is known of "
            + ", ".join(f"{place_name(each.role, each.index)} (pid {each.pid})" for each in unknown)
            + "."
        )


def as_data(standing: Standing) -> dict[str, Any]:
    """For other programs."""
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
            continue  # a thread of mob's own, or a task that has not begun
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
    """Relative to where the user is, if it is there."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
