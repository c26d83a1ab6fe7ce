"""The lines of `mob top` about timers, durable jobs and stores."""

from __future__ import annotations

from mob.cli.top.aside import asides
from mob.wire.messages import Metrics
from tests.cli.measured import metrics, mobster, queued, stored, timer

NOW = 1000.0


def lines(*looks: Metrics) -> list[str]:
    """Return the lines as text, with their parts separated."""
    named = [(chr(ord("a") + number) if len(looks) > 1 else "", each) for number, each in enumerate(looks)]
    return [" | ".join("".join(text for text, _ in part).strip() for part in line) for line in asides(named, NOW)]


def test_an_app_without_them_has_no_such_lines() -> None:
    assert lines(metrics(mobster(1))) == []


def test_timers_say_which_one_fails_and_which_one_is_next() -> None:
    one = timer("sync", next=NOW + 900, outcome="failed")
    two = timer("report", next=NOW + 300.5)
    assert lines(metrics(timers=(one, two, timer("new", outcome="")))) == [
        "timers 3 | failing back.sync | next back.report in 5m 00s"
    ]
    assert lines(metrics(timers=(timer("report", next=NOW - 2),))) == ["timers 1 | next back.report now"]
    assert lines(metrics(timers=(timer("report"),))) == ["timers 1"]


def test_of_many_timers_that_fail_three_are_named() -> None:
    failing = tuple(timer(name, outcome="lost") for name in "abcde")
    assert lines(metrics(timers=failing)) == ["timers 5 | failing back.a, back.b, back.c and 2 more"]


def test_a_timer_that_runs_on_one_of_two_machines_counts_once() -> None:
    stale = timer("report", outcome="failed", is_here=False)
    assert lines(metrics(timers=(stale,)), metrics(timers=(timer("report"),))) == ["timers 1"]


def test_jobs_of_all_roles_by_state() -> None:
    told = queued(back={"waiting": 11, "running": 4}, mailer={"waiting": 1, "dead": 1, "later": 0})
    assert lines(metrics(custom=(told,))) == ["jobs 12 waiting | 4 running | 1 dead"]
    assert lines(metrics(custom=(queued(back={"running": 0}),))) == ["jobs none"]


def test_the_dead_and_the_failing_are_red() -> None:
    seen = metrics(custom=(queued(back={"dead": 1}),), timers=(timer("sync", outcome="failed"),))
    red = [text for line in asides([("", seen)], NOW) for part in line for text, style in part if "red" in style]
    assert red == ["back.sync", "1 dead"]


def test_what_stores_hold() -> None:
    cache = {"keys": 1204, "bytes": 3_000_000, "hits": 98, "misses": 2, "locks": 0}
    told = stored(cache=cache, sessions={"keys": 1, "bytes": 300, "locks": 0})
    seen = metrics(mobster(1, "cache"), mobster(2, "sessions"), custom=told)
    assert lines(seen) == ["store cache 1,204 keys, 3 MB, 98% hits | sessions 1 key, 300 B"]
