"""The requests under way and their responses: what was sent of each, and how each ends when its worker does.

This stands next to the application, and sees the head of a response before the server does. From the moment when the
worker begins to shut down, each head says `Connection: close` exactly once, whatever the application sets. A request
that arrives too late to be served gets a 503 response, and so does one that must be cancelled before its response
began. `ending` decides when that is the case.

A response without an end (an event stream) is ended by telling its application that the client disconnected, in the
same way as if it had. What the application still sends is delivered. An event stream is then ended properly; any other
response of unknown length is cut, so that no client takes a part of it for the whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from mob.peer.results.readers import WORK, ReaderWork

CLOSE = (b"connection", b"close")
RETRY_AFTER = (b"retry-after", b"1")  # the port has other workers, or will soon
TEXT = b"This server is restarting. Try again."
EVENTS = b"text/event-stream"
ANSWER = "mob.answer"
"""Key in the scope of a request under which the response of a WSGI application is kept (`writing`)."""
REFUSAL_HEADERS: list[tuple[bytes, bytes]] = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", b"%d" % len(TEXT)),
    RETRY_AFTER,
    CLOSE,
]
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\n%s\r\n%s" % (
    b"".join(b"%s: %s\r\n" % header for header in REFUSAL_HEADERS),
    TEXT,
)
"""The same refusal as bytes, for a request whose head has arrived only in part."""


class Exchange:
    """One request and its response."""

    __slots__ = (
        "_exchanges",
        "_receive",
        "_send",
        "head",
        "is_broken_off",
        "is_complete",
        "is_left",
        "scope",
        "task",
        "told_at",
        "work",
    )

    def __init__(self, exchanges: Exchanges, scope: Any, receive: Any, send: Any) -> None:
        self._exchanges = exchanges
        self._send: Callable[[Any], Awaitable[None]] = send
        self._receive: Callable[[], Awaitable[Any]] = receive
        self.scope: Any = scope
        self.head: Any = None
        """The message with the status and headers of the response; None before it was sent."""
        self.is_complete: bool = False
        """True if all of the response was sent."""
        self.is_broken_off: bool = False
        """True if the worker ended the request before its response was complete."""
        self.is_left: bool = False
        """True if it was cancelled because the client disconnected."""
        self.told_at: float | None = None
        """The time when the application was made to end, as if the client had disconnected; None before that."""
        self.task: asyncio.Task[Any] | None = asyncio.current_task()
        self.work: ReaderWork = ReaderWork()
        """The work that threads do for it."""
        WORK.set(self.work)
        if exchanges.are_last:
            self.make_last()

    def __repr__(self) -> str:
        state = "answered" if self.is_complete else "being answered" if self.head else "not answered"
        return f"<Exchange {self.name}, {state}>"

    @property
    def name(self) -> str:
        """The method and the path."""
        return f"{self.scope['method']} {self.scope['path']}"

    def send(self, message: Any) -> Awaitable[None]:
        """Pass on a message of the application."""
        if self.head is None:
            if message["type"] == "http.response.start":
                if self._exchanges.are_last:
                    message = last(message, self.scope)
                    self._exchanges.on_news()
                self.head = message
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            self.is_complete = True
            if self._exchanges.are_last:
                self._exchanges.on_news()
        return self._send(message)

    async def receive(self) -> Any:
        """Pass on a message of the client."""
        if self.told_at is None:
            message = await self._receive()
            if self.told_at is None:
                return message
        return {"type": "http.disconnect"}

    @property
    def is_without_end(self) -> bool:
        """True if the response began and its length is unknown."""
        return self.head is not None and not self.is_complete and self._header(b"content-length") is None

    @property
    def has_events(self) -> bool:
        """True if the response is an event stream, which its client requests again when it ends."""
        return (self._header(b"content-type") or b"").lower().startswith(EVENTS)

    def _header(self, name: bytes) -> bytes | None:
        headers = () if self.head is None else self.head.get("headers", ())
        return next((bytes(value) for each, value in headers if bytes(each).lower() == name), None)

    @property
    def cycle(self) -> Any:
        """The server's object for the request."""
        return getattr(self._receive, "__self__", None)

    def make_last(self) -> None:
        """Close the connection after this response."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def tell_of_end(self, now: float) -> None:
        """Tell the application that the client disconnected."""
        self.told_at = now
        self.make_last()
        if self.cycle is not None:
            self.cycle.message_event.set()  # wakes the application if it receives
        if (answer := self.scope.get(ANSWER)) is not None:
            answer.tell_of_end()

    def handle_lost(self) -> None:
        """Note that the client disconnected. Work for a response that did not begin may have another purpose."""
        if self.head is not None:
            self.work.close()
        if self._exchanges.cancels and self.task is not None:
            self.is_left = True
            self.task.cancel("the client disconnected")

    def break_off(self) -> None:
        """Cancel the request, because the worker waits no longer."""
        self.is_broken_off = True
        if self.task is not None:
            self.task.cancel("the grace period is over")

    async def end(self) -> None:
        """End the response of an application that returned before it was complete."""
        if self.head is None:
            await refuse(self._send)
        elif self.has_events and self.cycle is not None and not self.cycle.flow.write_paused:
            await self._send({"type": "http.response.body", "body": b""})
        else:
            self.cut()

    def cut(self) -> None:
        """Close the connection in the middle of the response, so that the client sees that it is incomplete."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.transport.abort()  # `close` would wait for a client that does not read


