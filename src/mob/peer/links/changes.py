"""Changes of the roster as something to wait for: in any thread, in a coroutine, or with a function to call.

The condition is often more than the roster says (that all workers of a role are new ones, say). So each waiter checks
its own condition again after each change, and at no other time; nothing polls. A change is any message of the Kingpin
about members, roles and machines, and the end of the link to it.

Limits: it does not say what changed, and several simultaneous changes may count as one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable


class Changes:
    """The changes that one process learns of.

    >>> changes = Changes()
    >>> seen = changes.count
    >>> changes.note()
    >>> changes.wait(seen, 10.0)
    True
    """

    def __init__(self) -> None:
        self.count: int = 0
        """Number of changes so far; read it before you check a condition that they may affect."""
        self.listeners: list[Callable[[], None]] = []
        """Functions to call after each change, on the loop's thread."""
        self._condition = threading.Condition()
        self._awaiting: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        return f"<Changes, {self.count} so far>"

    def note(self) -> None:
        """Wake all waiters after a change; on the loop's thread."""
        with self._condition:
            self.count += 1
            self._condition.notify_all()
        for news in list(self._awaiting):
            if not news.done():
                news.set_result(None)
        for listener in list(self.listeners):
            listener()

    def wait(self, seen: int, seconds: float | None = None) -> bool:
        """Wait until there was a change after the first `seen` ones; return True if one came in time.

        From any thread but the loop's.
        """
        with self._condition:
            return self._condition.wait_for(lambda: self.count != seen, seconds)

    def future(self) -> asyncio.Future[None]:
        """Return a future that is done at the next change; on the loop's thread.

        Cancel it if you do not wait for it.
        """
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaiting.add(news)
        news.add_done_callback(self._awaiting.discard)
        return news

    async def next(self, seconds: float | None = None) -> None:
        """Return after the next change, or after that number of seconds; on the loop's thread."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.future(), seconds)
