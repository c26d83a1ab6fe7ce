"""The tie between a process and the app that it started; small programs replace the Kingpin."""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec
import pytest

from mob.errors import AppRunning, MobError, PlanError
from mob.rim.tie import TiedApp
from tests.patience import PATIENCE

PROGRAM = """
import signal, sys, time
import msgspec
from mob.errors import AppRunning, PlanError
from mob.rim.tie import AppUp, Tie

class Order(msgspec.Struct):
    what: str

def main(arguments):
    tie = Tie(*arguments)
    order = tie.receive(Order)
    getattr(sys.modules[__name__], order.what)(tie)

def listen(tie):
    tie.say(AppUp("\\0there"))
    signal.pause()

def refuse(tie):
    tie.refuse(AppRunning("it runs", 42))

def refuse_the_plan(tie):
    tie.refuse(PlanError("no roles"))

def die(tie):
    sys.exit(5)

def stay(tie):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tie.say(AppUp("there"))
    time.sleep(3000)

def count(tie):
    def handle(*_):
        global asked
        asked += 1
        if asked == 2:
            sys.exit(asked)
    global asked
    asked = 0
    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    tie.say(AppUp("there"))
    while True:
        signal.pause()
"""


class Order(msgspec.Struct):
    what: str


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "tied_program.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "tied_program"


def test_it_tells_where_it_listens_and_ends_when_asked(program: str) -> None:
    app = TiedApp(program, Order("listen"))
    assert app.wait_listening(PATIENCE) == "\0there"
    assert repr(app) == f"<TiedApp, Kingpin {app.pid}>"
    app.end(PATIENCE)
    assert app.status == -signal.SIGTERM
    assert repr(app) == f"<TiedApp, Kingpin {app.pid}, ended>"


def test_an_error_below_is_raised_above(program: str) -> None:
    app = TiedApp(program, Order("refuse"))
    with pytest.raises(AppRunning, match="it runs") as caught:
        app.wait_listening(PATIENCE)
    assert caught.value.pid == 42
    app.end(PATIENCE)
    app = TiedApp(program, Order("refuse_the_plan"))
    with pytest.raises(PlanError, match="no roles"):
        app.wait_listening(PATIENCE)
    app.end(PATIENCE)


def test_one_that_ends_without_a_word_is_an_error(program: str) -> None:
    app = TiedApp(program, Order("die"))
    with pytest.raises(MobError, match=rf"\(pid {app.pid}\) exited with status 5 before the app was up"):
        app.wait_listening(PATIENCE)
    app.end(PATIENCE)


def test_one_that_is_late_is_an_error(program: str) -> None:
    app = TiedApp(program, Order("count"))
    with pytest.raises(MobError, match="was not up within 0 s"):
        app.wait_listening(0)
    app.kill()
    app.end(PATIENCE)


def test_no_request_to_stop_is_lost_however_soon_the_second_one_comes(program: str) -> None:
    app = TiedApp(program, Order("count"))
    app.wait_listening(PATIENCE)
    app.stop()
    app.end(PATIENCE)
    assert app.status == 2


def test_one_that_does_not_end_is_killed(program: str) -> None:
    app = TiedApp(program, Order("stay"))
    app.wait_listening(PATIENCE)
    app.end(0)
    assert app.status == -signal.SIGKILL