class Exchanges:
    """An ASGI application that keeps track of the requests of another one.

    `on_news()` is called as responses end. `cancels`: a request is cancelled when its client disconnects before the
    response is complete.
    """

    __slots__ = ("_application", "are_last", "are_refused", "cancels", "on_news", "open")

    def __init__(self, application: Any, on_news: Callable[[], None], cancels: bool = False) -> None:
        self.cancels: bool = cancels
        self._application: Callable[[Any, Any, Any], Awaitable[Any]] = application
        self.on_news: Callable[[], None] = on_news
        self.open: set[Exchange] = set()
        """The requests whose application did not return yet."""
        self.are_last: bool = False
        """True if the worker began to shut down, so that each response is the last one on its connection."""
        self.are_refused: bool = False
        """True if it is too late to serve a request."""

    def __repr__(self) -> str:
        return f"<Exchanges, {len(self.open)} open>"

    def make_last(self) -> None:
        """Close each connection after its current or next response, because the worker begins to shut down."""
        self.are_last = True
        for exchange in self.open:
            if exchange.head is None:
                exchange.make_last()

    def handle_lost(self, cycle: Any) -> None:
        """Handle the loss of a request's connection before its response was complete."""
        for exchange in list(self.open):
            if exchange.cycle is cycle:
                exchange.handle_lost()

    def serve(self, scope: Any, receive: Any, send: Any) -> Awaitable[Any]:
        """Run the application for a request of the server."""
        if scope["type"] != "http":
            return self._application(scope, receive, send)
        if self.are_refused:
            return refuse(send)
        return self._run(scope, receive, send)

    async def _run(self, scope: Any, receive: Any, send: Any) -> Any:
        exchange = Exchange(self, scope, receive, send)
        self.open.add(exchange)
        result: Any = None
        try:
            result = await self._application(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            if not exchange.is_broken_off and not exchange.is_left and exchange.told_at is None:
                raise
        except Exception as error:
            if not exchange.is_broken_off:
                raise
            logging.getLogger("mob").error("%s raised when it was cancelled: %r", exchange.name, error)
        finally:
            self.open.discard(exchange)
            if not exchange.is_complete:
                exchange.work.close()  # a thread may have begun to read after the client disconnected
        if (exchange.is_broken_off or exchange.told_at is not None) and not exchange.is_complete:
            await exchange.end()
        return result


async def refuse(send: Any) -> None:
    """Respond that the request was not served and can be repeated."""
    await send({"type": "http.response.start", "status": 503, "headers": REFUSAL_HEADERS})
    await send({"type": "http.response.body", "body": TEXT})


def last(message: Any, scope: Any) -> Any:
    """Return the head of a response after which the connection is closed. HTTP/2 has no such header."""
    if str(scope.get("http_version", "1.1")).startswith("2"):
        return message
    headers = [header for header in message.get("headers", ()) if bytes(header[0]).lower() != b"connection"]
    return {**message, "headers": [*headers, CLOSE]}


def watched(kind: Any, on_lost: Callable[[Any], None]) -> Any:
    """Return one of uvicorn's classes of HTTP connections that reports requests whose client disconnected."""

    class Watched(kind):
        def connection_lost(self, exc: Exception | None) -> None:
            cycle = self.cycle
            is_lost = cycle is not None and not cycle.response_complete
            kind.connection_lost(self, exc)
            if is_lost:
                on_lost(cycle)

    return Watched
