"""Entry point of the `mob` command: from the first moment on, Ctrl-C ends it quietly.

Importing a command takes a few tenths of a second, and Ctrl-C during that time would show a traceback of imports, or be
swallowed by one. So until the command is about to run, the signal ends the process at once, with the status of an
interrupted command. Nothing has been started by then. This file imports nothing heavy.
"""

from __future__ import annotations

import importlib
import os
import signal

INTERRUPTED = 130
"""Exit status of a command ended by Ctrl-C, as in shells."""


def main() -> None:
    """Run the command that the arguments name."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the parent wants it ignored
        signal.signal(signal.SIGINT, _end)
    importlib.import_module("mob.cli.main").main()


def begin() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` again: the command is imported and about to run."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(signum: int, frame: object) -> None:
    os._exit(INTERRUPTED)
