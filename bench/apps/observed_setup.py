"""Spans that are made and sent nowhere: what mob and the SDK cost, without an exporter."""


def no_exporter():
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())
