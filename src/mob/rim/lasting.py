"""Threads of mob that must last: an exception in one step is reported, and the next step follows.

Such a thread ends only when its work does, because nothing replaces it: without its heartbeat a healthy worker is
killed, and without its writer an app prints nothing. So it uses `carry_on` to call everything that is not its own code
(code of the application, the system, an encoder of texts from elsewhere).

Reports go directly to the file descriptor of stderr, once for each place and kind of error: the locks of `logging` and
`sys.stderr` may be held by the very code that hangs.
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
"""Maximum number of places whose errors are reported; those at other places are not."""
_told: set[tuple[str, int, str]] = set()


def carry_on(step: Callable[[], T], otherwise: T) -> T:
    """Return the result of a step, or `otherwise` if it raises."""
    try:
        return step()
    except Exception as error:  # noqa: BLE001  the thread must not end because of it
        _tell(error)
        return otherwise


def readable(text: str) -> str:
    r"""Return a text that can be sent: names of threads and files may contain invalid characters.

    >>> readable("upload b\udcff.txt")
    'upload b\\udcff.txt'
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
            2, f"mob: the thread {current_thread().name} continues after this error:\n{lines}".encode(errors="replace")
        )
