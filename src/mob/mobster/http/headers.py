"""The status and headers of a WSGI application, checked and encoded.

Nothing that could end a line of the head passes, because an application may include text from a client. Headers that
belong to the connection are the server's, and are dropped. Names and statuses recur, so they are checked once.
"""

from __future__ import annotations

import re
from functools import lru_cache

STATUS = re.compile(r"([2-9][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)")
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
VALUE = re.compile(r"[\t \x21-\x7e\x80-\xff]*")
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer", b"trailers"}
    | {b"transfer-encoding", b"upgrade"}
)
"""Headers that the server sets. An application may set `Connection: close`; the others are dropped."""
Headers = list[tuple[bytes, bytes]]


@lru_cache(256)
def status_of(status: str) -> tuple[int, bytes]:
    """Return the number and the reason of a status line; `TypeError` or `ValueError` for anything else."""
    if not isinstance(status, str):  # pyright: ignore[reportUnnecessaryIsInstance]  it is the application's
        raise TypeError(f"the status {status!r} is of type {type(status).__name__}; expected a str, such as '200 OK'")
    match = STATUS.fullmatch(status if " " in status else f"{status} ")
    if match is None:
        expected = "expected three digits, 200 or higher, and a reason, such as '200 OK'"
        raise ValueError(f"{status!r} is not the status of a response; {expected}")
    return int(match[1]), match[2].strip().encode("latin-1")


@lru_cache(1024)
def _name_of(name: str) -> tuple[bytes, bytes]:
    """Return the name of a header as it is sent, and in lower case."""
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"the name of a header, {name!r}, is of type {type(name).__name__}; expected a str")
    if not TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid name of a header")
    return name.encode(), name.lower().encode()


def headers_of(headers: list[tuple[str, str]], has_length: bool) -> tuple[Headers, int | None]:
    """Return the headers as they are sent, and the Content-Length that they give.

    Errors do not show a refused value, because it may be a secret.
    """
    sent: Headers = []
    length: int | None = None
    for name, value in headers:
        shown, lower = _name_of(name)
        if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]  it is the application's
            raise TypeError(f"the value of the header {name} is of type {type(value).__name__}; expected a str")
        if not VALUE.fullmatch(value):
            raise ValueError(f"the value of the header {name} has characters that are not allowed in headers")
        content = value.strip(" \t").encode("latin-1")
        if lower == b"content-length":
            if not content.isdigit() or length not in (None, int(content)):
                raise ValueError(f"the header {name} is {value!r}; expected one number of bytes")
            if not has_length or length is not None:
                continue
            length = int(content)
        elif lower in HOP_BY_HOP and not (lower == b"connection" and b"close" in content.lower()):
            continue
        sent.append((shown, content))
    return sent, length
