"""The heads of HTTP requests: limited in size and time, and refused beyond that with status 431 or 408.

uvicorn's parsers differ: httptools keeps everything, h11 has a limit and answers 400. Here both have the same limit and
the same response. The limit counts bytes that arrived and gave the application nothing, neither a request nor a part of
a body; so trailers and chunk extensions are limited as well, by closing the connection.

Limits: the data of one read (256 KiB) is parsed before it is checked.
"""

from __future__ import annotations

from typing import Any

import h11

from mob.mobster.http import head_timeout
from mob.mobster.http.head_timeout import HeadTimeout

LIMIT = 64 * 1024
"""Maximum bytes of a request line and headers; `serve_options={"h11_max_incomplete_event_size": ...}` changes it."""
TEXT = b"The headers of this request are too large."
REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(TEXT), TEXT)
)


class TooLarge(Exception):
    """Ends the parsing of a request."""


def bounded(kind: Any, limit: int, timeout: HeadTimeout) -> Any:
    """Return one of uvicorn's classes of HTTP connections, with these limits."""

    class Timed(kind):
        def connection_made(self, transport: Any) -> None:
            kind.connection_made(self, transport)
            self.access_log = False  # mob writes its own
            timeout.begin(self)

        def connection_lost(self, exc: Exception | None) -> None:
            timeout.end(self)
            kind.connection_lost(self, exc)

        def handle_head_timeout(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                timeout.begin(self)  # the next head has begun to arrive while this request is answered
                return
            if is_begun(self):
                self.transport.write(head_timeout.REFUSAL)
            self.transport.close()

    make = _of_httptools if hasattr(kind, "on_headers_complete") else _of_h11
    return make(Timed, limit, timeout)


def is_begun(connection: Any) -> bool:
    """Return whether a part of a request's head arrived on a connection without another request under way.

    A WebSocket never has one.
    """
    if hasattr(connection, "unused"):
        return connection.unused > 0 and not connection.is_too_large
    parser: Any = getattr(connection, "conn", None)
    return hasattr(parser, "trailing_data") and bool(parser.trailing_data[0])


def _of_httptools(kind: Any, limit: int, timeout: HeadTimeout) -> Any:
    class BoundedHttptools(kind):
        unused = 0  # bytes that have given the application nothing yet
        is_too_large = False

        def data_received(self, data: bytes) -> None:
            self.unused += len(data)
            kind.data_received(self, data)
            if self.unused:
                timeout.begin(self)
                if self.unused > limit and not self.is_too_large:
                    self.is_too_large = True
                    self.send_400_response("")

        def on_headers_complete(self) -> None:
            if self.unused > limit and len(self.url) + sum(len(n) + len(v) + 4 for n, v in self.headers) > limit:
                self.is_too_large = True
                raise TooLarge
            self.unused = 0
            timeout.end(self)
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
            if self.cycle is None or self.cycle.response_complete:  # else it would be in the middle of a response
                self.transport.write(REFUSAL)
            self.transport.close()

    return BoundedHttptools


def _of_h11(kind: Any, limit: int, timeout: HeadTimeout) -> Any:
    class BoundedH11(kind):
        def data_received(self, data: bytes) -> None:
            kind.data_received(self, data)
            if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
                timeout.begin(self)
            else:
                timeout.end(self)

        def send_400_response(self, msg: str) -> None:
            if len(self.conn.trailing_data[0]) <= limit:
                kind.send_400_response(self, msg)
                return
            self.transport.write(REFUSAL)
            self.transport.close()

    return BoundedH11
