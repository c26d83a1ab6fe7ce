"""`mob logs`: prints recent output of a running app's workers, as its Kingpin keeps it, and follows new output.

A view of `Client.logs`; the lines have the forms in which the Kingpin writes them. In a cluster the lines of all
machines are merged, each preceded by its machine's name: existing lines are sorted by time, new ones are printed as
they arrive, because clocks disagree. A machine that joins in the meantime is followed as well.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import click
import msgspec

from mob.cli.apps import CommandError, app_names, app_option, complete_role_or_pid, connected, node_option
from mob.cli.machines import ALL, Everywhere, ask, chosen, complain
from mob.cli.output import echo
from mob.client import Client
from mob.core.printable import json_printable, plain, printable_bytes
from mob.core.selector import selector_of
from mob.kingpin.output.lines import BOLD, COLORS, Form, Origin, OutputChunk, as_json, as_painted_text, as_text
from mob.plan import KINGPIN
from mob.wire.messages import Line

LAST = 50


@click.command()
@click.argument("words", nargs=-1, metavar="[APP] [ROLE|ROLE.INDEX|PID]", shell_complete=complete_role_or_pid)
@app_option
@node_option("default: all machines")
@click.option("-f", "--follow", is_flag=True, help="Follow new output until Ctrl-C or the end of the app.")
@click.option(
    "-n", "--last", type=click.IntRange(min=0), default=LAST, show_default=True, help="Number of recent lines to show."
)
@click.option("--json", "as_objects", is_flag=True, help="Print each line as a JSON object.")
@click.option("--raw", is_flag=True, help="Print every byte unchanged, including terminal control sequences.")
@click.option("--no-color", is_flag=True, help="Print the prefixes without color, as in a pipe.")
def logs(
    words: tuple[str, ...],
    name: str | None,
    node: str | None,
    follow: bool,
    last: int,
    as_objects: bool,
    raw: bool,
    no_color: bool,
) -> None:
    """Show what the workers of an app print, on all machines.

    Name a role or one worker to see only its lines, or "kingpin" for those of the Kingpin (supervisor). A word that is
    the name of a running app selects that app. Colors are kept; other terminal control sequences are removed, unless
    --raw is given. The Kingpin keeps the latest 2,000 lines of the app (at most 1 MiB), including those of workers that
    have exited.
    """
    color = sys.stdout.isatty() and not no_color and "NO_COLOR" not in os.environ
    form = _form(as_json if as_objects else as_painted_text if color else as_text, raw)
    name, target = _meant(words, name)
    has_pid = selector_of(target).pid is not None
    with connected(name, any_node=True) as app:
        machines = chosen(app, node or (None if has_pid else ALL))
        if len(machines) > 1 and follow:
            Together(app, target, last, form).run()
            return
        if len(machines) > 1:
            _show_all(app, machines, target, last, form)
            return
    with connected(name or app.app, machines[0] or None) as app:
        is_there = _is_there(app, target)
        count = _show(app, target, last, follow and is_there, form)
        if not is_there and not count:
            raise CommandError(
                f"{_named(target)} is not running, and none of its output is kept. `mob ps` lists the workers."
            )
        if not count and not follow and last:
            hint = f" For messages about it: `mob logs {KINGPIN}`." if target not in ("", KINGPIN) else ""
            echo(f"{_named(target) or app.app} has printed nothing.{hint}", err=True)
        if follow and app.wait_stopped(0.0 if has_pid else 1.0):
            echo(f"the app {app.app!r} has ended.", err=True)
        elif follow:
            echo(f"{_named(target)} has ended.", err=True)


def _form(form: Form, is_raw: bool) -> Form:
    """Return how a line is written: cleaned, unless every byte is wanted."""
    if is_raw:
        return form
    if form is as_json:
        return lambda chunk: json_printable(as_json(chunk))
    return lambda chunk: form(msgspec.structs.replace(chunk, data=printable_bytes(chunk.data)))


def _meant(words: tuple[str, ...], name: str | None) -> tuple[str | None, str]:
    """Return the name of the app, and the target whose lines are shown."""
    if len(words) > 2 or (len(words) == 2 and name is not None):
        raise click.UsageError(f"expected at most an app and a role, got: {' '.join(words)}.")
    if len(words) == 2:
        return words
    word = "".join(words)
    is_app = name is None and word != KINGPIN and word in app_names()
    return (word, "") if is_app else (name, word)


def _show(app: Client, target: str, last: int, follow: bool, form: Form) -> int:
    """Print the lines; return their number."""
    color_of = _colors(app)
    out, count = sys.stdout.buffer, 0
    for count, line in enumerate(app.logs(target, last=last, follow=follow), 1):  # noqa: B007  the last one is used
        out.write(form(_chunk(line, color_of)))
        out.flush()  # show each line as it arrives
    return count


def _show_all(app: Client, machines: list[str], target: str, last: int, form: Form) -> None:
    """Print the last lines of several machines."""
    answers = ask(app, machines, lambda there: list(there.logs(target, last=last)))
    lines = sorted(
        ((line.at, answer.machine, line) for answer in answers for line in answer.value or ()), key=lambda each: each[0]
    )
    color_of = _colors(app)
    for _, machine, line in lines[-last:] if last else ():
        sys.stdout.buffer.write(_from(machine, form(_chunk(line, color_of))))
    sys.stdout.buffer.flush()
    complain(app, answers)


class _News(NamedTuple):
    """A line from a machine, or why following it ended; without a machine, a hint that machines may have changed."""

    machine: str
    line: Line | None
    problem: str = ""


class Together:
    """Follows several machines, each in a thread of its own."""

    def __init__(self, app: Client, target: str, last: int, form: Form) -> None:
        self._app = app
        self._target = target
        self._last = last
        self._form = form
        self._news: queue.Queue[_News] = queue.Queue(10_000)
        self._followed = Everywhere(self._handle_end)

    def __repr__(self) -> str:
        return f"<Together {self._followed}>"

    def run(self) -> None:
        """Print lines until Ctrl-C, or until the app ends on this machine."""
        app, last = self._app, self._last
        color_of = _colors(app)
        app._changes.listeners.append(self._handle_change)  # pyright: ignore[reportPrivateUsage]
        while not app.wait_stopped(0.0):
            self._followed.look(app, app.nodes(), partial(self._follow, last))
            for news in self._batch():
                if not news.machine:
                    continue
                if news.line is not None:
                    sys.stdout.buffer.write(_from(news.machine, self._form(_chunk(news.line, color_of))))
                else:
                    echo(f"{news.machine}: {news.problem}", err=True)
            sys.stdout.buffer.flush()
            last = 0
        echo(f"the app {app.app!r} has ended.", err=True)

    def _batch(self) -> list[_News]:
        """Wait for at least one piece of news; return all that are available, sorted by time."""
        batch = [self._news.get()]
        while not self._news.empty():
            batch.append(self._news.get())
        return sorted(batch, key=lambda news: news.line.at if news.line else float("inf"))

    def _handle_change(self) -> None:
        """Wake the reader: machines may have changed, or the app ended.

        This runs on the client's thread, which must not wait.
        """
        with contextlib.suppress(queue.Full):  # then there is news anyway
            self._news.put_nowait(_News("", None))

    def _follow(self, last: int, there: Client) -> None:
        """Pass on the lines of a machine until it ends; in a thread."""
        machine = there.node
        for line in there.logs(self._target, last=last, follow=True):
            self._news.put(_News(machine, line))

    def _handle_end(self, machine: str, problem: str) -> None:
        self._news.put(_News(machine, None, problem or "has ended, or cannot be reached."))


def _from(machine: str, text: bytes) -> bytes:
    """Return the line with the name of its machine: as a prefix, or as a field of its JSON object."""
    if not text.startswith(b"{"):
        return plain(machine).encode() + b" " + text
    return text.rstrip()[:-1] + b',"node":' + msgspec.json.encode(machine) + b"}\n"


def _chunk(line: Line, color_of: Callable[[str], int]) -> OutputChunk:
    role = line.role or KINGPIN  # no role: a note about omitted lines
    origin = Origin(role, line.index, line.pid or os.getpid(), line.is_error, color_of(role))
    return OutputChunk(line.at, origin, f"{line.text}\n".encode(errors="replace"), 1)


def _colors(app: Client) -> Callable[[str], int]:
    """Return the color of each role; as on the Kingpin's terminal, unless a role was slow to start."""
    colors = {role: COLORS[number % len(COLORS)] for number, role in enumerate(app.roles())}
    return lambda role: colors.get(role, BOLD)


def _is_there(app: Client, target: str) -> bool:
    """Return whether the target can print at this moment. For a role this is always so; `logs` reports unknown ones."""
    wanted = selector_of(target, app.roles())
    if wanted.pid is not None:
        return any(wanted.has(member) and member.role for member in app.members(here=True))
    return wanted.index is None or any((row.role, row.index) == (wanted.role, wanted.index) for row in app.overview())


def _named(target: str) -> str:
    return target if selector_of(target).pid is None else f"the worker with pid {target}"
