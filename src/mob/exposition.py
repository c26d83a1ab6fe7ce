"""Measurements as text for Prometheus (its text format 0.0.4).

A pure function, used by `mob metrics` and by the dashboard's /metrics. The histograms have every third bound of
`core.latency`. Counters begin at the start of the app and survive the mobsters; series about one mobster end with it.
https://prometheus.io/docs/instrumenting/exposition_formats
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from mob.core import latency
from mob.wire.messages import AppMetric, AppSample, ExportMetrics, Metrics, MobsterMetrics, TimerMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of this format in HTTP."""

WHOLE = 2.0**53
"""Floats below this value that are whole numbers are shown as such."""
Labels = Mapping[str, object]
Sample = tuple[str, Labels, float]
"""The suffix of a name ("_bucket"), the labels and the value."""


def exposition(metrics: Metrics) -> str:
    """Return all measurements as text.

    >>> shown = exposition(Metrics("myapp", 1, 2.0, 0.5, 1000, (), (), (), clients=1))
    >>> [line for line in shown.splitlines() if "clients" in line][1:]
    ['# TYPE mob_kingpin_clients gauge', 'mob_kingpin_clients 1']
    """
    parts = (_calls, _roles, _timers, _mobsters, _ports, _kingpin, _custom)
    return "".join(f"{line}\n" for part in parts for line in part(metrics))


def _calls(metrics: Metrics) -> Iterator[str]:
    of: list[tuple[Labels, ExportMetrics]] = [
        ({"role": each.role, "export": each.export}, each) for each in metrics.exports
    ]
    counts = [(labels, each.calls) for labels, each in of]
    yield from _family("mob_calls_total", "counter", "Calls that were served.", [("", *each) for each in counts])
    failures = [
        ("", {**labels, "kind": kind}, count)
        for labels, each in of
        for kind, count in sorted(_sum(each.failed, each.unserved).items())
    ]
    yield from _family("mob_call_failures_total", "counter", "Calls that failed, by kind of error.", failures)
    waits = [sample for labels, each in of for sample in _histogram(labels, each.waited, each.waited_seconds)]
    yield from _family("mob_call_wait_seconds", "histogram", "From the arrival of a call until it began.", waits)
    runs = [sample for labels, each in of for sample in _histogram(labels, each.ran, each.ran_seconds)]
    yield from _family("mob_call_run_seconds", "histogram", "From the beginning of a call to its end.", runs)
    in_flight = [("", labels, each.in_flight) for labels, each in of]
    yield from _family("mob_calls_in_flight", "gauge", "Calls that began and did not end yet.", in_flight)


def _roles(metrics: Metrics) -> Iterator[str]:
    for name, kind, what, field in (
        ("mob_role_workers_target", "gauge", "Workers that there should be.", "target"),
        ("mob_role_workers_ready", "gauge", "Workers that are ready.", "ready"),
        ("mob_role_launches_total", "counter", "Workers that were launched.", "launches"),
        ("mob_role_crashes_total", "counter", "Workers that crashed.", "crashes"),
        ("mob_role_parked_calls", "gauge", "Calls that wait in their callers for a worker.", "parked"),
        ("mob_role_parked_bytes", "gauge", "Size of the arguments of those calls.", "parked_bytes"),
    ):
        samples = [("", {"role": role.name}, getattr(role, field)) for role in metrics.roles]
        yield from _family(name, kind, what, samples)
    if spares := [("", {"role": role.name}, role.spares) for role in metrics.roles if role.spares is not None]:
        yield from _family("mob_role_spares_ready", "gauge", "Spares that wait for a place.", spares)
    requests = [
        ("", {"role": role.name, "status": status}, count)
        for role in metrics.roles
        for status, count in sorted(role.requests.items())
    ]
    what = "HTTP requests that were served, by the class of their status."
    yield from _family("mob_http_requests_total", "counter", what, requests)


def _timers(metrics: Metrics) -> Iterator[str]:
    """Yield the lines about timers; none if the app has no timers."""
    if not metrics.timers:
        return
    of: list[tuple[Labels, TimerMetrics]] = [({"role": each.role, "timer": each.name}, each) for each in metrics.timers]
    runs = [
        ("", {**labels, "outcome": outcome}, count)
        for labels, each in of
        for outcome, count in sorted(each.runs.items())
    ]
    what = "Runs of a timer, by how they ended; missed ones never began."
    yield from _family("mob_timer_runs_total", "counter", what, runs)
    for name, what, field in (
        ("mob_timer_running", "Current runs of a timer.", "running"),
        ("mob_timer_next_run_timestamp_seconds", "When a timer is due next.", "next"),
        ("mob_timer_last_run_timestamp_seconds", "When its last finished run began.", "last"),
        ("mob_timer_last_run_seconds", "How long that run took.", "seconds"),
    ):
        yield from _family(name, "gauge", what, [("", labels, getattr(each, field)) for labels, each in of])


