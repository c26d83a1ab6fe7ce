"""The timeout for the head of a request: a connection that does not send it in time is closed.

A connection waits for a head from its beginning, and again as soon as a part of the next head has arrived. One timer
is set for the connection that has waited longest; a head that arrives in one piece, as nearly all do, touches nothing
here. uvicorn's `timeout_keep_alive` limits how long a connection may be silent between two requests.
"""

from __future__ import annotations

import asyncio
from typing import Any

TEXT = b"The headers of this request did not arrive in time."
REFUSAL = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(TEXT), TEXT)
)


class HeadTimeout:
    """The connections of one server that wait for a head. `seconds`: the limit for each; None for no limit."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._until: dict[Any, float] = {}  # in the order in which they began to wait
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<HeadTimeout of {self._seconds} s, {len(self._until)} waiting>"

    def begin(self, connection: Any) -> None:
        """Note that a connection waits for the rest of a head from now on, unless it already does."""
        if self._seconds is None or connection in self._until:
            return
        loop = asyncio.get_running_loop()
        self._until[connection] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._ring)

    def end(self, connection: Any) -> None:
        """Note that the head of a connection arrived, or that it is closed."""
        self._until.pop(connection, None)

    def _ring(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for connection, until in list(self._until.items()):
            if until > loop.time():
                self._timer = loop.call_at(until, self._ring)
                return
            del self._until[connection]
            connection.handle_head_timeout()
