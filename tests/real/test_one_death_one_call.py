"""A worker that dies takes with it the calls that it had begun; what had only waited there is done by others."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest

import mob
from tests.patience import PATIENCE
from tests.running import Apps, RunningApp, wait_until

BACK = """
    import asyncio
    import os
    import time
    from pathlib import Path

    import mob

    def note(number):
        with open("begun", "a") as file:
            file.write(f"{number} {os.getpid()}\\n")

    def open_door(number):
        while not Path("door").exists():
            time.sleep(0.01)
        return number

    @mob.export
    def wait(number):
        note(number)
        return open_door(number)

    @mob.export(concurrency=2)
    def narrow(number):
        note(number)
        return open_door(number)

    @mob.export(concurrency=2)
    async def narrow_task(number):
        note(number)
        while not Path("door").exists():
            await asyncio.sleep(0.01)
        return number

    @mob.export(idempotent=True)
    def again(number):
        return wait(number)

    @mob.export
    def echo(number):
        note(number)
        return number
    """
CALLS = 60


def begun(app: RunningApp) -> list[tuple[int, int]]:
    """Return which calls have begun where, in order."""
    file = app.directory / "begun"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(number), int(pid)) for number, pid in map(str.split, lines)]


def start(apps: Apps, threads: int = 1) -> tuple[RunningApp, mob.Client]:
    apps.write(back=BACK)
    app = apps.start(f'.role("back", "./back.py", workers=2, threads={threads})')
    return app, app.wait_ready(2)


def outcome(call: mob.Call[int]) -> int | str:
    try:
        return call.result(PATIENCE)
    except mob.Lost as lost:
        return lost.executed


@pytest.mark.parametrize(
    ("export", "threads", "running"), [("wait", 1, 1), ("wait", 3, 3), ("narrow", 3, 2), ("narrow_task", 1, 2)]
)
def test_only_what_had_begun_is_lost(apps: Apps, export: str, threads: int, running: int) -> None:
    app, client = start(apps, threads)
    back = client.require("back")
    for _ in range(50):  # now many are sent at once
        assert [call.result(PATIENCE) for call in [back.echo(-1) for _ in range(20)]] == [-1] * 20
    app.directory.joinpath("begun").unlink()
    calls = [getattr(back, export)(number) for number in range(CALLS)]
    wait_until(lambda: len(begun(app)) == 2 * running, "both workers are busy")
    dying = begun(app)[0][1]
    os.kill(dying, signal.SIGKILL)
    wait_until(lambda: len(begun(app)) > 2 * running, "others have begun")
    app.directory.joinpath("door").touch()
    lost = [number for number, pid in begun(app)[: 2 * running] if pid == dying]
    assert [outcome(call) for call in calls] == ["maybe" if number in lost else number for number in range(CALLS)]
    assert {*Counter(number for number, _ in begun(app)).values()} == {1}
