"""`mob call` and `mob send` against a real app: values, streams, errors, and who is meant."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mob
from mob.cli import call as call_command
from mob.core.roster import is_ready
from mob.core.states import CallState
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, mob_command, wait_until

BACK = """
    import itertools, os
    import mob

    def foo(a, x=0):
        "Adds."
        return a + x

    def echo(*args, **kwargs):
        return [args, kwargs]

    def bad():
        raise ValueError("no good")

    def count(n=None):
        try:
            yield from itertools.count() if n is None else range(n)
        finally:
            print("closed")

    def breaks():
        yield 1
        raise KeyError("half way")

    async def waits():
        import asyncio
        try:
            print("waits")
            await asyncio.sleep(1000)
        finally:
            print("cancelled")

    def pid():
        return os.getpid()

    def first_fails():
        if mob.me().index == 0:
            raise ValueError("the first")
        return "fine"

    class Room:
        "A room."
        def __init__(self, name: str):
            self.name = name
        def add(self, person):
            return person

    def options():
        return "hidden"

    def nothing():
        pass

    @mob.on("message")
    def got(obj):
        print("got", repr(obj))
    """


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("call")) as apps:
        app = apps.start('.role("back", "./back.py", workers=2).role("idle", "./idle.py")', back=BACK, idle="")
        app.wait_ready()
        yield app


def mob_(app: RunningApp, command: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return mob_command(app.directory, command, "-a", app.name, *words, stdin=stdin)


def value(app: RunningApp, *words: str, stdin: str = "") -> Any:
    done = mob_(app, "call", *words, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def refusal(app: RunningApp, command: str, *words: str, stdin: str = "", code: int = 1) -> str:
    done = mob_(app, command, *words, stdin=stdin)
    assert (done.returncode, done.stdout) == (code, "")
    return done.stderr


def test_json_goes_in_and_comes_out(app: RunningApp) -> None:
    assert value(app, "back.foo", "1", "x=2") == 3
    assert value(app, "back.foo", "-1", "x=-2") == -3
    assert value(app, "back.echo", "one", "[1]", '"x=1"', "k=null") == [["one", [1], "x=1"], {"k": None}]
    assert value(app, "back.echo", "--text", "1", "k=[]") == [["1"], {"k": "[]"}]
    assert value(app, "back.echo", "-", "1", stdin='{"a": [1, 2]}') == [[{"a": [1, 2]}, 1], {}]
    assert value(app, "--text", "back.echo", "k=-", stdin="plain\n") == [[], {"k": "plain\n"}]
    assert value(app, "--", "back.echo", "--x", "-y") == [["--x", "-y"], {}]
    assert value(app, "back.nothing") is None
    assert value(app, "back.options") == "hidden"


def test_a_stream_is_a_line_for_each_item(app: RunningApp) -> None:
    assert mob_(app, "call", "back.count", "3").stdout == "0\n1\n2\n"
    assert mob_(app, "call", "back.count", "0").stdout == ""
    broken = mob_(app, "call", "back.breaks")
    assert (broken.returncode, broken.stdout) == (1, "1\n")
    assert "KeyError: 'half way'" in broken.stderr


def test_ctrl_c_closes_a_stream_and_cancels_a_call(app: RunningApp) -> None:
    before = app.output.count("| closed")
    for words, seen, told in (
        (["back.count"], lambda process: process.stdout.readline(), r"\| closed"),
        (["back.waits"], lambda _: app.wait_for(r"\| waits"), r"\| cancelled"),
    ):
        line = [sys.executable, "-m", "mob", "call", "-a", app.name, *words]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert seen(process)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=patient(30))
        assert process.returncode == 130
        assert "Traceback" not in stderr
        app.wait_for(told, before + 1 if "closed" in told else 1)


def test_a_reader_that_leaves_ends_the_stream(app: RunningApp) -> None:
    before = app.output.count("| closed")
    line = [sys.executable, "-m", "mob", "call", "-a", app.name, "back.count"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.wait(patient(30)) == 1
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    app.wait_for(r"\| closed", before + 1)


def test_a_certain_worker_or_all_of_them(app: RunningApp) -> None:
    client = app.connect()
    pids = [member.pid for member in app.ready(client, "back")]
    for pid in pids:
        assert value(app, "back.pid", "--pid", str(pid)) == pid
    assert value(app, "--all", "back.pid") == {str(pid): pid for pid in pids}
    partial = mob_(app, "call", "--all", "back.first_fails")
    assert partial.returncode == 1
    assert json.loads(partial.stdout) == {str(pids[1]): "fine"}
    assert f"1 of 2 workers failed.\n{pids[0]}: the export raised ValueError: the first" in partial.stderr
    assert "is a generator" in mob_(app, "call", "--all", "back.count", "3").stderr


def test_an_error_comes_with_the_traceback_of_where_it_was_raised(app: RunningApp) -> None:
    told = refusal(app, "call", "back.bad")
    assert told.startswith("Error: the export raised ValueError: no good\n\nIn the worker:\nTraceback")
    assert 'raise ValueError("no good")' in told
    assert "mob/cli" not in told


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["back.fo"], 1, "'back' exports no function 'fo'. Did you mean 'foo'?"),
        (["bak.foo"], 1, "this app has no role 'bak'. Did you mean 'back'?"),
        (["foo"], 1, "this app has no role 'foo'. "),
        (["foo", "1"], 2, "'foo' does not have the form ROLE.EXPORT, as in back.foo."),
        (["back.foo"], 1, "back.foo() is missing the argument 'a'."),
        (["back.foo", "--timout", "3"], 2, "There is no option '--timout'. Did you mean '--timeout'?"),
        (["back.echo", "-x"], 2, "To pass an argument that begins with a dash, put `--` before it."),
        (["back.echo", "-", "-"], 2, "so it can be used only once"),
        (["back.echo", "-"], 1, "is not one JSON value"),
        (["back.pid", "--pid", "1"], 1, "no ready worker of role 'back' has the pid 1. `mob ps` lists them."),
        (["back.pid", "--pid", "1", "--all"], 2, "use only one of the two"),
        (["back._mob_peer"], 1, "'back' exports no function '_mob_peer'."),
        (["idle.foo"], 1, "'idle' exports no function 'foo'."),
    ],
    ids=range(13),
)
def test_what_cannot_be_called_is_told(app: RunningApp, words: list[str], code: int, told: str) -> None:
    text = refusal(app, "call", *words, stdin='{"a": 1', code=code)
    assert told in text
    assert "Traceback" not in text


def test_a_class_makes_an_object_that_is_shown(app: RunningApp) -> None:
    assert value(app, "back.Room", "kitchen").startswith("<handle of back.Room in back.")
    told = refusal(app, "call", "back.Room.add", "Ada")
    assert "back.Room.add is a method of a service. Make an object of it" in told


def test_a_call_may_have_a_time(app: RunningApp) -> None:
    told = refusal(app, "call", "back.waits", "--timeout", "0.2")
    assert (
        "took too long" in told or "did not answer within 0.2 s" in told
    )  # whichever process notices first reports it


NOT_READY = "No worker of 'none' is ready (none.0: ValueError: no); waiting for one. Press Ctrl-C to give up.\n"
FAILS = "raise ValueError('no.')"


def test_a_call_that_waits_for_a_worker_says_so(apps: Apps, capsys: pytest.CaptureFixture[str]) -> None:
    app = apps.start(".role('back', './back.py').role('none', './none.py')", back=BACK, none=FAILS)
    client = app.connect()
    wait_until(lambda: client.roles()["none"].failing, "one role fails")
    waiting, sent = client.require("none").foo(1), client.require("back").waits()
    app.wait_for(r"\| waits")
    call_command._explain_waiting(client, "none", [waiting])
    assert capsys.readouterr().err == NOT_READY
    app.signal(signal.SIGTERM)
    wait_until(lambda: not any(is_ready(each, "back") for each in client.members()), "its worker is draining")
    call_command._explain_waiting(client, "back", [sent])
    assert capsys.readouterr().err == ""


def test_the_end_of_the_app_during_that_look_is_not_an_error(apps: Apps, capsys: pytest.CaptureFixture[str]) -> None:
    app = apps.start(".role('none', './none.py')", none=FAILS)
    client = app.connect()
    waiting = client.require("none").foo(1)
    app.kill()
    assert isinstance(waiting.exception(patient(30)), mob.MobError)
    waiting.state = CallState.WAITING  # as it is in the moment in which the app ends
    with pytest.raises(mob.MobError):
        client.members()
    call_command._explain_waiting(client, "none", [waiting])
    assert capsys.readouterr().err == ""


def completed(*words: str) -> list[str]:
    env = {
        **os.environ,
        "_MOB_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "mob"], env=env, capture_output=True, text=True, timeout=patient(60)
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_exports_are_completed(app: RunningApp) -> None:
    assert completed("mob", "call", "-a", app.name, "back.f") == ["back.first_fails", "back.foo"]
    completed("mob", "call", "-a", app.name, "back.foo", "-1", "--nothing", "zzz")  # nothing to offer, and no error
    assert completed("mob", "call", "-a", "no-such-app", "back.f") == []
    assert completed("mob", "stacks", "-a", app.name, "b") == ["back"]


def test_messages_are_sent(app: RunningApp) -> None:
    client = app.connect()
    first, second = app.ready(client, "back")
    assert mob_(app, "send", "--all", '{"to": "all"}').stderr == "sent to 3 workers, 2 with a handler.\n"
    app.wait_for(r"got \{'to': 'all'\}", 2)
    assert mob_(app, "send", "--role", "back", "hi").stderr == "sent to 2 workers, 2 with a handler.\n"
    app.wait_for("got 'hi'", 2)
    assert mob_(app, "send", "--any", "back", "--text", "7").stderr == "sent to 1 worker, 1 with a handler.\n"
    app.wait_for("got '7'")
    assert (
        mob_(app, "send", "--pid", str(second.pid), "-", stdin="[1]").stderr == "sent to 1 worker, 1 with a handler.\n"
    )
    app.wait_for(rf"back\.1 {second.pid} \| got \[1\]")
    assert mob_(app, "send", "--pid", str(first.pid), "-1").returncode == 0
    app.wait_for(rf"back\.0 {first.pid} \| got -1")


def test_a_message_without_a_handler_is_reported(apps: Apps) -> None:
    hears = "import mob\ndef hear(): mob.on('message', print)"
    app = apps.start('.role("deaf", "./deaf.py").role("late", "./late.py", workers=2)', deaf="", late=hears)
    client = app.wait_ready(3)
    unheard = 'none of which has a handler (@mob.on("message"))'
    assert mob_(app, "send", "--all", "hi").stderr == f"sent to 3 workers, {unheard}.\n"
    client.all("late").call.hear().result(patient(20))
    wait_until(lambda: client.roles()["late"].hears, "the Kingpin knows of the handler")
    assert mob_(app, "send", "--all", "hi").stderr == "sent to 3 workers, 2 with a handler.\n"
    assert mob_(app, "send", "--any", "deaf", "hi").stderr == f"sent to 1 worker, {unheard}.\n"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["1"], 2, "no receiver given. Use exactly one of --all, --role ROLE, --any ROLE, --pid PID."),
        (["--all", "--pid", "1", "1"], 2, "Use exactly one of --all"),
        (["--role", "bak", "1"], 1, "Did you mean 'back'?"),
        (["--pid", "1", "1"], 1, "no worker has pid 1. `mob ps` lists the workers."),
        (["--pid", str(os.getpid()), "1"], 1, "`mob ps` lists the workers."),
    ],
    ids=range(5),
)
def test_what_cannot_be_sent_is_told(app: RunningApp, words: list[str], code: int, told: str) -> None:
    assert told in refusal(app, "send", *words, code=code)
