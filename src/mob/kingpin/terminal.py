"""The Kingpin's own terminal, lent to the debugger of one mobster and taken back as it was.

Whose turn it is, is decided elsewhere (`core/debugging.py`). The borrower reads and writes by itself, and makes its
process group the foreground one while it asks the user; should it die meanwhile, what it has changed is put right here.
"""

from __future__ import annotations

import contextlib
import os
import sys
import termios
from typing import Any

from mob.rim.processes import set_foreground


class Terminal:
    """What this process was started at, if that is a terminal."""

    def __init__(self) -> None:
        self._attributes: list[Any] | None = None  # as they were when it was lent

    def __repr__(self) -> str:
        return f"<Terminal, {'lent' if self._attributes is not None else self.why_not() or 'here'}>"

    def why_not(self) -> str:
        """Why no debugger can have it; nothing if one can."""
        if not (_is_terminal(sys.stdin) and _is_terminal(sys.stdout)):
            return "this app does not run in a terminal"
        try:
            in_front = os.tcgetpgrp(0)
        except OSError:
            return "the terminal of this app is closed, or is not its own"
        if in_front != os.getpgrp() and self._attributes is None:
            return "this app runs in the background of its terminal"
        return ""

    def lend(self) -> list[int]:
        """Descriptors to read from it and to write to it, for another process."""
        self._attributes = termios.tcgetattr(0)
        return [os.dup(0), os.dup(1)]

    def take_back(self) -> None:
        """Whatever the borrower has left it as: it is this app's again."""
        attributes, self._attributes = self._attributes, None
        with contextlib.suppress(OSError, termios.error):  # it was closed
            set_foreground(0, os.getpgrp())
            if attributes is not None:
                termios.tcsetattr(0, termios.TCSANOW, attributes)


def _is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()
