"""The answers of WSGI applications on uvicorn's connections: head and body as bytes, and when the connection ends.

uvicorn writes answers of ASGI applications, to which WSGI's are not equal: their reasons are their own, clients of
HTTP/1.0 get no chunks, a 304 may name a length and have no body, names of headers keep their case, and a file is sent
by the kernel. So a `Response` takes the place of uvicorn's `send`. It hears the same messages, and what lies between
it and the application (counts, logs) sees no difference.

Head and body of a short answer leave in one write, in the thread that has made it: the visitor need not wait until the
loop has its turn, which then hears that the answer has left (`write_now`). The thread writes only if nothing else is on
the way, and to a descriptor of its own, so a connection that ends meanwhile cannot lead its bytes to another visitor.

Knows httptools' protocol of uvicorn: the state of its request (`RequestResponseCycle`), which it keeps up to date, and
the connection, which tells it when the visitor leaves.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from mob.errors import PlanError
from mob.mobster.http.exchanges import ANSWER

NO_BODY = (204, 304)
JOINED = 64 * 1024
"""Bytes of a body that are copied to leave together with the head."""
Application = Callable[[Any, Any, Any], Awaitable[Any]]


def connected(kind: Any) -> Any:
    """Return uvicorn's class of HTTP connections, with what an answer has to know of them: the target of the request as
    it was sent, and when the visitor leaves."""
    if not hasattr(kind, "on_headers_complete"):
        raise PlanError(
            f"a WSGI application needs the parser httptools, and {kind.__module__} has another one. Leave 'http' out "
            f"of serve_options, or say {{'http': 'httptools'}}; pip install 'mobsters[web]' installs it."
        )

    class AnswerableConnection(kind):
        answer: Response | None = None

        def on_headers_complete(self) -> None:
            self.scope["mob.target"] = self.url
            kind.on_headers_complete(self)

        def connection_lost(self, exc: Exception | None) -> None:
            kind.connection_lost(self, exc)
            if self.answer is not None:
                self.answer.handle_lost()

    return AnswerableConnection


def answering(application: Application) -> Application:
    """Return an application whose answers are written here; it finds them in its scope, under `ANSWER`."""

    def serve(scope: Any, receive: Any, send: Any) -> Awaitable[Any]:
        if scope["type"] == "http":
            answer = scope[ANSWER] = Response(send.__self__)
            send = answer.send
        return application(scope, receive, send)

    return serve


def phrase_of(status: int) -> bytes:
    """Return the usual reason of a status.

    >>> phrase_of(503)
    b'Service Unavailable'
    """
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


class Response:
    """One answer, on its way to the connection. `send` is that of ASGI, the start has a "reason" too."""

    __slots__ = (
        "_connection",
        "_cycle",
        "_is_chunked",
        "_is_empty",
        "_keep_alive",
        "_own",
        "_rest",
        "_start",
        "is_told",
        "on_lost",
    )

    def __init__(self, cycle: Any) -> None:
        self._cycle = cycle
        self._connection = cycle.on_response.__self__
        self._connection.answer = self
        self._start: Any = None
        self._own = -1  # the descriptor for the thread
        self._rest: bytes | None = None  # what the thread could not write, if it has written
        self._keep_alive = True  # as the head says
        self._is_chunked = False
        self._is_empty = False  # the answer has no body, whatever the application says
        self.is_told: bool = False
        """Whether the application is to end though the visitor has not left."""
        self.on_lost: Callable[[], None] | None = None
        """Called when the visitor has left."""

    def __repr__(self) -> str:
        return f"<Response, {'under way' if self._cycle.response_started else 'not begun'}>"

    @property
    def is_lost(self) -> bool:
        """Return whether nobody reads it any more. From any thread."""
        return self._cycle.disconnected or self._cycle.transport.is_closing()

    @property
    def is_written(self) -> bool:
        """Return whether the thread has written it."""
        return self._rest is not None

    @property
    def has_no_request_body(self) -> bool:
        """Return whether the request is known to be complete, and had no body."""
        return not (self._cycle.more_body or self._cycle.body)

    def tell_of_end(self) -> None:
        """Have the application end, as if the visitor had left: its worker ends."""
        self.is_told = True
        if self.on_lost is not None:
            self.on_lost()

    def handle_lost(self) -> None:
        """The connection has ended."""
        self._cycle.disconnected = True  # uvicorn says it to the last request of a pipeline only
        if self.on_lost is not None:
            self.on_lost()

    def lend(self) -> None:
        """Let the thread write, if it can. It gives back what it got, whether it has written or not."""
        transport = self._cycle.transport
        if not transport.get_extra_info("sslcontext") and not self.is_lost:
            with contextlib.suppress(OSError):  # no descriptor is free: the loop writes
                self._own = os.dup(transport.get_extra_info("socket").fileno())

    def give_back(self) -> None:
        """Close the descriptor that the thread had."""
        own, self._own = self._own, -1
        if own >= 0:
            os.close(own)

    def write_now(self, start: Any, body: bytes) -> None:
        """Write a whole answer, if it can be done at once. In the thread; the messages of it are to follow."""
        if self._own < 0 or self._cycle.transport.get_write_buffer_size() or self.is_lost:
            return
        self._start = start
        data = self._head() + (b"" if self._is_empty else body)
        try:
            self._rest = data[os.write(self._own, data) :]
        except BlockingIOError:
            self._rest = data
        except OSError:  # the visitor has left; the loop will hear of it
            self._rest = b""
        self.give_back()

    async def send(self, message: Any) -> None:
        """Write a part of the answer; wait while the visitor reads slowly."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        cycle = self._cycle
        if self.is_lost or cycle.response_complete:
            cycle.disconnected = cycle.disconnected or self.is_lost  # else uvicorn misses the rest of the answer
            return
        if self._rest is not None:
            if self._rest:
                cycle.transport.write(self._rest)
            self._complete()
            return
        body: bytes = message.get("body", b"")
        is_last = not message.get("more_body", False)
        parts: list[bytes] = []
        if not cycle.response_started:
            parts.append(self._head())
        if self._is_chunked:
            parts += [b"%x\r\n" % len(body), body, b"\r\n"] if body else []
            parts += [b"0\r\n\r\n"] if is_last else []
        elif body and not self._is_empty:
            parts.append(body)
        self._write(parts)
        if is_last:
            self._complete()
        elif cycle.flow.write_paused:
            await cycle.flow.drain()

    async def lend_socket(self) -> socket.socket | None:
        """Write the head, and return a socket of its own for the body, which must have a length, when all that was
        written has left. None if the connection is encrypted, or was lost."""
        cycle = self._cycle
        transport = cycle.transport
        if transport.get_extra_info("sslcontext") or self.is_lost:
            return None
        transport.set_write_buffer_limits(high=0)  # so that `drain` waits for the last byte
        self._write([self._head()])
        if cycle.flow.write_paused:
            await cycle.flow.drain()
        if self.is_lost:
            return None
        transport.set_write_buffer_limits()
        return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))

    def break_off(self) -> None:
        """Close the connection, because the answer cannot be finished and that must be seen."""
        self._cycle.disconnected = True
        self._cycle.transport.close()

    def _write(self, parts: list[bytes]) -> None:
        write = self._cycle.transport.write
        if len(parts) == 1:
            write(parts[0])
        elif sum(map(len, parts)) <= JOINED:
            write(b"".join(parts))
        else:
            for part in parts:
                write(part)

    def _head(self) -> bytes:
        """Return status and headers, and decide how the end of the body is shown."""
        cycle, start = self._cycle, self._start
        cycle.response_started, cycle.waiting_for_100_continue = True, False
        status: int = start["status"]
        version = cycle.scope["http_version"]
        self._is_empty = cycle.scope["method"] == "HEAD" or status in NO_BODY
        lines: list[bytes] = []
        names: set[bytes] = set()
        for name, value in start["headers"]:
            lower = name.lower()
            names.add(lower)
            if lower == b"connection":  # only "close" is left of it
                cycle.keep_alive = False
            else:
                lines.append(b"%s: %s\r\n" % (name, value))
        first: list[bytes] = []
        for name, value in cycle.default_headers:
            if name == b"connection":
                cycle.keep_alive = cycle.keep_alive and value != b"close"
            elif name not in names:
                first.append(b"%s: %s\r\n" % (name, value))
        if not self._is_empty and b"content-length" not in names:
            if version == "1.0":  # the end of the body is that of the connection
                cycle.keep_alive = False
            else:
                self._is_chunked = True
                lines.append(b"Transfer-Encoding: chunked\r\n")
        if not cycle.keep_alive:
            lines.append(b"Connection: close\r\n")
        self._keep_alive = cycle.keep_alive
        reason: bytes = start.get("reason") or phrase_of(status)
        return b"HTTP/%s %d %s\r\n%s%s\r\n" % (version.encode(), status, reason, b"".join(first), b"".join(lines))

    def _complete(self) -> None:
        cycle = self._cycle
        self._connection.answer = None
        cycle.response_complete = True
        cycle.message_event.set()
        if not self._keep_alive:
            cycle.transport.close()
        cycle.on_response()
