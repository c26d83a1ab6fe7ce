"""A real Chromium for the pages of the examples; anything on a page's console fails the test.

Screenshots go to the directory that MOB_SCREENSHOTS names, if it does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DESKTOP, PHONE = {"width": 1100, "height": 800}, {"width": 390, "height": 844}
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (apt-get install chromium)")

OpenPage = Callable[..., Any]


@contextmanager
def browser(*expected: str) -> Iterator[OpenPage]:
    """`open_page(url, scheme="light", size=DESKTOP)`, each with a visitor of its own. A complaint that has one of the
    `expected` texts in it is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser tests")
    complaints: list[str] = []
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def open_page(url: str, scheme: str = "light", size: dict[str, int] = DESKTOP) -> Any:
            page = chromium.new_context(viewport=size, color_scheme=scheme).new_page()
            page.set_default_timeout(20_000)
            page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(url)
            return page

        yield open_page
        chromium.close()
    assert [said for said in complaints if not any(each in said for each in expected)] == []


def screenshot(page: Any, name: str) -> None:
    """The whole page, if somebody wants to look at it."""
    if directory := os.environ.get("MOB_SCREENSHOTS"):
        page.screenshot(path=str(Path(directory) / f"{name}.png"), full_page=True)
