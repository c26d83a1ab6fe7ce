"""The page in a real Chromium: what a person sees, clicks and types. Anything on the console fails the test.

Needs Debian's `chromium` and the Python package `playwright`; without them these tests say so and skip. Screenshots go
to the directory that MOB_SCREENSHOTS names, if it does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

import mob
from mob.dashboard.actions import Actions
from mob.dashboard.feed import Feed
from mob.dashboard.guard import Guard
from mob.dashboard.routes import Site
from tests.chromium import PHONE, Pages, launched, needs_chromium, screenshot
from tests.dashboard.crowd import Crowd
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, free_port, wait_until

pytestmark = needs_chromium

TOKEN = "the-token-of-the-tests"
Shop = tuple[RunningApp, mob.Client, str]
DESKTOP = {"width": 1400, "height": 900}
BACK = """
    import asyncio, random
    async def price(n):
        await asyncio.sleep(0.002 + random.random() / 100)
        if n % 50 == 0:
            raise LookupError(n)
        return n
    """
FRONT = """
    import asyncio, mob
    back = mob.require("back")
    @mob.on("start")
    async def start():
        global task
        task = asyncio.create_task(shop())
    print("<img src=x onerror=alert(1)>")
    async def shop():
        number = 0
        while True:
            number += 4
            await asyncio.gather(*(back.price(number + more) for more in range(4)), return_exceptions=True)
            if number % 60 == 0:
                print("customers so far:", number)
            await asyncio.sleep(0.02)
    """


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for all tests."""
    with launched() as browser:
        yield browser


class DashboardPages(Pages):
    """Pages that show who is there."""

    def __call__(self, url: str, *args: Any, **more: Any) -> Any:
        page = super().__call__(url, *args, **more)
        page.wait_for_selector("#status.live")
        page.wait_for_selector("#mobster-table td.name")
        return page


@pytest.fixture
def pages(chromium: Any) -> Iterator[Any]:
    """Opens pages: `pages(url, scheme=..., size=...)`. At the end nothing may have been complained about."""
    opened = DashboardPages(chromium, DESKTOP)
    yield opened
    opened.close()
    assert opened.complaints == []


def wait_true(page: Any, expression: str) -> None:
    """Waits until it is true on the page; asked from outside, for the page's policy forbids it to evaluate text."""
    wait_until(lambda: page.evaluate(expression), f"{expression} on the page")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """An app with some life, and the URL of its dashboard. Each test leaves it with as many workers as it had."""
    port = free_port()
    roles = f"""\
.role("back", "./back.py", workers=4).role("front", "./front.py", workers=2)
app.dashboard(port={port}, token={TOKEN!r})"""
    with apps_in(tmp_path_factory.mktemp("shop")) as apps:
        app = apps.start(roles, name=f"shop{port}", back=BACK, front=FRONT)
        yield app, app.wait_ready(), f"http://127.0.0.1:{port}/"


def rows(page: Any) -> list[str]:
    """The names in the table of mobsters."""
    return page.locator("#mobster-table tbody td.name").all_text_contents()


def test_all_roles_and_mobsters_are_shown(shop: Shop, pages: Any) -> None:
    _, _, url = shop
    page = pages(url)
    assert rows(page) == [f"back.{n}" for n in range(4)] + ["front.0", "front.1", "dashboard.0"]
    roles = page.locator(".role h3").all_text_contents()
    assert roles == ["back", "front", "dashboard"]
    assert "3 roles, 7 mobsters of which 7 are ready" in page.get_attribute("#stage", "aria-label")
    page.wait_for_selector('#export-table td:has-text("back.price")')
    wait_true(page, "document.querySelectorAll('.role[data-role=back] svg path').length > 3")
    wait_true(page, "mob.stage.links.length >= 4")
    page.wait_for_selector('#log-lines :text("customers so far")')
    assert page.locator("#timers, #jobs, nav [href='#timers'], nav [href='#jobs']").count() == 4
    assert not page.locator("#timers:visible, #jobs:visible, nav [href='#timers']:visible").count(), "it has none"
    screenshot(page, "dashboard-light", full=False)
    screenshot(page, "dashboard-light-whole")


SPREAD = """() => {
    const xs = [...mob.stage.nodes.values()].map(node => node.toX);
    return (Math.max(...xs) - Math.min(...xs)) / mob.stage.width;
}"""
ROWS = """async sizes => {
    const { rowsOf } = await import("/static/stage.js");
    const machines = Array.from({ length: 30 }, (_, number) => number);
    return machines.flatMap(n => sizes.map(([width, height]) => rowsOf(machines.slice(0, n + 1), width, height)));
}"""


