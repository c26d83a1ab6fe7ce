"""The text for Prometheus, read back by its own parser."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mob.core import latency
from mob.exposition import exposition, imbalance
from mob.wire.messages import AppMetric, AppSample, ExportMetrics, Metrics, MobsterMetrics, RoleMetrics, TimerMetrics


def counts(*times: float) -> tuple[int, ...]:
    made = [0] * latency.RANGES
    for each in times:
        made[latency.range_of(each)] += 1
    return tuple(made)


def mobster(index: int, **more: Any) -> MobsterMetrics:
    fields: dict[str, Any] = dict.fromkeys(MobsterMetrics.__struct_fields__, 0)
    fields |= {"role": "back", "index": index, "pid": 100 + index, "state": "ready", "connections": {}, "traffic": {}}
    return MobsterMetrics(**{**fields, "note": "", **more})


FOO = ExportMetrics(
    role="back",
    export="foo",
    waited=counts(0.0001, 0.0001, 0.5, 3),
    waited_seconds=3.5002,
    ran=counts(0.002, 0.02, 500),
    ran_seconds=500.022,
    failed={"ValueError": 2, "Busy": 1},
    unserved={"Busy": 4},
    in_flight=1,
)
FULL = Metrics(
    app="myapp",
    kingpin_pid=99,
    uptime=12.5,
    cpu=0.25,
    memory=30_000_000,
    roles=(
        RoleMetrics("back", 3, 2, 7, 4, 5, parked_bytes=600, requests={"2xx": 8, "4xx": 1}, spares=1),
        RoleMetrics("front", 1, 1, 1, 0, 0),
    ),
    mobsters=(
        mobster(
            0,
            cpu=1.5,
            memory=1000,
            lag=0.01,
            in_hand=3,
            waiting=2,
            open_requests=1,
            connections={"[::]:80": 30},
            restarts=1,
        ),
        mobster(1, connections={"[::]:80": 10, "unix:/x": 0}),
    ),
    exports=(FOO,),
    clients=2,
    dropped_lines=6,
    timers=(
        TimerMetrics("back", "report", "every 60 s", 1500.5, 1440.5, 2.5, "ok", running=1, runs={"ok": 3, "missed": 2}),
    ),
)


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample by its name and labels."""
    found = [sample for family in text_string_to_metric_families(exposition(metrics)) for sample in family.samples]
    read = {(each.name, frozenset(each.labels.items())): each.value for each in found}
    assert len(read) == len(found), "a sample appears twice"
    return read


def value(name: str, metrics: Metrics = FULL, **labels: str) -> float:
    return samples(metrics)[name, frozenset(labels.items())]


def test_every_family_has_a_type_and_a_help() -> None:
    families = list(text_string_to_metric_families(exposition(FULL)))
    assert all(family.type in ("counter", "gauge", "histogram") and family.documentation for family in families)
    assert len({family.name for family in families}) == len(families) > 20


@pytest.mark.parametrize(
    ("name", "labels", "wanted"),
    [
        ("mob_calls_total", {"role": "back", "export": "foo"}, 3),
        ("mob_call_failures_total", {"role": "back", "export": "foo", "kind": "ValueError"}, 2),
        ("mob_call_failures_total", {"role": "back", "export": "foo", "kind": "Busy"}, 5),
        ("mob_calls_in_flight", {"role": "back", "export": "foo"}, 1),
        ("mob_role_workers_target", {"role": "back"}, 3),
        ("mob_role_workers_ready", {"role": "back"}, 2),
        ("mob_role_launches_total", {"role": "back"}, 7),
        ("mob_role_spares_ready", {"role": "back"}, 1),
        ("mob_role_crashes_total", {"role": "back"}, 4),
        ("mob_role_parked_calls", {"role": "back"}, 5),
        ("mob_role_parked_bytes", {"role": "back"}, 600),
        ("mob_http_requests_total", {"role": "back", "status": "2xx"}, 8),
        ("mob_http_requests_total", {"role": "back", "status": "4xx"}, 1),
        ("mob_timer_runs_total", {"role": "back", "timer": "report", "outcome": "ok"}, 3),
        ("mob_timer_runs_total", {"role": "back", "timer": "report", "outcome": "missed"}, 2),
        ("mob_timer_running", {"role": "back", "timer": "report"}, 1),
        ("mob_timer_next_run_timestamp_seconds", {"role": "back", "timer": "report"}, 1500.5),
        ("mob_timer_last_run_timestamp_seconds", {"role": "back", "timer": "report"}, 1440.5),
        ("mob_timer_last_run_seconds", {"role": "back", "timer": "report"}, 2.5),
        ("mob_mobster_open_requests", {"role": "back", "index": "0", "pid": "100"}, 1),
        ("mob_mobster_cpu_seconds_total", {"role": "back", "index": "0", "pid": "100"}, 1.5),
        ("mob_mobster_memory_bytes", {"role": "back", "index": "0", "pid": "100"}, 1000),
        ("mob_mobster_loop_lag_seconds", {"role": "back", "index": "0", "pid": "100"}, 0.01),
        ("mob_mobster_calls_in_hand", {"role": "back", "index": "0", "pid": "100"}, 3),
        ("mob_mobster_calls_waiting", {"role": "back", "index": "0", "pid": "100"}, 2),
        ("mob_mobster_restarts_total", {"role": "back", "index": "0", "pid": "100"}, 1),
        ("mob_port_connections", {"address": "[::]:80", "role": "back", "index": "0", "pid": "100"}, 30),
        ("mob_port_imbalance", {"address": "[::]:80"}, 1.5),
        ("mob_port_imbalance", {"address": "unix:/x"}, 1),
        ("mob_kingpin_uptime_seconds", {}, 12.5),
        ("mob_kingpin_cpu_seconds_total", {}, 0.25),
        ("mob_kingpin_memory_bytes", {}, 30_000_000),
        ("mob_kingpin_clients", {}, 2),
        ("mob_kingpin_info", {"app": "myapp", "pid": "99"}, 1),
        ("mob_dropped_lines_total", {}, 6),
    ],
)
def test_a_value(name: str, labels: dict[str, Any], wanted: float) -> None:
    assert value(name, **labels) == wanted


