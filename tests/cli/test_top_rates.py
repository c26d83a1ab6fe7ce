"""From readings to what `mob top` shows per second."""

from __future__ import annotations

from typing import Any

import pytest

from mob.cli.top.rates import Course, Rates, TableLine
from tests.cli.measured import export, metrics, mobster


def line(lines: tuple[TableLine, ...], name: str) -> dict[str, Any]:
    return next(each.values for each in lines if each.name == name)


def test_rates_are_taken_over_some_seconds_as_the_beats_do_not_keep_our_time() -> None:
    rates = Rates()
    for second, calls in enumerate(
        [0, 0, 200, 300, 300, 500]
    ):  # one heartbeat is late, and arrives together with the next
        rates.add(float(second), metrics(mobster(1, calls=calls)))
    assert line(rates.mobsters, "back.0")["calls/s"] == pytest.approx(100)
    assert rates.totals is not None
    assert rates.totals.calls == pytest.approx(100)


def test_one_reading_says_no_rate() -> None:
    rates = Rates()
    rates.add(5.0, metrics(mobster(1, calls=1000), exports=(export("back", "foo", {0.01: 1000}),)))
    assert line(rates.mobsters, "back.0")["calls/s"] == 0
    assert line(rates.exports, "back.foo")["calls/s"] == 0
    assert line(rates.exports, "back.foo")["calls"] == 1000


def test_a_new_mobster_is_measured_from_its_launch() -> None:
    rates = Rates()
    rates.add(0.0, metrics(mobster(1)))
    rates.add(2.0, metrics(mobster(1), mobster(2, index=1, uptime=0.5, calls=50)))
    assert line(rates.mobsters, "back.1")["calls/s"] == pytest.approx(100)


def test_an_app_that_was_started_again_begins_anew() -> None:
    rates = Rates()
    rates.add(0.0, metrics(mobster(1, calls=1000), uptime=50.0))
    rates.add(1.0, metrics(mobster(1, calls=10), uptime=0.1))
    assert line(rates.mobsters, "back.0")["calls/s"] == 0
    rates.add(2.0, metrics(mobster(1, calls=30), uptime=1.1))
    assert line(rates.mobsters, "back.0")["calls/s"] == pytest.approx(20)


def test_times_are_those_of_the_calls_since_the_reading_before() -> None:
    rates = Rates()
    rates.add(0.0, metrics(mobster(1), exports=(export("back", "foo", {5.0: 1000}, {5.0: 1001}),)))
    then = export("back", "foo", {5.0: 1000, 0.001: 100}, {5.0: 1001, 0.1: 100}, {"ValueError": 3}, {"Lost": 5}, 1)
    rates.add(1.0, metrics(mobster(1), exports=(then,)))
    values = line(rates.exports, "back.foo")
    assert values["p50"] == pytest.approx(0.001, rel=0.3)
    assert values["p99"] == pytest.approx(0.001, rel=0.3)
    assert values["wait50"] == pytest.approx(0.1, rel=0.3)
    assert values["fails/s"] == pytest.approx(8)
    assert values["flight"] == 1
    assert values["note"] == "Lost 5, ValueError 3"
    assert line(rates.roles, "back")["p99"] == pytest.approx(0.001, rel=0.3)
    assert rates.totals is not None
    assert rates.totals.failures == pytest.approx(8)


def test_a_role_is_the_sum_of_its_mobsters() -> None:
    rates = Rates()
    both = (
        mobster(1, in_hand=1, waiting=2, load=0.5, memory=10, lag=0.1, restarts=1),
        mobster(2, index=1, in_hand=2, waiting=3, load=0.25, memory=20, stuck=2.0, state="draining"),
    )
    rates.add(0.0, metrics(*both))
    values = line(rates.roles, "back")
    picked = {name: values[name] for name in ("state", "hand", "queue", "cpu%", "mem", "lag", "restarts")}
    assert picked == {"state": "1/2", "hand": 3, "queue": 5, "cpu%": 0.75, "mem": 30, "lag": 2.0, "restarts": 1}


def test_the_kingpin_is_measured_and_this_client_not_counted() -> None:
    rates = Rates()
    rates.add(0.0, metrics(mobster(1), cpu=1.0, clients=3))
    rates.add(2.0, metrics(mobster(1), cpu=1.5, clients=3))
    assert rates.totals is not None
    assert rates.totals.kingpin_load == pytest.approx(0.25)
    assert rates.totals.clients == 2


def test_the_name_of_an_export_cannot_do_anything_to_the_terminal() -> None:
    rates = Rates()
    rates.add(0.0, metrics(mobster(1), exports=(export("back", "\x1b[2J"),)))
    assert rates.exports[0].name == "back.\\x1b[2J"


def test_what_is_gone_is_forgotten() -> None:
    rates = Rates()
    for uid in range(1, 200):
        rates.add(float(uid), metrics(mobster(uid)))
    assert len(rates._courses) == 2
    assert len(rates._readings) <= 5
    assert repr(rates) == "<Rates of 1 mobsters and 0 exports>"


def test_a_course_is_a_mean_for_each_of_a_few_seconds() -> None:
    course = Course(12)
    for at, value in [(0.0, 10), (1.0, 20), (5.0, 40), (16.0, 80)]:
        course.add(at, value)
    assert course.values() == (*[-1] * 8, 15, 40, -1, 80)
