"""The other machines of a cluster, as the dashboard sees them: while somebody watches, a connection to each Kingpin.

Connections are made and closed in threads, so the server never waits for a machine. One that does not answer in time is
shown as it was last seen; one whose connection has ended is shown no more, until it is there again.
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
"""Seconds in which an answer has to come to be shown at once."""


class Other:
    """Another machine."""

    def __init__(self, name: str, client: Client) -> None:
        self.name = name
        self.client = client
        self.steering: Steering = client._steering  # pyright: ignore[reportPrivateUsage]
        self.metrics: m.Metrics | None = None
        self.since: float = 0.0

    def __repr__(self) -> str:
        return f"<Other {self.name!r}>"

    async def look(self) -> m.HistoryIs | None:
        """Asks how it goes; what is new of its past."""
        try:
            measured = await asyncio.wait_for(_metrics(self.steering), IN_TIME)
            history = await asyncio.wait_for(_history(self.steering, self.since), IN_TIME)
        except TimeoutError:
            return None
        self.metrics, self.since = measured, history.now
        return history


class Machines:
    """All others."""

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
        """This one's name; nothing if there is no cluster."""
        return self._context.roster.node_name(self._context.uid)

    @property
    def number(self) -> int:
        """This one's number."""
        return m.node_of(self._context.uid)

    @property
    def cut(self) -> str:
        """Why the others cannot be reached, if they cannot."""
        return self._context.roster.cut

    def steering(self, name: str) -> Steering | None:
        """How another machine is steered; None if it is this one."""
        if name in ("", self.here):
            return None
        if name not in self._others:
            raise Unavailable(f"the machine {name!r} cannot be reached now.")
        return self._others[name].steering

    def name_of(self, node: int) -> str:
        """The machine of that number."""
        return self._context.roster.node_name(node << m.NODE_SHIFT)

    async def look(self, on_lines: Callable[[str, m.Lines], None], last: int) -> list[tuple[str, m.HistoryIs]]:
        """Asks all of them; what is new of their past. Machines that are new are connected to meanwhile."""
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
        """All that can be steered, this one last: what is done with it may end this process."""
        return [*self._others, self.here]

    def metrics(self) -> list[tuple[str, m.Metrics]]:
        """How it goes with each, as last seen."""
        return [(each.name, each.metrics) for each in self._others.values() if each.metrics is not None]

    def close(self) -> None:
        """Nobody watches any more."""
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
            return  # it is tried again at the next look
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
    """The connection was made when nobody wanted it any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


async def _metrics(steering: Steering) -> m.Metrics:
    return (await steering.metrics()).metrics


async def _history(steering: Steering, since: float) -> m.HistoryIs:
    return await steering.history(since)
