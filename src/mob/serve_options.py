"""Options in `serve_options=` that are mob's own; all others are uvicorn's. Floor 0."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from mob.errors import PlanError


class ServeOptions(msgspec.Struct, frozen=True):
    """The options of mob's own for serving HTTP."""

    access_log: bool | str = False
    """Log a line for each request: True, or a format such as '%(h)s "%(r)s" %(s)s', or "json"."""
    cancel_on_disconnect: bool = False
    """True if a request of an ASGI application is cancelled when its client disconnects."""
    head_timeout: float | None = 30.0
    """Seconds that a client has to send the head of a request; None for no limit. As in Apache and gunicorn."""
    stream_grace: float | None = None
    """Seconds that a response of unknown length has to finish when its worker ends.

    None: event streams have one second, others have the grace period.
    """
    wsgi_queue: int = 1000
    """Maximum number of requests that wait for a thread of a WSGI application; more are answered with 503."""


NAMES = ["h", "l", "u", "t", "r", "m", "U", "q", "H", "s", "B", "b", "f", "a", "T", "M", "D", "L", "p", "I"]
"""Names in a format of the access log: gunicorn's, and I, the id of the request."""
NAMED = re.compile(r"%\(([^)]*)\)s|%%")
HEADER = re.compile(r"\{([^}]+)\}([io])")


class _Rule(NamedTuple):
    is_right: Callable[[object], bool]
    wanted: str


def _is_log(value: object) -> bool:
    if not isinstance(value, str) or value == "json":
        return isinstance(value, bool | str)
    names = [found[1] for found in NAMED.finditer(value) if found[1] is not None]
    return bool(names) and all(name in NAMES or HEADER.fullmatch(name) for name in names)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_time(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and type(value) is not bool and 0 <= value < math.inf)


def _is_limit(value: object) -> bool:
    return _is_time(value) and value != 0


RULES = {
    "access_log": _Rule(
        _is_log,
        "True, 'json', or a format such as '%(h)s \"%(r)s\" %(s)s', made of "
        f"{', '.join(NAMES)}, and headers: %({{Host}}i)s of the request, %({{Content-Type}}o)s of the response",
    ),
    "cancel_on_disconnect": _Rule(_is_flag, "True or False"),
    "head_timeout": _Rule(_is_limit, "seconds, more than 0, or None for no limit"),
    "stream_grace": _Rule(_is_time, "seconds, 0 or more, or None to end only event streams early"),
    "wsgi_queue": _Rule(_is_count, "a whole number: the requests that may wait for a thread"),
}
OWN = tuple(RULES)
"""Names of these options."""


def check(name: object, value: object) -> None:
    """Raise `PlanError` if an option of mob's own has an invalid value."""
    rule = RULES.get(name) if isinstance(name, str) else None
    if rule is not None and not rule.is_right(value):
        raise PlanError(f"serve_options: invalid {name}={value!r}. Expected: {rule.wanted}.")


def split(options: Mapping[str, Any]) -> tuple[ServeOptions, dict[str, Any]]:
    """Return mob's own options, and those for uvicorn.

    >>> split({"head_timeout": 5, "root_path": "/shop"})[1]
    {'root_path': '/shop'}
    """
    own = {name: value for name, value in options.items() if name in RULES}
    return ServeOptions(**own), {name: value for name, value in options.items() if name not in RULES}
