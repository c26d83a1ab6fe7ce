"""The data that singletons leave to their successors on other machines: carries out what `core.moving` decides.

The data is a file without a name, as for any worker. A gateway stores it, or makes such a file from stored data.
Nothing here opens one.
"""

from __future__ import annotations

import os
from time import monotonic

from mob.core.gateways import Gateways
from mob.core.moving import Moving
from mob.kingpin.cluster.surroundings import Surroundings
from mob.kingpin.connections import Connection
from mob.rim.link import Descriptor
from mob.wire import messages as m


class Moves:
    """The moves of this machine."""

    def __init__(self, around: Surroundings, gateways: Gateways) -> None:
        self._around = around
        self._gateways = gateways
        supervisor = around.supervisor
        self._moving = Moving(supervisor.crew, supervisor.singletons, int(monotonic() * 1e6))

    def __repr__(self) -> str:
        return f"<Moves {self._moving}>"

    def is_fetching(self, role: str) -> bool:
        """Return True if a singleton waits for data that was left for it."""
        return self._moving.is_fetching(role)

    def left_of(self, role: str) -> int:
        """Return what the record of a lease must say about data that was left."""
        return self._moving.left_of(role)

    def handle_written(self, role: str, left: int) -> None:
        """Note what the record of a lease says now."""
        if decisions := self._moving.handle_written(role, left):
            self._around.carry_out(decisions)
            self._tell_stop()

    def handle_won(self, role: str, token: int, left: int) -> None:
        """Note that this machine won the lease of a singleton."""
        self._around.carry_out(self._moving.handle_won(role, token, left, monotonic()))

    def handle_lost(self, role: str) -> None:
        """Note that this machine lost the lease of a singleton."""
        self._moving.handle_lost(role)
        self._tell_stop()

    def handle_gone(self, uid: int) -> None:
        """Note that a gateway exited."""
        self._moving.handle_gateway_gone(uid)

    def look(self) -> None:
        """Act on the time that passed and on what changed."""
        for step in self._moving.look(self._gateways.keeper, monotonic()):
            if isinstance(step, m.GetLeft):
                self._post(step, [])
            elif isinstance(step, m.PutLeft):
                found = self._around.inheritances.get(step.role, 0)
                assert found is not None, "the crew knows what is kept"
                self._post(step, [found[0]])
            else:
                self._around.carry_out([step])
                self._tell_stop()

    def _tell_stop(self) -> None:
        """Notify the supervisor, because a stop may have waited for this."""
        self._around.carry_out(self._around.supervisor.handle_moved(monotonic()))

    def _post(self, request: m.PutLeft | m.GetLeft, descriptors: list[Descriptor]) -> None:
        keeper = self._gateways.keeper
        if keeper is not None and (connection := self._around.connections.get(keeper)) is not None:
            connection.link.post_with(request, descriptors)

    def handle_answer(self, connection: Connection, answer: m.LeftIs) -> None:
        """Handle the outcome of a request to a gateway."""
        taken = connection.link.take(1) if answer.size >= 0 else []
        if not self._moving.is_awaited(answer):
            for descriptor in taken:
                os.close(descriptor)
            return
        if taken:
            self._around.inheritances.put(answer.role, 0, taken[0], answer.size)
        elif answer.size >= 0:
            why = "the Kingpin has too many open files, see `ulimit -n`"
            answer = m.LeftIs(answer.number, answer.role, error=why)
        self._around.carry_out(self._moving.handle_answer(answer, monotonic()))

    def end(self) -> None:
        """Give up what is not stored yet because the last gateways end."""
        self._around.carry_out(self._moving.end())
