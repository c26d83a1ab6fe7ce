"""What `mob.require`, `mob.me` and the like give in a process that is no mobster: an object that complains when used.

So the module of a role can be imported anywhere: by the children of `multiprocessing`, by tests, by Sphinx.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from mob.errors import NotInMobster, PlanError
from mob.plan import Plan

_unheard: list[tuple[str, int]] = []  # decorators in the main script, such as "@mob.on('crash')", and their lines


class Absent:
    """The result of a function that needs a mobster, in a process that is none.

    >>> back = mob.require("back")             # doctest: +SKIP
    >>> back.foo                               # doctest: +SKIP
    Traceback (most recent call last):
    mob.errors.NotInMobster: ...
    """

    __slots__ = ("_mob_function",)

    def __init__(self, function: str) -> None:
        self._mob_function = function

    def __repr__(self) -> str:
        return f"<what mob.{self._mob_function}() gives outside of a mobster>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # Python or a tool asks for a protocol, and the application for nothing
        refuse(self._mob_function)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "_mob_function":
            refuse(self._mob_function)
        object.__setattr__(self, name, value)

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(self._mob_function)


for _name in [
    "call",
    "iter",
    "aiter",
    "await",
    "len",
    "bool",
    "getitem",
    "setitem",
    "delitem",
    "enter",
    "exit",
    "aenter",
    "aexit",
]:
    setattr(Absent, f"__{_name}__", Absent._refuse)  # pyright: ignore[reportPrivateUsage]


def refuse(function: str) -> NoReturn:
    """`NotInMobster` for a function of mob's that was called, or whose result is used, where there is no mobster."""
    raise NotInMobster(
        f"mob.{function}() works in mobsters only, and this process is not one. If it is the Kingpin (the script that "
        f"calls .run()), move this code into the module of a role. If it has only imported the module of a role (a "
        f"test, a child of multiprocessing, a REPL), the module may say mob.{function}(), but its result cannot be "
        f'used here: say mob.connect("name of the app") to reach the app from outside.'
    )


def note_unheard(decorator: str, depth: int = 1) -> None:
    """Note that a function of the running script, which no mobster will call, was registered `depth` frames above the
    caller. Modules that were imported may belong to a role: they are no mistake."""
    frame = sys._getframe(1 + depth)  # pyright: ignore[reportPrivateUsage]  as `warnings` does
    if frame.f_globals.get("__name__") == "__main__":
        _unheard.append((decorator, frame.f_lineno))


def check_unheard(plan: Plan) -> None:
    """`PlanError` if the main script has registered a function, unless it is a module of the app too, or its functions
    run in pools."""
    file = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    name = os.path.splitext(os.path.basename(file))[0]
    modules = {os.path.splitext(os.path.basename(role.module))[0].rpartition(".")[2] for role in plan.roles}
    if not _unheard or name in modules or any(role.pool for role in plan.roles):
        return
    decorator, line = _unheard[0]
    _unheard.clear()  # in a notebook it may be gone when the app is started again
    raise PlanError(
        f"{decorator} in line {line} of the main script would never be called: this process starts the app and is "
        f"none of its workers. Move the function into the module of a role. With .up() or mob.connect(), which give a "
        f"client, app.on(...) registers handlers of messages, joins, leaves, crashes and errors here."
    )
