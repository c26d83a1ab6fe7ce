"""The end of a call whatever it does: its process is killed if it runs, and it never begins if it does not.

Whoever decides this has stopped the process, so what is seen of it holds until it goes on.
"""

from __future__ import annotations

from enum import StrEnum

FOR_A_CALL = "was killed to end the task that it ran (pool.kill, timeout)"
"""Why a process was killed, in words that follow its name."""
OVERRAN = "was killed because "


def overran(label: str, limit: float) -> str:
    """Return why a process was killed of which a call ran for too long, in words that follow its name.

    >>> overran("back.foo", 30.0)
    'was killed because back.foo ran for more than 30 s (kill_after=30)'
    """
    return f"{OVERRAN}{label} ran for more than {limit:g} s (kill_after={limit:g})"


def is_for_a_call(why: str) -> bool:
    """Return whether a process was killed because of one of its calls: its role has not failed."""
    return why == FOR_A_CALL or why.startswith(OVERRAN)


class Fate(StrEnum):
    """What has become of a call that was to be ended."""

    KILLED = "killed"
    """It ran, and its process was killed."""
    WAITS = "waits"
    """It had not begun, and will not."""
    OVER = "over"
    """It has ended, or its process has. If it was about to begin, it will not, and is answered that."""


def fate_of(is_running: bool, may_have_begun: bool, has_ended: bool) -> Fate | None:
    """Return what becomes of a call; None if it is about to run: the process is to go on for a moment.

    >>> fate_of(is_running=False, may_have_begun=True, has_ended=True)
    <Fate.OVER: 'over'>
    """
    if is_running:
        return Fate.KILLED
    if not may_have_begun:
        return Fate.WAITS
    return Fate.OVER if has_ended else None
