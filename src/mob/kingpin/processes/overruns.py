"""Calls that take longer than their export allows (`kill_after`): kills their workers, even blocked ones.

A worker says when to look at its entry of the board. If a call runs too long then, the worker is stopped and the entry
checked again, so a call that ended in the last moment costs nothing (see `kills`).
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
"""Seconds after which a worker that runs no such call is checked a last time."""
LATER = 0.002
"""Seconds to wait after a deadline before the check: the worker read its clock slightly before it wrote the entry."""


class CallWatch:
    """The times at which to check workers: one timer for each that runs such calls.

    `stop` stops a worker and then calls `judge`.
    """

    def __init__(self, reactor: Reactor, crew: Crew, board: Board, stop: Callable[[int], None]) -> None:
        self._reactor = reactor
        self._crew = crew
        self._board = board
        self._stop = stop
        self._timers: dict[int, tuple[float, int]] = {}  # by uid: when, and the timer

    def __repr__(self) -> str:
        return f"<CallWatch of {len(self._timers)} workers>"

    def watch(self, uid: int, when: float) -> None:
        """Check a worker at that time, or earlier."""
        known = self._timers.get(uid)
        if known is not None and known[0] <= when:
            return
        if known is not None:
            self._reactor.cancel(known[1])
        self._set(uid, when, is_last=False)

    def _set(self, uid: int, when: float, is_last: bool) -> None:
        self._timers[uid] = when, self._reactor.call_at(when + LATER, partial(self._look, uid, is_last))

    def take_over(self, uids: Iterable[int]) -> None:
        """Resume where the previous Kingpin stopped."""
        for uid in uids:
            if (when := self._board.overruns.announced(uid)) > monotonic():
                self.watch(uid, when)
            self._look_again(uid)

    def forget(self, uid: int) -> None:
        """Forget a worker that exited."""
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
            if not is_last and uid not in self._timers:  # it may have been about to write its next entry
                self._set(uid, monotonic() + RECHECK, is_last=True)
        elif first.deadline > monotonic():
            self.watch(uid, first.deadline)
        else:
            self._stop(uid)

    def judge(self, uid: int) -> tuple[str, Overrun | None]:
        """Return why a stopped worker must be killed, and the call that ran too long; "" and None if it goes on.

        The reason follows the worker's name in messages.
        """
        first, process = self._board.overruns.first(uid), self._crew.processes.get(uid)
        if process is None or first is None or first.deadline > monotonic():
            self._look_again(uid)
            return "", None
        return overran(f"{process.slot.role}.{self._name_of(process.slot.role, first)}", first.limit), first

    def _name_of(self, role: str, call: Overrun) -> str:
        exports = self._crew.roster.roles[role].exports or ()
        names = (each.name for export in exports for each in (export, *(export.methods or ())))
        return next((name for name in names if mark_of(name) == call.mark), "an export")
