"""What an app writes into lines, errors, names of tasks and titles does nothing to the terminal of who looks at it."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mob.cli.main import main
from tests.patience import patient
from tests.running import Apps, RunningApp, wait_until

EVIL = "\x1b]0;PWNED\x07\x1b]52;c;aGk=\x1b\\\x1bc\x1b[2J\x9b5A\x90x\x9c\x1b_y\x1b\\\x08\x0e\x1b]2;open"
HARMFUL = re.compile("\x1b(?!\\[[0-9;:]*m)|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
FILES: dict[str, Any] = {
    "evil": f"""
    import asyncio, os, sys, threading, mob
    EVIL = {EVIL!r}
    print("line", EVIL, "\\x1b[32mgreen\\x1b[0m", flush=True)

    def fail(): '''Doc {EVIL!r} of it.'''; raise ValueError("bad " + EVIL)
    def value(): return ["value", EVIL, {{EVIL: 1}}]
    async def task():
        asyncio.current_task().set_name("task " + EVIL)
        threading.Thread(target=threading.Event().wait, name="thread " + EVIL, daemon=True).start()
        await asyncio.sleep(600)
    def end(): print("last", EVIL, flush=True); os._exit(7)
    """,
    "broken": f"""
    import time
    raise RuntimeError("broken " + {EVIL!r})
    """,
}
ROLES = '.role("evil", "./evil.py").role("broken", "./broken.py")'


def shown(app: RunningApp, *words: str, given: str | None = None) -> str:
    """Return what a command prints, on both streams."""
    return CliRunner(env={"XDG_STATE_HOME": str(app.directory / "state")}).invoke(main, words, given).output


def test_no_command_lets_through_what_a_terminal_would_obey_and_a_pipe_gets_every_byte(apps: Apps) -> None:
    app = apps.start(ROLES, **FILES)
    client = app.wait_ready(1)
    running = client.require("evil").task()
    wait_until(lambda: any(each.in_hand for each in client.metrics().mobsters), "the task runs")
    wait_until(lambda: any("broken" in row.note for row in client.overview()), "the other role has failed")
    name = ("-a", app.name)
    for words in (
        ("ps", *name),
        ("ps", "--json", *name),
        ("logs", *name),
        ("logs", "--json", *name),
        ("logs", "kingpin", *name),
        ("call", *name, "evil.fail"),
        ("call", *name, "evil.value"),
        ("call", *name, "evil"),
        ("stacks", "evil", *name),
        ("stacks", "evil", "--json", *name),
        ("crashes", *name),
        ("crashes", "--json", *name),
        ("top", "--once", "-d", "0.1", *name),
        ("apps",),
        ("doctor", *name),
        ("metrics", *name),
        ("scale", *name, EVIL.replace("\0", "") + "=3"),
        ("reload", *name, "broken"),
    ):
        told = shown(app, *words)
        assert HARMFUL.search(told.replace("\r\n", "\n")) is None, (words, told)
    told = shown(app, "shell", app.name, given="evil.fail()\n")
    assert "ValueError" in told
    assert HARMFUL.search(told) is None
    assert EVIL in shown(app, "logs", "evil", "--raw", *name)
    running.cancel()
    client.require("evil").end()
    found = wait_until(lambda: list((app.directory / "state").rglob("*.json")), "there is a report of the crash")
    assert {mode_of(path) for path in found} == {0o600}
    app.wait_for("last")
    assert f"line {EVIL}" in app.output


def test_the_kingpin_lets_colours_through_to_a_terminal_and_nothing_else(apps: Apps) -> None:
    app = apps.start(ROLES, terminal=True, env={"TERM": "dumb"}, **FILES)
    app.wait_ready(1)
    app.wait_for("broken")
    app.wait_for("line")
    app.stop()
    assert HARMFUL.search(app.screen.replace("\r\n", "\n")) is None
    assert "\x1b[32mgreen\x1b[0m" in app.screen


def test_a_terminal_gets_every_byte_on_request(apps: Apps) -> None:
    app = apps.start(ROLES + ".logs(raw=True)", terminal=True, env={"TERM": "dumb"}, **FILES)
    app.wait_ready(1)
    app.wait_for("line")
    app.stop()
    assert f"line {EVIL}" in app.screen


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("options", "mode"), [("", 0o600), (", mode=0o640", 0o640)])
def test_log_files_are_for_the_user_alone_unless_asked_otherwise(apps: Apps, options: str, mode: int) -> None:
    noisy = "def noise():\n    for _ in range(100): print('x' * 99)\n    print('end', flush=True)\n"
    app = apps.start(
        f'.role("back", "./back.py").logs(file="app.log", max_bytes=4096, keep=2{options})',
        env={"PYTHONWARNINGS": "ignore"},
        back=noisy,
    )
    client = app.wait_ready(1)
    client.require("back").noise().result(patient(30))
    made = [app.directory / name for name in ("app.log", "app.log.1", "app.log.2")]
    wait_until(lambda: all(path.exists() for path in made), "it was put aside twice")
    wait_until(lambda: {mode_of(path) for path in made} == {mode}, "each has that mode")  # it is made with less


def test_a_log_file_that_is_there_keeps_its_permissions(apps: Apps) -> None:
    file = apps.directory / "app.log"
    file.write_text("")
    file.chmod(0o644)
    app = apps.start('.role("back", "./back.py").logs(file="app.log")', back="print('hello', flush=True)")
    app.wait_ready(1)
    wait_until(lambda: "hello" in file.read_text(), "the line is written")
    assert mode_of(file) == 0o644
