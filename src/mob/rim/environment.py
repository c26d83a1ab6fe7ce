"""The environment of a role in a new mobster: set, and applied again by code that has read it before.

A fork inherits what its interpreter and libraries read at their start. What can be redone is redone here: the time
zone, the module path, warnings, the locale. What cannot is refused by the plan (`mob.environment`), or here, where it
depends on the preloaded modules.
"""

from __future__ import annotations

import contextlib
import locale
import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence

from mob.environment import AT_LOAD, LIBRARIES

LOCALE = frozenset({"LANG", "LC_ALL", "LC_CTYPE"})


def take_over(env: Mapping[str, str]) -> None:
    """Set these variables and apply them. Raise `ValueError` for one that a preloaded library has already read.

    >>> take_over({"TZ": "Asia/Tokyo"})                          # doctest: +SKIP
    """
    late = sorted(AT_LOAD & env.keys())
    if late and (libraries := loaded(LIBRARIES)):
        library = os.path.basename(libraries[0])
        raise ValueError(
            f"env={{{late[0]!r}: {env[late[0]]!r}}} comes too late: {library} reads it when it is loaded, and a "
            f"module in preload() has loaded it. Set it in the environment of the whole app, or import that module in "
            f"the role."
        )
    if env.get("NO_COLOR") and "FORCE_COLOR" not in env:
        os.environ.pop("FORCE_COLOR", None)
    os.environ.update(env)
    if "TZ" in env:
        time.tzset()
    if LOCALE & env.keys():
        with contextlib.suppress(locale.Error):  # as at the start of the interpreter
            locale.setlocale(locale.LC_CTYPE, "")
    _take_over_python(env)


def _take_over_python(env: Mapping[str, str]) -> None:
    if "PYTHONDONTWRITEBYTECODE" in env:
        sys.dont_write_bytecode = env["PYTHONDONTWRITEBYTECODE"] != ""
    if path := env.get("PYTHONPATH"):
        new = [os.path.abspath(each) for each in path.split(os.pathsep)]
        sys.path[:] = [*new, *(each for each in sys.path if each not in new)]
    if wanted := env.get("PYTHONWARNINGS"):
        warnings._processoptions(wanted.split(","))  # type: ignore[attr-defined]


def loaded(parts: Sequence[str]) -> list[str]:
    """Return the paths of the loaded files whose names contain one of these parts."""
    found: dict[str, None] = {}
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            _, slash, path = line.rstrip("\n").partition("/")
            if slash and any(part in os.path.basename(path).lower() for part in parts):
                found[f"/{path}"] = None
    return list(found)
