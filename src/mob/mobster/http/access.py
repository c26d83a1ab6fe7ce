"""The access log: one line for each request, written when it ends.

A format names the parts of a line like gunicorn's `access_log_format`; it is compiled once, and each line is joined
from its parts. As JSON each line is an object. Text from clients is escaped, so it cannot forge a line.

The lines of one turn of the loop are written in one piece to standard output and not to `logging`, which would cost as
much as the whole request. Only if the application gave handlers to the logger "uvicorn.access", that gets a record for
each request instead, with the same arguments as from uvicorn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any

import msgspec
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from mob.peer.calls.request_ids import request_id
from mob.serve_options import HEADER, NAMED

COMBINED = '%(h)s - - %(t)s "%(r)s" %(s)s %(B)s "%(f)s" "%(a)s" %(L)s'
"""The format for `access_log=True`: the combined format of Apache and nginx, and the seconds of the request."""
JSON = "json"
LOGGER = "uvicorn.access"
LEFT = 499
"""Status of a request whose client disconnected before the response began, as in nginx."""


class AccessEntry:
    """One request that ended."""

    __slots__ = ("headers", "request_id", "scope", "seconds", "size", "status")

    def __init__(self, scope: Any, status: int, size: int, seconds: float, headers: Any, request_id: str) -> None:
        self.scope: Any = scope
        self.status: int = status
        self.size: int = size
        """Bytes of the response body that were sent."""
        self.seconds: float = seconds
        self.headers: Any = headers
        """The headers of the response."""
        self.request_id: str = request_id

    def __repr__(self) -> str:
        return f"<AccessEntry {self.line} {self.status}>"

    @property
    def client(self) -> str:
        """The address of the client; "-" on a Unix socket."""
        client = self.scope.get("client")
        return str(client[0]) if client else "-"

    @property
    def line(self) -> str:
        """The first line of the request, with its target as it was sent."""
        return f"{self.method} {self.target} {self.protocol}"

    @property
    def protocol(self) -> str:
        """The protocol, with its version."""
        return f"HTTP/{self.scope.get('http_version', '1.1')}"

    @property
    def query(self) -> str:
        """What follows the question mark, as it was sent."""
        return str(self.scope.get("query_string", b""), "latin-1")

    @property
    def method(self) -> str:
        """The method; a WebSocket begins with GET."""
        return str(self.scope.get("method", "GET"))

    @property
    def target(self) -> str:
        """Path and query."""
        raw: bytes = self.scope.get("raw_path") or self.scope["path"].encode()
        query: bytes = self.scope.get("query_string", b"")
        return (b"%s?%s" % (raw, query) if query else raw).decode("latin-1")

    def header(self, name: bytes) -> str:
        """Return a header of the request; "-" without one."""
        return _header(self.scope.get("headers", ()), name)


Getter = Callable[[AccessEntry], str]


def _header(headers: Any, name: bytes) -> str:
    for each, value in headers:
        if each == name or each.lower() == name:
            return escaped(value.decode("latin-1"))
    return "-"


GETTERS: dict[str, Getter] = {
    "h": lambda entry: entry.client,
    "l": lambda entry: "-",
    "u": lambda entry: "-",
    "t": lambda entry: _clock.text(),
    "r": lambda entry: escaped(entry.line),
    "m": lambda entry: entry.method,
    "U": lambda entry: escaped(entry.scope["path"]),
    "q": lambda entry: escaped(entry.query),
    "H": lambda entry: entry.protocol,
    "s": lambda entry: str(entry.status),
    "B": lambda entry: str(entry.size),
    "b": lambda entry: str(entry.size) if entry.size else "-",
    "f": lambda entry: entry.header(b"referer"),
    "a": lambda entry: entry.header(b"user-agent"),
    "T": lambda entry: str(int(entry.seconds)),
    "M": lambda entry: str(int(entry.seconds * 1e3)),
    "D": lambda entry: str(int(entry.seconds * 1e6)),
    "L": lambda entry: f"{entry.seconds:.6f}",
    "p": lambda entry: str(os.getpid()),
    "I": lambda entry: entry.request_id or "-",
}
"""Functions for the names of a format: gunicorn's names, and `I`, the id of the request. {Name}i is a header of the
request, {Name}o a header of the response."""


def compiled(text: str) -> Callable[[AccessEntry], str]:
    """Return a function that makes a line in that format, which `serve_options` has checked.

    >>> line = compiled('%(m)s %(s)s %(M)s ms')
    >>> line(AccessEntry({"method": "GET"}, 200, 13, 0.004, (), ""))
    'GET 200 4 ms'
    """
    parts: list[str] = []
    getters: list[Getter] = []
    end = 0
    literal = ""
    for found in NAMED.finditer(text):
        literal += text[end : found.start()]
        end = found.end()
        if found[1] is None:
            literal += "%"
            continue
        parts.append(literal.replace("%", "%%"))
        getters.append(_getter(found[1]))
        literal = ""
    rest = literal + text[end:]
    template = "%s".join([*parts, rest.replace("%", "%%")])
    return lambda entry: template % tuple([get(entry) for get in getters])


def _getter(name: str) -> Getter:
    if (header := HEADER.fullmatch(name)) is not None:
        key = header[1].lower().encode("latin-1", "replace")
        if header[2] == "i":
            return lambda entry: entry.header(key)
        return lambda entry: _header(entry.headers, key)
    return GETTERS[name]


def as_json(entry: AccessEntry) -> str:
    """Return an entry as one JSON object."""
    scope = entry.scope
    fields = {
        "time": datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z",
        "level": "INFO",
        "logger": "mob.access",
        "message": f"{entry.line} {entry.status}",
        "client": entry.client,
        "method": entry.method,
        "path": scope["path"],
        "query": entry.query,
        "protocol": entry.protocol,
        "status": entry.status,
        "bytes": entry.size,
        "seconds": round(entry.seconds, 6),
        "agent": _plain(scope, b"user-agent"),
        "referer": _plain(scope, b"referer"),
        "request_id": entry.request_id,
    }
    return msgspec.json.encode({name: value for name, value in fields.items() if value != ""}).decode()


def _plain(scope: Any, name: bytes) -> str:
    for each, value in scope.get("headers", ()):
        if each == name:
            text: str = value.decode("latin-1")
            return text
    return ""


def escaped(text: str) -> str:
    r"""Return a text that stays within its line and its quotes.

    >>> print(escaped('curl" 200\n127.0.0.1'))
    curl\x22 200\x0a127.0.0.1
    """
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(each if each.isprintable() and each not in '"\\' else _code(each) for each in text)


def _code(each: str) -> str:
    number = ord(each)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


class _Clock:
    """The time as text, made once a second."""

    def __init__(self) -> None:
        self._second: int = 0
        self._text = ""

    def __repr__(self) -> str:
        return f"<_Clock {self._text}>"

    def text(self) -> str:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._text = time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime(now))
        return self._text


_clock = _Clock()


@contextlib.contextmanager
def own_handlers_kept() -> Generator[None]:
    """Keep the handlers of the application on uvicorn's logger.

    uvicorn removes them in this block, so that its own connections do not log.
    """
    logger = logging.getLogger(LOGGER)
    handlers = logger.handlers
    yield
    logger.handlers = handlers


class AccessLog:
    """Writes the lines of one server. `how`: True, a format, or "json"; `is_json`: True stands for JSON."""

    def __init__(self, how: bool | str, is_json: bool = False) -> None:
        text = how if isinstance(how, str) else JSON if is_json else COMBINED
        self._line = as_json if text == JSON else compiled(text)
        self._lines: list[str] = []  # lines of this turn of the loop
        self._logger = logging.getLogger(LOGGER)

    def __repr__(self) -> str:
        return f"<AccessLog, {len(self._lines)} lines to write>"

    def note(self, scope: Any, status: int, size: int, seconds: float, headers: Any) -> None:
        """Log a request that ended, in its own context."""
        if self._logger.handlers:
            args = get_client_addr(scope), scope.get("method", "GET"), get_path_with_query_string(scope)
            self._logger.info('%s - "%s %s HTTP/%s" %d', *args, scope.get("http_version", "1.1"), status)
            return
        self._lines.append(self._line(AccessEntry(scope, status, size, seconds, headers, request_id())))
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write the lines that wait."""
        lines, self._lines = self._lines, []
        if lines:
            sys.stdout.write("\n".join(lines) + "\n")
