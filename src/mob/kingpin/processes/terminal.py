"""The Kingpin's own terminal, lent to the debugger of one mobster and taken back as it was.

Whose turn it is, is decided elsewhere (`core/debugging.py`). The borrower reads and writes by itself, and makes its
process group the foreground one while it asks the user; should it die meanwhile, what it has changed is put right here.
"""

from __future__ import annotations

import contextlib
import os
import sys
import termios
from time import monotonic
from typing import TYPE_CHECKING, Any

from mob.core.decisions import Ticket
from mob.kingpin.desk import Connection
from mob.rim.processes import set_foreground
from mob.rim.standard import is_terminal
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.kingpin.kingpin import Kingpin


class Terminal:
    """What this process was started at, if that is a terminal."""

    def __init__(self, kingpin: Kingpin) -> None:
        self._kingpin = kingpin
        self._attributes: list[Any] | None = None  # as they were when it was lent

    def __repr__(self) -> str:
        return f"<Terminal, {'lent' if self._attributes is not None else self.why_not() or 'here'}>"

    def why_not(self) -> str:
        """Why no debugger can have it; nothing if one can."""
        if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
            return "this app does not run in a terminal"
        try:
            in_front = os.tcgetpgrp(0)
        except OSError:
            return "the terminal of this app is closed, or is not its own"
        if in_front != os.getpgrp() and self._attributes is None:
            return "this app runs in the background of its terminal"
        return ""

    def handle(self, connection: Connection, message: m.WantTerminal | m.ReturnTerminal) -> None:
        """A mobster stands at a `breakpoint()`, or has done with it."""
        supervisor, uid, now = self._kingpin.supervisor, connection.uid, monotonic()
        if isinstance(message, m.ReturnTerminal):
            self._kingpin.carry_out(supervisor.handle_returned_terminal(uid, message.id, now))
        elif why := self.why_not():
            connection.link.post(m.NoTerminal(message.id, why))
        else:
            self._kingpin.carry_out(supervisor.handle_wants_terminal(uid, message.id, message.where, now))

    def lend(self, ticket: Ticket) -> None:
        """Gives a mobster descriptors to read from it and to write to it, when what was printed before is shown."""
        uid, number = ticket
        kingpin = self._kingpin
        if (connection := kingpin.connections.get(uid)) is None:
            return
        if why := self.why_not():  # it was closed while the mobster waited
            connection.link.post(m.NoTerminal(number, why))
            kingpin.carry_out(kingpin.supervisor.handle_returned_terminal(uid, number, monotonic()))
            return
        kingpin.console.drain(uid)
        kingpin.console.hold()
        self._attributes = termios.tcgetattr(0)
        connection.link.post_with(m.TerminalLent(number, os.getpgrp()), [os.dup(0), os.dup(1)])

    def take_back(self) -> None:
        """Whatever the borrower has left it as: it is this app's again."""
        attributes, self._attributes = self._attributes, None
        with contextlib.suppress(OSError, termios.error):  # it was closed
            set_foreground(0, os.getpgrp())
            if attributes is not None:
                termios.tcsetattr(0, termios.TCSANOW, attributes)
        self._kingpin.console.release()
