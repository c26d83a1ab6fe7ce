"""`App.up`: a whole app from a script, which is up when the line is over, and gone when the script is."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import mob
from tests.real.scripts import Scripts
from tests.running import Apps


@pytest.fixture
def scripts(apps: Apps) -> Scripts:
    return Scripts(apps)


def test_all_workers_are_ready_when_it_returns_and_gone_when_the_block_is_over(scripts: Scripts) -> None:
    script = scripts.run(
        """
whole = described(NAME).role("slow", "./slow.py", needs=["back"]).role("once", "./once.py", restart="transient")
with whole.up() as client:
    print("ready", sorted(m.role for m in client.members() if m.state == "ready" and m.role))
    print("result", client.require("slow").bar(1).result(), flush=True)
print("gone", client.wait_stopped(0), client)
""",
        slow="import time, mob\nback = mob.require('back')\ntime.sleep(0.3)\ndef bar(x): return back.foo(x).result()",
        once="import sys\nsys.exit(0)",
    )
    assert script.wait() == 0, script.output
    assert "ready ['back', 'back', 'slow']" in script.lines
    assert "result 2" in script.lines
    assert script.wait_for(r"^back\.\d \d+ \| foo 1")
    assert f"gone True <Client of '{scripts.name}', closed>" in script.lines
    scripts.wait_nothing_left()


def test_it_is_up_when_a_module_that_blocks_says_so(scripts: Scripts) -> None:
    """As everywhere in mob: it listens, or it says `mob.ready()`."""
    script = scripts.run(
        """
with described(NAME).role("server", "./server.py").up() as client:
    print("ready", [m.state for m in client.members() if m.role == "server"])
""",
        server="import threading, mob\ndef pid(): pass\nmob.ready()\nthreading.Event().wait()",
    )
    assert script.wait() == 0, script.output
    assert "ready ['ready']" in script.lines
    scripts.wait_nothing_left()


@pytest.mark.parametrize("options", ["", ", boot_tries=1", ", workers=3, restart='temporary'"])
def test_a_role_that_cannot_start_is_an_error_with_its_traceback(scripts: Scripts, options: str) -> None:
    script = scripts.run(
        f"""
try:
    described(NAME).role("bad", "./bad.py"{options}).up()
except mob.MobError as error:
    print("error:", type(error).__name__, error)
""",
        bad="def f():\n    return 1 / 0\n\nf()\n",
    )
    assert script.wait() == 0, script.output
    told = script.output[script.output.index("error: MobError") :]
    assert f"the app '{scripts.name}' did not come up: bad." in told
    assert "ZeroDivisionError: division by zero\n\nTraceback (most recent call last):\n" in told
    assert 'bad.py", line 2, in f\n    return 1 / 0\n' in told
    scripts.wait_nothing_left()


def test_one_that_is_not_up_in_time_is_an_error_with_what_is_missing(scripts: Scripts) -> None:
    script = scripts.run(
        """
try:
    described(NAME).role("late", "./late.py").role("later", "./back.py", needs=("late",)).up(timeout=1)
except mob.MobError as error:
    print("error:", error)
""",
        late="import time\ntime.sleep(3000)",
    )
    assert script.wait() == 0, script.output
    assert script.wait_for(
        r"error: .* not everything was ready within 1 s \(timeout\): .*late\.0: .*; later\.0: waits for late"
    )
    scripts.wait_nothing_left()


def test_it_checks_what_run_checks(tmp_path: Path) -> None:
    (tmp_path / "back.py").write_text("def foo(): pass")
    with pytest.raises(mob.PlanError, match="has no role"):
        mob.start("nothing").up()
    app = mob.start("circle").base(tmp_path).role("a", "./back.py", needs=["b"]).role("b", "./back.py", needs=["a"])
    with pytest.raises(mob.PlanError, match="need each other"):
        app.up()


def test_two_apps_of_one_name_cannot_be_up_and_the_first_stays(scripts: Scripts) -> None:
    script = scripts.run(
        """
with described(NAME).up() as client:
    try:
        described(NAME).up()
    except mob.AppRunning as error:
        print("error:", error)
    with described(NAME + "-2").up() as other:
        print(client.require("back").foo(1).result(), other.require("back").foo(2).result(), flush=True)
