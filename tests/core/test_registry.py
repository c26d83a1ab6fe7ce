"""The registry: sums that survive their mobsters, and a past that is bounded."""

from __future__ import annotations

import msgspec

from mob.core.crew import Crew, Process
from mob.core.decisions import Launch, Record, Tell, WakeAt
from mob.core.registry import KEPT, MOST_EXPORTS, MOST_KINDS, STEP, Past, Registry
from mob.plan import Plan, RolePlan
from mob.wire.messages import Beat, CallerMetrics, Member, Parked, Tally

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
    _, registry, (first, second, _) = made()
    registry.handle_beat(first, served(count=3), 1.0)
    first.beat, second.beat = Beat(flight={"foo": 1, "bar": 2}), Beat(flight={"foo": 3})
    exports = {each.export: each for each in registry.exports()}
    assert {name: (each.in_flight, each.calls) for name, each in exports.items()} == {"foo": (4, 3), "bar": (2, 0)}


def test_what_was_in_flight_in_a_process_that_died_is_not_any_more() -> None:
    crew, registry, (first, *_) = made()
    registry.handle_beat(first, Beat(tallies=(Tally("foo", {1: 5}, 0.0, {1: 2}, 0.0),)), 1.0)
    first.beat = Beat(flight={"foo": 3})
    assert registry.exports()[0].in_flight == 3
    crew.forget(first)
    assert registry.exports()[0].in_flight == 0


def test_exports_in_flight_beyond_the_limit_are_other() -> None:
    _, registry, (first, *_) = made()
    for number in range(MOST_EXPORTS):
        registry.handle_beat(first, served(f"foo{number}"), 1.0)
    first.beat = Beat(flight={"one more": 1, "and another": 1, "foo0": 1})
    flight = {each.export: each.in_flight for each in registry.exports() if each.in_flight}
    assert flight == {"other": 2, "foo0": 1}


def test_calls_that_wait_in_mobsters_and_clients_are_told_by_role_and_by_caller() -> None:
    crew, registry, (_, _, front) = made()
    front.pid, front.beat = 300, Beat(parked={"back": 4}, parked_bytes={"back": 100})
    crew.roster.put(Member(9, 900, "", 0, 0, "ready"))
    crew.parked_at_clients[9] = Parked({"back": 5, "nobody": 7}, {"back": 2000})
    crew.parked_at_clients[10] = Parked({})  # it has left meanwhile
    back, other = registry.roles()
    assert (back.parked, back.parked_bytes, other.parked) == (9, 2100, 0)
    assert registry.callers() == (
        CallerMetrics(900, "", 0, "back", 5, 2000),
        CallerMetrics(300, "front", 0, "back", 4, 100),
    )
    assert [each.name for each in registry.callers()] == ["client (pid 900)", "front.0 (pid 300)"]


def test_http_requests_are_counted_by_status_and_survive_their_mobster_and_their_kingpin() -> None:
    crew, registry, (first, second, _) = made()
    for beat in (Beat(requests={"2xx": 3}), Beat(), Beat(calls=2, requests={"2xx": 5, "5xx": 1}, open_requests=2)):
        registry.handle_beat(first, beat, 1.0)
        first.beat = beat
    registry.handle_beat(second, Beat(requests={"2xx": 10}), 1.0)
    assert registry.roles()[0].requests == {"2xx": 15, "5xx": 1}
    mobster = registry.mobsters(2.0)[0]
    assert (mobster.calls, mobster.open_requests) == (8, 2)
    points, _ = registry.history(0.0, STEP)
    assert (points[0].calls, points[0].failures) == (16, 1)
    data = msgspec.msgpack.encode(registry.past())
    after = Registry(crew, 6.0)
    after.take_over(msgspec.msgpack.decode(data, type=Past))
    after.handle_beat(first, Beat(requests={"2xx": 7, "5xx": 1}), 7.0)
    crew.forget(first)
    after.handle_exited(first.uid)
    assert after.roles()[0].requests == {"2xx": 17, "5xx": 1}


def test_requests_are_counted_once_while_nobody_keeps_the_beats() -> None:
    _, registry, (first, *_) = made()
    for _ in range(3):  # a supervisor that stops the app looks at no beat
        registry.handle_beat(first, Beat(requests={"2xx": 3}), 1.0)
    assert registry.roles()[0].requests == {"2xx": 3}


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
    registry.handle_decisions([WakeAt(5.0), Launch(9, "back", 0, 2), Tell("reloading back.", "reload"), record], 4.0)
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
