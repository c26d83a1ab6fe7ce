"""Fresh interpreters for this program: its executable, flags and module path, and a function of mob to call.

Kingpins that a script starts, and fork servers, begin like this. Nothing here starts a process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from typing import cast

from mob.errors import PlanError

MAIN = (
    "import sys; sys.path[:] = {first!r}; from mob.imports import import_at_rest; module = import_at_rest({module!r}); "
    "sys.path[:] = {path!r}; module.main({arguments!r})"
)


def command(module: str, arguments: tuple[object, ...], path: Sequence[str], of_the_app: Collection[str]) -> list[str]:
    """Return the command that calls `main(arguments)` of a module of mob.

    `path` is the module path of the program. mob and its dependencies are imported with the directories `of_the_app` at
    the end of it: a role file called queue.py hides the module of that name from the roles, and from nothing else.
    """
    first = sorted(path, key=of_the_app.__contains__)  # keeps the order within both parts
    code = MAIN.format(module=module, first=first, path=list(path), arguments=arguments)
    return [sys.executable, *flags(), "-c", code]


def flags() -> list[str]:
    """Return the options with which this interpreter was started."""
    return cast(list[str], subprocess._args_from_interpreter_flags())  # type: ignore[attr-defined]  # as multiprocessing


def check() -> None:
    """Raise `PlanError` if this program cannot start another interpreter."""
    if why := _why_none():
        raise PlanError(
            f"mob starts Python interpreters, and {why}. Deploy the app with a virtual environment, a container, or a "
            f"zipapp (shiv, pex), which have one."
        )


def _why_none() -> str:
    if getattr(sys, "frozen", False) or hasattr(sys.modules.get("__main__"), "__compiled__"):
        return "this program is frozen (PyInstaller, cx_Freeze, Nuitka): it would start itself again"
    if not sys.executable or not os.access(sys.executable, os.X_OK):
        return f"sys.executable ({sys.executable!r}) is not an interpreter: this one is embedded in another program"
    return ""
