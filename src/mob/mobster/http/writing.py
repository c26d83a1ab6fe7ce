"""The responses of WSGI applications on uvicorn's connections: head and body as bytes, and when the connection ends.

uvicorn writes responses of ASGI applications, which differ from those of WSGI: WSGI responses have their own reasons,
clients of HTTP/1.0 get no chunks, a 304 may give a length and have no body, names of headers keep their case, and the
kernel sends files. So a `Response` replaces uvicorn's `send`. It gets the same messages, and the code between it and
the application (counts, logs) sees no difference.

Head and body of a short response leave in one write, in the thread that made them: the client does not wait for the
loop's next turn; the loop is notified afterwards (`write_now`). The thread writes only if nothing else is under way,
and to a descriptor of its own, so the bytes cannot reach another client if the connection ends in the meantime.

This knows uvicorn's protocol for httptools: the state of a request (`RequestResponseCycle`), which it keeps up to date,
and the connection, which reports when the client disconnects.
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
"""Maximum bytes of a body that are copied to leave together with the head."""
Application = Callable[[Any, Any, Any], Awaitable[Any]]


def connected(kind: Any) -> Any:
    """Return uvicorn's class of HTTP connections with two additions that a response needs.

    These are the target of the request as it was sent, and a report when the client disconnects.
    """
    if not hasattr(kind, "on_headers_complete"):
        raise PlanError(
            f"a WSGI application needs the parser httptools, but {kind.__module__} uses another one. Leave 'http' out "
            f"of serve_options, or set {{'http': 'httptools'}}; pip install 'mobsters[web]' installs it."
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
    """Return an application whose responses are written here; it finds them in its scope, under `ANSWER`."""

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
    """One response on its way to the connection. `send` is like that of ASGI, with a "reason" in the start."""

    __slots__ = (
        "_connection",
        "_cycle",
        "_is_chunked",
        "_is_empty",
        "_keep_alive",
        "_own",
        "_rest",
        "_start",
        "must_end",
        "on_lost",
    )

    def __init__(self, cycle: Any) -> None:
        self._cycle = cycle
        self._connection = cycle.on_response.__self__
        self._connection.answer = self
        self._start: Any = None
        self._own = -1  # the thread's descriptor
        self._rest: bytes | None = None  # what the thread could not write; None if it wrote nothing
        self._keep_alive = True  # as in the head
        self._is_chunked = False
        self._is_empty = False  # the response has no body, whatever the application sends
        self.must_end: bool = False
        """True if the application must end although the client is connected."""
        self.on_lost: Callable[[], None] | None = None
        """Called when the client disconnects."""

    def __repr__(self) -> str:
        return f"<Response, {'under way' if self._cycle.response_started else 'not begun'}>"

    @property
    def is_lost(self) -> bool:
        """True if no client reads the response any longer. From any thread."""
        return self._cycle.disconnected or self._cycle.transport.is_closing()

    @property
    def is_written(self) -> bool:
        """True if the thread wrote the response."""
        return self._rest is not None

    @property
    def has_no_request_body(self) -> bool:
        """True if the request is known to be complete without a body."""
        return not (self._cycle.more_body or self._cycle.body)

    def tell_of_end(self) -> None:
        """End the application as if the client had disconnected, because its worker ends."""
        self.must_end = True
        if self.on_lost is not None:
            self.on_lost()

    def handle_lost(self) -> None:
        """Handle the end of the connection."""
        self._cycle.disconnected = True  # uvicorn sets it only for the last request of a pipeline
        if self.on_lost is not None:
            self.on_lost()

    def lend(self) -> None:
        """Give the thread a descriptor to write to, if possible; it is always given back."""
        transport = self._cycle.transport
        if not transport.get_extra_info("sslcontext") and not self.is_lost:
            with contextlib.suppress(OSError):  # no descriptor is free, so the loop writes
                self._own = os.dup(transport.get_extra_info("socket").fileno())

    def give_back(self) -> None:
        """Close the thread's descriptor."""
        own, self._own = self._own, -1
        if own >= 0:
            os.close(own)

    def write_now(self, start: Any, body: bytes) -> None:
        """Write a whole response if that works at once; its messages must follow. In the thread."""
        if self._own < 0 or self._cycle.transport.get_write_buffer_size() or self.is_lost:
            return
        self._start = start
        data = self._head() + (b"" if self._is_empty else body)
        try:
            self._rest = data[os.write(self._own, data) :]
        except BlockingIOError:
            self._rest = data
        except OSError:  # the client disconnected; the loop will notice that
            self._rest = b""
        self.give_back()

    async def send(self, message: Any) -> None:
        """Write a part of the response; wait while the client reads slowly."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        cycle = self._cycle
        if self.is_lost or cycle.response_complete:
            cycle.disconnected = cycle.disconnected or self.is_lost  # else uvicorn expects the rest of the response
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
        """Write the head; when everything is sent, return a separate socket for the body, which must have a length.

        Return None if the connection is encrypted or was lost.
        """
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
        """Close the connection, so that the client sees that the response is incomplete."""
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
        """Return status and headers, and decide how the end of the body is marked."""
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
            if lower == b"connection":  # it can only be "close" here
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
            if version == "1.0":  # the end of the connection ends the body
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
