"""Errors for timers declared in the style of other schedulers: `mob.every(minutes=5)`, `mob.cron(tz=...)`.

This module never declares a timer: other spellings are not accepted, so that there is only one way to write each thing.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection
from datetime import timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from mob.errors import nearest

P = ParamSpec("P")
R = TypeVar("R")

UNITS = {"milliseconds": 0.001, "seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0, "weeks": 604800.0}
"""Units in which other schedulers take an interval, in seconds."""
ZONES = frozenset({"tz", "tzinfo", "time_zone", "timezone"})
"""Names of `zone` in other schedulers."""
TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s|sec|seconds?|m|min|minutes?|h|hours?|d|days?|w|weeks?)", re.I)
SHORT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
EXAMPLES = {"every": "@mob.every(300)", "cron": '@mob.cron("0 3 * * *", zone="Europe/Berlin")'}


def helped(function: Callable[P, R]) -> Callable[P, R]:
    """Wrap a function so that a call with wrong arguments raises an error that names the right ones."""
    name, signature = function.__name__, inspect.signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"mob.{name}: {error}. {_meant(name, kwargs, signature.parameters)}") from None
        return function(*args, **kwargs)

    return call


def _meant(name: str, options: dict[str, Any], known: Collection[str]) -> str:
    units = {unit: value for unit, value in options.items() if unit in UNITS and isinstance(value, (int, float))}
    if name == "every" and units:
        seconds = sum(UNITS[unit] * value for unit, value in units.items())
        return f"The interval is a number of seconds: @mob.every({seconds:g})."
    unknown = next((each for each in options if each not in known), None)
    if name == "cron" and unknown in ZONES:
        return "Did you mean 'zone'?"
    if unknown is not None:
        return nearest(unknown, known)
    return f"Pass the schedule, as in {EXAMPLES[name]}."


def interval(value: Any) -> str:
    """Return what to write instead of a value that is not a number of seconds; "" if unknown."""
    found = TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is not None:
        unit = found[2].lower()
        seconds = float(found[1]) * SHORT["ms" if unit.startswith(("ms", "mil")) else unit[0]]
    elif isinstance(value, timedelta):
        seconds = value.total_seconds()
    else:
        return ""
    return f" Write @mob.every({seconds:g})."


def check_not_bare(decorator: str, value: Any) -> None:
    """Raise `TypeError` if a decorator is used on a function without being called."""
    if callable(value):
        name = getattr(value, "__name__", repr(value))
        raise TypeError(f"@mob.{decorator} on {name} has no schedule. Write {EXAMPLES[decorator]}.")
