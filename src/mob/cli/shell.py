"""`mob shell`: a REPL that is a client of a running app.

Its namespace has a proxy for each role. A call at the prompt is awaited and its value shown, a stream as it arrives;
Ctrl-C cancels it. IPython is used if it is installed. Without a terminal, standard input is run as a script, statement
by statement; the first error ends it.
"""

from __future__ import annotations

import ast
import builtins
import code
import importlib
import importlib.util
import keyword
import platform
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import click

import mob
from mob.cli.apps import FAILED, app_argument, connected
from mob.cli.call import results_of, told_of
from mob.cli.output import echo
from mob.client import Client
from mob.core.printable import printable
from mob.errors import MobError, RemoteError
from mob.peer.results.call import Call
from mob.plan import place_name
from mob.rim.places import state_directory
from mob.wire.messages import Member

HISTORY = 10_000
"""Maximum number of lines in the history."""
WIDTH = 110
"""Columns of the banner."""


class MemberTable(list[Member]):
    """The processes of an app; its repr is a table."""

    def __repr__(self) -> str:
        rows = [(place_name(each.role, each.index) if each.role else "client", each.pid, each.state) for each in self]
        width = max((len(name) for name, _, _ in rows), default=0)
        return "\n".join(f"{name:<{width}}  {pid:>7}  {state}" for name, pid, state in rows)


def namespace_of(app: Client) -> dict[str, Any]:
    """Return the initial names. A role whose name is not a Python name gets one: `image_worker`."""

    def members() -> MemberTable:
        """Return the processes of the app."""
        return MemberTable(sorted(app.members(), key=lambda each: (each.role == "", each.role, each.index, each.pid)))

    names: dict[str, Any] = {"app": app, "mob": mob, "members": members}
    for role in app.roles():
        name = "".join(char if char.isalnum() else "_" for char in role)
        while name in names or keyword.iskeyword(name) or hasattr(builtins, name):
            name += "_"
        names[name] = app.require(role)
    return names


def banner(app: Client, names: dict[str, Any]) -> str:
    """Return the text shown at the start."""
    lines = [f"mob {version('mobsters')} · Python {platform.python_version()} · {app.app} · Kingpin {app.kingpin_pid}"]
    by_role = {repr(value): name for name, value in names.items()}
    for role, info in app.roles().items():
        name = by_role.get(repr(app.require(role)), role)
        exports = "no worker has been ready yet" if info.exports is None else ", ".join(e.name for e in info.exports)
        line = f"  {name:<10} {exports or 'no exports'}"
        lines.append(line if len(line) <= WIDTH else line[: WIDTH - 3] + "...")
    lines.append("A call such as role.export(1, x=2) is awaited and its value shown; Ctrl-C cancels it, Ctrl-D exits.")
    lines.append("app is the client, members() lists the processes, mob is the module; Tab completes names.")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------------ values


class Display:
    """A replacement for `sys.displayhook` that shows values; it waits for the value of a call."""

    def __init__(self, show: Callable[[Any], None]) -> None:
        self._show = show

    def __repr__(self) -> str:
        return "<Display>"

    def __call__(self, value: Any) -> None:
        """Show one value. An exception of a call is raised without the frames in between."""
        if not isinstance(value, Call):
            self._show(value)
            return
        running = cast("Call[Any]", value)
        try:
            with closing(results_of(running)) as results:
                for result in results:
                    self._show(result)
        except KeyboardInterrupt:
            running.cancel()
            print(f"\n{running.label} was cancelled.", file=sys.stderr)
        except MobError as error:
            raise error.with_traceback(None) from error.__cause__


def told(error: BaseException) -> str:
    """Return an error as it is shown: a remote one as it looked where it was raised, others as usual."""
    if isinstance(error, RemoteError):
        return printable(f"Error: {told_of(error)}\n")
    if isinstance(error, MobError):
        return printable(f"{type(error).__name__}: {error}\n")
    report = traceback.TracebackException.from_exception(error, compact=True)
    while report.stack and report.stack[0].filename != FILE:
        del report.stack[0]
    return printable("".join(report.format()))


FILE = "<mob shell>"
"""File name under which the typed lines are compiled."""


# --------------------------------------------------------------------------------------------------------- the prompt