def test_the_picture_uses_its_whole_canvas(shop: Shop, pages: Any) -> None:
    _, _, url = shop
    for size in (DESKTOP, {"width": 2400, "height": 900}, PHONE):
        page = pages(url, size=size)
        wait_true(page, "mob.stage.labels.length === 3")
        assert page.evaluate(SPREAD) > 0.5, size
    grids = page.evaluate(ROWS, [[2300, 420], [1190, 420], [360, 400]])
    for rows in grids:
        shown = [machine for row in rows for machine in row]
        assert shown == list(range(len(shown))), "each machine once, in order"
        lengths = [len(row) for row in rows]
        assert max(lengths) - min(lengths) <= 1, "no row has an empty part"
    assert [len(rows) for rows in grids[:3]] == [1, 1, 1], "one machine has the whole picture"


def test_dark_and_phone(shop: Shop, pages: Any) -> None:
    _, _, url = shop
    page = pages(url, scheme="dark")
    wait_true(page, "mob.stage.links.length >= 4")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    screenshot(page, "dashboard-dark", full=False)
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.reload()
    page.wait_for_selector("#status.live")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    phone = pages(url, size=PHONE, has_touch=True)
    wait_true(phone, "mob.stage.links.length >= 4")
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    screenshot(phone, "dashboard-phone")


WORK = """
    import mob
    @mob.every(3600, first=0)
    def report(): ...
    @mob.every(3600, first=0)
    def sync():
        raise ValueError("the other side says no")
    @mob.every(86400)
    def nightly(): ...
    def resize(name): ...
    def charge(amount):
        raise ValueError(amount)
    """


def test_timers_jobs_and_stores_are_shown_where_there_are_some(apps: Apps, pages: Any) -> None:
    port = free_port()
    roles = f""".store("cache").queue(path="jobs.db").role("back", "./back.py")
app.dashboard(port={port}, token={TOKEN!r})"""
    client = apps.start(roles, back=WORK).wait_ready()
    back, cache = client.require("back"), client.store("cache")
    later = back.options(durable=True, delay=3600).resize("a.png")
    back.options(durable=True, retries=0).charge(1).stored.result()
    later.stored.result()
    cache.set("key", b"x" * 5000).result()
    cache.get_many(["key", "other"]).result()
    url = f"http://127.0.0.1:{port}/"
    page = pages(url)
    for name, outcome in {"report": "ok", "sync": "failed", "nightly": ""}.items():
        row = page.locator(f'#timer-table tr[data-key="back.{name}"]')
        row.locator(f'td .state:text("{outcome}")' if outcome else "td").first.wait_for()
        assert row.locator("td").nth(2).text_content().startswith("in ")
    page.wait_for_selector('#timer-table td:has-text("ValueError: the other side says no")')
    page.wait_for_selector('#job-table tr[data-key=back] td.fails:has-text("1")')
    cells = page.locator('#job-table tr[data-key="back"] td')
    wait_until(lambda: cells.all_text_contents() == ["back", "0", "1", "0", "1"], "a job is dead, one waits")
    page.wait_for_selector('.role[data-role=cache] small:has-text("1 key in 5 KiB, 50 % hits")')
    for scheme in ("light", "dark"):
        screenshot(pages(url, scheme=scheme), f"dashboard-timers-{scheme}")
    phone = pages(url, size=PHONE, has_touch=True)
    phone.wait_for_selector('#job-table tr[data-key="back"]')
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    screenshot(phone, "dashboard-timers-phone")
    page.keyboard.press("6")
    wait_true(page, "location.hash === '#timers'")
    page.keyboard.press("0")
    wait_true(page, "location.hash === '#crashes'")


def test_a_death_is_on_the_time_line_and_its_report_is_read(shop: Shop, pages: Any) -> None:
    app, client, url = shop
    page = pages(url)
    victim = app.ready(client, "back")[1].pid
    os.kill(victim, signal.SIGKILL)
    page.wait_for_selector(f'#events li[data-kind=crash]:has-text("{victim}")')
    page.wait_for_selector("#strip [data-kind=crash]")
    report = page.locator(f'#crash-list details[data-pid="{victim}"]')
    report.locator("summary").click()
    assert "SIGKILL" in report.locator("pre").inner_text()
    wait_until(lambda: len(app.ready(client, "back")) == 4, "another one is there")
    screenshot(page, "dashboard-crash")


