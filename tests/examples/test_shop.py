"""The example `shop`: orders survive `kill -9` of everything, once each; baskets survive a reload; its page."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from tests.chromium import PHONE, browser, needs_chromium, screenshot
from tests.examples.copies import started
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, free_port, mob_command, wait_until


@pytest.fixture(scope="module")
def url() -> str:
    return f"http://127.0.0.1:{free_port()}/"


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apps]:
    with apps_in(tmp_path_factory.mktemp("shop")) as apps:
        yield apps


@pytest.fixture(scope="module")
def app(apps: Apps, url: str) -> RunningApp:
    return opened(apps, url)


def opened(apps: Apps, url: str, replace: dict[str, str] | None = None) -> RunningApp:
    """Open the shop, with the data that is left on disk."""
    app = started(apps, "shop", {"PORT": str(httpx.URL(url).port), "DASHBOARD_PORT": str(free_port())}, replace=replace)
    app.wait_ready()
    return app


@pytest.fixture
def visit(url: str) -> Iterator[Callable[[], httpx.Client]]:
    """Open the page for a new visitor."""
    visitors: list[httpx.Client] = []

    def come() -> httpx.Client:
        visitors.append(httpx.Client(base_url=url, timeout=patient(30)))
        assert "The mug shop" in visitors[-1].get("/").text
        return visitors[-1]

    yield come
    for visitor in visitors:
        visitor.close()


def order(visitor: httpx.Client, good: str = "Teapot") -> str:
    """Order one thing; return the number of the order."""
    basket = visitor.post("/basket", json={"good": good}).json()
    assert basket["goods"] == {good: 1}
    answer = visitor.post("/orders", json={"number": basket["number"]})
    assert (answer.status_code, answer.json()) == (202, {"number": basket["number"]})
    return str(basket["number"])


def books(apps: Apps) -> dict[str, str]:
    """Return what the shop has recorded: the state of each order."""
    with closing(sqlite3.connect(apps.directory / "data" / "shop.db", timeout=patient(30))) as rows:
        return dict(rows.execute("select number, state from orders").fetchall())


def test_an_order_is_packed_and_an_open_page_sees_it(app: RunningApp, visit: Callable[[], httpx.Client]) -> None:
    visitor = visit()
    seen = []
    with visitor.stream("GET", "/live") as page:
        lines = page.iter_lines()
        before = json.loads(next(lines).removeprefix("data: "))["today"]
        number = order(visit())
        for line in lines:
            if line:
                news = json.loads(line.removeprefix("data: "))
                seen += [each["state"] for each in news["latest"] if each["number"] == number]
                if seen[-1:] == ["packed"]:
                    break
    assert news["today"] == {"orders": before["orders"] + 1, "cents": before["cents"] + 3400}
    counted = 'shop_order_euros_bucket{role="orders",le="50.0"} 1'
    wait_until(lambda: counted in mob_command(app.directory, "metrics", "-a", app.name).stdout, "the order is counted")


def test_what_cannot_be_ordered_is_refused(app: RunningApp, visit: Callable[[], httpx.Client]) -> None:
    visitor = visit()
    assert visitor.post("/orders", json={"number": ""}).status_code == 409
    assert visitor.post("/basket", json={"good": "Car"}).json() == {"error": "We do not sell that."}
    assert httpx.get(visitor.base_url.join("/basket"), timeout=patient(30)).status_code == 403, "there is no cookie"
    placed = 0
    while placed < 100:
        basket = visitor.post("/basket", json={"good": "Teapot"}).json()
        assert visitor.post("/orders", json={"number": "of an older page"}).status_code == 409
        refused = visitor.post("/orders", json={"number": basket["number"]})
        if refused.status_code != 202:
            break
        placed += 1
    assert 10 <= placed < 100, "more than 10 if they have taken so long that one is free again"
    assert (refused.status_code, "Please wait" in refused.json()["error"]) == (429, True)
    assert 0 < int(refused.headers["Retry-After"]) <= 6
    assert visitor.get("/basket").json() == basket, "and the basket is as it was"


@pytest.mark.parametrize(
    "body",
    [
        *("", "no json", "[]", "{}", "5", "null", '{"NAME": ["x"]}', '{"NAME": {}}', '{"NAME": 1}', '{"NAME": null}'),
        *('{"NAME": "\\ud800"}', b'{"NAME": "\xff"}', b"\xff\xfe", "[" * 100_000),
    ],
)
def test_a_body_that_makes_no_sense_is_the_visitors_fault(
    app: RunningApp, visit: Callable[[], httpx.Client], body: str | bytes
) -> None:
    content = body.encode() if isinstance(body, str) else body
    visitor = visit()
    for path, name in (("/basket", "good"), ("/orders", "number")):
        refused = visitor.post(path, content=content.replace(b"NAME", name.encode()))
        assert (refused.status_code, refused.json()) == (400, {"error": f'Expected JSON such as {{"{name}": "..."}}.'})


def test_a_double_click_orders_once(app: RunningApp, apps: Apps, visit: Callable[[], httpx.Client]) -> None:
    visitor = visit()
    number = visitor.post("/basket", json={"good": "Teapot"}).json()["number"]
    before = set(books(apps))
    with ThreadPoolExecutor(8) as clicks:
        answers = list(clicks.map(lambda _: visitor.post("/orders", json={"number": number}), range(8)))
    wait_until(lambda: books(apps).get(number) == "packed", "it is packed")
    answers.append(visitor.post("/orders", json={"number": number}))  # and long after that
    assert [answer.json() for answer in answers] == [{"number": number}] * 9
    assert visitor.get("/basket").json() == {"number": "", "goods": {}}
    assert set(books(apps)) - before == {number}


def test_a_front_that_dies_within_an_order_leaves_one_order_and_an_empty_basket(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}/"
    dies = "Path('died').exists() or (Path('died').touch(), __import__('os').kill(__import__('os').getpid(), 9))"
    with apps_in(tmp_path) as apps, httpx.Client(base_url=address, timeout=patient(30)) as visitor:
        opened(
            apps, address, {"# The order is safe. If this process crashes from here on, `pack` does the rest.": dies}
        )
        visitor.get("/")
        number = visitor.post("/basket", json={"good": "Teapot"}).json()["number"]
        with pytest.raises(httpx.TransportError):
            visitor.post("/orders", json={"number": number})
        wait_until(lambda: books(apps) == {number: "packed"}, "it is packed")
        assert visitor.get("/basket").json() == {"number": "", "goods": {}}
        assert visitor.post("/orders", json={"number": number}).json() == {"number": number}, "the visitor tries again"
        assert books(apps) == {number: "packed"}


def test_what_is_added_while_an_order_is_placed_stays_in_the_basket(
    app: RunningApp, visit: Callable[[], httpx.Client]
) -> None:
    visitor = visit()
    number = visitor.post("/basket", json={"good": "Teapot"}).json()["number"]
    visitor.post("/basket", json={"good": "Mug, blue"})
    baskets = app.clients[0].require("baskets")
    for _ in range(2):  # as the front does, and `pack` after it
        baskets.take_out(visitor.cookies["visitor"], number, {"Teapot": 1}).result(patient(20))
    rest = visitor.get("/basket").json()
    assert rest["goods"] == {"Mug, blue": 1}
    assert rest["number"] != number


def test_probes_and_the_dashboard(app: RunningApp) -> None:
    checked = mob_command(app.directory, "check", "--ready", app.name)
    assert (checked.returncode, checked.stdout) == (0, "ready\n")
    dashboard = app.output.partition("dashboard: ")[2].partition("#")[0]
    for path in ("livez", "readyz"):
        answer = httpx.get(dashboard + path, timeout=patient(30))
        assert (answer.status_code, answer.text) == (200, "ok\n")
    lines = httpx.get(f"{dashboard}readyz?verbose", timeout=patient(30)).text
    for role in ("baskets", "orders", "report", "front", "cache", "queue"):
        assert f"[+]{role}: " in lines


def test_prices_come_from_the_cache(app: RunningApp, visit: Callable[[], httpx.Client]) -> None:
    goods = visit().get("/goods").json()
    assert [each["name"] for each in goods] == ["Mug, blue", "Mug, green", "Teapot", "Tea, 100 g"]
    assert app.clients[0].store("cache").get("goods").result(patient(20)) == goods


def test_baskets_outlive_a_reload(app: RunningApp, visit: Callable[[], httpx.Client]) -> None:
    visitor = visit()
    basket = visitor.post("/basket", json={"good": "Teapot"}).json()
    (before,) = app.ready(app.clients[0], "baskets")
    app.clients[0].reload(timeout=patient(60))
    (after,) = app.ready(app.clients[0], "baskets")
    assert before.pid != after.pid
    assert visitor.get("/basket").json() == basket
    counted = re.compile(r'^shop_baskets\{.*role="baskets".*\} [1-9]', re.MULTILINE)
    wait_until(lambda: counted.search(mob_command(app.directory, "metrics", "-a", app.name).stdout), "they are counted")


def test_the_report_of_yesterday(app: RunningApp, apps: Apps) -> None:
    yesterday = str((datetime.now(ZoneInfo("Europe/Berlin")) - timedelta(days=1)).date())
    with closing(sqlite3.connect(apps.directory / "data" / "shop.db", timeout=patient(30))) as rows, rows:
        rows.execute("insert into orders values ('old', ?, 1250, '{}', 'packed')", (yesterday,))
    ran = mob_command(app.directory, "timers", "run", "report.nightly", "-a", app.name)
    assert ran.returncode == 0, ran.stderr
    assert (apps.directory / "data" / f"report-{yesterday}.txt").read_text() == f"{yesterday}: 1 orders, 12.50 euros\n"
    listed = mob_command(app.directory, "timers", "-a", app.name).stdout
    assert "nightly" in listed


def test_a_crash_is_noted_and_costs_no_order(app: RunningApp, apps: Apps, visit: Callable[[], httpx.Client]) -> None:
    visitor = visit()
    numbers = [order(visitor) for _ in range(4)]
    for member in app.ready(app.clients[0], "orders"):
        os.kill(member.pid, signal.SIGKILL)
    wait_until(lambda: all(books(apps).get(number) == "packed" for number in numbers), "all are packed")
    noted = apps.directory / "data" / "crashes.txt"
    wait_until(lambda: noted.exists() and "orders" in noted.read_text(), "the crash is noted")
    app.wait_ready()


def test_no_order_is_lost_when_everything_is_killed(
    app: RunningApp, apps: Apps, url: str, visit: Callable[[], httpx.Client]
) -> None:
    numbers = [order(visitor) for visitor in (visit(), visit()) for _ in range(8)]
    for pid in app.processes():
        os.kill(pid, signal.SIGKILL)
    app.wait_gone()
    assert Counter(books(apps).get(number) for number in numbers)["packed"] < len(numbers), "some were not done yet"
    opened(apps, url)
    wait_until(lambda: all(books(apps).get(number) == "packed" for number in numbers), "all are packed")


@needs_chromium
def test_the_page(apps: Apps, url: str) -> None:
    if apps.running[-1].process.poll() is not None:
        opened(apps, url)

    def add(page: Any, good: str) -> None:
        page.get_by_role("button", name=f"Add {good}").click()

    with browser() as open_page:
        page, other = open_page(url), open_page(url, "dark", PHONE)
        page.wait_for_selector("#goods li")
        assert page.is_disabled("#order")
        for good in ("Mug, blue", "Mug, blue", "Tea, 100 g"):
            add(page, good)
        page.wait_for_function("document.getElementById('basket').innerText.includes('\N{MULTIPLICATION SIGN} 2')")
        page.click("#order")
        page.wait_for_function("document.getElementById('word').textContent.startsWith('Thank you.')")
        number = page.inner_text("#word").removeprefix("Thank you. Your order is number ").rstrip(".")
        for each in (page, other):
            each.locator("#live li", has_text=number).locator(".packed").wait_for()
            assert each.locator("#live li", has_text=number).locator(".price").inner_text() == "€24.50"
        assert page.inner_text("#basket") == ""
        assert other.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it fits a phone"
        add(page, "Teapot")
        page.wait_for_selector("#order:enabled")
        screenshot(page, "shop")
        screenshot(other, "shop-phone")
