"""Makes the pictures of docs/top.md and docs/dashboard.md from a real app, in a terminal and in Chromium.

python docs/make_pictures.py            # writes docs/pictures/*.svg; takes a minute

They are SVG, so they are text: the dashboard is the page itself with its styles, only the picture of the mob, which is
painted on a canvas, is an image within. Needs what the tests of the dashboard need: Chromium and playwright.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.text import Text

import mob

PICTURES = Path(__file__).with_name("pictures")
SIZE = {"width": 1240, "height": 1130}
COLUMNS, ROWS = 112, 22
SECONDS = 45.0
"""How long the app lives before its picture is taken."""
PORT = 4778
FILES = {
    "main.py": f"""
import mob
app = mob.start("shop").base(__file__)
app.role("prices", "./prices.py", workers=6, max_workers=8).role("orders", "./orders.py", workers=2)
app.role("front", "./front.py", workers=3).dashboard(port={PORT}).run()
""",
    "prices.py": """
import asyncio, os, random
async def price(n):
    await asyncio.sleep(random.lognormvariate(-5, 0.7))
    if random.random() < 0.004:
        raise LookupError(n)
    return n
def die():
    os._exit(3)
""",
    "orders.py": """
import time, random
def place(n):
    time.sleep(random.random() / 200)
    return n
""",
    "front.py": """
import asyncio, random, mob
prices, orders = mob.require("prices"), mob.require("orders")
@mob.on("start")
async def start():
    global task
    task = asyncio.create_task(sell())
async def sell():
    number = 0
    while True:
        number += 1
        await asyncio.gather(*(prices.price(n) for n in range(random.randrange(2, 12))), return_exceptions=True)
        await asyncio.gather(orders.place(number), return_exceptions=True)
        if number % 40 == 0:
            print("orders so far:", number)
        await asyncio.sleep(0.04 + random.random() / 20)
""",
}
SNAPSHOT = """() => {
  const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules].map((rule) => rule.cssText));
  const copy = document.body.cloneNode(true);
  const painted = document.querySelectorAll("canvas");
  copy.querySelectorAll("canvas").forEach((canvas, number) => {
    const box = painted[number].getBoundingClientRect();
    const image = document.createElement("img");
    image.src = painted[number].toDataURL("image/webp", 0.85);
    image.setAttribute("style", `display:block;width:${box.width}px;height:${box.height}px`);
    canvas.replaceWith(image);
  });
  copy.querySelectorAll("script, .skip, dialog, .brand img").forEach((each) => each.remove());
  const page = new XMLSerializer().serializeToString(copy);
  return { css: rules.join("\\n"), page };
}"""


@contextmanager
def shop(directory: Path) -> Iterator[mob.Client]:
    """The app, with some life in it."""
    for name, text in FILES.items():
        (directory / name).write_text(text)
    env = {**os.environ, "XDG_STATE_HOME": str(directory)}
    process = subprocess.Popen([sys.executable, "main.py"], cwd=directory, env=env, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                client = mob.connect("shop")
                break
            except mob.AppNotRunning:
                time.sleep(0.05)
        with client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def live(client: mob.Client) -> None:
    """Something happens to it."""
    end = time.monotonic() + SECONDS
    time.sleep(SECONDS * 0.3)
    client.require("prices").die().exception()
    time.sleep(SECONDS * 0.2)
    client.reload("front")
    client.scale("prices", 8)
    time.sleep(max(0.0, end - time.monotonic()))


def picture(page: Page) -> str:
    """The page as a picture."""
    found = page.evaluate(SNAPSHOT)
    size = page.viewport_size
    assert size is not None
    width, height = size["width"], size["height"]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        f"<style><![CDATA[{found['css']}]]></style>\n"
        f'<foreignObject width="{width}" height="{height}">{found["page"]}</foreignObject>\n</svg>\n'
    )


def top() -> str:
    """`mob top` as a picture."""
    env = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "LINES": str(ROWS), "TERM": "xterm-256color"}
    command = [str(Path(sys.executable).with_name("mob")), "top", "--once", "-a", "shop"]
    shown = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115  for as long as this runs
    console.print(Text.from_ansi(shown), end="")
    picture = console.export_svg(title="mob top")
    return re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)  # the reader's own font will do


def main() -> None:
    """Writes them."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, shop(Path(directory)) as client, sync_playwright() as playwright:
        live(client)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
        page.goto(f"http://127.0.0.1:{PORT}/")
        page.wait_for_selector(".role svg path")
        time.sleep(4.0)
        (PICTURES / "dashboard.svg").write_text(picture(page))
        browser.close()
        (PICTURES / "top.svg").write_text(top())


if __name__ == "__main__":
    main()
