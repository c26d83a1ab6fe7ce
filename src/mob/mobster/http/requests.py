"""The HTTP requests of a role that serves an application: how many are in progress, and what became of the others.

Stands between the server and the application, and looks at the status of each answer as it passes. Each request has an
id, under which all is logged that it leads to, and a span if the app has traces. WebSockets are not requests: they stay
for hours, and are counted as connections of their port.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from mob.mobster.request_ids import http_request

if TYPE_CHECKING:
    from mob.mobster.tracing import Tracing

Application = Callable[[Any, Any, Any], Awaitable[None]]
BROKEN_OFF = "none"
"""The class of a request that was broken off before its answer had begun."""


class Requests:
    """An ASGI application that counts what another one answers."""

    __slots__ = ("_application", "_tracing", "answered", "open")

    def __init__(self, application: Any, tracing: Tracing | None = None) -> None:
        self._application: Application = application
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

    def serve(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
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
                await self._application(scope, receive, passing)
        except asyncio.CancelledError:
            unanswered = BROKEN_OFF
            raise
        finally:
            self.open -= 1
            self.answered[f"{status // 100}xx" if status else unanswered] += 1