def test_scaling_by_a_button_needs_the_token(shop: Shop, pages: Any) -> None:
    app, client, url = shop
    page = pages(url)
    more = page.get_by_role("button", name="Add one worker to back")
    more.click()
    page.get_by_label("Token", exact=True).fill("not-the-token")
    page.get_by_role("button", name="Unlock", exact=True).click()
    page.wait_for_selector('.toast.error:has-text("not the token")')
    assert len(app.ready(client, "back")) == 4
    assert "401" in pages.complaints.pop(), "the browser says that itself"
    more.click()
    page.get_by_label("Token", exact=True).fill(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector('.toast:has-text("back: 5 workers wanted, 4 ready.")')
    page.wait_for_selector('#mobster-table td.name:has-text("back.4")')
    page.get_by_role("button", name="Remove one worker of back").click()
    page.wait_for_selector('dialog :text("Remove one worker of back?")')
    screenshot(page, "dashboard-question", full=False)
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="hidden")
    assert len(app.ready(client, "back")) == 5, "no answer is no"
    client.scale("back", 4)
    wait_until(lambda: len(app.ready(client, "back")) == 4, "there are as many as before")


def test_actions_with_the_token_of_the_url(shop: Shop, pages: Any) -> None:
    app, client, url = shop
    page = pages(f"{url}#token={TOKEN}")
    assert "token" not in page.url
    page.get_by_role("button", name="Stacks of front.0").click()
    page.wait_for_selector("dialog pre")
    assert "front.py" in page.inner_text("dialog pre")
    screenshot(page, "dashboard-stacks", full=False)
    page.get_by_role("button", name="Close").click()
    old = {m.pid for m in app.ready(client, "back")}
    page.get_by_role("button", name="Reload back").click()
    page.locator("#dialog-yes").click()
    page.wait_for_selector('.toast:has-text("reloaded")')
    page.wait_for_selector("#events li[data-kind=reload]")
    assert not old & {m.pid for m in app.ready(client, "back")}


def test_logs_appear_and_are_filtered_and_paused(shop: Shop, pages: Any) -> None:
    _, _, url = shop
    page = pages(url)
    page.wait_for_selector('#log-lines :text("customers so far")')
    page.wait_for_selector('#log-lines :text("<img src=x onerror=alert(1)>")')
    assert page.locator("#log-lines img").count() == 0, "what is printed is text"
    page.keyboard.press("/")
    page.keyboard.type("nothing like this")
    wait_true(page, "document.querySelectorAll('#log-lines div').length === 0")
    page.fill("#log-text", "customers")
    page.select_option("#log-role", "front")
    wait_true(page, "document.querySelectorAll('#log-lines div').length > 0")
    screenshot(page, "dashboard-logs", full=False)
    page.select_option("#log-role", "back")
    wait_true(page, "document.querySelectorAll('#log-lines div').length === 0")
    page.select_option("#log-role", "")
    page.keyboard.press("Escape")
    page.locator("#logs-title").click()
    page.keyboard.press("p")
    shown = page.locator("#log-lines div").count()
    page.wait_for_selector('#log-pause:has-text("new")')
    assert page.locator("#log-lines div").count() == shown
    page.keyboard.press("p")
    wait_true(page, f"document.querySelectorAll('#log-lines div').length > {shown}")


def test_it_says_that_the_connection_is_lost_and_comes_back(shop: Shop, pages: Any) -> None:
    app, client, url = shop
    page = pages(url)
    page.evaluate("document.getElementById('status').seen = []")
    page.evaluate("""new MutationObserver(() => document.getElementById('status').seen.push(
        document.getElementById('status').textContent)).observe(
        document.getElementById('status'), {childList: true, characterData: true, subtree: true})""")
    os.kill(app.ready(client, "dashboard")[0].pid, signal.SIGKILL)
    wait_true(page, "document.getElementById('status').seen.includes('connection lost')")
    page.wait_for_selector("#status.live")
    page.wait_for_selector('#events li[data-kind=crash]:has-text("dashboard")')
    pages.complaints[:] = [each for each in pages.complaints if "net::ERR_" not in each]  # the browser's own


