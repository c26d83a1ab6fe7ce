"""How a call is ended, whatever it does: if it runs, its process is killed; if not, it never begins.

The process is stopped while this is decided, so what is known of the call holds until the process continues.
"""

from __future__ import annotations

from enum import StrEnum

FOR_A_CALL = "was killed to end the task that it ran (pool.kill, timeout)"
"""The reason for a kill, worded to follow the name of the process."""
OVERRAN = "was killed because "


def overran(label: str, limit: float) -> str:
    """Return why a process was killed whose call ran for too long, worded to follow its name.

    >>> overran("back.foo", 30.0)
    'was killed because back.foo ran for more than 30 s (kill_after=30)'
    """
    return f"{OVERRAN}{label} ran for more than {limit:g} s (kill_after={limit:g})"


def is_for_a_call(why: str) -> bool:
    """Return True if a process was killed because of one of its calls: its role did not fail."""
    return why == FOR_A_CALL or why.startswith(OVERRAN)


class Fate(StrEnum):
    """The outcome for a call that was to be ended."""

    KILLED = "killed"
    """It was running, and its process was killed."""
    WAITS = "waits"
    """It had not begun, and will not."""
    OVER = "over"
    """It ended, or its process did. If it was about to begin, it does not, and that is its answer."""


def fate_of(is_running: bool, may_have_begun: bool, has_ended: bool) -> Fate | None:
    """Return the outcome for a call; None if it is about to run: the process has to continue for a moment.

    >>> fate_of(is_running=False, may_have_begun=True, has_ended=True)
    <Fate.OVER: 'over'>
    """
    if is_running:
        return Fate.KILLED
    if not may_have_begun:
        return Fate.WAITS
    return Fate.OVER if has_ended else None
