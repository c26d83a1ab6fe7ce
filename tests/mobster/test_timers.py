"""Declarations of `mob.every` and `mob.cron`: errors are raised in that line, also where no app is running."""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Callable
from typing import Any

import pytest

import mob


def report() -> int:
    return 7


async def report_later() -> int:
    return 7


class Reports:
    def make(self, year: int = 2026) -> int:
        return year


@pytest.mark.parametrize(
    "function", [report, report_later, Reports().make, functools.partial(Reports().make, 1), lambda: 7]
)
def test_outside_of_the_mob_a_function_stays_what_it_is(function: Callable[..., Any]) -> None:
    assert mob.every(60, name="a", first=0, jitter=60, overlap=2, each=True, max_late=0)(function) is function
    assert mob.cron("@daily", name="a", zone="Europe/Berlin", jitter=1.5, overlap=True)(function) is function


def takes(number: int) -> None: ...
def draws() -> Any:
    yield 1


async def draws_later() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (takes, "@mob.every on takes: a timer calls its function without arguments (missing a required argument: "),
        (draws, "@mob.every on draws: a timer cannot run a generator. Call it in a function."),
        (draws_later, "@mob.every on draws_later: a timer cannot run a generator."),
        (functools.partial(report), "it has no name. Pass one with name='...'."),
        (7, "@mob.every on 7"),
    ],
)
def test_a_function_that_cannot_be_run(function: Any, text: str) -> None:
    with pytest.raises(TypeError, match=re.escape(text)):
        mob.every(60)(function)


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (lambda: mob.every(0), "mob.every(0): the interval must be a number of at least 0.01 (seconds)."),
        (lambda: mob.every(float("nan")), "mob.every(nan): the interval"),
        (lambda: mob.every(float("inf")), "mob.every(inf): the interval"),
        (lambda: mob.every(True), "mob.every(True): the interval"),
        (lambda: mob.every("60"), "mob.every('60'): the interval"),  # type: ignore[arg-type]
        (lambda: mob.every(60, first=-1), "mob.every(first=-1) must be a number of seconds, at least 0, or None."),
        (lambda: mob.every(60, jitter=-1), "mob.every(jitter=-1) must be a number of seconds, at least 0."),
        (lambda: mob.every(60, jitter=61), "mob.every(60, jitter=61): the jitter must not exceed the interval."),
        (lambda: mob.every(60, overlap=0), "mob.every(overlap=0) must be True, False or a whole number of at least 1."),
        (lambda: mob.every(60, overlap=2**70), "must be True, False or a whole number of at least 1."),
        (lambda: mob.every(60, overlap="x"), "mob.every(overlap='x') must be True, False"),  # type: ignore[arg-type]
        (lambda: mob.every(60, max_late=-1), "mob.every(max_late=-1) must be a number of seconds, at least 0, or None"),
        (lambda: mob.cron("* * * * *", max_late=-1), "mob.cron(max_late=-1) must be a number"),
        (lambda: mob.cron("* * * *"), "invalid cron line '* * * *'"),
        (lambda: mob.cron("* * * * *", zone="Europe/Berln"), "unknown time zone 'Europe/Berln'."),
    ],
)
def test_a_number_that_is_out_of_its_range(declare: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        declare()


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (lambda: mob.cron(5), "mob.cron(line=5): expected a string."),  # type: ignore[arg-type]
        (lambda: mob.cron("* * * * *", zone=b"UTC"), "mob.cron(zone=b'UTC'): expected a string."),  # type: ignore[arg-type]
        (lambda: mob.every(1, name=5)(report), "@mob.every(name=5): expected a string of one line."),  # type: ignore[arg-type]
        (lambda: mob.every(1, name="\ud800")(report), "@mob.every(name='\\ud800'): expected a string of one line."),
        (lambda: mob.every(1, each=5)(report), "@mob.every(each=5): expected True or False."),  # type: ignore[arg-type]
    ],
)
def test_an_option_of_another_type(declare: Callable[[], object], text: str) -> None:
    with pytest.raises(TypeError, match=re.escape(text)):
        declare()


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (lambda: mob.every(minutes=5), "The interval is a number of seconds: @mob.every(300)."),  # type: ignore[call-arg]
        (lambda: mob.every(hours=1, minutes=30), "number of seconds: @mob.every(5400)."),  # type: ignore[call-arg]
        (lambda: mob.every(60, jiter=3), "Did you mean 'jitter'?"),  # type: ignore[call-arg]
        (lambda: mob.every(minutes="5"), "There are: 'each', "),  # type: ignore[call-arg]
        (mob.every, "mob.every: missing a required argument: 'seconds'. Pass the schedule, as in @mob.every(300)."),
        (lambda: mob.every(report), "@mob.every on report has no schedule. Write @mob.every(300)."),  # type: ignore[arg-type]
        (lambda: mob.cron(report), '@mob.cron on report has no schedule. Write @mob.cron("0 3 * * *", '),  # type: ignore[arg-type]
        (lambda: mob.cron("@daily", tz="UTC"), "'tz'. Did you mean 'zone'?"),  # type: ignore[call-arg]
        (lambda: mob.cron("@daily", timezone="UTC"), "'timezone'. Did you mean 'zone'?"),  # type: ignore[call-arg]
        (lambda: mob.cron("@daily", first=5), "There are: 'each', "),  # type: ignore[call-arg]
    ],
)
def test_as_other_schedulers_have_it(declare: Callable[[], object], text: str) -> None:
    with pytest.raises(TypeError, match=re.escape(text)):
        declare()


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [
        ("5m", "300"),
        ("250 ms", "0.25"),
        ("1.5 hours", "5400"),
        ("2D", "172800"),
        (datetime.timedelta(minutes=5), "300"),
    ],
)
def test_an_interval_that_is_no_number_says_which_number(interval: Any, seconds: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"(seconds). Write @mob.every({seconds}).")):
        mob.every(interval)


def test_the_zone_of_the_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Nowhere")
    with pytest.raises(ValueError, match="unknown time zone 'Europe/Nowhere'"):
        mob.cron("* * * * *")
    monkeypatch.setenv("TZ", ":Europe/Berlin")
    mob.cron("* * * * *")
