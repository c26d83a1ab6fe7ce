"""The example `chat`: on several fronts, with crashes and a reload in between; and two pages in Chromium."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.chromium import PHONE, browser, needs_chromium, screenshot
from tests.examples.copies import started
from tests.patience import patient
from tests.running import PATIENCE, RunningApp, apps_in, free_port, wait_until

FRONTS = 3


@pytest.fixture(scope="module")
def url() -> str:
    return f"http://127.0.0.1:{free_port()}/"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, url: str) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("chat")) as apps:
        app = started(apps, "chat", {"PORT": str(httpx.URL(url).port)})
        app.wait_ready(FRONTS + 1)
        yield app


class Visitor:
    """The app's view of a page."""

    def __init__(self, socket: Any, name: str, room: str = "", after: int = 0, visitor: str = "") -> None:
        self.socket, self.name, self.visitor = socket, name, visitor or f"visitor {name}"
        self.tell(visitor=self.visitor, name=name, room=room, after=after)
        self.entered = self.hear(lambda news: news["what"] in ("entered", "refused"))

    def tell(self, **what: Any) -> None:
        self.socket.send(json.dumps(what))

    def hear(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the next event of that kind."""
        while not is_it(news := json.loads(self.socket.recv(PATIENCE))):
            pass
        return dict(news)

    def hear_said(self, text: str) -> dict[str, Any]:
        return self.hear(lambda news: news.get("text") == text)

    def hear_left(self, *names: str) -> dict[str, Any]:
        """Wait until one of those has left."""
        return self.hear(lambda news: news["what"] == "left" and news["name"] in names)

    @property
    def front(self) -> int:
        """Pid of the front that it is connected to."""
        return int(self.entered["front"].partition("(")[2].rstrip(")"))


@pytest.fixture
def visit(url: str) -> Iterator[Callable[..., Visitor]]:
    """Open a separate connection for a visitor."""
    with ExitStack() as stack:

        def come(name: str, *args: Any, **more: Any) -> Visitor:
            return Visitor(stack.enter_context(connect(url.replace("http", "ws") + "chat")), name, *args, **more)

        yield come


def crowd(visit: Callable[..., Visitor], prefix: str) -> list[Visitor]:
    """Visitors on every front, on one of them more than one."""
    visitors: list[Visitor] = []
    while len({visitor.front for visitor in visitors}) < FRONTS or len(visitors) == FRONTS:
        assert len(visitors) < 200, "some front never gets a connection"
        visitors.append(visit(f"{prefix} {len(visitors)}"))
    return visitors


def test_what_one_says_reaches_everybody_on_every_front(app: RunningApp, visit: Callable[..., Visitor]) -> None:
    visitors = crowd(visit, "Ann")
    assert {visitor.front for visitor in visitors} == {member.pid for member in app.ready(app.clients[0], "front")}
    visitors[0].tell(say="hello", key="first")
    numbers = {visitor.hear_said("hello")["number"] for visitor in visitors}
    assert len(numbers) == 1
    visitors[-1].tell(typing=True)
    assert all(visitor.hear(lambda news: news["what"] == "typing")["name"] == visitors[-1].name for visitor in visitors)
    late = visit("Late")
    assert "hello" in [event.get("text") for event in late.entered["history"]]
    assert set(late.entered["people"]) >= {"Late", *(visitor.name for visitor in visitors)}


def test_names_are_unique_and_a_message_is_said_once(visit: Callable[..., Visitor]) -> None:
    ben = visit("Ben")
    refused = visit("  ben ", visitor="another").entered
    assert refused == {"what": "refused", "why": "The name ben is taken. Please choose another one."}
    assert visit("   ").entered["why"] == "Please enter a name."
    for text in ("once", "once", "end"):
        ben.tell(say=text, key=f"key of {text}")
    ben.hear_said("end")
    room = ben.entered["room"]
    ben.tell(since=0, room=room)
    history = ben.hear(lambda news: news["what"] == "missed")["history"]
    assert [event["text"] for event in history if event["what"] == "said" and event["name"] == "Ben"] == ["once", "end"]
    assert [event["number"] for event in history] == list(range(history[0]["number"], history[-1]["number"] + 1))


def test_who_stays_away_has_left(visit: Callable[..., Visitor]) -> None:
    stays, goes = visit("Cleo"), visit("Dan")
    goes.socket.close()
    stays.hear_left("Dan")


def test_what_no_page_says_harms_nobody(app: RunningApp, visit: Callable[..., Visitor]) -> None:
    pids = [member.pid for member in app.ready(app.clients[0])]
    for nonsense in ('"hello"', "[]", "no json", '{"say": 5, "key": 6}', '{"say": "", "key": "k"}', "{}"):
        eve = visit("Eve")
        eve.socket.send(nonsense)
        with pytest.raises(ConnectionClosed):
            eve.hear(lambda _: False)
    assert [member.pid for member in app.ready(app.clients[0])] == pids


def test_a_front_that_dies_loses_no_message_and_nobody_who_comes_back(
    app: RunningApp, visit: Callable[..., Visitor]
) -> None:
    visitors = crowd(visit, "Fay")
    goes = next(each for each in visitors if [other.front for other in visitors].count(each.front) > 1)
    comes_back = next(each for each in visitors if each.front == goes.front and each is not goes)
    witness = next(each for each in visitors if each.front != goes.front)
    gone = {each.name for each in visitors if each.front == goes.front} - {comes_back.name}
    os.kill(goes.front, signal.SIGKILL)
    with pytest.raises(ConnectionClosed):
        comes_back.hear(lambda _: False)
    witness.tell(say="while you were away", key="away")
    number = witness.hear_said("while you were away")["number"]
    again = visit(comes_back.name, comes_back.entered["room"], number - 1)
    assert [event["text"] for event in again.entered["history"] if event["number"] == number] == ["while you were away"]
    assert all(event["number"] >= number for event in again.entered["history"])
    left = {witness.hear_left(*gone, comes_back.name)["name"] for _ in gone}
    assert left == gone, "and not the one who came back"
    app.wait_ready(FRONTS + 1)


def test_a_room_that_dies_is_entered_anew(app: RunningApp, visit: Callable[..., Visitor]) -> None:
    gil = visit("Gil")
    (room,) = app.ready(app.clients[0], "room")
    os.kill(room.pid, signal.SIGKILL)
    with pytest.raises(ConnectionClosed) as closed:
        gil.hear(lambda _: False)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    again = visit("Gil", gil.entered["room"], 10_000)
    assert again.entered["room"] != gil.entered["room"]
    assert [event["what"] for event in again.entered["history"] if event["name"] == "Gil"] == ["joined"]


@needs_chromium
def test_two_pages_talk_through_a_death_and_a_reload(app: RunningApp, url: str) -> None:
    def said(page: Any) -> list[str]:
        return list(page.evaluate("[...document.querySelectorAll('li:not(.note)')].map((each) => each.lastChild.data)"))

    def say(page: Any, text: str) -> None:
        page.fill("#text", text)
        page.press("#text", "Enter")

    def wait_for(page: Any, texts: list[str]) -> None:
        wait_until(lambda: said(page)[-len(texts) :] == texts, f"{texts} were said")
        page.wait_for_function("!document.querySelector('.unsent')")

    with browser("closed before", "WebSocket connection to") as open_page:
        hanna, ivo = open_page(url), open_page(url, "dark", PHONE)
        for page, name in ((hanna, "Hanna"), (ivo, "Ivo")):
            page.fill("#name", name)
            page.press("#name", "Enter")
            page.wait_for_selector("#say:visible")
        hanna.wait_for_function("document.getElementById('people').textContent.includes('Ivo')")
        say(hanna, "Hello Ivo! <b>Are you there?</b>")
        say(ivo, "Yes, on my phone.")
        texts = ["Hello Ivo! <b>Are you there?</b>", "Yes, on my phone."]
        ivo.type("#text", "And")
        hanna.wait_for_function("document.getElementById('typing').textContent == 'Ivo …'")
        for page in (hanna, ivo):
            wait_until(lambda page=page: sorted(said(page)[-2:]) == sorted(texts), "both were said")
        texts = said(hanna)[-2:]
        pid = int(hanna.inner_text("#front").partition("(")[2].rstrip(")"))
        os.kill(pid, signal.SIGKILL)
        say(hanna, "Said at a bad moment")
        texts.append("Said at a bad moment")
        for page in (hanna, ivo):
            wait_for(page, texts)
        app.clients[0].reload("front", timeout=patient(20))
        say(ivo, "New code, same people")
        texts.append("New code, same people")
        for page in (hanna, ivo):
            wait_for(page, texts)
        hanna.reload()
        hanna.wait_for_selector("#say:visible")
        wait_for(hanna, texts)
        notes = hanna.locator("li.note").all_inner_texts()
        assert "Hanna has left." not in notes
        assert notes.count("Hanna has joined.") == 1
        assert ivo.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it fits a phone"
        screenshot(hanna, "chat")
        screenshot(ivo, "chat-phone")
        third = open_page(url)
        third.fill("#name", "ivo")
        third.press("#name", "Enter")
        third.wait_for_selector("#why:has-text('choose another one')")
        screenshot(third, "chat-door")
