"""The registry: sums that survive their mobsters, and a past that is bounded."""

from __future__ import annotations

import msgspec

from mob.core.crew import Crew, Process
from mob.core.decisions import Launch, Record, Tell
from mob.core.registry import KEPT, MOST_EXPORTS, MOST_KINDS, STEP, Past, Registry
from mob.plan import Plan, RolePlan
from mob.wire.messages import Beat, Tally

PLAN = Plan("app", "/", (RolePlan("back", "back", workers=2), RolePlan("front", "front")))


def made() -> tuple[Crew, Registry, list[Process]]:
    crew = Crew(PLAN)
    for slot in crew.slots.values():
        crew.launch(slot, 0.0)
    return crew, Registry(crew, 0.0), list(crew.processes.values())


def served(export: str = "foo", count: int = 1, **more: object) -> Beat:
    tally = Tally(export, {5: count}, 0.1 * count, {10: count}, 0.2 * count)
    return Beat(tallies=(tally,), **more)  # type: ignore[arg-type]


def test_what_several_mobsters_have_served_is_added_up_and_survives_them() -> None:
    crew, registry, (first, second, _) = made()
    registry.handle_beat(first, served(count=3), 1.0)
    registry.handle_beat(second, served(count=4), 1.0)
    crew.forget(first)
    registry.handle_exited(first.uid)
    (metrics,) = registry.exports()
    assert (metrics.role, metrics.export, metrics.calls, metrics.waited[5], metrics.in_flight) == (
        "back",
        "foo",
        7,
        7,
        0,
    )
    assert (round(metrics.waited_seconds, 6), round(metrics.ran_seconds, 6)) == (0.7, 1.4)
    assert [mobster.uid for mobster in registry.mobsters(2.0)] == [2, 3]


def test_calls_that_have_begun_and_not_ended_are_in_flight() -> None:
    _, registry, (first, *_) = made()
    registry.handle_beat(first, Beat(tallies=(Tally("foo", {1: 5}, 0.0, {1: 2}, 0.0),)), 1.0)
    assert registry.exports()[0].in_flight == 3


def test_failures_are_told_apart_by_kind_and_by_who_has_seen_them() -> None:
    _, registry, (first, _, front) = made()
    registry.handle_beat(first, Beat(tallies=(Tally("foo", failed={"ValueError": 2}),)), 1.0)
    registry.handle_beat(front, Beat(unserved={"back.foo": {"Lost": 1}, "nobody.foo": {"Lost": 1}}), 1.0)
    (metrics,) = registry.exports()
    assert (metrics.failed, metrics.unserved, metrics.failures) == ({"ValueError": 2}, {"Lost": 1}, 3)


def test_made_up_names_do_not_fill_the_memory() -> None:
    _, registry, (first, *_) = made()
    for number in range(MOST_EXPORTS + 50):
        registry.handle_beat(first, served(f"foo{number}"), 1.0)
    for number in range(MOST_KINDS + 50):
        registry.handle_beat(first, Beat(tallies=(Tally("foo0", failed={f"Error{number}": 1}),)), 1.0)
    exports = {metrics.export: metrics for metrics in registry.exports()}
    assert len(exports) == MOST_EXPORTS + 1
    assert exports["other"].calls == 50
    assert len(exports["foo0"].failed) == MOST_KINDS + 1
    assert exports["foo0"].failed["other"] == 50


def test_load_and_traffic_are_those_of_late() -> None:
    _, registry, (first, *_) = made()
    registry.handle_beat(first, Beat(cpu=1.0), 1.0)
    registry.handle_beat(first, Beat(cpu=2.0, traffic={3: 40}), 3.0)
    mobster = registry.mobsters(3.0)[0]
    assert (mobster.load, mobster.traffic) == (0.5, {3: 20.0})


def test_the_past_has_a_point_for_each_role_and_step() -> None:
    _, registry, (first, _, front) = made()
    registry.handle_beat(first, served(count=10, waiting=2), 1.0)
    first.beat = Beat(waiting=2, in_hand=3)
    front.beat = Beat(parked={"back": 4})
    points, _ = registry.history(0.0, STEP)
    assert [(point.role, point.calls, point.queue, point.in_hand) for point in points] == [
        ("back", 10, 6, 3),
        ("front", 0, 0, 0),
    ]
    assert 3.3e-05 <= points[0].p50 <= points[0].p99 <= 4.7e-05
    assert registry.history(points[-1].at, STEP + 1) == ((), ())


def test_the_past_is_forgotten_after_a_quarter_of_an_hour() -> None:
    _, registry, (first, *_) = made()
    for second in range(1, int(KEPT) * 2, 5):
        registry.handle_beat(first, served(), float(second))
    points, _ = registry.history(0.0, KEPT * 2)
    assert len(points) <= 2 * KEPT / STEP + 2
    assert min(point.at for point in points) >= KEPT - STEP


def test_what_has_happened_is_kept_with_its_time() -> None:
    crew, registry, (first, *_) = made()
    record = Record(first.member(), "why", 1.0, 0, (), "")
    registry.handle_decisions([Launch(9, "back", 0, 2), Tell("reloading back.", "reload"), record], 4.0)
    _, (event,) = registry.history(0.0, 4.0)
    assert (event.at, event.kind, event.text) == (4.0, "reload", "reloading back.")
    back = registry.roles()[0]
    assert (back.name, back.target, back.launches, back.crashes) == ("back", 2, 1, 1)
    assert crew.roster.ready() == []


def test_another_kingpin_goes_on_with_it() -> None:
    _, registry, (first, *_) = made()
    registry.handle_beat(first, served(count=3), 1.0)
    registry.handle_decisions([Tell("stopping.", "stop")], 2.0)
    registry.history(0.0, STEP)
    data = msgspec.msgpack.encode(registry.past())
    _, after, (again, *_) = made()
    after.take_over(msgspec.msgpack.decode(data, type=Past))
    after.handle_beat(again, served(count=2), 6.0)
    assert after.exports()[0].calls == 5
    assert after.uptime(10.0) == 10.0
    assert [event.text for event in after.history(0.0, 7.0)[1]] == ["stopping."]
    assert len(after.history(0.0, 7.0)[0]) == 2
