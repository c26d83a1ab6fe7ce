"""The options of a view of a proxy: their meaning, the form that editors see, and the check of changes.

They are declared twice, because type checkers take the names of keyword arguments only from a `TypedDict`; a test keeps
the two equal.
"""

from __future__ import annotations

from typing import Any, TypedDict

import msgspec

from mob.core.calls import Terms
from mob.errors import nearest
from mob.peer.results.checking import check_seconds


class Options(Terms, frozen=True):
    """The options with which a view of a proxy calls; `proxy.options(...)` changes them."""

    timeout: float | None = None
    """Seconds for the whole call; None: no limit."""
    pid: int | str | None = None
    """Call only the worker with this process id; on another machine it is "node:pid"."""
    key: Any = None
    """Always call the worker in the place that this key belongs to (rendezvous hashing), whichever process fills it."""


DEFAULTS = Options()


class CallOptions(TypedDict, total=False):
    """The options of `Proxy.options`, by name, for editors and type checkers; that method describes each.

    >>> patient: mob.CallOptions = {"wait": 120, "timeout": 300}     # doctest: +SKIP
    >>> back.options(**patient).foo(1)                               # doctest: +SKIP
    """

    wait: float
    timeout: float | None
    pid: int | str | None
    key: Any
    retries: int


OF_JOBS = ("at", "backoff", "delay", "priority")
"""Options that only durable calls have."""


def changed(options: Options, changes: CallOptions) -> Options:
    """Return the options with changes applied.

    `TypeError` for an unknown option, with the nearest name, and for a value of another type; `ValueError` for seconds
    that are not a number (nan).

    >>> changed(DEFAULTS, {"timeout": 2}).timeout
    2
    """
    known = Options.__struct_fields__
    for name in changes:
        if name not in known:
            of_jobs = f" {name}= is for durable calls: options(durable=True, {name}=...)."
            hint = of_jobs if name in OF_JOBS else f" {nearest(name, known)}"
            raise TypeError(f"a proxy has no option {name!r}.{hint}")
    for name in ("wait", "timeout"):
        check_seconds(name, changes.get(name))
    if not isinstance(changes.get("retries", 0), int):
        raise TypeError(f"retries={changes.get('retries')!r} is not a whole number.")
    return msgspec.structs.replace(options, **changes)
