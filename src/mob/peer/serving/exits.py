"""Whose a `SystemExit` or `KeyboardInterrupt` is that came out of the loop: a call's, or the process's.

asyncio lets both out of the loop, whatever task has raised them. One that is the outcome of a call is told to its
caller, and nothing else happens. A task that an export has started may raise first, and the call that waits for it
ends a moment later, so that is waited for. What is no call's ends the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mob.peer.serving.serving import Serving

EXIT_TIMEOUT = 1.0
"""Seconds in which a call must end with the SystemExit of a task that it has started, if it is the call's."""


class Exits:
    """What the loop lets out of the code that it runs. `stop`: has the process end in order."""

    def __init__(self, serving: Serving, stop: Callable[[], object]) -> None:
        self._serving = serving
        self._stop = stop
        self._deciding: set[asyncio.Task[None]] = set()
        self.asked: BaseException | None = None
        """The exit that the process is to end with."""

    def __repr__(self) -> str:
        return f"<Exits, {self.asked!r} asked>"

    def handle(self, why: BaseException) -> None:
        """The loop has let it out."""
        serving = self._serving
        if serving.answers.has_told(why) or serving.is_outcome(why):
            return
        if serving.tasks:
            self._deciding.add(task := serving.loop.create_task(self._end_unless_told(why)))
            task.add_done_callback(self._deciding.discard)
        else:
            self.end(why)

    async def _end_unless_told(self, why: BaseException) -> None:
        deadline, has_told = monotonic() + EXIT_TIMEOUT, self._serving.answers.has_told
        while not has_told(why) and self._serving.tasks and monotonic() < deadline:
            await self._serving.reactor.change(deadline)  # also the end of a call is one
        if not has_told(why):
            self.end(why)

    def end(self, why: BaseException) -> None:
        """Have the process end with it: code on the loop that serves no call has said sys.exit()."""
        if self.asked is None:
            self.asked = why
            self._stop()
