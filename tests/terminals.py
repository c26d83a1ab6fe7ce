"""A terminal for tests: a command runs in it, keys are typed, and what a person would see is read.

The screen is that of `pyte`, an emulator; the terminal is a pty. As in `tests/running.py` nothing sleeps: waiting means
waiting for something on the screen.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from typing import Any

import pyte

from tests.running import PATIENCE, wait_until


class Terminal:
    """A window of a given size with a command in it."""

    def __init__(self, command: list[str], env: dict[str, str], size: tuple[int, int]) -> None:
        self._ours, self._theirs = pty.openpty()
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.raw = b""
        """All output so far."""
        self._set_size(size)
        self.modes_before = self.modes()
        self.process = subprocess.Popen(command, env=env, preexec_fn=self._in_child)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _in_child(self) -> None:
        os.login_tty(os.dup(self._theirs))

    def _set_size(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._ours, 65536):
                with self._lock:
                    self.raw += data
                    self._stream.feed(data)

    def modes(self) -> list[Any]:
        """Return the modes of the terminal: echo, lines or single keys, and so on."""
        return termios.tcgetattr(self._theirs)

    @property
    def lines(self) -> list[str]:
        """The lines on the screen."""
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """The text on the screen."""
        return "\n".join(self.lines)

    def selected(self, color: str = "green") -> str:
        """Return the line that is reversed in that color."""
        with self._lock:
            screen = self._screen
            first = [screen.buffer[number][0] for number in range(screen.lines)]
            rows = [number for number, cell in enumerate(first) if cell.reverse and cell.fg == color]
            return screen.display[rows[0]].rstrip() if rows else ""

    def type(self, keys: str) -> None:
        """Type keys."""
        os.write(self._ours, keys.encode())

    def resize(self, size: tuple[int, int]) -> None:
        """Change the size of the window."""
        with self._lock:
            self._screen.resize(size[1], size[0])
        self._set_size(size)
        self.process.send_signal(signal.SIGWINCH)

    def wait_for(self, *texts: str) -> str:
        """Wait until all of these texts are on the screen at once; return the screen."""
        try:
            wait_until(lambda: all(text in self.text for text in texts), "")
        except AssertionError:
            raise AssertionError(f"{texts} were not seen within {PATIENCE} s on this screen:\n{self.text}") from None
        return self.text

    def wait_without(self, text: str) -> str:
        """Wait until a text is no longer on the screen; return the screen."""
        wait_until(lambda: text not in self.text, f"{text!r} leaves the screen")
        return self.text

    def wait(self) -> int:
        """Wait for the end of the command; return its exit status."""
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """End the command at the end of the test."""
        self.process.terminate()  # it restores the terminal, and exits normally
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
        os.close(self._theirs)
        self._reader.join(PATIENCE)
        os.close(self._ours)


@contextlib.contextmanager
def terminal(command: list[str], env: dict[str, str], size: tuple[int, int] = (120, 30)) -> Iterator[Terminal]:
    """Yield a terminal that is closed with the block."""
    window = Terminal(command, env, size)
    try:
        yield window
    finally:
        window.close()
