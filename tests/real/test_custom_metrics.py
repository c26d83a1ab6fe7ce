"""Metrics of the application's own: counted in every way, and whole whatever happens to those who count."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

import mob
from mob.exposition import exposition
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
import multiprocessing, os, threading
import mob, shared

ORDERS = mob.counter("orders", "Orders that were placed.", ["payment"])
OPEN = mob.gauge("open_orders")
VERSION = mob.gauge("version", across="each")
SECONDS = mob.histogram("packing_seconds", buckets=[0.001, 1000])
VERSION.set(mob.me().index)

def order(payment, number=1):
    ORDERS.inc(number, payment=payment)
    return os.getpid()
def place(number):
    OPEN.inc(number)
@SECONDS.time()
def pack():
    return os.getpid()
@SECONDS.time()
async def pack_later():
    pass
def in_threads(number):
    threads = [threading.Thread(target=ORDERS.labels("threads").inc) for _ in range(number)]
    for each in threads: each.start()
    for each in threads: each.join()
def child():
    process = multiprocessing.get_context("fork").Process(target=ORDERS.inc, kwargs={"payment": "child"})
    process.start()
    process.join()
    ORDERS.inc(payment="parent")
    return process.exitcode
def use_shared():
    shared.USES.inc()
def clash():
    mob.gauge("orders")
"""
FRONT = """
import mob
mob.gauge("orders").set(3)
def order(): mob.counter("visits").inc()
"""
SHARED = """
import mob
USES = mob.counter("uses")
USES.inc()
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("custom")) as apps:
        running = apps.start(
            '.preload("shared").role("back", "./back.py", workers=2)', back=BACK, front=FRONT, shared=SHARED
        )
        running.wait_ready()
        yield running


def wait_value(client: mob.Client, wanted: float, name: str, **labels: str) -> None:
    """When a metric has that value; a counter never has a greater one."""

    def has_it() -> bool:
        value = client.metrics().value(name, **labels)
        assert value <= wanted
        return value == wanted

    wait_until(has_it, f"{name} {labels} is {wanted}")


def test_workers_threads_and_coroutines_count(app: RunningApp) -> None:
    client = app.clients[0]
    back = client.require("back")
    pids = {back.order("card").result() for _ in range(50)}
    client.all("back").call.order("cash", 2.5).result()
    back.in_threads(20).result()
    assert back.pack().result() in pids
    back.pack_later().result()
    wait_value(client, 50, "orders", payment="card")
    wait_value(client, 5, "orders", payment="cash", role="back")
    wait_value(client, 20, "orders", payment="threads")
    wait_until(lambda: _counts(client, "packing_seconds") == (0, 2, 0) or _counts(client, "packing_seconds"), "packed")
    assert sum(_counts(client, "packing_seconds")) == 2
    read = text_string_to_metric_families(exposition(client.metrics()))
    found = {sample.name: sample for family in read if family.name == "orders" for sample in family.samples}
    assert found["orders_total"].labels.keys() == {"role", "payment"}


def _counts(client: mob.Client, name: str) -> tuple[int, ...]:
    (found,) = [each for each in client.metrics().custom if each.name == name]
    return found.samples[0].counts


def test_each_worker_has_its_gauge_until_it_ends(app: RunningApp) -> None:
    client = app.clients[0]
    first, second = app.ready(client, "back")
    client.pid(first.pid).call.place(3).result()
    client.pid(second.pid).call.place(4).result()
    wait_value(client, 7, "open_orders")
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: client.metrics().value("open_orders") == 4, "the dead worker's value is gone")

    def versions() -> set[tuple[int, float]]:
        (found,) = [each for each in client.metrics().custom if each.name == "version"]
        return {(each.index, each.value) for each in found.samples if each.pid != first.pid}

    wait_until(lambda: versions() == {(0, 0.0), (1, 1.0)}, "each tells its own")


def test_a_child_of_multiprocessing_counts_nothing_and_does_no_harm(app: RunningApp) -> None:
    client = app.clients[0]
    assert client.require("back").child().result() == 0
    wait_value(client, 1, "orders", payment="parent")
    assert client.metrics().value("orders", payment="child") == 0


def test_what_was_made_in_a_preload_counts_in_the_workers(app: RunningApp) -> None:
    client = app.clients[0]
    client.require("back").use_shared().result()
    wait_value(client, 1, "uses")


def test_a_declaration_that_clashes_in_the_process_is_an_error_there(app: RunningApp) -> None:
    with pytest.raises(ValueError, match=r"mob\.gauge\('orders'\) clashes with mob\.counter\('orders', labels="):
        app.clients[0].require("back").clash().result()


def test_totals_survive_reload_upgrade_and_deaths(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=BACK, shared=SHARED)
    client = app.wait_ready()
    back = client.require("back")
    for _ in range(10):
        back.order("card").result()
    client.reload("back", timeout=patient(30))  # those that end in order tell all that they have counted
    wait_value(client, 10, "orders", payment="card")
    back.order("card").result()
    wait_value(client, 11, "orders", payment="card")
    for member in app.ready(client, "back"):
        os.kill(member.pid, signal.SIGKILL)
    assert back.order("card").result(patient(20))
    wait_value(client, 12, "orders", payment="card")
    client.upgrade(patient(30))
    back.order("card").result()
    wait_value(client, 13, "orders", payment="card")


def test_much_that_was_counted_is_told_by_a_worker_that_ends_in_order(apps: Apps) -> None:
    code = """
        import mob
        MANY = [mob.counter(f"many{n}", labels=["id"]) for n in range(20)]
        def count():
            for each in MANY:
                for n in range(900): each.inc(id=n)
            mob.exit()
        """
    app = apps.start('.role("back", "./back.py")', back=code)
    client = app.wait_ready()
    before = app.ready(client, "back")[0]
    client.require("back").count().result()
    wait_until(lambda: before.pid not in {each.pid for each in client.members()}, "it has ended")
    metrics = client.metrics()
    assert sum(metrics.value(f"many{n}") for n in range(20)) == 18_000


def test_roles_that_disagree_are_told_of_in_the_log(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py").role("front", "./front.py")', back=BACK, front=FRONT, shared=SHARED)
    client = app.wait_ready()
    app.wait_for(
        r"is not counted: it clashes with mob\.(counter|gauge)\('orders'.* of (back|front); rename one of them"
    )
    client.require("front").order().result()
    wait_value(client, 1, "visits")


def test_too_many_sets_of_labels_are_told_of_in_the_log(apps: Apps) -> None:
    code = """
        import mob
        SEEN = mob.counter("seen", labels=["id"])
        def see():
            for number in range(1100): SEEN.inc(id=number)
        """
    app = apps.start('.role("back", "./back.py")', back=code)
    client = app.wait_ready()
    client.require("back").see().result()
    app.wait_for(r"back\.0 .*mob\.counter\('seen', labels=\['id'\]\) has too many sets of labels")
    wait_value(client, 1100, "seen")
    assert client.metrics().value("seen", id="other") == 101


def test_they_are_counted_without_the_counting_of_calls(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', options="metrics=False", back=BACK, shared=SHARED)
    client = app.wait_ready()
    client.require("back").order("card").result()
    wait_value(client, 1, "orders")