@pytest.mark.parametrize(
    ("name", "bound", "wanted"),
    [
        ("wait", "0.0001", 2),
        ("wait", "0.33", 2),
        ("wait", "1", 3),
        ("wait", "+Inf", 4),
        ("run", "0.001", 0),
        ("run", "0.0033", 1),
        ("run", "100", 2),
        ("run", "+Inf", 3),
    ],
)
def test_a_bucket_counts_what_took_at_most_so_long(name: str, bound: str, wanted: int) -> None:
    assert value(f"mob_call_{name}_seconds_bucket", role="back", export="foo", le=bound) == wanted


def test_a_histogram_has_its_sum_and_count() -> None:
    assert value("mob_call_run_seconds_sum", role="back", export="foo") == 500.022
    assert value("mob_call_run_seconds_count", role="back", export="foo") == 3


@pytest.mark.parametrize("name", ['a "quoted" one', "back\\slash", "two\nlines", "{curly}", "a,b=c", "é\u2028"])
def test_names_come_back_as_they_were(name: str) -> None:
    metrics = msgspec.structs.replace(FULL, exports=(msgspec.structs.replace(FOO, export=name),))
    assert value("mob_calls_total", metrics, role="back", export=name) == 3


def test_an_app_without_anything() -> None:
    assert samples(Metrics("myapp", 1, 0.0, 0.0, 0, (), (), (), 0))


def test_imbalance_is_told_by_port() -> None:
    assert imbalance(FULL) == {"[::]:80": 1.5, "unix:/x": 1.0}


def custom(kind: str, *samples: AppSample, **more: Any) -> Metrics:
    fields: dict[str, Any] = {"help": "", "labels": (), "bounds": (), **more}
    return Metrics("myapp", 1, 0.0, 0.0, 0, (), (), (), 0, custom=(AppMetric("own", kind, samples=samples, **fields),))


def test_metrics_of_the_applications_own() -> None:
    orders = custom("counter", AppSample("back", ("a b",), 3.0), labels=("kind",), help="What\nthe \\ is.")
    assert value("own_total", orders, role="back", kind="a b") == 3
    (family,) = [each for each in text_string_to_metric_families(exposition(orders)) if each.name == "own"]
    assert (family.type, family.documentation) == ("counter", "What\nthe \\ is.")
    assert "own_total{" in exposition(orders)
    assert "} 3\n" in exposition(orders)
    size = custom("gauge", AppSample("back", (), -2.5, index=1, pid=7))
    assert value("own", size, role="back", index="1", pid="7") == -2.5
    times = custom("histogram", AppSample("back", (), 9.5, (1, 2, 4)), bounds=(0.5, 1e-7))
    assert value("own_bucket", times, role="back", le="0.5") == 1
    assert value("own_bucket", times, role="back", le="1e-07") == 3
    assert value("own_bucket", times, role="back", le="+Inf") == value("own_count", times, role="back") == 7
    assert value("own_sum", times, role="back") == 9.5


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), 2.0**60, 1e-300, 0.1, -0.0])
def test_any_number_comes_back_as_it_was(number: float) -> None:
    assert value("own", custom("gauge", AppSample("back", (), number)), role="back") == number
