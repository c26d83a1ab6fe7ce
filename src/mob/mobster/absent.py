"""What `mob.require`, `mob.me` and the like give in a process that is no mobster: an object that complains when used.

So the module of a role can be imported anywhere: by the children of `multiprocessing`, by tests, by Sphinx.
"""

from __future__ import annotations

from typing import Any, NoReturn

from mob.errors import NotInMobster


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


for _name in ["call", "iter", "aiter", "await", "len", "bool", "getitem", "enter", "exit", "aenter", "aexit"]:
    setattr(Absent, f"__{_name}__", Absent._refuse)  # pyright: ignore[reportPrivateUsage]


def refuse(function: str) -> NoReturn:
    """`NotInMobster` for a function of mob's that was called, or whose result is used, where there is no mobster."""
    raise NotInMobster(
        f"mob.{function}() works in mobsters only, and this process is not one. If it is the Kingpin (the script that "
        f"calls .run()), move this code into the module of a role. If it has only imported the module of a role (a "
        f"test, a child of multiprocessing, a REPL), the module may say mob.{function}(), but its result cannot be "
        f'used here: say mob.connect("name of the app") to reach the app from outside.'
    )
