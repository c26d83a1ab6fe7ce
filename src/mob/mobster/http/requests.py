"""The HTTP requests of a role that serves an application: how many are in progress, and how the others ended.

This stands between the server and the application, and reads the status of each response as it passes. Each request has
an id, which is in all log lines that the request leads to, and a span if the app has traces. WebSockets are not
requests: they stay for hours, and count as connections of their port.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from mob.mobster.http.access import LEFT, AccessLog
from mob.peer.calls.request_ids import http_request

if TYPE_CHECKING:
    from mob.peer.tracing import Tracing

ServedApplication = Callable[[Any, Any, Any], Awaitable[str | None]]
"""Serves a request; may return the class of a request that got no response."""
BROKEN_OFF = "none"
"""The class of a request that was cancelled before its response began."""
SENT_BY_KERNEL = "mob.sent"
"""Key of a body message with the number of bytes that the kernel sent."""
FAILED = "5xx"
"""The class of a request whose application failed or sent nothing, because the server answers with status 500."""
STARTS = {
    "http.response.start": 0,
    "websocket.accept": 101,
    "websocket.close": 403,
    "websocket.http.response.start": 403,
}
"""The messages that begin a response, and their status if they give none."""


class Queue(Protocol):
    """Where requests wait before the application begins them."""

    @property
    def waiting(self) -> int:
        """Return the number of waiting requests. From any thread."""
        ...


class Requests:
    """An ASGI application that counts the responses of another one.

    `queue`: where its requests wait, if they do; `access`: the access log.
    """

    __slots__ = ("_access", "_application", "_queue", "_tracing", "answered", "open")

    def __init__(
        self,
        application: Any,
        tracing: Tracing | None = None,
        queue: Queue | None = None,
        access: AccessLog | None = None,
    ) -> None:
        self._application: ServedApplication = application
        self._queue = queue
        self._tracing = tracing
        self._access = access
        self.open: int = 0
        """Number of requests that began and did not end."""
        self.answered: Counter[str] = Counter()
        """Number of requests that ended, by the class of their status: "2xx", "4xx"."""

    def __repr__(self) -> str:
        return f"<Requests, {self.open} open, {self.ended} ended>"

    @property
    def ended(self) -> int:
        """Number of requests that ended. From any thread."""
        return sum(list(self.answered.values()))

    @property
    def waiting(self) -> int:
        """Number of open requests that have not begun. From any thread."""
        return 0 if self._queue is None else self._queue.waiting

    def serve(self, scope: Any, receive: Any, send: Any) -> Awaitable[Any]:
        """Run the application for a request of the server."""
        if scope["type"] == "http":
            return self._count(scope, receive, send)
        if scope["type"] == "websocket" and self._access is not None:
            return self._log_websocket(self._access, scope, receive, send)
        return self._application(scope, receive, send)

    async def _count(self, scope: Any, receive: Any, send: Any) -> None:
        passing = Passing(send)
        began = perf_counter()
        self.open += 1
        unanswered = FAILED
        with self._tracing.request(scope) if self._tracing else http_request(scope.get("headers", ())):
            try:
                unanswered = await self._application(scope, receive, passing.send) or FAILED
            except asyncio.CancelledError:
                unanswered = BROKEN_OFF
                raise
            finally:
                if getattr(getattr(receive, "__self__", None), "disconnected", False):
                    unanswered = BROKEN_OFF  # the client disconnected, and the server sends nothing
                self.open -= 1
                self.answered[f"{passing.status // 100}xx" if passing.status else unanswered] += 1
                if self._access is not None:
                    status = passing.status or (500 if unanswered == FAILED else LEFT)
                    size = 0 if scope["method"] == "HEAD" else passing.size
                    self._access.note(scope, status, size, perf_counter() - began, passing.headers)

    async def _log_websocket(self, access: AccessLog, scope: Any, receive: Any, send: Any) -> None:
        passing = Passing(send)
        began = perf_counter()
        try:
            await self._application(scope, receive, passing.send)
        finally:
            access.note(scope, passing.status or 500, passing.size, perf_counter() - began, passing.headers)


class Passing:
    """The `send` of one request, and what passed through it."""

    __slots__ = ("_send", "headers", "size", "status")

    def __init__(self, send: Callable[[Any], Awaitable[None]]) -> None:
        self._send = send
        self.status: int = 0
        """The status of the response; for a WebSocket 101 if it was accepted, 403 if it was not; 0 before that."""
        self.headers: Any = ()
        """The headers of the response."""
        self.size: Any = 0
        """Bytes of its body."""

    def __repr__(self) -> str:
        return f"<Passing, status {self.status}, {self.size} bytes>"

    def send(self, message: Any) -> Awaitable[None]:
        """Pass on a part of the response."""
        kind = message["type"]
        if kind == "http.response.body":
            self.size += len(message.get("body", b"")) + message.get(SENT_BY_KERNEL, 0)
        elif kind in STARTS:
            self.status = self.status or message.get("status") or STARTS[kind]
            self.headers = message.get("headers") or ()
        return self._send(message)
