"""`mob.counter` and the other metrics, inside and outside of a mobster."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest

import mob
from mob.core.custom import MOST_METRICS, MOST_SETS
from mob.core.declared import MOST_CHARACTERS
from mob.mobster import api
from mob.peer.serving.measure.meters import MOST_SAMPLES, Meters
from mob.wire.messages import MetricNews, SampleNews


class Here:
    """A process that counts, with the parts of a peer that this needs."""

    def __init__(self) -> None:
        self.meters: Meters | None = None
        self.warnings: list[str] = []
        self.context = SimpleNamespace(
            log=SimpleNamespace(warning=lambda form, text: self.warnings.append(form % text))
        )

    def take(self) -> dict[str, dict[tuple[str, ...], SampleNews]]:
        """Return everything new, by metric and labels."""
        found: dict[str, dict[tuple[str, ...], SampleNews]] = {}
        while self.meters is not None and (counted := self.meters.take()) is not None:
            for each in counted.metrics:
                found.setdefault(each.spec.name, {}).update({sample.labels: sample for sample in each.samples})
        return found


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    peer = Here()
    monkeypatch.setattr(api, "_peer", peer)
    return peer


def test_outside_of_a_mobster_they_do_nothing_but_check_their_arguments() -> None:
    orders = mob.counter("orders", "Orders.", ["payment"])
    orders.inc(payment="card")
    orders.labels("card").inc(3)
    mob.gauge("size").set(3)
    with mob.histogram("seconds").time():
        pass
    assert repr(orders) == "<mob.counter 'orders'>"
    assert repr(orders.labels("card")) == "<mob.counter 'orders' {'payment': 'card'}>"
    assert repr(mob.histogram("seconds").time()) == "<Stopwatch of <mob.histogram 'seconds'>>"


@pytest.mark.parametrize(
    ("use", "meant"),
    [
        (lambda metric: metric.inc("egg"), r"inc(kind='egg')"),
        (lambda metric: metric.dec("egg"), r"dec(kind='egg')"),
        (lambda metric: metric.set("egg"), r"set(value, kind='egg')"),
    ],
)
def test_a_label_in_the_place_of_the_number_is_told_how_it_is_given(use: Any, meant: str) -> None:
    method = meant.partition("(")[0]
    with pytest.raises(TypeError) as caught:
        use(mob.gauge("eaten", labels=["kind"]))
    assert str(caught.value) == (
        f"<mob.gauge 'eaten'>.{method}() takes a number, got 'egg'. Pass a label by its name: .{meant}."
    )


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError) as caught:
        mob.counter("eaten", labels=["kind"]).inc("egg")  # type: ignore[arg-type]
    assert str(caught.value).endswith("Pass a label by its name: .inc(kind='egg').")
    with pytest.raises(TypeError) as caught:
        mob.histogram("sizes").observe("egg")  # type: ignore[arg-type]
    assert str(caught.value) == "<mob.histogram 'sizes'>.observe() takes a number, got 'egg'."


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda: mob.counter("a").inc(-1), "cannot grow by -1: a counter takes finite numbers of at least 0"),
        (lambda: mob.counter("a").inc(float("nan")), "cannot grow by nan"),
        (lambda: mob.counter("a").inc(float("inf")), "cannot grow by inf"),
        (lambda: mob.gauge("a").set(float("nan")), "got NaN"),
        (lambda: mob.histogram("a").observe(float("nan")), "got NaN"),
        (lambda: mob.counter("a").inc(x=1), "expects the labels none, got x"),
        (lambda: mob.counter("a", labels=["x"]).inc(), "expects the labels x, got none"),
        (lambda: mob.counter("a", labels=["x"]).inc(y=1), "expects the labels x, got y"),
        (lambda: mob.counter("a", labels=["x", "y"]).labels("1"), "expects the labels x, y, got 1"),
        (lambda: mob.counter("a", labels=["x"]).labels(z="1"), "expects the labels x, got z"),
        (lambda: mob.counter("a", labels=["x"]).labels("1").inc(x=2), "expects the labels x, got x"),
        (lambda: mob.counter("a", labels=["x"]).labels("1").labels("2"), "has its labels"),
        (lambda: mob.counter("a").labels("1"), "has no labels to set"),
        (lambda: mob.gauge("a", across="all"), "unknown across='all'"),
    ],
)
def test_misuse_is_refused(use: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        use()


def test_what_is_new_is_told_once(here: Here) -> None:
    orders = mob.counter("orders", labels=["payment"])
    orders.inc(payment="card")
    orders.inc(2.5, payment="card")
    orders.labels(payment="cash").inc()
    assert here.take() == {"orders": {("card",): SampleNews(("card",), 3.5), ("cash",): SampleNews(("cash",), 1.0)}}
    assert here.meters is not None
    assert not here.meters.has_news
    assert here.meters.take() is None
    orders.labels("card").inc()
    assert here.meters.has_news
    assert here.take() == {"orders": {("card",): SampleNews(("card",), 1.0)}}
    assert repr(here.meters) == "<Meters: orders>"


def test_counters_and_histograms_without_labels_are_told_before_their_first_use(here: Here) -> None:
    mob.counter("orders")
    mob.histogram("seconds")
    mob.gauge("size")
    assert here.take() == {"orders": {(): SampleNews((), 0.0)}, "seconds": {(): SampleNews((), 0.0)}, "size": {}}


def test_a_gauge_tells_its_value(here: Here) -> None:
    size = mob.gauge("size")
    size.set(5)
    size.inc()
    size.dec(4)
    assert here.take()["size"] == {(): SampleNews((), 2.0)}
    size.inc(0.5)
    assert here.take()["size"] == {(): SampleNews((), 2.5)}


def test_a_histogram_counts_by_bucket_with_inclusive_upper_bounds(here: Here) -> None:
    seen = mob.histogram("seen", buckets=[1, 2])
    for value in (-1, 1, 1.5, 2, 7):
        seen.observe(value)
    assert here.take()["seen"] == {(): SampleNews((), 10.5, {0: 2, 1: 2, 2: 1})}


def test_a_stopwatch_times_blocks_functions_and_coroutines_whatever_they_raise(here: Here) -> None:
    took = mob.histogram("took", labels=["what"])

    @took.time(what="function")
    def fail() -> None:
        raise KeyError

    @took.labels("coroutine").time()
    async def wait(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    with pytest.raises(KeyError):
        fail()

    async def both() -> list[str]:
        return [*await asyncio.gather(wait(0.02), wait(0.03))]

    assert asyncio.run(both()) == ["done", "done"]
    watch = took.time(what="block")
    with watch, watch:
        pass
    found = here.take()["took"]
    assert {labels: sum(each.counts.values()) for labels, each in found.items()} == {
        ("function",): 1,
        ("coroutine",): 2,
        ("block",): 2,
    }
    assert found["coroutine",].number >= 0.05


def test_any_thread_may_count(here: Here) -> None:
    orders = mob.counter("orders")

    def count() -> None:
        for _ in range(2000):
            orders.inc()

    threads = [threading.Thread(target=count) for _ in range(8)]
    for each in threads:
        each.start()
    total = 0.0
    while any(each.is_alive() for each in threads):
        total += sum(sample.number for sample in here.take().get("orders", {}).values())
    total += sum(sample.number for sample in here.take().get("orders", {}).values())
    assert total == 16_000


def test_declaring_a_metric_again_gives_the_same_one(here: Here) -> None:
    mob.counter("orders", "Orders.").inc()
    mob.counter("orders_total", "Orders, told in other words.").inc()
    assert here.take() == {"orders": {(): SampleNews((), 2.0)}}
    with pytest.raises(ValueError, match=r"mob\.gauge\('orders'\) clashes with mob\.counter\('orders'\) in this proc"):
        mob.gauge("orders")


def test_a_metric_made_before_this_was_a_mobster_counts_here(monkeypatch: pytest.MonkeyPatch) -> None:
    orders, peer = mob.counter("orders"), Here()
    monkeypatch.setattr(api, "_peer", peer)
    orders.inc(3)
    assert peer.take() == {"orders": {(): SampleNews((), 3.0)}}
    monkeypatch.setattr(api, "_peer", None)
    orders.inc(4)
    assert peer.take() == {}


def test_sets_of_labels_are_bounded_with_one_warning(here: Here) -> None:
    orders, size = mob.counter("orders", labels=["id"]), mob.gauge("size", labels=["id"])
    for number in range(MOST_SETS + 10):
        orders.inc(id=number)
        size.set(1, id=number)
    found = here.take()
    assert (len(found["orders"]), found["orders"]["other",].number, len(found["size"])) == (
        MOST_SETS,
        11,
        MOST_SETS - 1,
    )
    assert len(here.warnings) == 2
    assert "has too many sets of labels" in here.warnings[0]


def test_metrics_are_bounded(here: Here) -> None:
    for number in range(MOST_METRICS):
        mob.counter(f"m{number}")
    with pytest.raises(ValueError, match="this process already has 500 metrics"):
        mob.counter("more")
    assert len(here.take()) == MOST_METRICS


def test_much_is_told_in_several_messages_and_none_is_told_twice(here: Here) -> None:
    orders = mob.counter("orders", labels=["id"])
    for number in range(MOST_SAMPLES + 1):
        orders.inc(id=number)
    assert here.meters is not None
    messages: list[tuple[MetricNews, ...]] = []
    while (counted := here.meters.take()) is not None:
        messages.append(counted.metrics)
    assert [len(each[0].samples) for each in messages] == [MOST_SAMPLES, 1]
    for number in range(200):
        orders.inc(id=f"{number}{'x' * 500}")  # truncated
    sizes = []
    while (counted := here.meters.take()) is not None:
        sizes.append(sum(len(sample.labels[0]) for each in counted.metrics for sample in each.samples))
    assert len(sizes) > 1
    assert max(sizes) < 25_000


def test_long_values_of_labels_are_cut_and_not_kept(here: Here) -> None:
    orders = mob.counter("orders", labels=["id"])
    tracemalloc.start()
    try:
        for number in [*range(50), *range(50)]:
            orders.inc(id=f"{number} {'x' * 1_000_000}")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000
    found = here.take()["orders"]
    assert len(found) == 50
    assert {sample.number for sample in found.values()} == {2.0}
    assert {len(labels[0]) for labels in found} == {MOST_CHARACTERS}


def test_labels_that_are_no_unicode_are_told_all_the_same(here: Here) -> None:
    mob.counter("files", "caf\udce9", ["name"]).inc(name="b\udcff.txt")
    assert list(here.take()["files"]) == [("b\\udcff.txt",)]
