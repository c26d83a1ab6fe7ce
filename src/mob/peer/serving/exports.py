"""What a role's module exports, and what the others get to know of it.

The decorated functions (`@mob.export`) if there are any; else the functions in `__all__` if there is one; else every
public function defined in the module itself. Only functions are exported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, TypeVar, overload

from msgspec import Struct

from mob.core.lanes import FREE, Lane
from mob.peer.serving.measure.tallies import ExportTally
from mob.peer.serving.turns import Gate
from mob.rim.board import mark_of
from mob.wire.arguments import Decode, Parameters
from mob.wire.codec import Codec
from mob.wire.kinds import stands_in
from mob.wire.messages import MAP, ExportInfo

F = TypeVar("F", bound=Callable[..., Any])
MARK = "__mob_export__"
_kind: Callable[[Any], type[Any]] = type


class ExportOptions(Struct, frozen=True):
    """What `@mob.export(...)` says of a function."""

    timeout: float | None = None
    idempotent: bool = False
    concurrency: int | None = None


@overload
def export(function: F, /) -> F: ...
@overload
def export(
    *, timeout: float | None = None, idempotent: bool = False, concurrency: int | None = None
) -> Callable[[F], F]: ...
def export(
    function: Any = None,
    /,
    *,
    timeout: float | None = None,
    idempotent: bool = False,
    concurrency: int | None = None,
) -> Any:
    """Marks a function as exported. As soon as a module marks one, only marked ones are.

    `timeout`: seconds that a call of it may take. `idempotent`: it may be repeated after a death. `concurrency`: how
    many calls of it may run at once in one worker, a running stream included; the others wait in order, and no other
    export waits with them. 1 makes it a critical section.

    >>> @export
    ... def foo(): ...
    >>> @export(timeout=2.0)
    ... def bar(): ...
    """
    if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
        raise ValueError(
            f"@mob.export(concurrency={concurrency!r}): wanted is how many calls of it may run at once in one worker, "
            f"a whole number of at least 1. Leave it out for no limit but the role's."
        )
    options = ExportOptions(timeout, idempotent, concurrency)

    def mark(marked: Any) -> Any:
        if not inspect.isroutine(marked):
            raise TypeError(f"@mob.export takes functions only, not {marked!r}.")
        setattr(marked, MARK, options)
        return marked

    return mark if function is None else mark(function)


class Export:
    """One exported function, ready to be called."""

    __slots__ = (
        "begins_later",
        "chunk_mark",
        "cost_mark",
        "decode",
        "function",
        "gate",
        "in_threads",
        "is_async",
        "label",
        "lane",
        "mark",
        "name",
        "options",
        "parameters",
        "tally",
    )

    def __init__(
        self,
        role: str,
        name: str,
        function: Callable[..., Any],
        codec: Codec,
        threads: int = 1,
        concurrency: int = 100,
    ) -> None:
        self.name: str = name
        self.label: str = f"{role}.{name}"
        self.mark: int = mark_of(name)
        self.cost_mark: int = mark_of(self.label)
        """By which the board knows what its calls take, as other roles may have an export of that name."""
        self.chunk_mark: int = mark_of(f"{role}.{MAP}{name}")
        """The same for chunks of its calls."""
        self.function: Callable[..., Any] = function
        self.is_async: bool = inspect.iscoroutinefunction(function)
        on_loop = self.is_async or inspect.isasyncgenfunction(function)
        self.in_threads: bool = threads > 1 and not on_loop
        """Whether its calls run in the threads of the role."""
        self.begins_later: bool = on_loop or (threads == 1 and inspect.isgeneratorfunction(function))
        """Whether a call takes its first step in the loop's next turn (see `firsts`)."""
        self.options: ExportOptions = getattr(function, MARK, ExportOptions())
        self.gate: Gate | None = None if self.options.concurrency is None else Gate(self.options.concurrency)
        self.lane: Lane = self._lane(threads, concurrency)
        """How a worker runs its calls."""
        self.parameters: Parameters = Parameters.of(function, codec, self.label)
        self.decode: Decode = self.parameters.decode
        self.tally: ExportTally | None = None
        """Where its calls are counted, if they are."""

    def __repr__(self) -> str:
        return f"<Export {self.name}{self.parameters.signature}>"

    def mark_for(self, target: str) -> int:
        """Return the mark of what a call of that target takes: of one call, or of a chunk."""
        return self.cost_mark if target == self.name else self.chunk_mark

    def _lane(self, threads: int, concurrency: int) -> Lane:
        width = concurrency if self.is_async else threads
        if self.gate is not None:
            return Lane(min(self.gate.limit, width), True)
        if inspect.isgeneratorfunction(self.function) or inspect.isasyncgenfunction(self.function):
            return FREE
        return Lane(width, self.is_async)

    def info(self) -> ExportInfo:
        """What the others need to know."""
        parameters, lane = self.parameters, self.lane
        idempotent = self.options.idempotent
        return ExportInfo(
            self.name, parameters.signature, parameters.doc, idempotent, lane.width, lane.is_beside, self.is_async
        )


def functions_of(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The functions that a module exports, by name, in the order of their definition."""
    names: Mapping[str, Any] = vars(module)
    own = {name: value for name, value in list(names.items()) if _is_function(value)}  # the import may go on meanwhile
    marked = {name: value for name, value in own.items() if hasattr(value, MARK)}
    if marked:
        return marked
    listed: Iterable[str] | None = names.get("__all__")
    if listed is not None:
        return {name: own[name] for name in listed if name in own}
    return {
        name: value
        for name, value in own.items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }


def _is_function(value: Any) -> bool:
    """Return whether it is a function, or wraps one, without asking a lazy object anything: that would evaluate it."""
    kind = _kind(value)
    if issubclass(kind, (FunctionType, BuiltinFunctionType)):
        return True
    return callable(value) and type(_wrapped_by(value, kind)) is FunctionType  # e.g. functools.lru_cache


def _wrapped_by(value: Any, kind: type[Any]) -> Any:
    """Return its `__wrapped__` as it is stored. What computes it is run only where that is harmless: what stands for
    another object is a wrapper of a function if it binds as functions do (wrapt), and else a lazy one."""
    found = inspect.getattr_static(value, "__wrapped__", None)
    if not hasattr(_kind(found), "__get__") or type(found) is FunctionType:
        return found
    if stands_in(kind) and not any("__get__" in vars(each) for each in kind.__mro__):
        return None
    try:
        return value.__wrapped__
    except Exception:  # noqa: BLE001  the application's own code
        return None
