"""A real Chromium for pages; anything on a page's console fails the test.

Needs Debian's `chromium` and the Python package `playwright`; without them the marked tests are skipped and say why.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DESKTOP, PHONE = {"width": 1100, "height": 800}, {"width": 390, "height": 844}
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (apt-get install chromium)")


@contextmanager
def launched() -> Iterator[Any]:
    """Yield the browser."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser tests")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Pages:
    """A set of pages, each opened as a separate visitor."""

    def __init__(self, chromium: Any, size: dict[str, int]) -> None:
        self._chromium = chromium
        self._size = size
        self._contexts: list[Any] = []
        self.complaints: list[str] = []
        """Messages on the pages' consoles."""

    def __call__(self, url: str, scheme: str = "light", size: dict[str, int] | None = None, **more: Any) -> Any:
        context = self._chromium.new_context(viewport=size or self._size, color_scheme=scheme, **more)
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", self._handle_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(url)
        return page

    def _handle_console(self, said: Any) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(said.text)

    def close(self) -> None:
        """Close all pages."""
        for context in self._contexts:
            context.close()


@contextmanager
def browser(*expected: str) -> Iterator[Pages]:
    """Yield pages in a browser of their own. Complaints that contain one of the `expected` texts are ignored."""
    with launched() as chromium:
        pages = Pages(chromium, DESKTOP)
        yield pages
    assert [said for said in pages.complaints if not any(each in said for each in expected)] == []


def screenshot(page: Any, name: str, full: bool = True) -> None:
    """Save a screenshot for people, if MOB_SCREENSHOTS names a directory for it."""
    if directory := os.environ.get("MOB_SCREENSHOTS"):
        Path(directory).mkdir(parents=True, exist_ok=True)
        # To hide the caret, Playwright would put a style into the page, which the page's policy forbids.
        page.screenshot(path=str(Path(directory) / f"{name}.png"), full_page=full, caret="initial")
