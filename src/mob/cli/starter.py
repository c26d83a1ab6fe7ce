"""The app that `mob init` writes: its files as text, where `NAME` stands for the app's name. Pure."""

from __future__ import annotations

import re

MAIN = '''\
"""The main script: the process that runs it becomes the Kingpin, which starts and supervises all others."""

import mob

(
    mob.start("NAME")
    .base(__file__)
    .role("back", "./back.py", workers=2)
    .role("web", "./web.py", workers=2, needs=["back"])
    .run()
)
'''
MINIMAL_MAIN = """\
import mob

mob.start("NAME").base(__file__).role("back", "./back.py", workers=2).run()
"""
BACK = '''\
"""The role `back`: every public function is an export, which other roles and clients can call."""

import os
from collections.abc import Iterator


def greet(name: str) -> str:
    """Return a greeting."""
    print(f"greeting {name}")
    return f"Hello {name}, says process {os.getpid()}."


def count(to: int) -> Iterator[int]:
    """Yield the numbers up to `to`. A generator is a stream: its caller gets the items one by one."""
    yield from range(1, to + 1)
'''
WEB = '''\
"""The role `web`: a server. Its workers listen on the same port; the kernel gives each connection to one of them."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import mob

back = mob.require("back")


class Handler(BaseHTTPRequestHandler):
    """Answers HTTP requests."""

    def do_GET(self) -> None:
        """Greet the name in the path: GET /Ada greets Ada."""
        text = back.greet(self.path.strip("/") or "world").result(timeout=10)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(f"{text}\\n".encode())


address = ("127.0.0.1", int(os.environ.get("PORT", "8000")))
ThreadingHTTPServer(address, Handler).serve_forever()
'''
TEST = '''\
"""Tests of the app, which is started as a user would start it. Run: pytest"""

import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mob import testing


@pytest.fixture(scope="module")
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


@pytest.fixture(scope="module")
def app(port: int) -> Iterator[testing.AppUnderTest]:
    os.environ["PORT"] = str(port)  # main.py's processes inherit it
    with testing.start("main.py", directory=Path(__file__).parent, one_process=False) as app:
        yield app


def test_back_greets(app: testing.AppUnderTest) -> None:
    assert app.require("back").greet("Ada").result(10).startswith("Hello Ada")


def test_back_counts(app: testing.AppUnderTest) -> None:
    assert list(app.require("back").count(3)) == [1, 2, 3]


def test_web_answers(app: testing.AppUnderTest, port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/Bob", timeout=30) as answer:
        assert answer.read().startswith(b"Hello Bob")
'''
README = """\
# NAME

    pip install mobsters           # includes the command `mob`
    mob run main.py                # Ctrl-C stops it; with --watch it reloads when a file changes

In another terminal:

    mob ps                         # list the processes
    mob call back.greet Ada        # call an export
    mob call back.count 3          # a stream
    curl http://127.0.0.1:8000/Ada
    mob scale back=4               # more workers
    mob reload                     # load new code without downtime
    mob shell                      # a Python prompt connected to the app

| file | what |
|---|---|
| `main.py` | the roles, and the number of workers of each |
| `back.py` | the role `back`: functions that other processes call |
| `web.py` | the role `web`: a server with several processes on one port |
| `test_app.py` | tests of the running app: `pytest` |
"""
IGNORED = "__pycache__/\n*.pyc\n.venv/\n.pytest_cache/\n"

WHOLE = {
    "main.py": MAIN,
    "back.py": BACK,
    "web.py": WEB,
    "test_app.py": TEST,
    "README.md": README,
    ".gitignore": IGNORED,
}
MINIMAL = {"main.py": MINIMAL_MAIN, "back.py": BACK}


def files(app: str, *, is_minimal: bool = False) -> dict[str, str]:
    """Return the files of a new app.

    >>> list(files("shop", is_minimal=True))
    ['main.py', 'back.py']
    """
    return {
        name: re.sub(r"\bNAME\b", app, text) if name != "test_app.py" else text
        for name, text in (MINIMAL if is_minimal else WHOLE).items()
    }


def name_for(directory: str) -> str:
    """Return a name for an app in that directory.

    >>> [name_for(each) for each in ("shop", "My Shop", "3 shops", "...", "kingpin")]
    ['shop', 'My-Shop', 'app-3-shops', 'app', 'kingpin']
    """
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", directory).strip("-._")[:50]
    return name if name[:1].isalpha() else f"app-{name}".rstrip("-")
