"""`breakpoint()` in a mobster: its debugger gets the Kingpin's terminal.

A mobster has no terminal of its own, and its process group is in the background of the Kingpin's. So the Kingpin is
asked for it (`core/debugging.py` says whose turn it is). Descriptors 0 to 2 become the terminal until the debugger has
done with it, and the process group the foreground one for as long as it asks the user something: at the prompt Ctrl-C
is the debugger's, while the program runs it stops the app as ever. Imports of pdb wait for the first breakpoint.
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
"""What the variable says where the debugger is pdb."""
FOREGROUND_INTERVAL = 0.1
"""Seconds between two looks at whether the app is in front again."""
CONTROL_KEYS = (termios.VINTR, termios.VSUSP)
"""Ctrl-C and Ctrl-Z."""

DEBUGGERS = frozenset({"bdb", "debugpy", "pdb", "pudb", "pydevd", "rpdb"})
"""Packages in whose code a thread stands that a debugger has stopped; remote ones are built on bdb or pydevd."""

_passed_over: set[str] = set()  # places of which that was told
_holders: set[int] = set()  # threads that have the terminal


def install(peer: Peer) -> Hook:
    """From now on `breakpoint()` asks for the terminal."""
    sys.breakpointhook = hook = Hook(peer)
    return hook


def remove() -> None:
    """It is as in any Python again: in the child of a fork, which is no mobster."""
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
    """What `breakpoint()` calls."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._context = peer.context
        self._own = threading.local()  # each thread has a debugger of its own

    def __repr__(self) -> str:
        return f"<Hook of {self._context.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if os.environ.get(VARIABLE, "") not in OWN:  # off, or another debugger, which sees to itself
            return sys.__breakpointhook__(*args, **kwargs)
        self.stop(sys._getframe(1), "breakpoint()")  # pyright: ignore[reportPrivateUsage]  as pdb itself does
        return None

    def stop(self, frame: FrameType, what: str, header: str | None = None) -> None:
        """Stops the program in that frame, if the terminal can be had; `what` was called there."""
        debugger = self._debugger()
        if debugger.terminal.borrow(place_of(frame), what):
            if header is not None:
                print(header)
            debugger.set_trace(frame)

    def _debugger(self) -> Debugger:
        """The running thread's."""
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
        self._group = 0  # the Kingpin's, whose the foreground is
        self._kept: list[int] = []  # what descriptors 0 to 2 were
        self._streams: tuple[Any, Any, Any] | None = None

    def __repr__(self) -> str:
        return f"<BorrowedTerminal of {self._context.name}, {'here' if self.is_here else 'not here'}>"

    @property
    def is_here(self) -> bool:
        """Whether this process has it."""
        return bool(self._kept)

    def borrow(self, where: str, what: str = "breakpoint()") -> bool:
        """Waits for the terminal; whether there is one. If not, that is told and the program goes on."""
        why = self.why_not(where, what)
        if why:
            self._say_passed_over(where, what, why)
        return not why

    def why_not(self, where: str, what: str) -> str:
        """Waits for the terminal; why there is none, or nothing if it is here now."""
        while not self.is_here:
            self._limited.excuse(self)
            asked = self._asked = self._asked or self._ask(where, what)
            try:
                answer = asked.result()
            except BaseException:
                self._limited.excuse_no_longer(self)
                raise
            if self._asked is not asked:  # a callback that ran meanwhile stood at a breakpoint too, and has had it
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

    def _say_passed_over(self, where: str, what: str, why: str) -> None:
        """Once for each place: it may be passed often."""
        if where not in _passed_over:
            _passed_over.add(where)
            self._context.log.warning(
                "%s at %s is passed over: %s. Run the app in a terminal, or use breakpoint() and set %s to a debugger "
                "that needs none, such as remote_pdb.set_trace.",
                what,
                where,
                why,
                VARIABLE,
            )

    def _take(self, descriptors: list[int]) -> None:
        """Puts the terminal in the place of the standard streams: an editor of lines (readline) knows no others."""
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
        """The debugger has done with it."""
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
            self._context.reactor.flush()  # the program may go on for long before the loop has its turn

    @contextlib.contextmanager
    def asking(self) -> Generator[None]:
        """While the user is asked: the keyboard is this process's. `OSError` if the terminal was closed."""
        while os.tcgetpgrp(0) not in (self._group, os.getpgrp()):
            # the app was put in the background between two steps: the terminal is the shell's
            sleep(FOREGROUND_INTERVAL)
        with _interruptible():
            set_foreground(0, os.getpgrp())  # first: who is in the background may not set the terminal
            before = termios.tcgetattr(0)
            termios.tcsetattr(0, termios.TCSANOW, _without_keys(before))
            try:
                yield
            finally:
                with contextlib.suppress(OSError, termios.error):  # it was closed meanwhile
                    termios.tcsetattr(0, termios.TCSANOW, before)
                    set_foreground(0, self._group)


def place_of(frame: FrameType) -> str:
    """Where a frame stands, as people say it: "back.py:17"."""
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def _without_keys(attributes: list[Any]) -> list[Any]:
    """Ctrl-Z would stop this process and nobody would hear of it; Ctrl-C is heard by the main thread only."""
    keys = list(attributes[6])
    for key in CONTROL_KEYS if not _is_main() else CONTROL_KEYS[1:]:
        keys[key] = b"\0"
    return [*attributes[:6], keys]


@contextlib.contextmanager
def _interruptible() -> Generator[None]:
    """Ctrl-C is Python's own KeyboardInterrupt, whatever loop runs around this; in the main thread."""
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
