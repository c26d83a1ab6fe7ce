"""The HTTP requests of a role that serves an application: how many are in progress, and what became of the others.

Stands between the server and the application, and looks at the status of each answer as it passes. Each request has an
id, under which all is logged that it leads to, and a span if the app has traces. WebSockets are not requests: they stay
for hours, and are counted as connections of their port.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from mob.mobster.request_ids import http_request

if TYPE_CHECKING:
    from mob.mobster.tracing import Tracing

Application = Callable[[Any, Any, Any], Awaitable[str | None]]
"""What serves a request; it may return the class of one that got no answer."""
BROKEN_OFF = "none"
"""The class of a request that was broken off before its answer had begun."""


class Queue(Protocol):
    """Where requests wait before the application begins them."""

    @property
    def waiting(self) -> int:
        """Return how many wait. From any thread."""
        ...


class Requests:
    """An ASGI application that counts what another one answers. `queue`: where its requests wait, if they do."""

    __slots__ = ("_application", "_queue", "_tracing", "answered", "open")

    def __init__(self, application: Any, tracing: Tracing | None = None, queue: Queue | None = None) -> None:
        self._application: Application = application
        self._queue = queue
        self._tracing = tracing
        self.open = 0
        """Requests that have begun and not ended."""
        self.answered: Counter[str] = Counter()
        """Requests that have ended, by the class of their status: "2xx", "4xx"."""

    def __repr__(self) -> str:
        return f"<Requests, {self.open} open, {self.ended} ended>"

    @property
    def ended(self) -> int:
        """How many requests have ended. From any thread."""
        return sum(list(self.answered.values()))

    @property
    def waiting(self) -> int:
        """How many of the open ones have not begun. From any thread."""
        return 0 if self._queue is None else self._queue.waiting

    def serve(self, scope: Any, receive: Any, send: Any) -> Awaitable[Any]:
        """Run the application, as the server asks for it."""
        if scope["type"] != "http":
            return self._application(scope, receive, send)
        return self._count(scope, receive, send)

    async def _count(self, scope: Any, receive: Any, send: Any) -> None:
        status = 0

        def passing(message: Any) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        self.open += 1
        unanswered = "5xx"  # what the server says if the application fails, or says nothing
        try:
            with self._tracing.request(scope) if self._tracing else http_request(scope.get("headers", ())):
                unanswered = await self._application(scope, receive, passing) or unanswered
        except asyncio.CancelledError:
            unanswered = BROKEN_OFF
            raise
        finally:
            if getattr(getattr(receive, "__self__", None), "disconnected", False):
                unanswered = BROKEN_OFF  # the visitor has gone, and the server says nothing
            self.open -= 1
            self.answered[f"{status // 100}xx" if status else unanswered] += 1