def _mobsters(metrics: Metrics) -> Iterator[str]:
    for name, kind, what, field in (
        ("mob_mobster_cpu_seconds_total", "counter", "CPU time of a mobster.", "cpu"),
        ("mob_mobster_memory_bytes", "gauge", "Resident memory of a mobster.", "memory"),
        ("mob_mobster_shared_memory_bytes", "gauge", "Shared memory that a mobster uses.", "shared"),
        ("mob_mobster_loop_lag_seconds", "gauge", "Delay of its event loop.", "lag"),
        ("mob_mobster_calls_in_hand", "gauge", "Calls, messages and HTTP requests not finished.", "in_hand"),
        ("mob_mobster_calls_waiting", "gauge", "Calls in hand that did not begin yet.", "waiting"),
        ("mob_mobster_open_requests", "gauge", "HTTP requests in hand.", "open_requests"),
        ("mob_mobster_restarts_total", "counter", "Restarts of a worker in its place.", "restarts"),
    ):
        samples = [("", _labels(each), getattr(each, field)) for each in metrics.mobsters]
        yield from _family(name, kind, what, samples)


def _ports(metrics: Metrics) -> Iterator[str]:
    open_ = [
        ("", {"address": address, "role": each.role, "index": each.index, "pid": each.pid}, count)
        for each in metrics.mobsters
        for address, count in sorted(each.connections.items())
    ]
    yield from _family("mob_port_connections", "gauge", "Open connections on a shared port, by worker.", open_)
    imbalances: list[Sample] = [("", {"address": each}, value) for each, value in sorted(imbalance(metrics).items())]
    what = "Connections of the worker with the most, divided by the mean; 1 is even."
    yield from _family("mob_port_imbalance", "gauge", what, imbalances)


def imbalance(metrics: Metrics) -> dict[str, float]:
    """Return, for each shared port, the connections of the worker with the most, divided by the mean; 1 without any."""
    counts: dict[str, list[int]] = {}
    for each in metrics.mobsters:
        for address, count in each.connections.items():
            counts.setdefault(address, []).append(count)
    return {address: max(each) * len(each) / sum(each) if sum(each) else 1.0 for address, each in counts.items()}


def _kingpin(metrics: Metrics) -> Iterator[str]:
    for name, kind, what, value in (
        ("mob_kingpin_uptime_seconds", "gauge", "Time since the app was started.", metrics.uptime),
        ("mob_kingpin_cpu_seconds_total", "counter", "CPU time of the Kingpin.", metrics.cpu),
        ("mob_kingpin_memory_bytes", "gauge", "Resident memory of the Kingpin.", metrics.memory),
        ("mob_kingpin_clients", "gauge", "Connected clients.", metrics.clients),
    ):
        yield from _family(name, kind, what, [("", {}, value)])
    info = {"app": metrics.app, "pid": metrics.kingpin_pid}
    yield from _family("mob_kingpin_info", "gauge", "Which app this is.", [("", info, 1)])
    what = "Lines of output that were not shown, because there were too many."
    yield from _family("mob_dropped_lines_total", "counter", what, [("", {}, metrics.dropped_lines)])


def _custom(metrics: Metrics) -> Iterator[str]:
    """Yield the lines about the application's own metrics."""
    for metric in metrics.custom:
        name = f"{metric.name}_total" if metric.kind == "counter" else metric.name
        samples = [
            sample
            for each in metric.samples
            for sample in _own_samples(metric, each, dict(zip(metric.labels, each.labels, strict=True)))
        ]
        yield from _family(name, metric.kind, metric.help, samples)


def _own_samples(metric: AppMetric, sample: AppSample, own: Labels) -> Iterator[Sample]:
    labels: Labels = {"role": sample.role, **own}
    if sample.index >= 0:
        labels = {"role": sample.role, "index": sample.index, "pid": sample.pid, **own}
    if metric.kind == "histogram":
        shown = zip([f"{bound!r}" for bound in metric.bounds] + ["+Inf"], accumulate(sample.counts), strict=True)
        yield from (("_bucket", {**labels, "le": bound}, count) for bound, count in shown)
        yield "_sum", labels, sample.value
        yield "_count", labels, sum(sample.counts)
    else:
        yield "", labels, sample.value


def _labels(mobster: MobsterMetrics) -> Labels:
    return {"role": mobster.role, "index": mobster.index, "pid": mobster.pid}


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}


def _histogram(labels: Labels, counts: Sequence[int], seconds: float) -> Iterator[Sample]:
    for bound, count in latency.exposed(counts):
        yield "_bucket", {**labels, "le": f"{bound:g}"}, count
    yield "_bucket", {**labels, "le": "+Inf"}, sum(counts)
    yield "_sum", labels, seconds
    yield "_count", labels, sum(counts)


def _family(name: str, kind: str, what: str, samples: Iterable[Sample]) -> Iterator[str]:
    if what:
        yield f"# HELP {name} {_escaped_help(what)}"
    yield f"# TYPE {name} {kind}"
    for end, labels, value in samples:
        shown = ",".join(f'{key}="{_escaped(str(text))}"' for key, text in labels.items())
        yield f"{name}{end}{{{shown}}} {_number(value)}" if shown else f"{name}{end} {_number(value)}"


def _number(value: float) -> str:
    """Return a value in the notation of the format.

    >>> _number(3), _number(3.0), _number(0.25), _number(float("-inf"))
    ('3', '3', '0.25', '-Inf')
    """
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN")
    return repr(int(value) if value == int(value) and abs(value) < WHOLE else value)


def _escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _escaped(text: str) -> str:
    r"""Return a label's value with its special characters escaped.

    >>> print(_escaped('a "name"\\'))
    a \"name\"\\
    """
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
