"""The id of the request to which work belongs: one id for everything that a request causes, in any process.

A request begins with an HTTP request of a role with `serve=`, or with a call that no other call made. Its id is the id
of its trace, if the app has traces; otherwise the one that came with the HTTP request, or a new one; otherwise the id
of the first call. All later calls know that one (`chain`), so most calls carry nothing for it. What must be carried
goes in the field for the context of a trace.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from itertools import count

from mob.peer.links.served import SERVED, Served

PREFIX = "request:"
CARRIED: ContextVar[str] = ContextVar("mob_request", default="")
"""What calls and messages that are made outside a call carry, in this context."""
_TRACE_PARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")
_FROM_OUTSIDE = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")

HeaderItems = Iterable[tuple[bytes, bytes]]


_trace_id: list[Callable[[], str]] = []
"""Returns the id of the trace in this context, or ""; empty if the process has no traces."""


_numbers: list[Iterator[str]] = []
"""Makes the ids of requests that come without one, in this process; a forked child gets a new one."""


def _new_id() -> str:
    if not _numbers:
        own = os.urandom(
            8
        ).hex()  # only once: asking the system costs as much as everything else that is done for a request
        _numbers.append(f"{own}{number:016x}" for number in count(1))
    return next(_numbers[0])


os.register_at_fork(after_in_child=_numbers.clear)


def use_traces(trace_id: Callable[[], str]) -> None:
    """Use the id of the trace as the id of a request from now on."""
    _trace_id[:] = [trace_id]


def request_id() -> str:
    """Return the id of the request in this context; "" outside a request."""
    for of_trace in _trace_id:
        if found := of_trace():
            return found
    served = SERVED.get()
    call = None if served is None else served[1]
    if served is None or call is None:
        return _id_in(CARRIED.get())
    if found := _id_in(call.trace):
        return found
    if call.chain:
        return f"{call.chain[0]}-{call.chain[1]}"
    return f"{served[0].uid}-{call.id}"


def carried_by_call(served: Served | None) -> str:
    """Return what a call carries that is made while `served` is served."""
    if served is None or served[1] is None:
        return CARRIED.get()
    return served[1].trace


def carried_by_message() -> str:
    """Return what a message carries, which has no chain."""
    served = SERVED.get()
    if served is None or served[1] is None:
        return CARRIED.get()
    return served[1].trace or PREFIX + request_id()


class http_request:  # noqa: N801  a block; a generator for it would cost more than all that is done in it
    """A block in which all work belongs to the HTTP request with these headers."""

    __slots__ = ("_headers", "_token")

    def __init__(self, headers: HeaderItems) -> None:
        self._headers = headers

    def __enter__(self) -> None:
        self._token = CARRIED.set(PREFIX + id_from(self._headers))

    def __exit__(self, *error: object) -> None:
        CARRIED.reset(self._token)


def id_from(headers: HeaderItems) -> str:
    """Return the id that came with an HTTP request, or a new one.

    >>> id_from([(b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")])
    '4bf92f3577b34da6a3ce929d0e0e4736'
    >>> id_from([(b"x-request-id", b"order-4711")])
    'order-4711'
    """
    parent = own = b""
    for name, value in headers:
        lower = name.lower()
        if lower == b"traceparent":
            parent = value
        elif lower == b"x-request-id":
            own = value
    if parent and (match := _TRACE_PARENT.fullmatch(parent)):
        return match[1].decode()
    if own and (match := _FROM_OUTSIDE.fullmatch(own)):
        return match[0].decode()
    return _new_id()


def _id_in(carried: str) -> str:
    return carried.removeprefix(PREFIX) if carried.startswith(PREFIX) else ""
