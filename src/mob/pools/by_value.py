"""Pickles what a worker cannot import by value: cloudpickle, with the globals of `__main__` in one place.

Functions of a script share its globals: an initializer sets one, tasks read it. In a worker, too, the functions of one
program's `__main__` share a namespace. Globals that arrive with a function are put there, except names that code in the
worker has bound to something else meanwhile: as in a forked child, the worker's changes stay.

Code keeps the name of its file, so that a traceback shows its lines.

Limits. It is imported only if cloudpickle is installed. The functions at the end run where something is unpickled.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import importlib
import io
import os
import secrets
import sys
from collections import ChainMap
from collections.abc import Callable
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any, ClassVar

from mob.pools.pickling import CachedFunction

cloudpickle: Any = importlib.import_module("cloudpickle")  # it has no types
_inside: Any = importlib.import_module("cloudpickle.cloudpickle")

__all__ = ["dumps", "namespace", "set_state"]

NO_FILE = "<dynamic-code>"
"""The text that cloudpickle uses instead of the name of the file."""
SHARED = ("__name__", "__file__", "__package__", "__path__")
_MISSING = object()


def dumps(value: Any, protocol: int, is_in_band: Callable[[Any], bool]) -> bytes:
    """Return the pickle of a value; `is_in_band` is the `buffer_callback` of `pickle.dumps`."""
    file = io.BytesIO()
    _Pickler(file, protocol, is_in_band).dump(value)
    return file.getvalue()


class _Pickler(cloudpickle.CloudPickler):
    """A cloudpickle that treats `__main__` as one module."""

    dispatch_table: ClassVar[Any] = ChainMap(
        {
            CodeType: lambda code: _reduce_code(code),  # pyright: ignore[reportUnknownLambdaType]
            CachedFunction: lambda function: _reduce_cached(function),  # pyright: ignore[reportUnknownLambdaType]
        },
        cloudpickle.CloudPickler.dispatch_table,
    )

    def __init__(self, file: io.BytesIO, protocol: int, is_in_band: Callable[[Any], bool]) -> None:
        super().__init__(file, protocol, is_in_band)
        programs = {**_namespaces, _program: vars(sys.modules["__main__"])}  # a task may send others' functions
        self.globals_ref: dict[int, Any] = {id(names): _Main(program) for program, names in programs.items()}

    def _dynamic_function_reduce(self, func: FunctionType) -> Any:
        reduced = super()._dynamic_function_reduce(func)
        return (*reduced[:-1], set_state) if isinstance(self.globals_ref[id(func.__globals__)], _Main) else reduced


class _Main(dict[str, Any]):
    """The globals of the `__main__` of a program, while a function is pickled."""

    def __init__(self, program: int) -> None:
        super().__init__()
        self._program = program

    def __reduce__(self) -> Any:
        return namespace, (self._program, {name: self[name] for name in SHARED if name in self})


def _reduce_code(code: CodeType) -> Any:
    make, args = _inside._code_reduce(code)
    return make, tuple(code.co_filename if each == NO_FILE else each for each in args)


def _reduce_cached(function: Any) -> Any:
    """Return the reduced form of a function of `functools.lru_cache`; its cache is empty when it is unpickled."""
    if _inside._should_pickle_by_reference(function.__wrapped__):
        return function.__qualname__
    return make_cached, (function.__wrapped__, function.cache_parameters())


_program = 0  # represents this process's `__main__`


def _name_program() -> None:
    global _program
    _program = secrets.randbits(63)


_name_program()
os.register_at_fork(after_in_child=_name_program)


# -- where it is unpickled ---------------------------------------------------------------------------------------------

_namespaces: dict[int, dict[str, Any]] = {}  # of the programs whose functions have arrived
_arrived: dict[int, dict[str, Any]] = {}  # by the ids of these namespaces, the globals that arrived last


def namespace(program: int, known: dict[str, Any]) -> dict[str, Any]:
    """Return the globals of the `__main__` of a program."""
    if program == _program:
        return vars(sys.modules["__main__"])
    if program not in _namespaces:
        own = _namespaces[program] = known
        _arrived[id(own)] = {}
    return _namespaces[program]


def make_cached(function: Any, parameters: dict[str, Any]) -> Any:
    """Return a function with a cache."""
    return lru_cache(**parameters)(function)


def set_state(function: FunctionType, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Set the state of a function of a `__main__`."""
    slots = state[1]
    own, arrived = function.__globals__, _arrived.get(id(function.__globals__), {})
    coming: dict[str, Any] = slots["__globals__"]
    slots["__globals__"] = {
        name: value for name, value in coming.items() if own.get(name, _MISSING) is arrived.get(name, _MISSING)
    }
    arrived.update(slots["__globals__"])
    _inside._function_setstate(function, state)
