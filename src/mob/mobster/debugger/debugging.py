"""`breakpoint()` in a mobster: its debugger gets the Kingpin's terminal.

A mobster has no terminal of its own, and its process group is in the background of the Kingpin's. So it asks the
Kingpin for the terminal (`core/debugging.py` decides whose turn it is). Descriptors 0 to 2 are the terminal until the
debugger returns it, and the process group is the foreground one while the debugger asks the user: at the prompt Ctrl-C
belongs to the debugger; while the program runs, it stops the app as usual. pdb is imported at the first breakpoint.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import termios
import threading
from collections.abc import Generator
from time import sleep
from types import FrameType
from typing import TYPE_CHECKING, Any

from mob.peer.peer import Peer
from mob.peer.results.call import Call
from mob.rim.processes import set_foreground
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.mobster.debugger.pdb import Debugger

VARIABLE = "PYTHONBREAKPOINT"
OWN = ("", "pdb.set_trace")
"""Values of the variable that mean pdb."""
FOREGROUND_INTERVAL = 0.1
"""Seconds between two checks of whether the app is in the foreground again."""
CONTROL_KEYS = (termios.VINTR, termios.VSUSP)
"""Control characters of Ctrl-C and Ctrl-Z."""

DEBUGGERS = frozenset({"bdb", "debugpy", "pdb", "pudb", "pydevd", "rpdb"})
"""Packages whose code a thread executes while a debugger has stopped it; remote debuggers build on bdb or pydevd."""

_skipped: set[str] = set()  # breakpoints that were reported as skipped
_holders: set[int] = set()  # threads that have the terminal


def install(peer: Peer) -> Hook:
    """Let `breakpoint()` ask for the terminal from now on."""
    sys.breakpointhook = hook = Hook(peer)
    return hook


def remove() -> None:
    """Restore `breakpoint()` in the child of a fork, which is not a mobster."""
    sys.breakpointhook = sys.__breakpointhook__


def has_terminal() -> bool:
    """Return whether this thread has the terminal."""
    return threading.get_ident() in _holders


def holders() -> int:
    """Return how many threads of this process have the terminal: one or none."""
    return len(_holders)


def is_stopped(thread: int) -> bool:
    """Return whether a debugger, of whatever kind, has stopped that thread.

    >>> is_stopped(threading.get_ident())
    False
    """
    frame = sys._current_frames().get(thread)  # pyright: ignore[reportPrivateUsage]  the documented way
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] in DEBUGGERS:
            return True
        frame = frame.f_back
    return False


class Hook:
    """The hook that `breakpoint()` calls."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._context = peer.context
        self._own = threading.local()  # each thread has a debugger of its own

    def __repr__(self) -> str:
        return f"<Hook of {self._context.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Stop the program at the caller, as the built-in hook would, if the debugger is pdb."""
        if os.environ.get(VARIABLE, "") not in OWN:  # disabled, or another debugger, which needs nothing from here
            return sys.__breakpointhook__(*args, **kwargs)
        self.stop(sys._getframe(1), "breakpoint()")  # pyright: ignore[reportPrivateUsage]  as pdb itself does
        return None

    def stop(self, frame: FrameType, what: str, header: str | None = None) -> None:
        """Stop the program in that frame, where `what` was called, if the terminal is available."""
        debugger = self._debugger()
        if debugger.terminal.borrow(place_of(frame), what):
            if header is not None:
                print(header)
            debugger.set_trace(frame)

    def _debugger(self) -> Debugger:
        """Return the debugger of this thread."""
        if not hasattr(self._own, "debugger"):
            module = importlib.import_module("mob.mobster.debugger.pdb")
            self._own.debugger = module.Debugger(BorrowedTerminal(self._peer))
        return self._own.debugger


