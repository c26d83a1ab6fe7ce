"""`mob stacks`: a live mobster shows its stacks, however it is stuck."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

import mob
from mob.cli.main import main
from tests.patience import patient
from tests.running import RunningApp, apps_in, freeze, wait_until

BACK = """
    import asyncio, re, time, threading
    import mob

    def sleeps():
        print("begun")
        time.sleep(1_000_000)

    def spins():
        print("begun")
        while True: pass

    def searches():
        print("begun")
        return re.match("(a+)+b", "a" * 60)  # one call into C that never releases the interpreter

    async def waits():
        print("begun")
        await inner()

    async def inner():
        await asyncio.sleep(1_000_000)

    def in_a_thread():
        threading.Thread(target=sleeps, name="mine", daemon=True).start()
    """


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("stacks")) as apps:
        app = apps.start('.role("back", "./back.py", workers=2)', options="grace=1", back=BACK)
        app.wait_ready()
        yield app


def stacks(app: RunningApp, *words: str) -> Result:
    return CliRunner().invoke(main, ["stacks", "-a", app.name, *words])


def stack_of(told: dict[str, Any], function: str) -> list[str]:
    """Return the names of the functions in the stack that contains `function`."""
    each = [[frame["function"] for frame in stack["frames"]] for stack in told["stacks"]]
    return next((names for names in each if function in names), [])


@pytest.mark.parametrize(
    ("function", "source", "note"),
    [
        ("sleeps", "time.sleep(1_000_000)", "serving back.sleeps"),
        ("spins", "while True: pass", "serving back.spins"),
        ("waits", "await inner()", "serving back.waits"),
        ("in_a_thread", "time.sleep(1_000_000)", ""),
        ("searches", 'return re.match("(a+)+b"', "code in C holds the interpreter"),
    ],
)
def test_a_stuck_mobster_tells_where(app: RunningApp, function: str, source: str, note: str) -> None:
    client = app.wait_ready(2)
    before = app.output.count("| begun")
    victim = app.ready(client, "back")[0]
    running = getattr(client.require("back").options(pid=victim.pid, wait=5), function)()
    app.wait_for(r"\| begun", before + 1)
    wait_until(lambda: source in stacks(app, str(victim.pid)).stdout, f"it is at {source}")
    shown = stacks(app, str(victim.pid))
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith(f"back.0 · pid {victim.pid} · ready\n")
    assert source in shown.stdout
    assert note in shown.stdout
    assert "mob/mobster" not in shown.stdout
    (told,) = json.loads(stacks(app, "back.0", "--json").stdout)
    frames = [frame for stack in told["stacks"] for frame in stack["frames"]]
    assert any(frame["source"].startswith(source) for frame in frames)
    if function == "waits":
        assert stack_of(told, "waits")[:2] == ["waits", "inner"]
    os.kill(victim.pid, signal.SIGKILL)
    wait_until(lambda: all(each.pid != victim.pid for each in client.members()), "its exit is known")
    if function != "in_a_thread":
        with pytest.raises(mob.Lost):
            running.result(patient(10))


def test_a_role_tells_of_all_its_mobsters(app: RunningApp) -> None:
    client = app.wait_ready(2)
    pids = [member.pid for member in app.ready(client, "back")]
    told = json.loads(stacks(app, "back", "--json").stdout)
    assert [(each["pid"], each["role"], each["index"], each["state"]) for each in told] == [
        (pids[0], "back", 0, "ready"),
        (pids[1], "back", 1, "ready"),
    ]
    shown = stacks(app, "back").stdout
    assert shown.count("waits for work") == 2
    assert "reactor" in stacks(app, "back", "--full").stdout


def test_one_that_is_stopped_is_told_with_what_to_do(app: RunningApp) -> None:
    client = app.wait_ready(2)
    victim = app.ready(client, "back")[1]
    freeze(victim.pid)
    try:
        done = stacks(app, "back")
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    assert done.exit_code == 1
    assert f"it is stopped (SIGSTOP, a debugger). `kill -CONT {victim.pid}` resumes it." in done.stdout
    assert f"Error: no stacks from back.1 (pid {victim.pid}).\n" in done.output
    assert "waits for work" in done.stdout  # the other one


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("bak", "this app has no role 'bak'. Did you mean 'back'?"),
        ("bak.0", "this app has no role 'bak.0'."),
        ("back.7", "there is no back.7 right now. There are: back.0, back.1."),
        ("1", "no worker has pid 1; `mob ps` lists them."),
    ],
)
def test_who_is_not_there_is_told(app: RunningApp, target: str, told: str) -> None:
    done = stacks(app, target)
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {told}")
