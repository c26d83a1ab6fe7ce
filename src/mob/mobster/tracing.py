"""Sets up OpenTelemetry in a mobster, by the function that the app names or from the environment.

This happens after the fork, because exporters of spans have threads, which a fork would lose. Imported only if traces
are configured.
"""

from __future__ import annotations

import importlib
import os
from importlib.metadata import entry_points

from opentelemetry import trace

from mob.errors import MobError
from mob.mobster.loading import make_importable
from mob.peer.calls.request_ids import use_traces
from mob.peer.tracing import Tracing
from mob.plan import place_name
from mob.wire import messages as m

EXPORTERS = "opentelemetry_traces_exporter"
"""Entry point group of exporters of spans."""


def start(order: m.Fork) -> Tracing:
    """Set up OpenTelemetry in a mobster, by the function that the app names or from the environment."""
    if order.trace:
        module, _, name = order.trace.partition(":")
        make_importable(order.base)
        getattr(importlib.import_module(module), name)()
    else:
        _configure(order)
    use_traces(_trace_id)
    return Tracing(order.role.name, order.index)


def _trace_id() -> str:
    found = trace.get_current_span().get_span_context()
    return trace.format_trace_id(found.trace_id) if found.is_valid else ""


def _configure(order: m.Fork) -> None:
    """Configure from the OTEL_ variables of the environment, with the installed exporters.

    The SDK itself reads the sampler, the limits and the rest.
    """
    instance = f"service.instance.id={place_name(order.role.name, order.index)}"
    others = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    os.environ["OTEL_RESOURCE_ATTRIBUTES"] = f"{others},{instance}" if others else instance
    os.environ.setdefault("OTEL_SERVICE_NAME", order.app)
    try:
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
    except ImportError:
        raise MobError(
            "trace(): the OpenTelemetry SDK is not installed, so spans cannot be exported. Install opentelemetry-sdk "
            'and an exporter, or name a function that sets it up: .trace("tracing:setup").'
        ) from None
    provider = sdk.TracerProvider()
    wanted = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",")
    for name in (name.strip() for name in wanted if name.strip() != "none"):
        found = next(iter(entry_points(group=EXPORTERS, name=name)), None)
        if found is None:
            there = sorted(entry_points(group=EXPORTERS).names)
            raise MobError(
                f"trace(): OTEL_TRACES_EXPORTER names {name!r}, but no such exporter is installed. Installed: "
                f"{', '.join(there) or 'none'}. 'otlp', the default, is in the package opentelemetry-exporter-otlp."
            )
        provider.add_span_processor(export.BatchSpanProcessor(found.load()()))
    trace.set_tracer_provider(provider)
