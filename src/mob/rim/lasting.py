"""Threads of mob's own that must last: what raises in one step is told, and the next step follows.

Such a thread ends when its work does and for no other reason, because nothing replaces it: without its heartbeat a
worker is killed though it is well, and without its writer an app is mute. So whatever it calls that is not its own
(code of the application, the system, an encoder of texts that somebody else has made) is called by `carry_on`.

What is told goes straight to the descriptor of stderr, once for each place and kind of error: the locks of `logging`
and `sys.stderr` may be held by the very code that hangs.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable
from threading import current_thread
from typing import TypeVar

T = TypeVar("T")
MOST_TOLD = 100
"""Places that are remembered; errors at others are not told any more."""
_told: set[tuple[str, int, str]] = set()


def carry_on(step: Callable[[], T], otherwise: T) -> T:
    """Return what a step returns, or the other value if it raises."""
    try:
        return step()
    except Exception as error:  # noqa: BLE001  the thread must not end by it
        _tell(error)
        return otherwise


def readable(text: str) -> str:
    """Return a text that can be sent: names of threads and files may have characters in them that are none.

    >>> readable("upload b\\udcff.txt")
    'upload b\\\\udcff.txt'
    """
    return text.encode(errors="backslashreplace").decode()


def _tell(error: Exception) -> None:
    with contextlib.suppress(Exception):
        frames = traceback.extract_tb(error.__traceback__)
        place = (frames[-1].filename, frames[-1].lineno or 0, type(error).__name__)
        if place in _told or len(_told) >= MOST_TOLD:
            return
        _told.add(place)
        lines = "".join(traceback.format_exception(error))
        os.write(
            2, f"mob: the thread {current_thread().name} goes on after this error:\n{lines}".encode(errors="replace")
        )
