"""What is said of a timer that is declared as other schedulers have it: `mob.every(minutes=5)`, `mob.cron(tz=...)`.

It never declares one: nothing of another spelling is accepted, so that all code says the same thing in one way.
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
"""Seconds of the units in which other schedulers take an interval."""
ZONES = frozenset({"tz", "tzinfo", "time_zone", "timezone"})
"""As other schedulers call `zone`."""
TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s|sec|seconds?|m|min|minutes?|h|hours?|d|days?|w|weeks?)", re.I)
SHORT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
EXAMPLES = {"every": "@mob.every(300)", "cron": '@mob.cron("0 3 * * *", zone="Europe/Berlin")'}


def helped(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function that is called with other arguments than it takes say which ones were meant."""
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
    return f"Say when, as in {EXAMPLES[name]}."


def interval(value: Any) -> str:
    """Return what to write in the place of something that is no number of seconds; "" if that is not known."""
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
    """`TypeError` if a decorator stands on a function without having been called."""
    if callable(value):
        name = getattr(value, "__name__", repr(value))
        raise TypeError(f"@mob.{decorator} on {name} does not say when. Write {EXAMPLES[decorator]}.")
