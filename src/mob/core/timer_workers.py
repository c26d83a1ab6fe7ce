"""Decides which workers are asked if they can begin a run of a timer, and in which order.

A run goes to a worker as any call does (`dispatch.py`, `invitations.py`): it waits in the Kingpin until a worker has
room for it, and the first one that says so gets it. So it never waits behind a long call while another worker is free.
The board shows which workers seem to be idle; of those the one with the fewest calls in hand is asked first, alone. If
it does not answer (its loop is blocked, or a call came in before), or if none seems to be idle, all are asked.

A worker that was asked is not asked again before it answers, however many runs fall due meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from mob.core.timer_state import RoleTimer

FIRST_ASKED = 0.02
"""Seconds that the worker that seems to be idle has to answer before the others are asked too."""
EARLY = 0.005
"""Seconds by which a wake-up may come too soon."""


class ReadyWorker(NamedTuple):
    """A worker that may be asked, and what the board says of it."""

    uid: int
    queued: int = 0
    """Number of calls that another one would have to wait for; huge if callers wait for it."""
    in_hand: int = 0
    """Number of all its calls, including those that run beside others."""


class AskForRoom(msgspec.Struct, frozen=True, gc=False):
    """Ask a worker to report when it can begin a run of a timer."""

    uid: int
    name: str


class BeginTimerRun(msgspec.Struct, frozen=True, gc=False):
    """Have a worker run a timer."""

    uid: int
    number: int
    name: str


class NoTimerRun(msgspec.Struct, frozen=True, gc=False):
    """Tell a worker that has room that no run waits any more."""

    uid: int
    name: str


def ask(timer: RoleTimer, workers: Sequence[ReadyWorker], now: float, turns: dict[int, int]) -> list[AskForRoom]:
    """Return which workers to ask now for room for a waiting run.

    `now`: seconds since boot. `turns`: the order in which workers were asked first; of two that are equally busy, the
    one that was asked longer ago is asked.
    """
    there = {each.uid for each in workers}
    timer.asked = [uid for uid in timer.asked if uid in there]
    new = [each for each in workers if each.uid not in timer.asked]
    if not new:
        return []
    if timer.ask_all_at is None:
        best = min(new, key=lambda each: (each.queued, each.in_hand, turns.get(each.uid, 0)))
        timer.ask_all_at = 0.0
        if len(new) > 1 and not best.queued:
            timer.ask_all_at = now + FIRST_ASKED
            new = [best]
            turns[best.uid] = max(turns.values(), default=0) + 1
    elif now < timer.ask_all_at - EARLY:
        return []
    timer.asked += [each.uid for each in new]
    return [AskForRoom(each.uid, timer.info.name) for each in new]
