"""Makes the pictures of docs/examples.md from the examples themselves, in Chromium; see make_pictures.py.

python docs/make_example_pictures.py    # writes docs/pictures/thumbnails.svg and chat.svg; the examples must not run
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from make_pictures import PICTURES, picture
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

import mob

EXAMPLES = Path(__file__).parents[1] / "examples"
SIZE = {"width": 900, "height": 570}
SAID = [(0, "Is anybody there?"), (1, "I am."), (0, "Which worker have you got?"), (1, "The corner says it.")]


@contextmanager
def running(example: str, port: int) -> Iterator[str]:
    """The example; the address of its page."""
    with tempfile.TemporaryDirectory() as state:
        env = {**os.environ, "PORT": str(port), "XDG_STATE_HOME": state}
        command = [sys.executable, str(EXAMPLES / example / "main.py")]
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        try:
            wait_ready(example)
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def wait_ready(app: str) -> None:
    while True:
        try:
            with mob.connect(app) as client:
                if all(row.state == "ready" for row in client.overview()):
                    return
        except mob.AppNotRunning:
            pass
        time.sleep(0.05)


def opened(browser: Browser, url: str) -> Page:
    page = browser.new_context(viewport=SIZE, color_scheme="light").new_page()  # type: ignore[arg-type]
    page.goto(url)
    return page


def painted(number: int, kind: str = "JPEG") -> bytes:
    """A picture for the page to make smaller."""
    x, y = np.meshgrid(np.linspace(0, 3, 1500), np.linspace(0, 2, 1000))
    waves = [np.sin((3 + number) * x + phase + 2 * np.cos(2 * y + number)) for phase in (0.0, 0.6, 1.2)]
    file = io.BytesIO()
    Image.fromarray(((np.stack(waves, axis=-1) + 1) * 110 + 20).astype("u1")).save(file, kind)
    return file.getvalue()


def thumbnails(browser: Browser) -> str:
    with running("thumbnails", 8010) as url:
        page = opened(browser, url)
        files: list[Any] = [
            {"name": f"{name}.jpg", "mimeType": "image/jpeg", "buffer": painted(number)}
            for number, name in enumerate(("sea", "clouds"))
        ]
        files.insert(1, {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"})
        page.set_input_files("input", files)
        page.wait_for_function("document.querySelectorAll('li img, li.bad').length == 3")
        page.wait_for_function("document.getElementById('refused').textContent == '1'")
        return picture(page)


def chat(browser: Browser) -> str:
    with running("chat", 8020) as url:
        pages = [opened(browser, url) for _ in range(2)]
        for page, name in zip(pages, ("Ann", "Ben"), strict=True):
            page.fill("#name", name)
            page.press("#name", "Enter")
            page.wait_for_selector("#say:visible")
        for count, (who, text) in enumerate(SAID, 1):
            pages[who].fill("#text", text)
            pages[who].press("#text", "Enter")
            pages[0].wait_for_function(f"document.querySelectorAll('li:not(.note):not(.unsent)').length == {count}")
        return picture(pages[0])


def main() -> None:
    """Writes them."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        (PICTURES / "thumbnails.svg").write_text(thumbnails(browser))
        (PICTURES / "chat.svg").write_text(chat(browser))
        browser.close()


if __name__ == "__main__":
    main()
