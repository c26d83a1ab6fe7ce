"""pdb for mobsters: it asks on a borrowed terminal, and stays in the application's code.

Imported at the first `breakpoint()` of a process. The terminal is kept while the user steps through the program, so
that no other debugger interferes; it is returned at `continue`, at `quit`, and when stepping leads out of the
application's code.
"""

from __future__ import annotations

import dis
import inspect
import pdb
import sys
import termios
from pathlib import Path
from types import FrameType
from typing import IO, Any

from mob.mobster.debugger.debugging import BorrowedTerminal, place_of

OURS = str(Path(__file__).resolve().parents[1])
MACHINERY = ("mob", "mob.*", "asyncio", "asyncio.*", "uvloop", "uvloop.*", "threading", "concurrent.*", "contextvars")
"""Modules that run the application's code, and are not entered."""
YIELD = dis.opmap["YIELD_VALUE"]
SUSPENDABLE = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


class Debugger(pdb.Pdb):
    """The debugger of one thread."""

    def __init__(self, terminal: BorrowedTerminal) -> None:
        super().__init__(skip=MACHINERY, nosigint=True)
        self.terminal = terminal
        self._has_left = False  # True after `continue` or `quit`

    def interaction(self, frame: FrameType | None, traceback: Any = None) -> None:
        """Show the current place and ask the user for commands until the program continues."""
        from_there = frame or self.curframe
        if from_there is not None and not self.terminal.borrow(place_of(from_there)):
            self.set_continue()  # the terminal was closed: there can be no command
            return
        self._has_left = False
        self.stdin: IO[str] = sys.stdin
        self.stdout: IO[str] = sys.stdout
        try:
            with self.terminal.asking():
                super().interaction(frame, traceback)
        except (OSError, termios.error):  # it was closed
            self.set_continue()
        if self._has_left:
            self.terminal.give_back()

    def set_continue(self) -> None:
        """Continue: the user entered `continue`, or left the application's code."""
        self._has_left = True
        super().set_continue()

    def set_quit(self) -> None:
        """Quit: what runs here fails."""
        self._has_left = True
        super().set_quit()

    def user_return(self, frame: FrameType, return_value: Any) -> None:
        """Handle the return of a function, whose caller may not belong to the application."""
        super().user_return(frame, return_value)
        if not self._has_left and not self._is_of_the_application(frame.f_back):
            self.set_continue()
            self.terminal.give_back()

    def dispatch_return(self, frame: FrameType, arg: Any) -> Any:
        """Tell a suspended coroutine from a finished one.

        Both return to the loop. Stepping over a suspended one leads to its next line; a finished one is shown, which
        bdb does only for functions.
        """
        if frame.f_code.co_flags & SUSPENDABLE and (self.stop_here(frame) or frame is self.returnframe):
            if _is_suspended(frame):
                self.set_next(frame)
                return self.trace_dispatch
            self.set_step()
        return super().dispatch_return(frame, arg)

    def _is_of_the_application(self, frame: FrameType | None) -> bool:
        if frame is None or frame.f_code.co_filename.startswith((OURS, "<frozen importlib")):
            return False
        return not self.is_skipped_module(frame.f_globals.get("__name__", ""))


def _is_suspended(frame: FrameType) -> bool:
    code, last = frame.f_code.co_code, frame.f_lasti
    return YIELD in (code[last], code[last - 2])  # since Python 3.13 `f_lasti` is the instruction after it
