"""The terminal while `mob top` uses it: its modes, the alternate screen, keys, signals, and news from other threads.

The terminal is always restored: at the end, after an exception, at SIGTERM and SIGHUP, and while Ctrl-Z stops the
program. Signals only make `wait` return.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import termios
import tty
from types import FrameType
from typing import Any

from rich.console import Console, ConsoleDimensions, RenderableType
from rich.live import Live

from mob.cli.top.keys import ESCAPE_TIME, Keyboard

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)
NEWS = 0
"""The byte that reports news; other bytes are numbers of signals."""
SMALLEST = (80, 24)
"""Size assumed for a terminal that does not report its own."""


class Terminal:
    """Controls the terminal within a `with` block."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._fd = sys.stdin.fileno()
        self._keyboard = Keyboard()
        self._awake, self._waker = socket.socketpair()
        self._live: Live | None = None
        self._saved: list[Any] = []
        self._handlers: dict[signal.Signals, Any] = {}
        self._old_waker = -1

    def __repr__(self) -> str:
        return f"<Terminal on {self._fd}{'' if self._live else ', restored'}>"

    def __enter__(self) -> Terminal:
        self._awake.setblocking(False)
        self._waker.setblocking(False)
        self._old_waker = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, _only_wakes) for number in SIGNALS}
        try:
            self._take()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._give_back()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._old_waker)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        with contextlib.suppress(OSError):
            width, height = os.get_terminal_size(sys.stdout.fileno())
            if width and height:
                return width, height
        return SMALLEST

    def show(self, frame: RenderableType) -> None:
        """Draw the whole screen."""
        if self._live is not None:
            self._console.size = ConsoleDimensions(*self.size)
            self._live.update(frame, refresh=True)

    def wake(self) -> None:
        """Make `wait` return; callable from any thread."""
        with contextlib.suppress(OSError):  # full: it wakes anyway; closed: nothing waits
            self._waker.send(bytes([NEWS]))

    def wait(self, seconds: float) -> tuple[list[str], list[int]]:
        """Wait for keys, signals or news; return the keys and the signals. The end of the input counts as SIGHUP."""
        if self._keyboard.is_within:
            seconds = min(seconds, ESCAPE_TIME)
        ready, _, _ = select.select([self._fd, self._awake], [], [], max(0.0, seconds))
        keys: list[str] = []
        signals: list[int] = []
        if self._fd in ready:
            try:
                data = os.read(self._fd, 4096)
            except OSError:  # the window was closed
                data = b""
            keys = self._keyboard.feed(data)
            signals += [] if data else [signal.SIGHUP]
        elif self._keyboard.is_within:
            keys = self._keyboard.left()
        if self._awake in ready:
            signals += [number for number in self._awake.recv(4096) if number != NEWS]
        return keys, signals

    def suspend(self) -> None:
        """Suspend the program (Ctrl-Z) until the shell resumes it with `fg`."""
        self._give_back()
        mine = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # stops here until SIGCONT
        signal.signal(signal.SIGTSTP, mine)
        self._take()

    def _take(self) -> None:
        self._saved = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd, termios.TCSANOW)
        self._live = Live("", console=self._console, screen=True, auto_refresh=False)
        self._live.start()

    def _give_back(self) -> None:
        live, self._live = self._live, None
        try:
            if live is not None:
                with contextlib.suppress(OSError):  # the terminal may no longer exist
                    live.stop()
        finally:
            if self._saved:
                with contextlib.suppress(termios.error):
                    termios.tcsetattr(self._fd, termios.TCSANOW, self._saved)


def _only_wakes(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the number arrives through the wakeup descriptor."""
