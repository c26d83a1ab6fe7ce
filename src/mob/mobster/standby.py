"""A spare: a mobster that has booted and has no place yet.

Its module is loaded and its handlers of `start` have run, so that a place that gets empty is filled within
milliseconds. What comes after that is done when it is promoted: it serves HTTP, is ready, and runs the handlers of
`ready`. A module that says `mob.ready()` itself waits there. One that waits for connections instead cannot be a spare,
because it would be given some: nothing here stops the kernel from that.
"""

from __future__ import annotations

import asyncio
import threading

from mob.rim.reactor import Reactor

UNFIT = """\
SpareError: the module of this role serves a port by itself, so a spare would get connections before it has a place.
Leave spare= out, serve an application with serve=, or say mob.ready() before the server starts."""
"""What is said of a module that cannot wait."""


class Standby:
    """What waits in this mobster for a place."""

    def __init__(self, reactor: Reactor, is_spare: bool) -> None:
        self._reactor = reactor
        self.is_waiting: bool = is_spare
        """Whether it has no place."""
        self._is_given_up = False
        self._passed = threading.Event()
        self._turn: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Standby, {'waiting' if self.is_waiting else 'over'}>"

    def end(self) -> None:
        """It has a place. On the loop's thread."""
        self.is_waiting = False
        self._let_go()

    def give_up(self) -> None:
        """It ends without having had one. On the loop's thread."""
        self._is_given_up = True
        self._let_go()

    def _let_go(self) -> None:
        self._passed.set()
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    async def wait(self) -> bool:
        """Wait for a place; return whether it has one."""
        if self.is_waiting and not self._is_given_up:
            self._turn = self._reactor.loop.create_future()
            await self._turn
        return not self.is_waiting

    def block(self) -> None:
        """Wait for a place in a thread of the module's own; it ends there if there is none. The thread of the loop goes
        on, because it has to hear of it."""
        if threading.get_ident() == self._reactor.owner:
            return
        self._passed.wait()
        if self.is_waiting:
            raise SystemExit
