"""What `mob.require`, `mob.me` and the like return outside of a mobster: an object that raises when used.

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
    """The result of a function that needs a mobster, in a process that is not one.

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
            raise AttributeError(name)  # Python or a tool looks for a protocol; the application does not use the object
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
    """Raise `NotInMobster` for a function of mob that was called, or whose result is used, outside of a mobster."""
    raise NotInMobster(
        f"mob.{function}() works only in workers (mobsters), and this process is not one. If it is the Kingpin (the "
        f"script that calls .run()), move this code into the module of a role. If it only imported the module of a "
        f"role (a test, a child of multiprocessing, a REPL), the module may call mob.{function}(), but the result "
        f'cannot be used here: use mob.connect("name of the app") to reach the app.'
    )


def note_unheard(decorator: str, depth: int = 1) -> None:
    """Note a function that the main script registered and no mobster will call, `depth` frames above the caller.

    Imported modules may belong to a role, so registering there is not a mistake.
    """
    frame = sys._getframe(1 + depth)  # pyright: ignore[reportPrivateUsage]  as `warnings` does
    if frame.f_globals.get("__name__") == "__main__":
        _unheard.append((decorator, frame.f_lineno))


def check_unheard(plan: Plan) -> None:
    """Raise `PlanError` if the main script registered a function that is never called.

    It is called if the script is also the module of a role, or if its functions run in pools.
    """
    file = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    name = os.path.splitext(os.path.basename(file))[0]
    modules = {os.path.splitext(os.path.basename(role.module))[0].rpartition(".")[2] for role in plan.roles}
    if not _unheard or name in modules or any(role.pool for role in plan.roles):
        return
    decorator, line = _unheard[0]
    _unheard.clear()  # in a notebook it may be fixed when the app is started again
    raise PlanError(
        f"{decorator} in line {line} of the main script would never be called: this process starts the app and is "
        f"not one of its workers. Move the function into the module of a role. To handle messages, joins, leaves, "
        f"crashes and errors in this process, use app.on(...) of a client from .up() or mob.connect()."
    )
