"""Signals during the Kingpin's start: none is lost."""

from __future__ import annotations

import sys

import pytest

from tests.running import Apps

MAIN = """
import os, signal, sys
import mob

def send(frame, event, arg):
    code = frame.f_code
    if event == "return" and code.co_name == "install" and code.co_filename.endswith("kingpin/signals.py"):
        sys.setprofile(None)
        os.kill(os.getpid(), signal.{signum})

app = mob.start({name!r}).base(__file__).role("back", "./back.py")
sys.setprofile(send)
app.run()
"""


@pytest.mark.parametrize("signum", ["SIGTERM", "SIGINT"])
def test_a_signal_before_the_first_turn_of_the_loop_stops_the_app(apps: Apps, signum: str) -> None:
    name = f"early-{signum.lower()}"
    directory = apps.write(back="def f(): return 1", main=MAIN.format(name=name, signum=signum))
    app = apps.run(name, [sys.executable, str(directory / "main.py")])
    assert app.wait() == 0
    assert "mob | stopping." in app.lines
