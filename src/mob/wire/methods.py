"""Objects that cross by reference: the mark by which the codec knows them, and which of their methods can be called.

Strategy. Objects of classes that derive from `ByReference` are never taken apart: the codec sends a reference to them,
as it does for functions. Which methods can be called from other processes depends only on the source of the class
(`methods_of`), so both ends agree on it.

Limits. Asks the class, never the object: reading a property may run any code.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, cast

MARK = "__mob_export__"
"""The attribute of a function or a class that `mob.export` sets."""

_WRAPPED = (staticmethod, classmethod, functools.partialmethod, functools.singledispatchmethod)


class ByReference:
    """The base class of objects that stand for an object in this process or another one."""

    __slots__ = ()


@functools.lru_cache(1000)
def methods_of(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of the methods that other processes may call.

    These are the public ones, and special ones (`__len__`) that are decorated with `mob.export`. Names that begin with
    an underscore are private, and properties are not methods.

    >>> class Counter:
    ...     total = 0
    ...     def add(self, n): ...
    ...     def _check(self): ...
    ...     @property
    ...     def size(self): ...
    >>> methods_of(Counter)
    ('add',)
    """
    found: dict[str, Any] = {}
    for base in kind.__mro__[:-1]:  # `object` comes last
        for name, value in vars(base).items():
            found.setdefault(name, value)
    return tuple(name for name, value in found.items() if _is_method(value) and _is_open(name, value))


def _is_method(value: object) -> bool:
    return isinstance(value, _WRAPPED) or (inspect.isroutine(value) and callable(cast(object, value)))


def _is_open(name: str, value: Any) -> bool:
    if not name.startswith("_"):
        return True
    return name.startswith("__") and name.endswith("__") and hasattr(value, MARK)