class Prompt(code.InteractiveConsole):
    """The REPL of the standard library, with errors as mob shows them."""

    def __init__(self, app: Client, names: dict[str, Any]) -> None:
        super().__init__(names, FILE)
        self._app = app
        self._has_told = False

    def __repr__(self) -> str:
        return f"<Prompt of {self._app!r}>"

    def showtraceback(self) -> None:
        """Show the error that is being handled."""
        error = sys.exception()
        if error is not None:
            self.write(told(error))

    def raw_input(self, prompt: str = "") -> str:
        """Read a line. The end of the app is reported once; earlier results can still be inspected."""
        if not self._has_told and self._app.wait_stopped(0):
            self._has_told = True
            self.write(f"The app {self._app.app!r} has ended.\n")
        return super().raw_input(prompt)


def _prompt(app: Client, names: dict[str, Any]) -> None:
    """Run the prompt until the user leaves it."""
    history = _remember(names)
    before, sys.displayhook = sys.displayhook, Display(sys.displayhook)
    try:
        Prompt(app, names).interact(banner(app, names), exitmsg="")
    finally:
        sys.displayhook = before
        history()


def _remember(names: dict[str, Any]) -> Callable[[], None]:
    """Set up completion and history, if this Python has readline; return a function that saves the history."""
    if importlib.util.find_spec("readline") is None:
        return lambda: None
    import readline  # here because it takes over the terminal
    import rlcompleter

    readline.set_completer(rlcompleter.Completer(names).complete)
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    readline.set_history_length(HISTORY)
    try:
        file = history_file()
    except FileNotFoundError:
        return lambda: None  # without a home directory there is no history
    try:
        readline.read_history_file(file)
    except OSError:
        pass  # there is no history yet

    def keep() -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(file)
            file.chmod(0o600)
        except OSError as error:
            print(f"The history could not be saved to {file}: {error.strerror}.", file=sys.stderr)

    return keep


def history_file() -> Path:
    """Return the file of the history, next to the crash reports; its name cannot be that of an app.

    Raises `FileNotFoundError` if there is no directory for it.
    """
    return state_directory() / ".shell_history"


def _ipython(app: Client, names: dict[str, Any]) -> None:
    """Run the prompt of IPython, in which a call is shown as its value."""
    ipython: Any = importlib.import_module("IPython")
    config: Any = importlib.import_module("traitlets.config").Config()

    def pretty(running: Call[Any], printer: Any, _cycle: bool) -> None:
        results: list[Any] = []
        try:
            Display(results.append)(running)
        except MobError as error:
            printer.text(told(error).rstrip())
        for number, result in enumerate(results):
            if number:
                printer.break_()
            printer.pretty(result)

    config.PlainTextFormatter.type_printers = {Call: pretty}
    config.TerminalInteractiveShell.banner1 = banner(app, names) + "\n"
    config.TerminalInteractiveShell.confirm_exit = False
    ipython.start_ipython(argv=[], user_ns=names, config=config)


# --------------------------------------------------------------------------------------------------------- a script


def run_script(text: str, names: dict[str, Any]) -> None:
    """Run a script statement by statement, as if typed. An error is printed, and ends this process with status 1."""
    before, sys.displayhook = sys.displayhook, Display(sys.displayhook)
    try:
        for statement in ast.parse(text, FILE).body:
            exec(compile(ast.Interactive([statement]), FILE, "single", dont_inherit=True), names)
    except Exception as error:  # noqa: BLE001  any exception of the script
        sys.stdout.flush()
        echo(told(error), nl=False, err=True)
        raise SystemExit(FAILED) from None
    finally:
        sys.displayhook = before


@click.command()
@click.option("--plain", is_flag=True, help="Use Python's own prompt even if IPython is installed.")
@app_argument
def shell(plain: bool, name: str | None) -> None:
    """Open a Python prompt that is a client of an app.

    Each role is available by its name, and calls show their values. Without a terminal it runs standard input as a
    script: `echo 'back.foo(1)' | mob shell`.
    """
    with connected(name) as app:
        names = namespace_of(app)
        if not sys.stdin.isatty():
            run_script(sys.stdin.read(), names)
        elif plain or importlib.util.find_spec("IPython") is None:
            _prompt(app, names)
        else:
            _ipython(app, names)
