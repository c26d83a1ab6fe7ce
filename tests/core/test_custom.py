"""The application's own metrics at the Kingpin: totals that outlive workers, gauges that do not."""

from __future__ import annotations

import msgspec

from mob.core.crew import Crew, Process
from mob.core.custom import MOST_METRICS, MOST_SETS, CustomMetrics, Summed
from mob.core.registry import Past, Registry
from mob.plan import Plan, RolePlan
from mob.wire.messages import AppSample, Counted, MetricNews, Metrics, MetricSpec, SampleNews

PLAN = Plan("app", "/", (RolePlan("back", "back", workers=2), RolePlan("front", "front")))
ORDERS = MetricSpec("orders", "counter", labels=("payment",))
SIZE = MetricSpec("size", "gauge", across="sum")


def made() -> tuple[CustomMetrics, Crew, list[Process]]:
    crew = Crew(PLAN)
    for slot in crew.slots.values():
        crew.launch(slot, 0.0)
    return CustomMetrics(), crew, list(crew.processes.values())


def counted(spec: MetricSpec, *samples: SampleNews) -> Counted:
    return Counted((MetricNews(spec, samples),))


def grown(number: float, *labels: str) -> SampleNews:
    return SampleNews(labels, number)


def samples(metrics: CustomMetrics, name: str) -> tuple[AppSample, ...]:
    return next((each.samples for each in metrics.shown() if each.name == name), ())


def test_counters_of_all_workers_are_added_up_by_role_and_outlive_them() -> None:
    metrics, _, (first, second, front) = made()
    assert metrics.handle(first, counted(ORDERS, grown(2, "card"), grown(1, "cash"))) == []
    assert metrics.handle(second, counted(ORDERS, grown(3, "card"))) == []
    assert metrics.handle(first, counted(ORDERS, grown(4, "card"))) == []
    assert metrics.handle(front, counted(ORDERS, grown(5, "card"))) == []
    metrics.handle_exited(first.uid)
    assert samples(metrics, "orders") == (
        AppSample("back", ("card",), 9.0),
        AppSample("back", ("cash",), 1.0),
        AppSample("front", ("card",), 5.0),
    )
    assert repr(metrics) == "<CustomMetrics: orders>"


def test_one_value_is_the_sum_of_what_the_labels_leave_open() -> None:
    metrics, _, (first, _, front) = made()
    metrics.handle(first, counted(ORDERS, grown(2, "card"), grown(1, "cash")))
    metrics.handle(front, counted(ORDERS, grown(4, "card")))
    told = Metrics("app", 1, 0.0, 0.0, 0, (), (), (), 0, custom=metrics.shown())
    assert told.value("orders") == 7
    assert told.value("orders", payment="card") == 6
    assert told.value("orders", payment="card", role="back") == 2
    assert told.value("orders", payment="gold") == told.value("others") == 0.0


def test_a_metric_that_was_only_declared_is_shown() -> None:
    metrics, _, (first, *_) = made()
    metrics.handle(first, counted(ORDERS))
    (shown,) = metrics.shown()
    assert (shown.name, shown.kind, shown.labels, shown.samples) == ("orders", "counter", ("payment",), ())


def test_histograms_are_added_up_by_bucket() -> None:
    metrics, _, (first, second, _) = made()
    spec = MetricSpec("seconds", "histogram", bounds=(1.0, 2.0))
    metrics.handle(first, counted(spec, SampleNews((), 2.5, {0: 1, 1: 1})))
    metrics.handle(second, counted(spec, SampleNews((), 7.0, {2: 1, 3: 9, -1: 9})))
    assert samples(metrics, "seconds") == (AppSample("back", (), 9.5, (1, 1, 1)),)


def test_gauges_become_one_number_and_end_with_their_workers() -> None:
    metrics, _, (first, second, front) = made()
    for across, expected in (("sum", 5.0), ("max", 3.0), ("min", 2.0)):
        spec = MetricSpec(across, "gauge", across=across)
        metrics.handle(first, counted(spec, grown(9)))
        metrics.handle(first, counted(spec, grown(2)))
        metrics.handle(second, counted(spec, grown(3)))
        metrics.handle(front, counted(spec, grown(1)))
        assert samples(metrics, across) == (AppSample("back", (), expected), AppSample("front", (), 1.0))
    metrics.handle_exited(second.uid)
    assert samples(metrics, "sum")[0] == AppSample("back", (), 2.0)
    metrics.handle_exited(first.uid)
    assert samples(metrics, "max") == (AppSample("front", (), 1.0),)


def test_a_gauge_may_be_told_of_each_worker() -> None:
    metrics, _, (first, second, _) = made()
    first.pid, second.pid = 100, 101
    spec = MetricSpec("version", "gauge", labels=("x",), across="each")
    metrics.handle(first, counted(spec, grown(1, "a")))
    metrics.handle(second, counted(spec, grown(2, "a")))
    assert samples(metrics, "version") == (
        AppSample("back", ("a",), 1.0, index=0, pid=100),
        AppSample("back", ("a",), 2.0, index=1, pid=101),
    )


