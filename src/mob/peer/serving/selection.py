"""What a role's module exports: the only place that decides it.

* The names marked with `@mob.export`, if there are any;
* else the callables in `__all__`, if that exists;
* else every public name whose code is *defined in the module*.

The code of a function is its own; of a bound method, a `functools.partial` or a callable instance it is the function
that finally runs; of a class it is the class with all its bases. So `log = logging.getLogger().info`, `app =
FastAPI()`, and a handler that derives from a class of the standard library are not exported unless the module marks or
lists them.

A class is exported as a service: calling it makes an object that lives in the worker. Classes that describe data or
have no public methods, exceptions, enums, protocols and abstract classes are not services; a class of data becomes one
only if it is marked. docs/services.md has all of this as a table.
"""

from __future__ import annotations

import abc
import enum
import functools
import inspect
import math
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar, cast, overload

from msgspec import Struct

from mob.spellings import EXPORT, spelled
from mob.wire.kinds import BUILT_IN, LEAVES, is_opened_by_msgspec, stands_in
from mob.wire.methods import MARK, methods_of

F = TypeVar("F", bound=Callable[..., Any])
_kind: Callable[[Any], type[Any]] = type

_DATA: tuple[type[Any], ...] = (complex, *(kind for kind in (*BUILT_IN, *LEAVES) if kind is not type(None)))
_TYPING = ("types", "typing", "typing_extensions")
"""Where the classes of annotations are defined: `list[int]` and a `NewType` can be called, but say what a value is."""
_NEUTRAL: tuple[Any, ...] = (object, abc.ABC, typing.Generic)
"""Bases that add no methods: a class that derives from them still counts as defined in the module."""


class ExportOptions(Struct, frozen=True):
    """The options of `@mob.export(...)`."""

    timeout: float | None = None
    idempotent: bool = False
    concurrency: int | None = None
    batch: int | None = None
    within: float = 0.0
    kill_after: float | None = None


@overload
def export(function: F, /) -> F: ...
@overload
def export(
    *,
    timeout: float | None = None,
    idempotent: bool = False,
    concurrency: int | None = None,
    batch: int | None = None,
    within: float = 0.0,
    kill_after: float | None = None,
) -> Callable[[F], F]: ...
@spelled(EXPORT)
def export(
    function: Any = None,
    /,
    *,
    timeout: float | None = None,
    idempotent: bool = False,
    concurrency: int | None = None,
    batch: int | None = None,
    within: float = 0.0,
    kill_after: float | None = None,
) -> Any:
    """Mark a function, any other callable, or a class as exported. A module that marks one exports only marked ones.

    A class becomes a service: `back.Room("kitchen")` makes an object in one worker. On a method of such a class,
    `timeout` applies to each call and `concurrency` to each object, and a mark makes a special method (`__len__`,
    `__getitem__`) callable.

    A bound method or a function written in C cannot be marked and is returned as a `functools.partial` that is, so use
    the result: `price = mob.export(Catalogue().price)`.

    Args:
        function: What to mark, if the decorator is used without options.
        timeout: Seconds that a call may take. `None` for no limit.
        idempotent: True if a call may be repeated after the worker that ran it died. Default: False.
        concurrency: Maximum number of calls that run at once in one worker, including running streams; the others wait
            in order, and calls of other exports do not wait for them. 1 makes the function a critical section. `None`
            for the limits of the role only.
        batch: Maximum number of calls that the function serves at once. Callers pass single values; the function gets
            one list for each parameter and returns a list with one result for each call. An exception in that list
            fails its call only. One batch runs at a time in each worker, or as many as `concurrency` says.
        within: Seconds that the first call of a batch may wait for others. With the default, 0, a batch consists of
            what arrived while the one before it ran (as with Triton's `max_queue_delay_microseconds`).
        kill_after: Seconds that a call may run, whatever it does; then its worker is killed and replaced. The call ends
            with `CallTimeout` (`.executed` is "yes"), other calls that had begun in that worker are `Lost`, and those
            that had not go to another worker. For code that cannot be cancelled; `timeout` is milder for `async def`.

    Returns:
        What was marked, or a decorator if `function` is left out.

    Raises:
        TypeError: If something cannot be called, or for `batch` or `kill_after` on a class or a generator function.
        ValueError: If `concurrency` or `batch` is not a whole number of at least 1, `within` is below 0 or is used
            without `batch`, or `kill_after` is not above 0.

    Example:
        >>> @export
        ... def foo(): ...
        >>> @export(timeout=2.0)
        ... def bar(): ...
        >>> @export(batch=32, within=0.005)
        ... def double(numbers: list[int]) -> list[int]:
        ...     return [2 * number for number in numbers]
    """
    if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
        raise ValueError(
            f"@mob.export(concurrency={concurrency!r}): expected the number of calls that may run at once in one "
            f"worker, a whole number of at least 1. Leave it out to apply only the limits of the role."
        )
    _check_batch(batch, within)
    if kill_after is not None and (type(kill_after) not in (int, float) or not 0 < kill_after < math.inf):
        raise ValueError(
            f"@mob.export(kill_after={kill_after!r}): expected the seconds after which the worker of a call is killed, "
            f"more than 0. Leave it out for no limit."
        )
    options = ExportOptions(timeout, idempotent, concurrency, batch, within, kill_after)

    def mark(marked: Any) -> Any:
        if batch is not None:
            _refuse_classes_and_generators(marked, "batch", "A batch takes lists and returns a list")
        if kill_after is not None:
            _refuse_classes_and_generators(marked, "kill_after", "The time of a stream depends on its reader")
        if is_class(marked):
            if issubclass(marked, (BaseException, enum.Enum)) or _is_protocol(marked):
                raise TypeError(f"@mob.export takes classes whose objects do something, not {marked!r}.")
        elif not (inspect.isroutine(marked) or callable(marked)):
            raise TypeError(f"@mob.export takes functions, other callables and classes, not {marked!r}.")
        try:
            setattr(marked, MARK, options)
        except (AttributeError, TypeError, ValueError):
            marked = functools.partial(marked)
            setattr(marked, MARK, options)
        return marked

    return mark if function is None else mark(function)


