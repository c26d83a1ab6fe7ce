"""Calls that take longer than their export allows (`kill_after`): their workers are killed, also if they hear nothing.

A worker says when to look at its entry of the board. What runs too long then is looked at once more while the worker is
stopped, so a call that has just ended costs nobody anything (see `kills`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic

from mob.core.crew import Crew
from mob.core.killing import overran
from mob.rim.board import Board, mark_of
from mob.rim.reactor import Reactor
from mob.wire.messages import Overrun

RECHECK = 1.0
"""Seconds after which a worker that runs no such call is looked at for a last time."""
LATER = 0.002
"""Seconds behind a deadline at which it is looked at: the worker read its clock a little before it wrote it."""


class CallWatch:
    """When to look at which worker: one timer for each that runs such calls. `stop`: stop a worker, and `judge` it."""

    def __init__(self, reactor: Reactor, crew: Crew, board: Board, stop: Callable[[int], None]) -> None:
        self._reactor = reactor
        self._crew = crew
        self._board = board
        self._stop = stop
        self._timers: dict[int, tuple[float, int]] = {}  # by uid: when, and the timer

    def __repr__(self) -> str:
        return f"<CallWatch of {len(self._timers)} workers>"

    def watch(self, uid: int, when: float) -> None:
        """Look at a worker at that time, or earlier."""
        known = self._timers.get(uid)
        if known is not None and known[0] <= when:
            return
        if known is not None:
            self._reactor.cancel(known[1])
        self._set(uid, when, is_last=False)

    def _set(self, uid: int, when: float, is_last: bool) -> None:
        self._timers[uid] = when, self._reactor.call_at(when + LATER, partial(self._look, uid, is_last))

    def take_over(self, uids: Iterable[int]) -> None:
        """Go on where the Kingpin before this one has stopped."""
        for uid in uids:
            if (when := self._board.overruns.announced(uid)) > monotonic():
                self.watch(uid, when)
            self._look_again(uid)

    def forget(self, uid: int) -> None:
        """A worker is gone."""
        if (known := self._timers.pop(uid, None)) is not None:
            self._reactor.cancel(known[1])

    def _look(self, uid: int, is_last: bool) -> None:
        self._timers.pop(uid, None)
        self._look_again(uid, is_last)

    def _look_again(self, uid: int, is_last: bool = False) -> None:
        first = self._board.overruns.first(uid)
        if uid not in self._crew.processes:
            return
        if first is None:
            if not is_last and uid not in self._timers:  # it may have been about to write the next one
                self._set(uid, monotonic() + RECHECK, is_last=True)
        elif first.deadline > monotonic():
            self.watch(uid, first.deadline)
        else:
            self._stop(uid)

    def judge(self, uid: int) -> tuple[str, Overrun | None]:
        """Return why a worker that is stopped is to be killed, in words that follow its name, and because of which
        call; "" and None if it goes on."""
        first, process = self._board.overruns.first(uid), self._crew.processes.get(uid)
        if process is None or first is None or first.deadline > monotonic():
            self._look_again(uid)
            return "", None
        return overran(f"{process.slot.role}.{self._name_of(process.slot.role, first)}", first.limit), first

    def _name_of(self, role: str, call: Overrun) -> str:
        exports = self._crew.roster.roles[role].exports or ()
        names = (each.name for export in exports for each in (export, *(export.methods or ())))
        return next((name for name in names if mark_of(name) == call.mark), "an export")