def test_what_two_roles_declare_differently_is_refused_once() -> None:
    metrics, _, (first, _, front) = made()
    other = MetricSpec("orders", "gauge", across="sum")
    assert metrics.handle(first, counted(ORDERS, grown(1, "card"))) == []
    (said,) = metrics.handle(front, counted(other, grown(8)))
    assert said == (
        "mob.gauge('orders') of front is not counted: it clashes with mob.counter('orders', labels=['payment']) of "
        "back; rename one of them."
    )
    assert metrics.handle(front, counted(other, grown(8))) == []
    assert samples(metrics, "orders") == (AppSample("back", ("card",), 1.0),)
    assert metrics.handle(front, counted(ORDERS, grown(8, "cash"))) == []  # it was reloaded
    assert len(metrics.handle(front, counted(MetricSpec("orders_total", "gauge", across="sum")))) == 1


def test_new_code_of_a_role_declares_a_metric_anew() -> None:
    metrics, crew, (first, second, _) = made()
    crew.forget(second)
    crew.launch(second.slot, 1.0)
    (newer,) = [each for each in crew.processes.values() if each.uid > 3]
    metrics.handle(first, counted(ORDERS, grown(1, "card")))
    plain = MetricSpec("orders", "counter")
    assert metrics.handle(newer, counted(plain, grown(2))) == []
    assert metrics.handle(first, counted(ORDERS, grown(1, "card"))) == []  # with the code of before, until it ends
    assert samples(metrics, "orders") == (AppSample("back", (), 2.0),)
    assert metrics.handle(newer, counted(MetricSpec("orders", "counter", "new words"), grown(1))) == []
    assert metrics.handle(first, counted(plain, grown(1))) == []
    assert metrics.shown()[0].help == "new words"
    assert metrics.shown()[0].samples[0].value == 4.0


def test_sets_of_labels_are_bounded() -> None:
    metrics, _, (first, *_) = made()
    many = [grown(1, str(number)) for number in range(MOST_SETS)]
    assert metrics.handle(first, counted(ORDERS, *many)) == []
    (said,) = metrics.handle(first, counted(ORDERS, grown(5, "x"), grown(1, "7"), grown(6, "y")))
    assert "too many sets of labels: at most 1,000 are kept, and further ones are counted as 'other'" in said
    assert metrics.handle(first, counted(ORDERS, grown(1, "z"))) == []
    found = {each.labels: each.value for each in samples(metrics, "orders")}
    assert (len(found), found["7",], found["other",]) == (MOST_SETS + 1, 2.0, 12.0)


def test_values_of_a_gauge_beyond_the_bound_are_dropped() -> None:
    metrics, _, (first, *_) = made()
    spec = MetricSpec("open", "gauge", labels=("id",), across="sum")
    many = [grown(1, str(number)) for number in range(MOST_SETS)]
    (said,) = metrics.handle(first, counted(spec, *many, grown(5, "x"), grown(2, "7")))
    assert "further ones are dropped" in said
    found = {each.labels: each.value for each in samples(metrics, "open")}
    assert (len(found), found["7",]) == (MOST_SETS, 2.0)


def test_metrics_are_bounded() -> None:
    metrics, _, (first, *_) = made()
    for number in range(MOST_METRICS):
        assert metrics.handle(first, counted(MetricSpec(f"m{number}", "counter"))) == []
    (said,) = metrics.handle(first, counted(MetricSpec("last", "counter")))
    assert "exceeds the limit of 500 metrics per app" in said
    for number in range(MOST_METRICS):
        metrics.handle(first, counted(MetricSpec(f"n{number}", "counter")))
    assert metrics.handle(first, counted(MetricSpec("unsaid", "counter"))) == []


def test_samples_without_their_labels_are_left_out() -> None:
    metrics, _, (first, *_) = made()
    assert metrics.handle(first, counted(ORDERS, grown(1), grown(2, "card"))) == []
    assert samples(metrics, "orders") == (AppSample("back", ("card",), 2.0),)


def test_an_upgrade_of_the_kingpin_keeps_them() -> None:
    _, crew, (first, *_) = made()
    registry = Registry(crew, 0.0)
    registry.custom.handle(first, counted(ORDERS, grown(2, "card")))
    registry.custom.handle(first, counted(SIZE, grown(7)))
    past = msgspec.msgpack.decode(msgspec.msgpack.encode(registry.past()), type=Past)
    after = Registry(crew, 5.0)
    after.take_over(past)
    after.custom.handle(first, counted(ORDERS, grown(1, "card")))
    assert samples(after.custom, "orders") == (AppSample("back", ("card",), 3.0),)
    assert samples(after.custom, "size") == (AppSample("back", (), 7.0),)
    after.handle_exited(first.uid)
    assert samples(after.custom, "size") == ()
    assert isinstance(past.custom["size"], Summed)
