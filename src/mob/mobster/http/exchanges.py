"""The requests under way and their answers: what was sent of each, and how each ends when its worker does.

Stands next to the application, and sees the head of an answer before the server does. From the moment at which the
worker begins to end, each head says `Connection: close`, once, whatever the application says of it. A request that
comes too late to be served is answered with 503, and so is one that must be broken off before its answer has begun.
What decides when that is the case is `ending`.

An answer that has no end (an event stream) is ended by telling its application that the visitor has gone, as it would
be told of one who has. What it still sends goes out all the same. An event stream is then brought to an orderly end;
anything else of unknown length is cut, so that nobody takes a part of it for the whole.
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
"""The name under which the answer of a WSGI application is in the scope of its request (`writing`)."""
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
"""The same refusal as bytes, for a request of which not all of the head has arrived."""


class Exchange:
    """One request and its answer."""

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
        """The message with the status and headers of the answer, once it was sent."""
        self.is_complete: bool = False
        """Whether all of the answer was sent."""
        self.is_broken_off: bool = False
        """Whether the worker ends before the answer does."""
        self.is_left: bool = False
        """Whether it was cancelled because the visitor has gone."""
        self.told_at: float | None = None
        """When the application was told that the visitor has gone, though he has not."""
        self.task: asyncio.Task[Any] | None = asyncio.current_task()
        self.work: ReaderWork = ReaderWork()
        """What threads do for it."""
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
        """Pass on what the application says."""
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
        """Pass on what the visitor says."""
        if self.told_at is None:
            message = await self._receive()
            if self.told_at is None:
                return message
        return {"type": "http.disconnect"}

    @property
    def is_without_end(self) -> bool:
        """Whether the answer has begun, and nobody knows how long it is."""
        return self.head is not None and not self.is_complete and self._header(b"content-length") is None

    @property
    def has_events(self) -> bool:
        """Whether the answer is an event stream, which its visitor asks for again when it ends."""
        return (self._header(b"content-type") or b"").lower().startswith(EVENTS)

    def _header(self, name: bytes) -> bytes | None:
        headers = () if self.head is None else self.head.get("headers", ())
        return next((bytes(value) for each, value in headers if bytes(each).lower() == name), None)

    @property
    def cycle(self) -> Any:
        """The server's object for it."""
        return getattr(self._receive, "__self__", None)

    def make_last(self) -> None:
        """Have the connection closed after this answer."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def tell_of_end(self, now: float) -> None:
        """Tell the application that the visitor has gone."""
        self.told_at = now
        self.make_last()
        if self.cycle is not None:
            self.cycle.message_event.set()  # wakes who receives
        if (answer := self.scope.get(ANSWER)) is not None:
            answer.tell_of_end()

    def handle_lost(self) -> None:
        """The visitor has gone: nothing can be sent any more. What has not begun to answer may have another purpose."""
        if self.head is not None:
            self.work.close()
        if self._exchanges.cancels and self.task is not None:
            self.is_left = True
            self.task.cancel("the visitor has gone")

    def break_off(self) -> None:
        """End the request by force: the worker waits no longer."""
        self.is_broken_off = True
        if self.task is not None:
            self.task.cancel("the grace time is over")

    async def end(self) -> None:
        """End the answer of an application that has returned before it was complete."""
        if self.head is None:
            await refuse(self._send)
        elif self.has_events and self.cycle is not None and not self.cycle.flow.write_paused:
            await self._send({"type": "http.response.body", "body": b""})
        else:
            self.cut()

    def cut(self) -> None:
        """Close the connection in the middle of the answer, so that the client sees that something is missing."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.transport.abort()  # to close would wait for a client that does not read


class Exchanges:
    """An ASGI application that knows what another one has in hand. `on_news()` is called as answers end. `cancels`: a
    request is cancelled when its visitor goes before the answer is complete."""

    __slots__ = ("_application", "are_last", "are_refused", "cancels", "on_news", "open")

    def __init__(self, application: Any, on_news: Callable[[], None], cancels: bool = False) -> None:
        self.cancels: bool = cancels
        self._application: Callable[[Any, Any, Any], Awaitable[Any]] = application
        self.on_news: Callable[[], None] = on_news
        self.open: set[Exchange] = set()
        """The requests whose application has not returned."""
        self.are_last: bool = False
        """Whether the worker has begun to end, so that each answer is the last one on its connection."""
        self.are_refused: bool = False
        """Whether it is too late to serve a request."""

    def __repr__(self) -> str:
        return f"<Exchanges, {len(self.open)} open>"

    def make_last(self) -> None:
        """Have each connection closed after the answer in hand, or the next one: the worker has begun to end."""
        self.are_last = True
        for exchange in self.open:
            if exchange.head is None:
                exchange.make_last()

    def handle_lost(self, cycle: Any) -> None:
        """The connection of a request was lost before its answer was complete."""
        for exchange in list(self.open):
            if exchange.cycle is cycle:
                exchange.handle_lost()

    def serve(self, scope: Any, receive: Any, send: Any) -> Awaitable[Any]:
        """Run the application, as the server asks for it."""
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
            logging.getLogger("mob").error("%s raised when it was broken off: %r", exchange.name, error)
        finally:
            self.open.discard(exchange)
            if not exchange.is_complete:
                exchange.work.close()  # a thread may have begun to read after the visitor had gone
        if (exchange.is_broken_off or exchange.told_at is not None) and not exchange.is_complete:
            await exchange.end()
        return result


async def refuse(send: Any) -> None:
    """Answer that the request was not served and can be repeated."""
    await send({"type": "http.response.start", "status": 503, "headers": REFUSAL_HEADERS})
    await send({"type": "http.response.body", "body": TEXT})


def last(message: Any, scope: Any) -> Any:
    """Return the head of an answer after which the connection is closed. HTTP/2 has another word for that."""
    if str(scope.get("http_version", "1.1")).startswith("2"):
        return message
    headers = [header for header in message.get("headers", ()) if bytes(header[0]).lower() != b"connection"]
    return {**message, "headers": [*headers, CLOSE]}


def watched(kind: Any, on_lost: Callable[[Any], None]) -> Any:
    """Return one of uvicorn's classes of HTTP connections, which tells of requests whose visitor has gone."""

    class Watched(kind):
        def connection_lost(self, exc: Exception | None) -> None:
            cycle = self.cycle
            is_lost = cycle is not None and not cycle.response_complete
            kind.connection_lost(self, exc)
            if is_lost:
                on_lost(cycle)

    return Watched
