"""Functions and arguments as bytes, with large buffers next to them (pickle protocol 5, out of band).

Strategy. The C pickler of the standard library comes first, because it is fast. cloudpickle pickles by value what that
one cannot, and what belongs to `__main__`, which is another module in a worker. Without cloudpickle (the extra `pool`)
such things are refused, and the error names their place.

A function is pickled once, and again only after something that it refers to has changed, because cloudpickle takes
fifty times as long as a small call. Every name in the function's code is compared; a function that refers to something
mutable is pickled each time.

Limits. It knows nothing of processes, pools or calls.
"""

from __future__ import annotations

import importlib.util
import logging
import pickle
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import PurePath
from pickle import HIGHEST_PROTOCOL, PickleBuffer, PicklingError
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, cast

from mob.errors import BadMessage
from mob.peer.references.private import private

LARGE = 64 * 1024
"""Bytes from which a buffer travels next to the pickle, and so through shared memory (`wire.sharing.LARGE`)."""
MOST_FUNCTIONS = 128
"""Maximum number of functions whose pickles are kept."""
DEEPEST = 8
"""Maximum depth in a value at which the part that cannot be pickled is looked for."""
INSTALL = "cloudpickle (pip install 'mobsters[pool]')"


FindParts = Callable[[], Iterator[tuple[str, Any]]]
"""Yields the parts of a value, each with the expression that leads to it: `args[0]`."""


class Pickled(NamedTuple):
    """A value as bytes."""

    data: bytes
    buffers: list[memoryview]
    """Its large buffers, in order."""


class CannotPickle(BadMessage, PicklingError):
    """A function, an argument or a result that cannot be pickled; the text says which part of it, and why."""


def dumps(value: Any, what: str, parts: FindParts | None = None) -> Pickled:
    """Return a value as bytes and buffers.

    `CannotPickle` says which part of it cannot be pickled; an error that its own `__reduce__` raises comes through,
    with a note. `what` and `parts` name the value and its parts in an error.

    >>> dumps([1, 2], "the argument").buffers
    []
    """
    buffers: list[PickleBuffer] = []
    try:
        data = _dumps(value, buffers)
    except (PicklingError, TypeError, AttributeError, RecursionError) as error:
        raise _refusal(value, what, parts, error) from error
    except Exception as error:
        error.add_note(f"This was raised while pickling {what}, which a mob.Pool sends to another process.")
        raise
    return Pickled(data, [buffer.raw() for buffer in buffers])


def loads(data: bytes, buffers: Sequence[memoryview | bytearray]) -> Any:
    """Return the value, whose buffers are writable; raise whatever unpickling raises."""
    return pickle.loads(data, buffers=[private(each) for each in buffers] if buffers else None)


def _dumps(value: Any, buffers: list[PickleBuffer]) -> bytes:
    def is_in_band(buffer: PickleBuffer) -> bool:
        try:
            if buffer.raw().nbytes < LARGE:
                return True
        except BufferError:  # not contiguous
            return True
        buffers.append(buffer)
        return False

    if not _are_modules_by_value():
        try:
            data = pickle.dumps(value, HIGHEST_PROTOCOL, buffer_callback=is_in_band)
        except Exception:
            if not has_cloudpickle():
                raise
        else:
            if b"__main__" not in data:
                return data
            if not has_cloudpickle():
                if not _mentions_main(data):
                    return data
                raise PicklingError(
                    f"it belongs to __main__, which a worker cannot import; {INSTALL} sends it by value"
                )
    del buffers[:]
    return importlib.import_module("mob.pools.by_value").dumps(value, HIGHEST_PROTOCOL, is_in_band)


@cache
def has_cloudpickle() -> bool:
    """Return True if cloudpickle is installed."""
    return importlib.util.find_spec("cloudpickle") is not None


def _are_modules_by_value() -> bool:
    """Return True if the program told cloudpickle to send functions of some modules by value."""
    known = sys.modules.get("cloudpickle")
    return known is not None and bool(known.list_registry_pickle_by_value())


def _mentions_main(data: bytes) -> bool:
    """Return True if a pickle refers to something in `__main__`, and does not just contain the word in a text."""
    import pickletools

    pushed: list[Any] = []
    memo: list[Any] = []
    for operation, argument, _ in pickletools.genops(data):
        if operation.name == "STACK_GLOBAL" and pushed[-2] == "__main__":  # a module, and a name in it
            return True
        if operation.name == "MEMOIZE":
            memo.append(pushed[-1])
        elif operation.name != "FRAME":
            pushed.append(memo[cast(int, argument)] if operation.name.endswith("GET") else argument)
    return False


# -- errors for what cannot be pickled -------------------------------------------------------------------------------


