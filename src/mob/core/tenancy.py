"""The users of a shared listening socket, and when its time is over.

A socket outlives each of its users: connections wait in its queue while a worker is restarted, reloaded or waits for
its next start. It ends when its last user has ended and no worker is to come that might want it again, because then no
process would ever read that queue: the role was given up, made smaller or removed, its work is done, or its workers
listen elsewhere now. A role whose workers are all ready and do not hold the socket has moved away.

Some workers may still come back: one that binds after it is ready, or that closes a socket while it runs (a server that
handles SIGTERM itself does so when it begins to end). Such a socket lingers for a while.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from mob.core.crew import Crew, Slot
from mob.core.states import MobsterState, SlotState


class Tenancy:
    """The users of one listening socket."""

    def __init__(self, users: Iterable[int] = (), roles: Iterable[str] = (), lingers: bool = False) -> None:
        self.users: set[int] = set(users)
        """Uids of the mobsters that hold it."""
        self.roles: set[str] = set(roles)
        """Every role of which a worker has held it."""
        self.lingers: bool = lingers
        """True if a worker that is ready may still come for it."""
        self._vacant_since = math.inf

    def __repr__(self) -> str:
        return f"<Tenancy of {len(self.users)} mobsters of {', '.join(sorted(self.roles))}>"

    def enter(self, uid: int, role: str, crew: Crew) -> None:
        """Add a mobster that listens there from now on."""
        self.users.add(uid)
        self.roles.add(role)
        process = crew.processes.get(uid)
        self.lingers |= process is not None and process.state is MobsterState.READY

    def leave(self, uid: int, crew: Crew) -> None:
        """Remove a mobster that served from there and has closed it, or is about to end."""
        self.users.discard(uid)
        process = crew.processes.get(uid)
        self.lingers |= process is not None and process.state is MobsterState.READY

    def ends_at(self, crew: Crew, now: float, linger: float) -> float:
        """Return when to close the socket, as things are now; infinity as long as it is in use or expected to be.

        `linger`: seconds for which a lingering socket is kept for workers that are ready.
        """
        if self.users or any(is_expected(crew, role) for role in self.roles):
            self._vacant_since = math.inf
            return math.inf
        self._vacant_since = min(self._vacant_since, now)
        may_return = self.lingers and any(crew.roster.ready(role) for role in self.roles)
        return self._vacant_since + (linger if may_return else 0.0)


def is_expected(crew: Crew, role: str) -> bool:
    """Return True if a worker of the role is about to be ready, or is to be started."""
    return any(_is_expected(crew, slot) for slot in crew.slots_of(role))


def _is_expected(crew: Crew, slot: Slot) -> bool:
    if slot.state is SlotState.WAITING:
        return True
    if slot.state is SlotState.HELD:
        return crew.has_lease(slot.role)  # otherwise it runs on another machine
    if slot.state is not SlotState.FILLED:
        return False
    current, successor = crew.current(slot), crew.processes.get(slot.successor)
    if successor is not None and successor.is_booting:
        return True
    # of one that drains: the next one follows its end
    return current is None or current.is_booting or current.state is MobsterState.DRAINING
