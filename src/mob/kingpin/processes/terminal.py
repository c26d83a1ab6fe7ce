"""The Kingpin's own terminal: lent to the debugger of one mobster at a time, and restored afterwards.

Which mobster gets it is decided in `core/debugging.py`. The borrower reads and writes by itself, and makes its process
group the foreground one while it interacts with the user. If it dies meanwhile, its changes are undone here.
"""

from __future__ import annotations

import contextlib
import os
import sys
import termios
from collections.abc import Callable
from time import monotonic
from typing import Any

from mob.core.decisions import Decision, Ticket
from mob.core.supervisor import Supervisor
from mob.kingpin.connections import Connection
from mob.kingpin.output.console import Console
from mob.rim.processes import set_foreground
from mob.rim.standard import is_terminal
from mob.wire import messages as m


class TerminalLender:
    """The terminal at which this process was started, if it is one."""

    def __init__(self, supervisor: Supervisor, console: Console, carry_out: Callable[[list[Decision]], None]) -> None:
        self._supervisor = supervisor
        self._console = console
        self._carry_out = carry_out
        self._attributes: list[Any] | None = None  # as they were when it was lent

    def __repr__(self) -> str:
        return f"<TerminalLender, {'lent' if self._attributes is not None else self.why_not() or 'here'}>"

    def why_not(self) -> str:
        """Return why no debugger can have the terminal, or "" if one can."""
        if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
            return "this app does not run in a terminal"
        try:
            in_front = os.tcgetpgrp(0)
        except OSError:
            return "the terminal of this app is closed, or controls another session"
        if in_front != os.getpgrp() and self._attributes is None:
            return "this app runs in the background of its terminal"
        return ""

    def handle(self, connection: Connection, message: m.WantTerminal | m.ReturnTerminal) -> None:
        """Handle the request of a mobster that stopped at a `breakpoint()`, or the return of the terminal."""
        uid, now = connection.uid, monotonic()
        if isinstance(message, m.ReturnTerminal):
            self._carry_out(self._supervisor.handle_returned_terminal(uid, message.id, now))
        elif why := self.why_not():
            connection.link.post(m.NoTerminal(message.id, why))
        else:
            self._carry_out(self._supervisor.handle_wants_terminal(uid, message.id, message.where, now))

    def lend(self, connection: Connection, ticket: Ticket) -> None:
        """Show what was printed before, and then give a mobster descriptors to read from and write to the terminal."""
        uid, number = ticket
        if why := self.why_not():  # it was closed while the mobster waited
            connection.link.post(m.NoTerminal(number, why))
            self._carry_out(self._supervisor.handle_returned_terminal(uid, number, monotonic()))
            return
        self._console.drain(uid)
        self._console.hold()
        self._attributes = termios.tcgetattr(0)
        connection.link.post_with(m.TerminalLent(number, os.getpgrp()), [os.dup(0), os.dup(1)])

    def take_back(self) -> None:
        """Restore the terminal, whatever the borrower changed."""
        attributes, self._attributes = self._attributes, None
        with contextlib.suppress(OSError, termios.error):  # it was closed
            set_foreground(0, os.getpgrp())
            if attributes is not None:
                termios.tcsetattr(0, termios.TCSANOW, attributes)
        self._console.release()
