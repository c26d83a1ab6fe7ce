"""A Kingpin whose loop is blocked says so, and where; what could block it is not waited for."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

from tests.patience import patient
from tests.running import Apps, wait_until

MAIN = """
import signal, time
import mob

def stand_still(signum, frame):
    time.sleep(3)

signal.signal(signal.SIGWINCH, stand_still)
mob.start({name!r}).base(__file__).role("back", "./back.py").run()
"""


def test_a_standstill_is_told_with_the_stack(apps: Apps) -> None:
    name = "standstill"
    directory = apps.write(back="def f(): return 1", main=MAIN.format(name=name))
    app = apps.run(name, [sys.executable, str(directory / "main.py")])
    client = app.wait_ready()
    app.signal(signal.SIGWINCH)
    app.wait_for(r"mob \| the Kingpin's event loop has been blocked for \d\.\d s, here:")
    app.wait_for(r"main\.py\", line \d+, in stand_still$")
    app.wait_for(r"mob \| the Kingpin's event loop is running again; it was blocked for \d+\.\d s\.")
    assert [row.state for row in client.overview()] == ["ready"]
    client.close()
    assert app.stop() == 0


def test_a_kingpin_that_was_stopped_as_a_whole_is_no_standstill(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back="def f(): return 1")
    client = app.wait_ready()
    os.kill(app.process.pid, signal.SIGSTOP)
    time.sleep(2.5)  # longer than any block that is reported
    os.kill(app.process.pid, signal.SIGCONT)
    assert [row.state for row in client.overview()] == ["ready"]
    client.close()
    assert app.stop() == 0
    assert "Kingpin's event loop" not in app.output


def test_a_stranger_who_listens_and_accepts_nobody_holds_nothing_up(apps: Apps, tmp_path: Path) -> None:
    path = str(tmp_path / "web.sock")
    with socket.socket(socket.AF_UNIX) as stranger, socket.socket(socket.AF_UNIX) as first:
        stranger.bind(path)
        stranger.listen(0)
        first.connect(path)  # now the queue is full, and another connection waits
        app = apps.start(
            f'.role("web", "./web.py:app", serve={"unix:" + path!r}, boot_timeout=60).role("other", "./other.py")',
            web="async def app(scope, receive, send): pass",
            other="import os\ndef pid(): return os.getpid()",
        )
        app.wait_for(r"cannot listen on .*web\.sock'")
        client = wait_until(lambda: app.connect(), "a client can connect")
        assert client.require("other").pid().result(patient(20))
        client.close()
        assert app.stop() == 0
