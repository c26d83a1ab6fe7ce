"""Traces: OpenTelemetry's spans of calls, and its context, which travels with everything that is sent.

Each call has one span. It is made where the call runs, as a child of the span that was current where the call was made;
if the call was never served, its caller makes the span. The context travels in the message as a short text (W3C Trace
Context and Baggage, as written by the propagator of the process), so an app without traces pays one byte for it.

This file is imported, and OpenTelemetry with it, only in a process that traces (`mobster/tracing.py` sets that up).
Serving only knows that a function may be wrapped.
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
        """Change the index of the process in its spans, because it moved to another place."""
        self._attributes = {**self._attributes, "mob.index": index}

    def carried(self) -> str:
        """Return the context of the caller as text; "" if there is nothing to send."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return "\n".join(f"{key}:{value}" for key, value in carrier.items())

    def wrap(self, function: Callable[..., Any], label: str, call: m.Invoke, caller: str, arrived: float) -> Any:
        """Return a function with a span around it that ends with the call, also if that is a stream or a task."""
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
        """Return a context manager whose block belongs to the span that was current where that text was written."""
        return _within(_context_of(carried))

    @contextmanager
    def request(self, scope: Any) -> Generator[None]:
        """Make a span for an HTTP request, in the trace that it arrived with, around the block."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}
        parent, method = propagate.extract(headers, Context()), scope.get("method", "HTTP")
        attributes = {**self._attributes, "http.request.method": method, "url.path": scope.get("path", "")}
        span = self._tracer.start_span(method, parent, SpanKind.SERVER, attributes)
        with _ending(span), _within(trace.set_span_in_context(span, parent)):
            yield

    def accompany(self, call: Any, carried: str) -> None:
        """Note the context of a call that is made: its span is made here if no worker serves it."""
        call.traced = carried, time.time_ns()

    def end_unserved(self, call: Any, error: BaseException) -> None:
        """Make the span of a call that no worker served."""
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
    """End the span with the block, and with its error; an abandoned stream counts as no error."""
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
    contexts.attach(context)  # never detached: this is a separate task
    with _ending(span):
        return await awaitable


def _drawn(iterator: Iterator[Any], span: Span, context: Context) -> Iterator[Any]:
    """Run each step in the span's context, whatever draws it."""
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