class BorrowedTerminal:
    """The Kingpin's terminal, while a debugger of this process has it."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._context = peer.context
        self._limited = peer.serving.limited_calls
        self._asked: Call[Any] | None = None
        self._number = 0
        self._group = 0  # the Kingpin's process group, which is normally in the foreground
        self._kept: list[int] = []  # duplicates of the original descriptors 0 to 2
        self._streams: tuple[Any, Any, Any] | None = None

    def __repr__(self) -> str:
        return f"<BorrowedTerminal of {self._context.name}, {'here' if self.is_here else 'not here'}>"

    @property
    def is_here(self) -> bool:
        """True if this process has the terminal."""
        return bool(self._kept)

    def borrow(self, where: str, what: str = "breakpoint()") -> bool:
        """Wait for the terminal; return whether it is here. If not, this is logged and the program continues."""
        why = self.why_not(where, what)
        if why:
            self._say_skipped(where, what, why)
        return not why

    def why_not(self, where: str, what: str) -> str:
        """Wait for the terminal; return why there is none, or "" if it is here now."""
        while not self.is_here:
            self._limited.excuse(self)
            asked = self._asked = self._asked or self._ask(where, what)
            try:
                answer = asked.result()
            except BaseException:
                self._limited.excuse_no_longer(self)
                raise
            if self._asked is not asked:  # a callback stopped at a breakpoint meanwhile and used this request
                continue
            self._asked = None
            if isinstance(answer, m.NoTerminal):
                self._limited.excuse_no_longer(self)
                return answer.why
            lent, descriptors = answer
            self._group = lent.group
            self._take(descriptors)
        return ""

    def _ask(self, where: str, what: str) -> Call[Any]:
        def make(number: int) -> m.WantTerminal:
            self._number = number
            return m.WantTerminal(number, where)

        return self._peer.control.request(what, make)

    def _say_skipped(self, where: str, what: str, why: str) -> None:
        """Log a skipped breakpoint once for each place, because it may be reached often."""
        if where not in _skipped:
            _skipped.add(where)
            self._context.log.warning(
                "%s at %s skipped: %s. Run the app in a terminal, or use breakpoint() with %s set to a debugger that "
                "needs no terminal, such as remote_pdb.set_trace.",
                what,
                where,
                why,
                VARIABLE,
            )

    def _take(self, descriptors: list[int]) -> None:
        """Replace the standard streams with the terminal, because line editors (readline) use only those."""
        _holders.add(threading.get_ident())
        self._streams = sys.stdin, sys.stdout, sys.stderr
        for stream in self._streams[1:]:
            with contextlib.suppress(Exception):
                stream.flush()
        self._kept = [os.dup(standard) for standard in range(3)]
        reading, writing = descriptors
        for descriptor, standard in ((reading, 0), (writing, 1), (writing, 2)):
            os.dup2(descriptor, standard)
        for descriptor in descriptors:
            os.close(descriptor)
        sys.stdin = open(0, closefd=False, errors="replace")  # noqa: SIM115  closed with the session
        sys.stdout, sys.stderr = (
            open(number, "w", 1, closefd=False, errors="replace")  # noqa: SIM115
            for number in (1, 2)
        )

    def give_back(self) -> None:
        """Return the terminal to the Kingpin."""
        if not self.is_here:
            return
        assert self._streams is not None
        _holders.discard(threading.get_ident())
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        sys.stdin, sys.stdout, sys.stderr = self._streams
        kept, self._kept, self._streams = self._kept, [], None
        for standard, descriptor in enumerate(kept):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        self._limited.excuse_no_longer(self)
        self._peer.control.post(m.ReturnTerminal(self._number))
        if self._context.reactor.thread == threading.get_ident():
            self._context.reactor.flush()  # the program may run for long before the loop's turn

    @contextlib.contextmanager
    def asking(self) -> Generator[None]:
        """Direct the keyboard to this process while the user is asked. `OSError` if the terminal was closed."""
        while os.tcgetpgrp(0) not in (self._group, os.getpgrp()):
            # the app was put in the background between two steps: the shell has the terminal
            sleep(FOREGROUND_INTERVAL)
        with _interruptible():
            set_foreground(0, os.getpgrp())  # first: a background process may not configure the terminal
            before = termios.tcgetattr(0)
            termios.tcsetattr(0, termios.TCSANOW, _without_keys(before))
            try:
                yield
            finally:
                with contextlib.suppress(OSError, termios.error):  # it was closed in the meantime
                    termios.tcsetattr(0, termios.TCSANOW, before)
                    set_foreground(0, self._group)


def place_of(frame: FrameType) -> str:
    """Return the place of a frame as shown to users: "back.py:17"."""
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def _without_keys(attributes: list[Any]) -> list[Any]:
    """Disable Ctrl-Z, which would stop this process unnoticed, and Ctrl-C except on the main thread."""
    keys = list(attributes[6])
    for key in CONTROL_KEYS if not _is_main() else CONTROL_KEYS[1:]:
        keys[key] = b"\0"
    return [*attributes[:6], keys]


@contextlib.contextmanager
def _interruptible() -> Generator[None]:
    """Make Ctrl-C raise KeyboardInterrupt in the main thread, whatever loop is running."""
    if not _is_main():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    wakeup = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGINT, before)


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()
