"""Canaries: sockets that show that a mobster is exiting before the kernel frees its memory and reports the exit.

A mobster of a role with spares sends sockets that close with it (`rim/canary.py`). When one closes, the system is asked
how its process ends; if it does not end after all, its exit is awaited like that of any other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial

from mob.core.crew import Crew
from mob.rim import processes
from mob.rim.reactor import Reactor


class Canaries:
    """The canaries of all mobsters. `on_ending` is called with a uid and the exit status."""

    def __init__(self, reactor: Reactor, crew: Crew, on_ending: Callable[[int, int], None]) -> None:
        self._reactor = reactor
        self._crew = crew
        self._on_ending = on_ending
        self._ends: dict[int, int] = {}  # descriptor -> uid
        self._told: set[int] = set()  # uids whose exits were reported already, and will be once more

    def __repr__(self) -> str:
        return f"<Canaries {len(self._ends)}>"

    def keep(self, uid: int, descriptors: Iterable[int]) -> None:
        """Watch these file descriptors."""
        for descriptor in descriptors:
            self._ends[descriptor] = uid
            self._reactor.watch(descriptor, partial(self._handle_end, descriptor))

    def forget(self, uid: int) -> bool:
        """Forget a mobster that exited; return True if its exit was reported already."""
        for descriptor in [each for each, owner in self._ends.items() if owner == uid]:
            self._drop(descriptor)
        is_told = uid in self._told
        self._told.discard(uid)
        return is_told

    def close(self) -> None:
        """Stop watching."""
        for descriptor in list(self._ends):
            self._drop(descriptor)

    def state(self) -> list[tuple[int, int]]:
        """Return uids and descriptors for the next program."""
        return [(uid, descriptor) for descriptor, uid in self._ends.items()]

    def take_over(self, state: Iterable[tuple[int, int]]) -> None:
        """Resume with the canaries of the previous program."""
        for uid, descriptor in state:
            self.keep(uid, [descriptor])

    def _drop(self, descriptor: int) -> None:
        del self._ends[descriptor]
        self._reactor.unwatch(descriptor)
        os.close(descriptor)

    def _handle_end(self, descriptor: int) -> None:
        uid = self._ends[descriptor]
        self._drop(descriptor)
        process = self._crew.processes.get(uid)
        status = None if process is None or not process.pid else processes.dying_status(process.pid)
        if status is not None:
            self.forget(uid)
            self._told.add(uid)
            self._on_ending(uid, status)
