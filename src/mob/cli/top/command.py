"""The command `mob top`: connects terminal, state and session."""

from __future__ import annotations

import queue
import signal
import sys
import time
from time import monotonic

import click
from click.shell_completion import CompletionItem
from rich.console import Console

from mob.cli.apps import app_argument, connected, node_option
from mob.cli.machines import ALL, ask, chosen, complain
from mob.cli.ps import console_for_tables
from mob.cli.top.columns import EXPORTS, MOBSTERS, NODE
from mob.cli.top.model import Action, Top, View
from mob.cli.top.screen import Screen
from mob.cli.top.session import Session, TopChange
from mob.cli.top.terminal import Terminal
from mob.client import Client
from mob.errors import nearest

FRAME_TIME = 0.05
"""Minimum number of seconds between two frames that no key has caused."""
ANSWER_TIMEOUT = 3.0
"""Seconds beyond the delay after which a missing answer of the Kingpin is reported."""


def complete_column(context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the columns of the selected table."""
    columns = EXPORTS if context.params.get("exports") else MOBSTERS
    return [CompletionItem(column.name) for column in columns if column.name.startswith(incomplete)]


@click.command()
@app_argument
@node_option("default: all machines")
@click.option(
    "-d",
    "--delay",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds between two updates.",
)
@click.option(
    "-s",
    "--sort",
    metavar="COLUMN",
    shell_complete=complete_column,
    help="Sort by this column, for example cpu% or calls/s.",
)
@click.option("-f", "--filter", "words", default="", metavar="WORDS", help="Show only lines that contain these words.")
@click.option("-e", "--exports", is_flag=True, help="Start with the table of exports instead of workers.")
@click.option("--once", is_flag=True, help="Print the table once and exit; for pipes.")
def top(
    name: str | None, node: str | None, delay: float, sort: str | None, words: str, exports: bool, once: bool
) -> None:
    """Watch an app live, and act on it with keys.

    It shows workers and exports; press ? for a list of keys. It keeps running when the app ends or restarts, and waits
    for it to come back.
    """
    view = View.EXPORTS if exports else View.MOBSTERS
    console = console_for_tables(cleans=False)  # it moves the cursor; `Screen` cleans the text
    is_terminal = sys.stdin.isatty() and console.is_terminal and not console.is_dumb_terminal
    if not once and not is_terminal:
        raise click.UsageError(
            "`mob top` needs a terminal, and stdin or stdout is not one. For a pipe use `mob top --once` or "
            "`mob ps --json`."
        )
    column = _column(sort, view)
    only = None if node == ALL else node
    with connected(name, only, any_node=True) as app:
        state = Top(app.app, view=view)
        state.order.column, state.order.filter = column, words
        state.handle_metrics(monotonic(), app.metrics(), app.node)
        if once:
            return _print_once(app, state, only, console, delay)
        sys.exit(_watch(app, state, console, delay, only))


def _column(sort: str | None, view: View) -> str:
    names = [column.name for column in (*(EXPORTS if view is View.EXPORTS else MOBSTERS), NODE)]
    if sort is not None and sort not in names:
        raise click.BadParameter(
            f"there is no column {sort!r} in the table of {view}. {nearest(sort, names)}", param_hint="--sort"
        )
    return sort or "name"


def _print_once(app: Client, state: Top, only: str | None, console: Console, delay: float) -> None:
    """Read each machine twice, and print the table."""
    machines = chosen(app, only or ALL)
    for pause in (delay, 0.0):
        answers = ask(app, machines, Client.metrics)
        for answer in answers:
            if answer.value is not None:
                state.handle_metrics(monotonic(), answer.value, answer.machine)
        time.sleep(pause)
    _print(console, state)
    complain(app, answers)


def _print(console: Console, state: Top) -> None:
    frame = Screen(state, console.width, None, time.time())
    console.print(frame)


def _watch(app: Client, state: Top, console: Console, delay: float, only: str | None) -> int:
    """Run until the user quits; return the exit status."""
    with Terminal(console) as terminal:
        news: queue.SimpleQueue[TopChange] = queue.SimpleQueue()

        def post(function: TopChange) -> None:
            news.put(function)
            terminal.wake()

        with Session(app, delay, post, only) as session:
            return Watch(state, terminal, session, news, delay).run()


class Watch:
    """The main loop: draws, waits, and handles keys, signals and news."""

    def __init__(
        self, state: Top, terminal: Terminal, session: Session, news: queue.SimpleQueue[TopChange], delay: float
    ) -> None:
        self._state = state
        self._terminal = terminal
        self._session = session
        self._news = news
        self._delay = delay
        self._status = -1
        self._silence = ""

    def __repr__(self) -> str:
        return f"<Watch of {self._state.app!r}>"

    def run(self) -> int:
        """Run until the user quits; return the exit status."""
        drawn = 0.0
        while self._status < 0:
            now = monotonic()
            self._check_answers(now)
            if now >= drawn + FRAME_TIME:
                self._draw()
                drawn = now
                wait = 1.0
            else:
                wait = drawn + FRAME_TIME - now
            keys, signals = self._terminal.wait(wait)
            for key in keys:
                self._handle_wish(self._state.handle_key(key))
            for number in signals:
                self._handle_signal(number)
            if keys or signals:
                drawn = 0.0
            self._handle_news()
        return self._status

    def _draw(self) -> None:
        try:
            self._terminal.show(Screen(self._state, *self._terminal.size, time.time()))
        except OSError:  # the window was closed; its signal has not arrived yet
            self._status = 128 + signal.SIGHUP

    def _handle_news(self) -> None:
        for _ in range(self._news.qsize()):  # later news wait for the next frame
            self._news.get()(self._state)

    def _handle_wish(self, wish: Action | None) -> None:
        if wish is None:
            return
        if wish.what == "quit":
            self._status = 0
        elif wish.what != "redraw":
            self._session.handle(wish, self._state.pager)

    def _handle_signal(self, number: int) -> None:
        if number == signal.SIGINT:
            self._status = 0
        elif number in (signal.SIGTERM, signal.SIGHUP):
            self._status = 128 + number
        elif number == signal.SIGTSTP:
            self._terminal.suspend()

    def _check_answers(self, now: float) -> None:
        """Report a Kingpin that does not answer: it may be blocked although its connection is open."""
        last = self._state.rates.last
        if now > last + self._delay + ANSWER_TIMEOUT and self._state.trouble in ("", self._silence):
            self._silence = f"no answer from the Kingpin (supervisor) for {now - last:.0f} s"
            self._state.handle_gone(self._silence)
