"""A spare: a mobster that has booted but has no place yet.

Its module is loaded and its handlers of `start` have run, so that a vacant place is filled within milliseconds. The
rest happens when the spare is promoted: it serves HTTP, becomes ready, and runs the handlers of `ready`. A module that
calls `mob.ready()` itself waits there. A module that waits for connections instead cannot be a spare, because the
kernel would give it some, and nothing here can prevent that.
"""

from __future__ import annotations

import asyncio
import threading

from mob.rim.reactor import Reactor

UNFIT = """\
SpareError: the module of this role serves a port by itself, so a spare would get connections before it has a place.
Remove spare=, serve an application with serve=, or call mob.ready() before the server starts."""
"""Error for a module that cannot wait."""


class Standby:
    """The code of this mobster that waits for a place."""

    def __init__(self, reactor: Reactor, is_spare: bool) -> None:
        self._reactor = reactor
        self.is_waiting: bool = is_spare
        """True while it has no place."""
        self._is_given_up = False
        self._passed = threading.Event()
        self._turn: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Standby, {'waiting' if self.is_waiting else 'over'}>"

    def end(self) -> None:
        """Go on, because there is a place. On the loop's thread."""
        self.is_waiting = False
        self._release()

    def give_up(self) -> None:
        """Go on to end without a place. On the loop's thread."""
        self._is_given_up = True
        self._release()

    def _release(self) -> None:
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
        """Wait for a place in a thread of the module, which ends there if there is none.

        On the loop's thread this returns at once, because the loop must receive the promotion.
        """
        if threading.get_ident() == self._reactor.owner:
            return
        self._passed.wait()
        if self.is_waiting:
            raise SystemExit
