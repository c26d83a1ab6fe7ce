"""Changes of the roster as something to wait for: from any thread, in a coroutine, or by a function that is called.

What is waited for is often more than the roster tells (that all workers of a role are new ones, say). So whoever waits
asks its own question again after each change, and at no other time: no question is asked at intervals. A change is
anything that the Kingpin says of members, roles and machines, and the end of the link to it.

Limits: what has changed is not said, and several changes that come at once may count as one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable


class Changes:
    """The changes that one process hears of.

    >>> changes = Changes()
    >>> seen = changes.count
    >>> changes.note()
    >>> changes.wait(seen, 10.0)
    True
    """

    def __init__(self) -> None:
        self.count: int = 0
        """How many there were; to be read before the question is asked whose answer they may change."""
        self.listeners: list[Callable[[], None]] = []
        """Functions that are called after each change, on the thread that hears of it."""
        self._condition = threading.Condition()
        self._awaiting: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        return f"<Changes, {self.count} so far>"

    def note(self) -> None:
        """Tell all who wait that something has changed; on the loop's thread."""
        with self._condition:
            self.count += 1
            self._condition.notify_all()
        for news in list(self._awaiting):
            if not news.done():
                news.set_result(None)
        for listener in list(self.listeners):
            listener()

    def wait(self, seen: int, seconds: float | None = None) -> bool:
        """Wait until there was a change after the first `seen` ones; return whether there was one within the time.

        From any thread but the loop's.
        """
        with self._condition:
            return self._condition.wait_for(lambda: self.count != seen, seconds)

    def future(self) -> asyncio.Future[None]:
        """Return what is done at the next change, to be cancelled if it is not waited for; on the loop's thread."""
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaiting.add(news)
        news.add_done_callback(self._awaiting.discard)
        return news

    async def next(self, seconds: float | None = None) -> None:
        """Return after the next change, or after so many seconds; on the loop's thread."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.future(), seconds)
