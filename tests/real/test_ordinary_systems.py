"""Python in its development mode, and systems that refuse what others give."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from mob.errors import MobError
from mob.rim.board import Board
from tests.patience import patient
from tests.running import Apps, free_port

BACK = """
    import socket
    import mob

    @mob.on("message")
    def handle(obj): ...

    def echo(value): return value
    def count(n): yield from range(n)
    async def call_back(function): return await function(1)
    def probe():
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
    """
FRONT = """
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler).serve_forever()
    """
WEB = """
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})
    """
CLIENT = """
import sys
import urllib.request
import mob

with mob.connect(sys.argv[1]) as app:
    back = app.require("back")
    assert len(back.echo(b"x" * 1_000_000).result(60)) == 1_000_000
    assert list(back.count(3)) == [0, 1, 2]
    assert back.call_back(lambda value: value).result(60) == 1
    back.probe().result(60)
    with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[2]}/") as answer:
        assert answer.read() == b"hello"
    app.send(1)
    app.reload("back")
    app.upgrade(60)
mob.connect(sys.argv[1]).require("back").echo(1).result(60)
"""


def test_the_development_mode_of_python_warns_of_nothing(apps: Apps) -> None:
    apps.write(back=BACK, front=FRONT, web=WEB, client=CLIENT)
    name = f"dev-{apps.directory.name[-30:]}".replace("_", "-")
    port = free_port()
    roles = '.role("back", "./back.py", workers=2).role("front", "./front.py")'
    roles += f'.role("web", "./web.py:app", serve="127.0.0.1:{port}")'
    apps.write(main=f"import mob\nmob.start({name!r}).base(__file__){roles}.run()\n")
    app = apps.run(name, [sys.executable, "-X", "dev", "main.py"])
    app.wait_ready()
    client = apps.run("none", [sys.executable, "-X", "dev", "client.py", name, str(port)])
    assert (client.wait(), client.output) == (0, "")
    app.stop()
    assert [line for line in app.lines if "Warning" in line] == []


REFUSES = """
import errno
import os

def refuse(*args):
    raise OSError(errno.ENOSYS, "Function not implemented")

os.memfd_create = refuse
"""


def test_an_app_works_where_memfd_is_refused(apps: Apps) -> None:
    apps.write(sitecustomize=REFUSES, back=BACK)  # in all processes
    name = f"refuses-{apps.directory.name[-30:]}".replace("_", "-")
    apps.write(main=f"import mob\nmob.start({name!r}).base(__file__).role('back', './back.py', workers=2).run()\n")
    command = [sys.executable, "-c", textwrap.dedent(REFUSES) + 'import runpy; runpy.run_path("main.py")']
    app = apps.run(name, command, {"PYTHONPATH": str(apps.directory)})
    client = app.wait_ready()
    back = client.require("back")
    assert back.echo(1).result(patient(60)) == 1
    client.upgrade(60)
    assert len(back.echo(b"x" * 1_000_000).result(patient(60))) == 1_000_000
    assert app.stop() == 0


def test_where_nothing_can_be_shared_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*args: object, **kwargs: object) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("os.memfd_create", refuse)
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(
        MobError, match=r"memfd_create failed \(.*not implemented\).* set TMPDIR to a writable directory"
    ):
        Board.make()
