"""Standard input, output and error of a process that was started without them (`2>&-`, some service managers).

The next file or socket that is opened gets the lowest free number. If that is 2, everything written to standard error
goes into it: a traceback into the socket to the Kingpin. So `import mob` first opens /dev/null on those three numbers,
before mob opens anything, in the Kingpin, the fork server, the mobsters and the commands alike.
"""

from __future__ import annotations

import os
import sys
from typing import Any

MODES = {0: ("stdin", "r"), 1: ("stdout", "w"), 2: ("stderr", "w")}


def occupy() -> None:
    """Open /dev/null on each closed descriptor of 0, 1 and 2, and make the streams that Python lacks."""
    for descriptor, (name, mode) in MODES.items():
        is_ours = _is_closed(descriptor) and _open_null(descriptor)
        if getattr(sys, name) is None:
            # An open descriptor belongs to a file of the application: mob must not write there.
            stream = open(  # noqa: SIM115  stays open as long as the process
                descriptor if is_ours else os.devnull,
                mode,
                encoding="utf-8",
                errors="replace" if mode == "r" else "backslashreplace",
                closefd=not is_ours,
            )
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def is_terminal(stream: Any) -> bool:
    """Return True if a standard stream is a terminal; a closed or missing one is not."""
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):
        return False


def has_colors() -> bool:
    """Return True if the output of this process is shown on a terminal, and the user did not turn off colors."""
    return is_terminal(sys.stdout) and is_terminal(sys.stderr) and "NO_COLOR" not in os.environ


def _is_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return False


def _open_null(descriptor: int) -> bool:
    opened = os.open(os.devnull, os.O_RDWR)
    os.dup2(opened, descriptor, inheritable=True) if opened != descriptor else os.set_inheritable(opened, True)
    if opened > max(MODES):
        os.close(opened)
    return True
