"""The example `thumbnails`: over HTTP, with files of every kind, workers that crash, and the page in Chromium."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import connect

from tests.chromium import PHONE, browser, needs_chromium, screenshot
from tests.examples.copies import started
from tests.patience import patient
from tests.running import RunningApp, apps_in, free_port, freeze, wait_until


def picture(width: int = 1200, height: int = 800, kind: str = "JPEG") -> bytes:
    """Return a picture with some content."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * y - 3 * x), np.sin(5 * x * y + 1)], axis=-1)
    file = io.BytesIO()
    Image.fromarray(((waves + 1) * 127).astype("u1")).save(file, kind)
    return file.getvalue()


def bomb() -> bytes:
    """Return a small file that claims to be a PNG of 10,000 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


PICTURE = picture()
BAD = {
    "no picture": (b"hello", "not a picture"),
    "empty": (b"", "not a picture"),
    "truncated": (PICTURE[: len(PICTURE) // 2], "incomplete or damaged"),
    "bomb": (bomb(), "more than 50 million pixels"),
}


DROPPED = """() => {
    const dropped = new DataTransfer();
    dropped.items.add(new File(["hello"], "dropped.txt"));
    return dropped;
}"""
IS_FRAMED = """[...document.querySelectorAll("li img")].every((image) =>
    image.getBoundingClientRect().bottom <= image.parentElement.getBoundingClientRect().bottom)"""


@pytest.fixture(scope="module")
def url() -> str:
    return f"http://127.0.0.1:{free_port()}/"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, url: str) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("thumbnails")) as apps:
        app = started(apps, "thumbnails", {"PORT": str(httpx.URL(url).port)})
        app.wait_ready()
        yield app


def ask(url: str, data: bytes) -> list[dict[str, Any]]:
    """Return the lines of the response to a file."""
    answer = httpx.post(f"{url}thumbnails", content=data, timeout=patient(30))
    return [json.loads(line) for line in answer.text.splitlines()]


def totals(app: RunningApp) -> dict[str, Any]:
    return dict(app.clients[0].require("stats").so_far().result(patient(20)))


def test_a_thumbnail_and_the_way_to_it(app: RunningApp, url: str) -> None:
    before = totals(app)
    *steps, last = ask(url, PICTURE)
    assert [line["step"] for line in steps] == ["decoding", *["shrinking"] * 3, "encoding"]
    assert [line["done"] for line in steps] == sorted(line["done"] for line in steps)
    small = Image.open(io.BytesIO(base64.b64decode(last["image"].partition(",")[2])))
    assert (small.format, small.size) == ("WEBP", (320, 213))
    assert (last["size"], last["size_before"]) == ([320, 213], [1200, 800])
    large = np.asarray(Image.open(io.BytesIO(PICTURE)).resize(small.size), "f4")
    assert abs(np.asarray(small.convert("RGB"), "f4") - large).mean() < 5, "it shows what the picture shows"
    assert last["worker"] in {f"back.{member.index} ({member.pid})" for member in app.ready(app.clients[0], "back")}
    after = wait_until(lambda: (now := totals(app))["pictures"] > before["pictures"] and now, "it is counted")
    assert after["bytes_in"] - before["bytes_in"] == len(PICTURE)
    assert after["bytes_out"] - before["bytes_out"] == last["bytes"]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_a_reason_and_nothing_dies(app: RunningApp, url: str, name: str) -> None:
    pids = [member.pid for member in app.ready(app.clients[0])]
    before = totals(app)["refused"]
    data, why = BAD[name]
    assert why in ask(url, data)[-1]["error"]
    wait_until(lambda: totals(app)["refused"] == before + 1, "it is counted")
    assert [member.pid for member in app.ready(app.clients[0])] == pids


def test_a_file_that_is_too_large_is_refused(app: RunningApp, url: str) -> None:
    answer = httpx.post(f"{url}thumbnails", content=bytes(25_000_001), timeout=patient(30))
    assert (answer.status_code, answer.json()) == (413, {"error": "The file is larger than 25 MB."})


def test_every_open_page_hears_of_the_totals(app: RunningApp, url: str) -> None:
    address = url.replace("http", "ws") + "totals"
    with ExitStack() as stack:
        pages = [stack.enter_context(connect(address)) for _ in range(8)]
        before = [json.loads(page.recv(20))["pictures"] for page in pages]
        assert len(set(before)) == 1
        ask(url, PICTURE)
        assert [json.loads(page.recv(20))["pictures"] for page in pages] == [number + 1 for number in before]


def test_a_worker_that_is_killed_at_work_costs_no_picture(app: RunningApp, url: str) -> None:
    victim = app.ready(app.clients[0], "back")[0].pid
    others = len(app.ready(app.clients[0], "back")) - 1
    freeze(victim)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, url, PICTURE) for _ in range(8)]
        if others:
            wait_until(lambda: any(answer.done() for answer in answers), "the others work")
        os.kill(victim, signal.SIGKILL)
        assert all("image" in answer.result(patient(30))[-1] for answer in answers)
    app.wait_ready()


def test_a_reload_waits_for_no_page(app: RunningApp, url: str) -> None:
    with connect(url.replace("http", "ws") + "totals") as page:
        page.recv(20)
        app.clients[0].reload("front", timeout=patient(15))
    assert "image" in ask(url, PICTURE)[-1]


@needs_chromium
def test_the_page(app: RunningApp, url: str, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("sea.jpg", "tall.png", "broken.jpg", "letter.png")]
    data = (PICTURE, picture(500, 900, "PNG"), *(BAD[name][0] for name in ("truncated", "no picture")))
    for path, content in zip(files, data, strict=True):
        path.write_bytes(content)
    with browser() as open_page:
        page, other = open_page(url), open_page(url, "dark", PHONE)
        before = totals(app)["pictures"]
        other.wait_for_function(f"document.getElementById('pictures').textContent == '{before}'")
        screenshot(other, "thumbnails-empty")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.type") == "file"
        page.set_input_files("input", files)
        page.wait_for_function("document.querySelectorAll('li img, li.bad').length == 4")
        items = page.locator("li").all()
        told = {item.locator("b").inner_text(): item.locator("span").last.inner_text() for item in items}
        assert told["sea.jpg"].startswith("1200 \N{MULTIPLICATION SIGN} 800, ")
        assert "\n→ 320 \N{MULTIPLICATION SIGN} 213, " in told["sea.jpg"]
        assert "\nback." in told["tall.png"]
        assert told["broken.jpg"].startswith("The picture is incomplete or damaged")
        assert told["letter.png"].startswith("This is not a picture")
        assert page.evaluate("[...document.querySelectorAll('img')].every((image) => image.naturalWidth > 0)")
        assert page.evaluate(IS_FRAMED)
        other.wait_for_function(f"document.getElementById('pictures').textContent == '{before + 2}'")
        screenshot(page, "thumbnails")
        page.dispatch_event("#drop", "drop", {"dataTransfer": page.evaluate_handle(DROPPED)})
        page.wait_for_function("document.querySelectorAll('li.bad').length == 3")
        other.set_input_files("input", files)
        other.wait_for_function("document.querySelectorAll('li img, li.bad').length == 4")
        assert other.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it fits a phone"
        screenshot(other, "thumbnails-phone")