def _refusal(value: Any, what: str, parts: FindParts | None, error: Exception) -> CannotPickle:
    place, culprit = "", value
    inside = _parts(value) if parts is None else parts()
    for _ in range(DEEPEST):
        found = next(((step, part) for step, part in inside if not _can_pickle(part)), None)
        if found is None:
            break
        place, culprit = place + found[0], found[1]
        inside = _parts(culprit)
    where = f"{place.lstrip('.') or 'it'} is of type {type(culprit).__name__!r}"
    advice = "" if has_cloudpickle() or INSTALL in str(error) else f" {INSTALL} can send more."
    return CannotPickle(f"cannot send {what} to another process: {where}: {error}.{advice}", place)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        yield from ((f"[{at}]", part) for at, part in enumerate(cast(Sequence[Any], value)))
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in cast(dict[Any, Any], value).items())
    elif isinstance(value, FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        yield from ((f".{name}", cell.cell_contents) for name, cell in cells)
        known = value.__globals__
        yield from ((f".{name}", known[name]) for name in _names_in(value.__code__) if name in known)
    elif isinstance(value, MethodType):
        yield ".__self__", value.__self__
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from ((f".{name}", part) for name, part in cast(dict[str, Any], vars(value)).items())


def _can_pickle(value: Any) -> bool:
    try:
        _dumps(value, [])
    except Exception:  # noqa: BLE001  whatever it is, this is the part
        return False
    return True


# -- functions ---------------------------------------------------------------------------------------------------------

_STABLE = (
    *(int, float, complex, str, bytes, bool, type(None), ModuleType, BuiltinFunctionType),
    *(PurePath, re.Pattern, logging.Logger),
)
"""Types of which equal objects have equal values, or that are pickled by name."""
CachedFunction: type = type(lru_cache(len))
"""The type of functions of `functools.lru_cache`."""
_MISSING = object()
Mentioned = list[tuple[dict[str, Any], str, Any]]
"""The names that a function mentions: the namespace of each, and the value that was found there."""


class PickledFunction(NamedTuple):
    """A function as bytes."""

    data: bytes
    buffers: list[memoryview]
    variant: str
    """The name under which the cost of its calls is kept; "" if it may change with each call."""


class FunctionPickles:
    """The pickles of functions that were sent recently."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, PickledFunction, Mentioned]] = {}

    def __repr__(self) -> str:
        return f"<FunctionPickles, {len(self._known)} pickled>"

    def dumps(self, function: Any) -> PickledFunction:
        """Return a function as bytes; errors are those of `dumps`."""
        known = self._known.get(id(function))
        if known is not None and known[0] is function and _is_as_before(known[2]):
            return known[1]
        data, buffers = dumps(function, f"the function {name_of(function)}")
        seen = None if buffers else _seen_by(function)
        if seen is None:
            return PickledFunction(data, buffers, "")
        pickled = PickledFunction(data, buffers, f"{zlib.crc32(data):x}")
        if len(self._known) >= MOST_FUNCTIONS:
            self._known.clear()
        self._known[id(function)] = function, pickled, seen
        return pickled


def name_of(function: Any) -> str:
    """Return the name of a function for people: `module.name`."""
    name = getattr(function, "__qualname__", None) or repr(function)
    module = getattr(function, "__module__", None)
    return f"{module}.{name}" if module and isinstance(name, str) else str(name)


def _seen_by(function: Any) -> Mentioned | None:
    """Return what to compare before the pickle of a function is used again; None if that is not enough."""
    seen: Mentioned = []
    return seen if _gather(function, seen, set()) else None


def _gather(function: Any, seen: Mentioned, visited: set[int]) -> bool:
    """Note all names that a function mentions; return True if they show every change."""
    if _is_importable(function) or id(function) in visited:
        return True
    visited.add(id(function))
    if type(function) is not FunctionType or function.__dict__ or function.__closure__:
        return False
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for name in _names_in(function.__code__):
        value = function.__globals__.get(name, _MISSING)
        seen.append((function.__globals__, name, value))
        if value is not _MISSING:
            values.append(value)
    return all(isinstance(value, _STABLE) or _gather(value, seen, visited) for value in values)


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _is_importable(thing: Any) -> bool:
    """Return True if a function or class is pickled as a name that means the same in every process."""
    if not isinstance(thing, (FunctionType, BuiltinFunctionType, type, CachedFunction)):
        return False
    module, name = thing.__module__, thing.__qualname__
    known: Any = sys.modules.get(str(module))
    if known is None or module == "__main__" or "." in name:
        return False
    return getattr(known, name, None) is thing and not _are_modules_by_value()


def _is_as_before(seen: Mentioned) -> bool:
    return all(names.get(name, _MISSING) is value for names, name, value in seen)
