"""Traces: OpenTelemetry's spans of calls, and its context, which goes along with whatever is sent.

Each call has one span. It is made where the call runs, as a child of what was under way where it was made; if nobody
has served the call, by its caller. The context travels as a short text (W3C Trace Context and Baggage, whatever the
propagator of the process writes) in the message, so an app without traces pays one byte for it.

This file is imported, and OpenTelemetry with it, only in a process that traces (`mobster/tracing.py` sets that up).
Serving knows nothing of it but that a function may be wrapped.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AbstractContextManager, aclosing, closing, contextmanager, nullcontext
from typing import Any, cast

from opentelemetry import context as contexts, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from mob.wire import messages as m
from mob.wire.kinds import is_stream


class Tracing:
    """The traces of one process."""

    def __init__(self, role: str = "", index: int = 0) -> None:
        self._tracer = trace.get_tracer("mob")
        self._attributes = {"mob.role": role, "mob.index": index} if role else {}

    def __repr__(self) -> str:
        return f"<Tracing by {trace.get_tracer_provider()!r}>"

    def move(self, index: int) -> None:
        """The process has another place from now on."""
        self._attributes = {**self._attributes, "mob.index": index}

    def carried(self) -> str:
        """The context of whoever asks, as text; "" if there is nothing to be carried."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return "\n".join(f"{key}:{value}" for key, value in carrier.items())

    def wrap(self, function: Callable[..., Any], label: str, call: m.Invoke, caller: str, arrived: float) -> Any:
        """The function of a call, with a span around it: to its end, even if that is the end of a stream or a task."""
        parent = _context_of(call.trace)

        def traced(*args: Any, **kwargs: Any) -> Any:
            role, _, export = label.rpartition(".")
            span = self._tracer.start_span(
                label,
                parent,
                SpanKind.SERVER,
                {
                    **self._attributes,
                    "rpc.system": "mob",
                    "rpc.service": role,
                    "rpc.method": export,
                    "mob.caller": caller,
                    "mob.waited": time.monotonic() - arrived,
                },
            )
            context = trace.set_span_in_context(span, parent)
            try:
                with _within(context):
                    value = function(*args, **kwargs)
            except BaseException as error:
                _end(span, error)
                raise
            if inspect.isawaitable(value):
                return _awaited(value, span, context)
            if is_stream(value):
                return (_drawn_async if hasattr(value, "__anext__") else _drawn)(value, span, context)
            span.end()
            return value

        return traced

    def attached(self, carried: str) -> AbstractContextManager[None]:
        """What is done in this block belongs to what was under way where that text was written."""
        return _within(_context_of(carried))

    @contextmanager
    def request(self, scope: Any) -> Generator[None]:
        """What is done in this block belongs to an HTTP request, which has a span, in the trace with which it came."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}
        parent, method = propagate.extract(headers, Context()), scope.get("method", "HTTP")
        attributes = {**self._attributes, "http.request.method": method, "url.path": scope.get("path", "")}
        span = self._tracer.start_span(method, parent, SpanKind.SERVER, attributes)
        with _ending(span), _within(trace.set_span_in_context(span, parent)):
            yield

    def accompany(self, call: Any, carried: str) -> None:
        """A call is made: if nobody serves it, its span is made here."""
        call.traced = carried, time.time_ns()

    def end_unserved(self, call: Any, error: BaseException) -> None:
        """Nobody has served it."""
        carried, began = call.traced
        span = self._tracer.start_span(call.label, _context_of(carried), SpanKind.CLIENT, start_time=began)
        _end(span, error)


def _context_of(carried: str) -> Context:
    carrier = dict(line.split(":", 1) for line in carried.split("\n") if ":" in line)
    return propagate.extract(carrier, Context())


def _end(span: Span, error: BaseException) -> None:
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
    span.end()


@contextmanager
def _ending(span: Span) -> Generator[None]:
    """The span ends with this block, and with its error; that nobody reads a stream any more is none."""
    try:
        yield
    except GeneratorExit:
        span.end()
        raise
    except BaseException as error:
        _end(span, error)
        raise
    span.end()


@contextmanager
def _within(context: Context) -> Generator[None]:
    token = contexts.attach(context)
    try:
        yield
    finally:
        contexts.detach(token)


async def _awaited(awaitable: Awaitable[Any], span: Span, context: Context) -> Any:
    contexts.attach(context)  # for good: this is a task of its own
    with _ending(span):
        return await awaitable


def _drawn(iterator: Iterator[Any], span: Span, context: Context) -> Iterator[Any]:
    """Each step runs in the span's context, wherever it is drawn from."""
    with _ending(span), closing(cast(Any, iterator)) if hasattr(iterator, "close") else nullcontext():
        while True:
            with _within(context):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item


async def _drawn_async(iterator: AsyncIterator[Any], span: Span, context: Context) -> AsyncIterator[Any]:
    with _ending(span):
        async with aclosing(cast(Any, iterator)) if hasattr(iterator, "aclose") else nullcontext():
            while True:
                with _within(context):
                    try:
                        item = await anext(iterator)
                    except StopAsyncIteration:
                        return
                yield item
