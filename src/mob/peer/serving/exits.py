"""Decides whether a `SystemExit` or `KeyboardInterrupt` that came out of the loop belongs to a call or to the process.

asyncio lets both out of the loop, whatever task raised them. If one is the outcome of a call, its caller receives it
and nothing else happens. A task that an export started may raise first, and the call that waits for it ends a moment
later, so this waits for that. An exit that belongs to no call ends the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mob.peer.serving.serving import Serving

EXIT_TIMEOUT = 1.0
"""Seconds within which a call must end with the SystemExit of a task that it started, if the exit is the call's."""


class Exits:
    """The exits that the loop lets out of the code that it runs. `stop` ends the process gracefully."""

    def __init__(self, serving: Serving, stop: Callable[[], object]) -> None:
        self._serving = serving
        self._stop = stop
        self._deciding: set[asyncio.Task[None]] = set()
        self.asked: BaseException | None = None
        """The exit that the process ends with; None for none so far."""

    def __repr__(self) -> str:
        return f"<Exits, {self.asked!r} asked>"

    def handle(self, why: BaseException) -> None:
        """Handle an exit that came out of the loop."""
        serving = self._serving
        if serving.answers.has_reported(why) or serving.is_outcome(why):
            return
        if serving.tasks:
            self._deciding.add(task := serving.loop.create_task(self._end_unless_reported(why)))
            task.add_done_callback(self._deciding.discard)
        else:
            self.end(why)

    async def _end_unless_reported(self, why: BaseException) -> None:
        deadline, has_reported = monotonic() + EXIT_TIMEOUT, self._serving.answers.has_reported
        while not has_reported(why) and self._serving.tasks and monotonic() < deadline:
            await self._serving.reactor.change(deadline)  # the end of a call is such a change
        if not has_reported(why):
            self.end(why)

    def end(self, why: BaseException) -> None:
        """End the process with that exit: code on the loop that serves no call raised it."""
        if self.asked is None:
            self.asked = why
            self._stop()
