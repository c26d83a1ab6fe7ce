"""The page's data about timers, durable jobs and stores."""

from __future__ import annotations

from typing import Any

from mob.dashboard.picture import Picture
from mob.wire.messages import Metrics
from tests.cli.measured import export, metrics, mobster, queued, stored, timer

NOTHING: dict[str, Any] = {"put": {}, "gone": []}


def look(here: Metrics, *elsewhere: Metrics, picture: Picture | None = None) -> dict[str, Any]:
    """Return what is sent for one machine, or for several that are named "a", "b" and so on."""
    node = "a" if elsewhere else ""
    others = [(chr(ord("b") + number), each) for number, each in enumerate(elsewhere)]
    return (picture or Picture()).update(here, (), 1000.0, node, others)


def test_an_app_without_them_is_sent_nothing_of_them() -> None:
    sent = look(metrics(mobster(1)))
    assert sent["timers"] == sent["jobs"] == NOTHING
    assert "store" not in sent["roles"]["put"]["back"]


def test_a_timer_is_sent_when_something_of_it_has_changed() -> None:
    picture = Picture()
    failed = timer("sync", 1060.04, "failed", error="ValueError: no", runs={"failed": 2, "missed": 3}, running=1)
    row = look(metrics(timers=(failed,)), picture=picture)["timers"]["put"]["back.sync"]
    assert row == {
        "timer": "back.sync",
        "schedule": "every 60 s",
        "next": 1060.0,
        "last": 900.0,
        "took": 0.5,
        "outcome": "failed",
        "running": 1,
        "missed": 3,
        "error": "ValueError: no",
        "note": "",
    }
    assert look(metrics(timers=(failed,)), picture=picture)["timers"] == NOTHING
    assert look(metrics(), picture=picture)["timers"] == {"put": {}, "gone": ["back.sync"]}


def test_runs_of_timers_are_marked_among_the_exports() -> None:
    exports = (export("back", "sync", failed={"ValueError": 2}), export("back", "foo"))
    rows = look(metrics(timers=(timer("sync"),), exports=exports))["exports"]["put"]
    assert {name: row["timer"] for name, row in rows.items()} == {"back.sync": True, "back.foo": False}


def test_a_timer_of_a_cluster_is_shown_where_it_runs() -> None:
    here, there = metrics(timers=(timer("report", is_here=False),)), metrics(timers=(timer("report"),))
    assert list(look(here, there)["timers"]["put"]) == ["b:back.report"]


def test_jobs_and_stores() -> None:
    told = (queued(back={"waiting": 2, "dead": 1}), *stored(cache={"keys": 3, "bytes": 700, "hits": 1, "locks": 0}))
    sent = look(metrics(mobster(1, "back"), mobster(2, "cache"), custom=told))
    assert sent["jobs"]["put"] == {"back": {"role": "back", "waiting": 2, "later": 0, "running": 0, "dead": 1}}
    assert sent["roles"]["put"]["cache"]["store"] == {"keys": 3, "bytes": 700, "hits": 1, "misses": 0}
    assert "store" not in sent["roles"]["put"]["back"]