def test_keys_and_names_for_those_who_do_not_see(shop: Shop, pages: Any) -> None:
    _, _, url = shop
    page = pages(url, reduced_motion="reduce")  # a key's jump is one, then, even while the page still grows
    page.keyboard.press("?")
    page.wait_for_selector('dialog :text("filter the logs")')
    screenshot(page, "dashboard-keys", full=False)
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="hidden")

    def logs_are_seen() -> bool:
        page.keyboard.press("7")
        return page.evaluate("document.getElementById('logs').getBoundingClientRect().top < innerHeight / 2")

    wait_until(logs_are_seen, "the logs are in the upper half")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "focus is seen"
    nameless = page.evaluate("""[...document.querySelectorAll('button, input, select, [role=img], [role=region]')]
        .filter(e => !(e.hidden || e.ariaLabel || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)""")
    assert nameless == []
    chart = page.locator(".role[data-role=back] .chart svg").first
    wait_true(page, "document.querySelector('.role[data-role=back] .chart svg path')")
    chart.focus()
    page.keyboard.press("ArrowLeft")
    assert " at " in chart.get_attribute("aria-label")


def test_beyond_the_loopback_the_page_asks_for_the_token(apps: Apps, pages: Any, chromium: Any) -> None:
    port = free_port()
    app = apps.start(f'.role("back", "./back.py").dashboard(port={port}, host="0.0.0.0", token={TOKEN!r})', back=BACK)
    app.wait_ready()
    page = chromium.new_context().new_page()
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector('#banner:has-text("shows nothing without its token")')
    assert rows(page) == []
    page.context.close()
    assert rows(pages(f"http://127.0.0.1:{port}/#token={TOKEN}")) == ["back.0", "dashboard.0"]


# ------------------------------------------------------------------------------------------------------ a crowd


@pytest.fixture
def crowd() -> Iterator[tuple[Crowd, str]]:
    """A dashboard of 200 mobsters, each of which hears from six others."""
    people = Crowd(200)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        feed = Feed(people, people)  # type: ignore[arg-type]
        actions = Actions(people, feed, people.roster.check_role)  # type: ignore[arg-type]
        site = Site(Guard("127.0.0.1", port, TOKEN), feed, actions, people, "crowd")  # type: ignore[arg-type]
        config = uvicorn.Config(site, lifespan="off", ws="none", log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([sock])))
        thread.start()
        yield people, f"http://127.0.0.1:{port}/"
        feed.is_closed = True
        server.should_exit = True
        thread.join(patient(20))


FRAMES = """() => new Promise(resolve => {
    const times = [];
    let last = performance.now();
    const tick = now => {
        times.push(now - last);
        last = now;
        times.length < 240 ? requestAnimationFrame(tick) : resolve(times.slice(5));
    };
    requestAnimationFrame(tick);
})"""
PAINT = """() => {
    const times = [];
    for (let number = 0; number < 60; number++) {
        const began = performance.now();
        mob.stage.isDirty = true;
        mob.stage.paint(began);
        times.push(performance.now() - began);
    }
    return times;
}"""


def test_200_mobsters_stay_smooth(crowd: tuple[Crowd, str], pages: Any) -> None:
    _, url = crowd
    page = pages(url)
    assert len(rows(page)) == 200
    wait_true(page, "mob.stage.links.length === 400")
    frames = sorted(page.evaluate(FRAMES))
    paints = sorted(page.evaluate(PAINT))
    told = (
        f"200 mobsters, 400 links: a frame takes {frames[len(frames) // 2]:.1f} ms (median), "
        f"{frames[int(len(frames) * 0.95)]:.1f} ms (p95), {frames[-1]:.1f} ms (longest), "
        f"{sum(each > 50 for each in frames)} of {len(frames)} are late; "
        f"painting it anew takes {paints[len(paints) // 2]:.2f} ms"
    )
    print(told)
    screenshot(page, "dashboard-200", full=False)
    assert frames[len(frames) // 2] < 34, told  # 30 pictures a second, without a GPU and beside other tests
    assert frames[int(len(frames) * 0.9)] < 50, told
    assert paints[len(paints) // 2] < 50, told  # once a second


def test_who_wants_no_motion_gets_none(crowd: tuple[Crowd, str], pages: Any) -> None:
    _, url = crowd
    page = pages(url, reduced_motion="reduce")
    wait_true(page, "mob.stage.links.length === 400")
    before = page.evaluate("mob.stage.frames")
    page.evaluate(FRAMES)
    assert page.evaluate("mob.stage.frames") - before < 30, "a picture a second, not sixty"
