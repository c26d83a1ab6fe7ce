"""The other machines of a cluster, as the dashboard sees them: a connection to each Kingpin while there are viewers.

Connections are opened and closed in threads, so the server never waits for a machine. A machine that does not answer in
time is shown as it was last seen; one whose connection ended is not shown until it is there again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from mob.client import Client, open_at
from mob.errors import MobError, Unavailable
from mob.peer.operating.machines import machines, newcomers
from mob.peer.operating.steering import Steering
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.peer import Peer

IN_TIME = 0.8
"""Seconds in which an answer has to arrive to be shown at once."""


class Other:
    """Another machine and the connection to it."""

    def __init__(self, name: str, client: Client) -> None:
        self.name = name
        self.client = client
        self.steering: Steering = client._steering  # pyright: ignore[reportPrivateUsage]
        self.metrics: m.Metrics | None = None
        self.since: float = 0.0

    def __repr__(self) -> str:
        return f"<Other {self.name!r}>"

    async def look(self) -> m.HistoryIs | None:
        """Request the measurements; return the new part of the history, None if it takes too long."""
        try:
            measured = await asyncio.wait_for(_metrics(self.steering), IN_TIME)
            history = await asyncio.wait_for(_history(self.steering, self.since), IN_TIME)
        except TimeoutError:
            return None
        self.metrics, self.since = measured, history.now
        return history


class Machines:
    """All other machines of the cluster."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._context = peer.context
        self._others: dict[str, Other] = {}
        self._coming: dict[str, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Machines besides {self.here!r}: {', '.join(self._others) or 'none'}>"

    @property
    def here(self) -> str:
        """Name of this machine; "" if there is no cluster."""
        return self._context.roster.node_name(self._context.uid)

    @property
    def number(self) -> int:
        """Number of this machine."""
        return m.node_of(self._context.uid)

    @property
    def cut(self) -> str:
        """Why the others cannot be reached; "" if they can."""
        return self._context.roster.cut

    def steering(self, name: str) -> Steering | None:
        """Return what controls another machine; None if it is this one."""
        if name in ("", self.here):
            return None
        if name not in self._others:
            raise Unavailable(f"the machine {name!r} cannot be reached now.")
        return self._others[name].steering

    def name_of(self, node: int) -> str:
        """Return the name of the machine with that number."""
        return self._context.roster.node_name(node << m.NODE_SHIFT)

    async def look(self, on_lines: Callable[[str, m.Lines], None], last: int) -> list[tuple[str, m.HistoryIs]]:
        """Request all measurements; return the new parts of the histories. Connect to new machines meanwhile."""
        for name in newcomers(machines(self._context), {self.here, *self._others, *self._coming}):
            self._coming[name] = asyncio.create_task(self._connect(name, on_lines, last))
        others = list(self._others.values())
        found = await asyncio.gather(*(other.look() for other in others), return_exceptions=True)
        news: list[tuple[str, m.HistoryIs]] = []
        for other, history in zip(others, found, strict=True):
            if isinstance(history, m.HistoryIs):
                news.append((other.name, history))
            elif isinstance(history, BaseException):
                self._drop(other)
        return news

    def names(self) -> list[str]:
        """Return the names of the machines, this one last, because actions on it may end this process."""
        return [*self._others, self.here]

    def metrics(self) -> list[tuple[str, m.Metrics]]:
        """Return the measurements of each machine, as last seen."""
        return [(each.name, each.metrics) for each in self._others.values() if each.metrics is not None]

    def close(self) -> None:
        """Close all connections: there are no viewers any longer."""
        for task in self._coming.values():
            task.cancel()
        self._coming.clear()
        for other in list(self._others.values()):
            self._drop(other)

    async def _connect(self, name: str, on_lines: Callable[[str, m.Lines], None], last: int) -> None:
        opening = asyncio.create_task(asyncio.to_thread(open_at, self._peer, self._context.app, name))
        try:
            client = await asyncio.shield(opening)
        except MobError:
            return  # it is tried again with the next tick
        except TimeoutError:
            return
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)
            raise
        finally:
            self._coming.pop(name, None)
        other = self._others[name] = Other(name, client)
        other.steering.follow(lambda lines: on_lines(name, lines), last=last, goes_on=True)

    def _drop(self, other: Other) -> None:
        if self._others.pop(other.name, None) is not None:
            task = asyncio.create_task(asyncio.to_thread(other.client.close))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)


def _close_late(opening: asyncio.Task[Client]) -> None:
    """Close a connection that was opened after it was no longer needed."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


async def _metrics(steering: Steering) -> m.Metrics:
    return (await steering.metrics()).metrics


async def _history(steering: Steering, since: float) -> m.HistoryIs:
    return await steering.history(since)
