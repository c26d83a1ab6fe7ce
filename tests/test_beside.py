"""Timers, durable jobs and stores, as found in the measurements."""

from __future__ import annotations

from mob import beside
from mob.beside import StoreContents
from tests.cli.measured import gauge, metrics, mobster, queued, stored, timer


def test_an_app_without_such_things_has_none() -> None:
    plain = metrics(mobster(1))
    assert (beside.timers([("", plain)]), beside.jobs(plain), beside.stores(plain)) == ([], {}, {})


def test_a_timer_of_a_cluster_is_that_of_the_machine_which_runs_it() -> None:
    a = metrics(timers=(timer("report", is_here=False), timer("sweep"), timer("lost", is_here=False)))
    b = metrics(timers=(timer("report", next=7.0), timer("sweep"), timer("lost", is_here=False)))
    found = [(node, each.name, each.next) for node, each in beside.timers([("a", a), ("b", b)])]
    assert found == [
        ("a", "sweep", 0.0),  # each machine runs it
        ("a", "lost", 0.0),  # none of these machines runs it
        ("b", "report", 7.0),
        ("b", "sweep", 0.0),
        ("b", "lost", 0.0),
    ]


def test_jobs_by_role_and_state() -> None:
    seen = metrics(custom=(queued(back={"waiting": 12, "dead": 1}, mailer={"running": 0}), gauge("other", "queue")))
    assert beside.jobs(seen) == {"back": {"waiting": 12, "dead": 1}, "mailer": {"running": 0}}


def test_metrics_of_the_application_that_have_the_same_names_are_not_taken_for_them() -> None:
    own = gauge("queue_jobs", "queue", (("a",), 3.0), labels=("kind",))
    seen = metrics(mobster(1, "queue"), custom=(own, *stored(queue={"keys": 3})))
    assert beside.jobs(seen) == {}
    assert beside.stores(seen) == {}


def test_stores_and_how_often_they_had_what_was_asked_for() -> None:
    told = stored(cache={"keys": 1204, "bytes": 5000, "hits": 9, "misses": 1, "locks": 0})
    seen = metrics(mobster(1, "back"), mobster(2, "cache"), custom=told)
    assert beside.stores(seen) == {"cache": StoreContents(1204, 5000, 9, 1)}
    assert beside.stores(seen)["cache"].hit_rate == 0.9
    assert StoreContents(0, 0, 0, 0).hit_rate is None
