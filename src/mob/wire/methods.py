"""Objects that cross by reference: the mark by which the codec knows them, and which of their methods can be called.

Strategy. What derives from `ByReference` is never taken apart: the codec has it named, as it has functions named. Which
methods of a class can be called from elsewhere is said by its text alone (`methods_of`), so both ends agree on it.

Limits. Asks the class, never the object: a property may do anything when it is touched.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, cast

MARK = "__mob_export__"
"""The attribute of a function or a class that `mob.export` sets."""

_WRAPPED = (staticmethod, classmethod, functools.partialmethod, functools.singledispatchmethod)


class ByReference:
    """The base of what stands for an object in some process, this one or another."""

    __slots__ = ()


@functools.lru_cache(1000)
def methods_of(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of the methods that others may call: the public ones, and special ones (`__len__`) that are
    decorated with `mob.export`. Names that begin with an underscore are private; properties are no methods.

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