def _check_batch(batch: int | None, within: float) -> None:
    if batch is not None and (type(batch) is not int or batch < 1):
        raise ValueError(
            f"@mob.export(batch={batch!r}): expected the maximum number of calls in one batch, a whole number of at "
            f"least 1."
        )
    if type(within) not in (int, float) or not 0 <= within < math.inf:
        raise ValueError(f"@mob.export(within={within!r}): expected seconds, 0 or more.")
    if within and batch is None:
        raise ValueError(
            f"@mob.export(within={within!r}): this is the time that the first call of a batch waits for others, so it "
            f"needs batch=, the maximum number of calls in one batch."
        )


def _refuse_classes_and_generators(marked: Any, option: str, why: str) -> None:
    code = code_of(marked)
    if is_class(marked) or inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code):
        kind = "a class" if is_class(marked) else "a generator function"
        raise TypeError(
            f"@mob.export({option}=...) is for functions, but {marked!r} is {kind}. {why}; of a class, mark a method."
        )


def exports_of(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """Return the functions, other callables and classes that a module exports, by name, in the order of its lines."""
    names: Mapping[str, Any] = vars(module)
    found = {
        name: value for name, value in list(names.items()) if _holds(_can_be_called, value)
    }  # a copy, because the import may continue in the meantime
    marked = {name: value for name, value in found.items() if _holds(is_marked, value)}
    if marked:
        return marked
    listed: Iterable[str] | None = names.get("__all__")
    if listed is None:
        is_own = partial(_is_defined_in, module.__name__)
        listed = [name for name, value in found.items() if not name.startswith("_") and _holds(is_own, value)]
    return {name: found[name] for name in listed if name in found and _holds(_can_be_exported, found[name])}


def _holds(question: Callable[[Any], bool], value: Any) -> bool:
    """Return the answer to a question about a value in the module; False if the value raises when it is inspected.

    A module may hold classes and lazy objects of other libraries, and those must not break its import.
    """
    try:
        return question(value)
    except Exception:  # noqa: BLE001  the code of a metaclass
        return False


def _can_be_called(value: Any) -> bool:
    return code_of(value) is not None


def _can_be_exported(value: Any) -> bool:
    return not is_class(value) or _is_service(value)


def is_class(value: Any) -> bool:
    """Return True for a class, without running code of the value."""
    return issubclass(_kind(value), type)


def is_marked(value: Any) -> bool:
    """Return True if `@mob.export` was put on this very object.

    Instances and subclasses of a marked class are not marked themselves.
    """
    if is_class(value):
        return MARK in vars(value)
    return hasattr(value, MARK) and not hasattr(_kind(value), MARK)


def code_of(value: Any) -> Any:
    """Return what runs when a value is called: a function, a class, or the value itself if it wraps a function.

    Return None if it cannot be called. Lazy objects are not inspected, because that would evaluate them.

    >>> code_of(functools.partial(export)) is export
    True
    """
    kind = _kind(value)
    if issubclass(kind, (FunctionType, BuiltinFunctionType, type)):
        return value
    if issubclass(kind, MethodType):
        return code_of(value.__func__)
    if issubclass(kind, functools.partial):
        return code_of(cast("functools.partial[Any]", value).func)
    if not callable(value) or kind.__module__ in _TYPING:
        return None
    if type(_wrapped_by(value, kind)) is FunctionType:  # e.g. functools.lru_cache
        return value
    if stands_in(kind):
        return None
    called = inspect.getattr_static(kind, "__call__", None)
    return called if type(called) is FunctionType else kind


def _wrapped_by(value: Any, kind: type[Any]) -> Any:
    """Return the `__wrapped__` of a value as it is stored.

    A property that computes it is run only where that is harmless: an object that stands for another one is a wrapper
    of a function if it binds as functions do (wrapt), and otherwise a lazy object.
    """
    found = inspect.getattr_static(value, "__wrapped__", None)
    if not hasattr(_kind(found), "__get__") or type(found) is FunctionType:
        return found
    if stands_in(kind) and not any("__get__" in vars(each) for each in kind.__mro__):
        return None
    try:
        return value.__wrapped__
    except Exception:  # noqa: BLE001  the application's own code
        return None


def _is_defined_in(module: str, value: Any) -> bool:
    code = code_of(value)
    if getattr(code, "__module__", None) != module:
        return False
    bases = code.__mro__ if is_class(code) else ()
    return all(each.__module__ == module or any(each is neutral for neutral in _NEUTRAL) for each in bases)


def _is_service(kind: type[Any]) -> bool:
    """Return True if objects of a class do something, and False if they describe data."""
    return bool(methods_of(kind)) and not (
        issubclass(kind, (BaseException, enum.Enum, type, *_DATA))
        or is_opened_by_msgspec(kind)
        or hasattr(kind, "__pydantic_fields__")
        or hasattr(kind, "__pydantic_core_schema__")
        or _is_protocol(kind)
        or inspect.isabstract(kind)
    )


def _is_protocol(kind: type[Any]) -> bool:
    return vars(kind).get("_is_protocol", False) is True