"""
    )
    assert script.wait() == 0, script.output
    assert script.wait_for("error: an app named 'bg-.*' is already running")
    assert "2 3" in script.lines
    scripts.wait_nothing_left()


ENDINGS = {
    "an exception in the block": ("raise ValueError('mine')", 1, "ValueError: mine"),
    "sys.exit in the block": ("sys.exit(7)", 7, ""),
    "Ctrl-C in the block": ("os.killpg(0, signal.SIGINT); time.sleep(3000)", -signal.SIGINT, "KeyboardInterrupt"),
    "Ctrl-C during a call": (
        "signal.setitimer(signal.ITIMER_REAL, 0.5); client.require('back').wait().result()",
        -signal.SIGINT,
        "KeyboardInterrupt",
    ),
    "kill -9": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
}


@pytest.mark.parametrize("way", ENDINGS)
def test_nothing_is_left_behind(scripts: Scripts, way: str) -> None:
    """The calls under way are cancelled: nobody waits for the grace period of the app, which is an hour."""
    text, status, printed = ENDINGS[way]
    script = scripts.run(
        f"""
signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGINT))
with mob.start(NAME, grace=3600).role("back", "./back.py").up() as client:
    print("up", flush=True)
    {text}
""",
        back="import asyncio\nasync def wait():\n    await asyncio.sleep(3000)\n",
    )
    script.wait_for("up")
    assert script.wait() == status, script.output
    assert printed in script.output
    scripts.wait_nothing_left()


def test_without_a_block_it_ends_with_the_script(scripts: Scripts) -> None:
    script = scripts.run(
        """
client = described(NAME).up()
print("result", client.require("back").foo(1).result())
"""
    )
    assert script.wait() == 0, script.output
    scripts.wait_nothing_left()


def test_a_second_ctrl_c_ends_what_does_not_end(scripts: Scripts) -> None:
    script = scripts.run(
        """
with mob.start(NAME, grace=3600).role("back", "./back.py").up() as client:
    client.require("back").sleep()
    client.require("back").pid()
    client.wait_stopped(0.2)
    print("up", flush=True)
"""
    )
    script.wait_for("mob . waiting for back.0: back.sleep")
    os.killpg(script.process.pid, signal.SIGINT)
    assert script.wait() == -signal.SIGINT, script.output
    scripts.wait_nothing_left()


def test_it_works_in_a_coroutine(scripts: Scripts) -> None:
    script = scripts.run(
        """
import asyncio

async def main():
    with described(NAME).up() as client:
        back = client.require("back")
        print("results", await asyncio.gather(*(back.foo(x) for x in range(3))))

asyncio.run(main())
"""
    )
    assert script.wait() == 0, script.output
    assert "results [1, 2, 3]" in script.lines
    scripts.wait_nothing_left()


def test_a_mobster_may_have_an_app_of_its_own(scripts: Scripts) -> None:
    script = scripts.run(
        """
with mob.start(NAME).role("outer", "./outer.py").up() as client:
    print("result", client.require("outer").inner(1).result(), flush=True)
""",
        outer=f"""
import mob

app = mob.start({scripts.name + "-in"!r}).role("back", "./back.py").up()

def inner(x):
    return app.require("back").foo(x).result()
""",
    )
    assert script.wait() == 0, script.output
    assert "result 2" in script.lines
    scripts.wait_nothing_left()


def test_the_death_of_the_kingpin_is_told_to_whoever_waits_for_a_call(scripts: Scripts) -> None:
    script = scripts.run(
        """
with described(NAME).up() as client:
    call = client.require("back").sleep()
    client.require("back").foo(1).result()
    os.kill(client.kingpin_pid, signal.SIGKILL)
    try:
        call.result()
    except mob.MobError as error:
        print("error:", type(error).__name__)
    try:
        client.overview()
    except mob.MobError as error:
        print("error:", error)
"""
    )
    assert script.wait() == 0, script.output
    assert script.wait_for("error: (Lost|Unavailable)")  # the second if no worker had the call yet
    assert script.wait_for("error: .*the app 'bg-.*' has ended")
    scripts.wait_nothing_left()
