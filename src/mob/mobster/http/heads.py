"""The heads of HTTP requests: what comes before the body is bounded, and refused with status 431 beyond that.

uvicorn's parsers differ: httptools keeps whatever comes, h11 has a bound and answers 400. Here both have the same bound
and the same answer. What counts are bytes that have come in and have given the application nothing, no request and no
part of a body; so trailers and the extensions of chunks are bounded as well, by the end of the connection.

Limits: what one read brings (256 KiB) is parsed before it is looked at.
"""

from __future__ import annotations

from typing import Any

LIMIT = 64 * 1024
"""Bytes of a request line and headers; `serve_options={"h11_max_incomplete_event_size": ...}` sets another limit."""
TEXT = b"The headers of this request are too large."
REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(TEXT), TEXT)
)


class TooLarge(Exception):
    """Ends the parsing of a request."""


def bounded(kind: Any, limit: int) -> Any:
    """Return one of uvicorn's classes of HTTP connections, with that limit."""
    return _of_httptools(kind, limit) if hasattr(kind, "on_headers_complete") else _of_h11(kind, limit)


def is_begun(connection: Any) -> bool:
    """Return whether a part of a request's head has arrived on a connection that is not busy with another request; on a
    WebSocket none ever has."""
    if hasattr(connection, "unused"):
        return connection.unused > 0 and not connection.is_too_large
    parser: Any = getattr(connection, "conn", None)
    return hasattr(parser, "trailing_data") and bool(parser.trailing_data[0])


def _of_httptools(kind: Any, limit: int) -> Any:
    class Bounded(kind):
        unused = 0  # bytes that have given the application nothing yet
        is_too_large = False

        def data_received(self, data: bytes) -> None:
            self.unused += len(data)
            kind.data_received(self, data)
            if self.unused > limit and not self.is_too_large:
                self.is_too_large = True
                self.send_400_response("")

        def on_headers_complete(self) -> None:
            if self.unused > limit and len(self.url) + sum(len(n) + len(v) + 4 for n, v in self.headers) > limit:
                self.is_too_large = True
                raise TooLarge
            self.unused = 0
            kind.on_headers_complete(self)

        def on_body(self, body: bytes) -> None:
            self.unused = 0
            kind.on_body(self, body)

        def on_message_complete(self) -> None:
            self.unused = 0
            kind.on_message_complete(self)

        def send_400_response(self, msg: str) -> None:
            if not self.is_too_large:
                kind.send_400_response(self, msg)
                return
            if self.cycle is None or self.cycle.response_complete:  # else it would be in the middle of an answer
                self.transport.write(REFUSAL)
            self.transport.close()

    return Bounded


def _of_h11(kind: Any, limit: int) -> Any:
    class Bounded(kind):
        def send_400_response(self, msg: str) -> None:
            if len(self.conn.trailing_data[0]) <= limit:
                kind.send_400_response(self, msg)
                return
            self.transport.write(REFUSAL)
            self.transport.close()

    return Bounded
