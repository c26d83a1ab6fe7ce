"""One export of a role, ready to be called, and its description for other processes.

`selection` decides what is exported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from mob.core.lanes import FREE, Lane
from mob.peer.references.objects import made_by
from mob.peer.serving.limiters import Limiter
from mob.peer.serving.measure.tallies import ExportTally
from mob.peer.serving.selection import ExportOptions, code_of, is_class, is_marked
from mob.peer.serving.tags import with_tags
from mob.rim.board import mark_of
from mob.wire.arguments import Decode, Parameters
from mob.wire.codec import Codec
from mob.wire.messages import MAP, ExportInfo
from mob.wire.methods import MARK
from mob.wire.singles import Singles

if TYPE_CHECKING:
    from mob.peer.serving.batching import Batcher


class Export:
    """One exported function, ready to be called."""

    __slots__ = (
        "batcher",
        "begins_later",
        "chunk_mark",
        "cost_mark",
        "decode",
        "function",
        "in_threads",
        "is_async",
        "label",
        "lane",
        "limiter",
        "mark",
        "methods",
        "name",
        "options",
        "origin",
        "parameters",
        "singles",
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
        self.origin: Any = function
        """The object that the module has under that name."""
        self.name: str = name
        self.label: str = f"{role}.{name}"
        self.mark: int = mark_of(name)
        self.cost_mark: int = mark_of(self.label)
        """Mark under which the board keeps the time of its calls; with the role, because others may have the name."""
        self.chunk_mark: int = mark_of(f"{role}.{MAP}{name}")
        """The same for chunks of its calls."""
        self.methods: Mapping[str, Export] | None = None
        """The exports of a service's methods; None if this is not a service."""
        self.options: ExportOptions = getattr(function, MARK) if is_marked(function) else ExportOptions()
        self.singles: Singles | None = None if self.options.batch is None else Singles(function, self.label)
        """The form for calls with single values, if it takes lists."""
        self.batcher: Batcher | None = None
        """The object that batches its calls, if it takes lists."""
        self.function: Callable[..., Any] = function
        """The function that is called; it tags results that need it, unless it takes lists."""
        if is_class(function):
            self.function = made_by(cast("type[Any]", function))
        elif self.singles is None:
            self.function = with_tags(function, codec)
        code = code_of(function)
        self.is_async: bool = inspect.iscoroutinefunction(code)
        on_loop = self.is_async or inspect.isasyncgenfunction(code)
        self.in_threads: bool = threads > 1 and not on_loop
        """True if its calls run in the threads of the role."""
        self.begins_later: bool = on_loop or (threads == 1 and inspect.isgeneratorfunction(code))
        """True if a call takes its first step in the loop's next turn (see `firsts`)."""
        limit = self.options.concurrency or (None if self.singles is None else 1)
        self.limiter: Limiter | None = None if limit is None else Limiter(limit)
        streams = inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code)
        self.lane: Lane = self._lane(threads, concurrency, streams)
        """How a worker runs its calls: how many at once, and where."""
        called = function if self.singles is None else self.singles.single
        self.parameters: Parameters = Parameters.of(called, codec, self.label)
        self.decode: Decode = self.parameters.decode
        self.tally: ExportTally | None = None
        """The counts of its calls; None if they are not counted."""

    def __repr__(self) -> str:
        return f"<Export {self.name}{self.parameters.signature}>"

    def mark_for(self, target: str) -> int:
        """Return the mark under which the time of a call of that target is kept: of one call, or of a chunk."""
        return self.cost_mark if target == self.name else self.chunk_mark

    def _lane(self, threads: int, concurrency: int, streams: bool) -> Lane:
        width = concurrency if self.is_async else threads
        if self.limiter is not None and self.options.batch is not None:
            batches = min(self.limiter.limit, width)
            return Lane((batches + 1) * self.options.batch, True)  # one more batch gathers while they run
        if self.limiter is not None:
            return Lane(min(self.limiter.limit, width), True)
        if streams:
            return FREE
        return Lane(width, self.is_async)

    def info(self) -> ExportInfo:
        """Return what other processes need to know."""
        parameters, lane = self.parameters, self.lane
        idempotent = self.options.idempotent
        methods = None if self.methods is None else tuple(each.info() for each in self.methods.values())
        return ExportInfo(
            self.name,
            parameters.signature,
            parameters.doc,
            idempotent,
            lane.width,
            lane.is_beside,
            self.is_async,
            methods,
            parameters.takes_tags,
        )


class TimedFunction(Export):
    """The function of a timer: this process itself calls it, by a target that no caller knows."""

    __slots__ = ()


class Variant(Export):
    """An export under the name of a variant: equal, except for the measured time of its calls."""

    __slots__ = ()

    def __init__(self, export: Export, target: str) -> None:
        for slot in Export.__slots__:
            setattr(self, slot, getattr(export, slot))
        self.name = target
        self.cost_mark: int = mark_of(export.label.removesuffix(export.name) + target)
