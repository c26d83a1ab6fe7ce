"""Reloads of real apps: new code in new processes, the old ones until then and until they have finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, freeze, is_alive, wait_until

BACK = """
    import asyncio, os, time
    import mob

    VERSION = "one"

    def version():
        return VERSION

    def pid():
        return os.getpid()

    async def waits_for(path):
        print("begun")
        while not os.path.exists(path):
            await asyncio.sleep(0.005)
        return VERSION

    def sleeps_for(path):
        print("begun")
        while not os.path.exists(path):
            time.sleep(0.005)
        return VERSION

    async def counts_until(path):
        number = 0
        while not os.path.exists(path):
            yield VERSION, number
            number += 1
            await asyncio.sleep(0.005)

    async def reports_to(report, path):
        while not os.path.exists(path):
            await report("goes on")
            await asyncio.sleep(0.005)
        await report("ends")
    """


def rewrite(app: RunningApp, *, name: str = "back", add: str = "", version: str = "the next one") -> None:
    """Change the code of the module. (Its length changes: Python notices by that, and by whole seconds.)"""
    path = app.directory / f"{name}.py"
    path.write_text(f"{path.read_text()}\nVERSION = {version!r}\n{add}\n")


def pids(app: RunningApp, client: mob.Client, role: str = "back") -> list[int]:
    return [member.pid for member in app.ready(client, role)]


def ask_to_reload(app: RunningApp, *roles: str) -> subprocess.CompletedProcess[str]:
    """Run the command `mob reload`."""
    command = [sys.executable, "-m", "mob", "reload", *roles, "-a", app.name]
    return subprocess.run(command, capture_output=True, text=True, timeout=patient(60), check=False)


def say_goodbye_to(old: list[int]) -> None:
    wait_until(lambda: not any(map(is_alive, old)), "the old ones have ended")


def test_a_reload_brings_new_code_in_new_processes(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=3)', back=BACK)
    client = app.wait_ready()
    for count, how in enumerate(("client", "signal", "command"), 1):
        old = pids(app, client)
        rewrite(app, version=f"code for a {how}")
        if how == "client":
            assert client.reload().startswith("reloaded 3 workers in ")
        elif how == "command":
            done = ask_to_reload(app)
            assert (done.returncode, done.stdout[:22]) == (0, "reloaded 3 workers in ")
        else:
            app.signal(signal.SIGHUP)
        app.wait_for(r"mob \| reloading back\.", count)
        app.wait_for(r"mob \| reloaded 3 workers in [0-9.]+ s\.", count)
        wait_until(lambda old=old: len(set(pids(app, client)) - set(old)) == 3, "the roster tells of it")
        say_goodbye_to(old)
        assert set(client.all("back").call.version().result(patient(10)).values()) == {f"code for a {how}"}
        assert [member.generation for member in app.ready(client)] == [count + 1] * 3
        wait_until(lambda: len(client.overview()) == 3, "the old ones are forgotten")


def test_the_new_one_is_ready_before_the_old_one_is_asked_and_there_are_never_two_of_a_place(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=BACK)
    client = app.wait_ready()
    seen: list[list[tuple[int, int]]] = []

    def look(_: object) -> None:
        seen.append(sorted((m.index, m.generation) for m in client.members() if m.role and m.state == "ready"))

    client.on("join", look)
    client.on("leave", look)
    client.reload()
    wait_until(lambda: pids(app, client) and len(client.overview()) == 2, "the old ones have ended")
    assert all({index for index, _ in ready} == {0, 1} for ready in seen), seen
    assert client.all("back").call.version().result(patient(10))


BAD_CODE = {
    "syntax error": ("def (", "back.0: the new one could not be imported: SyntaxError: invalid syntax"),
    "import that raises": ("1 / 0", "back.0: the new one could not be imported: ZeroDivisionError: division by zero"),
    "dies": ("os._exit(7)", "back.0: the new one exited with status 7 before it was ready"),
}


def test_code_that_does_not_come_up_changes_nothing(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2).role("other", "./other.py")', back=BACK, other=BACK)
    client = app.wait_ready()
    old, other = pids(app, client), pids(app, client, "other")
    for kind, (add, text) in BAD_CODE.items():
        apps.write(back=BACK)
        rewrite(app, add=add)
        with pytest.raises(mob.MobError) as caught:
            client.reload("back")
        assert str(caught.value).startswith(f"reload failed; the old workers keep running. {text}")
        assert pids(app, client) == old
        assert set(client.all("back").call.version().result(patient(10)).values()) == {"one"}
        if kind == "syntax error":
            done = ask_to_reload(app, "back")
            assert done.returncode == 1
            assert done.stderr == f"Error: {caught.value}\n"
            app.wait_for(r"SyntaxError: invalid syntax", 2)
        wait_until(lambda: len(client.overview()) == 3, "what was tried is gone")
    apps.write(back=BACK)
    rewrite(app, version="healed")
    client.reload("back")
    assert set(client.all("back").call.version().result(patient(10)).values()) == {"healed"}
    assert not set(pids(app, client)) & set(old)
    assert pids(app, client, "other") == other
    assert client.require("other").version().result(patient(10)) == "one"
    done = ask_to_reload(app, "bakc")
    assert done.returncode == 1
    assert "'bakc'" in done.stderr
    assert "'back'" in done.stderr


def test_a_reload_that_is_asked_for_while_another_is_under_way_follows(apps: Apps) -> None:
    boots = "\nwhile not os.path.exists('go'): time.sleep(0.005)\n"
    app = apps.start('.role("back", "./back.py", workers=2)', back=BACK)
    client, other = app.wait_ready(), app.connect()
    rewrite(app, add=boots)
    app.signal(signal.SIGHUP)
    wait_until(lambda: len(client.overview()) == 3, "the first reload has begun")
    with pytest.raises(mob.CallTimeout):
        other.reload(timeout=0.01)
    rewrite(app, version="the one after that")
    (app.directory / "go").touch()
    assert client.reload().startswith("reloaded 2 workers")
    app.wait_for(r"mob \| reloaded 2 workers", 2)
    assert set(client.all("back").call.version().result(patient(10)).values()) == {"the one after that"}
    assert len(app.wait_for(r"mob \| reloading back")) == 2


def test_an_app_with_a_preloaded_module_loads_that_anew_too(apps: Apps) -> None:
    app = apps.start(
        '.preload("shared").role("back", "./back.py")',
        shared="NAME = 'old'",
        back="import shared\ndef name(): return shared.NAME",
    )
    client = app.wait_ready()
    assert client.require("back").name().result(patient(10)) == "old"
    apps.write(shared="NAME = 'newer'")
    client.reload()
    assert client.require("back").name().result(patient(10)) == "newer"


# --------------------------------------------------------------------------------------------- what is under way


def test_what_is_under_way_goes_on_where_it_began(apps: Apps, tmp_path: Path) -> None:
    app = apps.start('.role("back", "./back.py").role("plain", "./back.py")', back=BACK)
    client = app.wait_ready()
    back, go = client.require("back"), str(tmp_path / "go")
    old = pids(app, client) + pids(app, client, "plain")
    calls = [back.waits_for(go), client.require("plain").sleeps_for(go)]
    stream = iter(back.counts_until(go))
    assert tuple(next(stream)) == ("one", 0)
    heard: list[str] = []
    reports = back.reports_to(heard.append, go)
    app.wait_for("begun", 2)
    wait_until(lambda: heard, "it reports")
    rewrite(app)
    client.reload()
    assert back.version().result(patient(10)) == client.require("plain").version().result(patient(10)) == "the next one"
    assert all(map(is_alive, old))
    read, count = [next(stream) for _ in range(10)], len(heard)
    wait_until(lambda: len(heard) > count, "it still reports")
    (tmp_path / "go").touch()
    assert [call.result(patient(10)) for call in calls] == ["one", "one"]
    read += list(stream)
    assert [(version, number) for version, number in read] == [("one", number) for number in range(1, len(read) + 1)]
    reports.result(patient(10))
    assert heard[-1] == "ends"
    say_goodbye_to(old)


def test_a_reload_survives_the_death_of_an_old_one_and_a_frozen_one_is_killed(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', options="grace=1", back=BACK)
    client = app.wait_ready()
    dead, frozen = pids(app, client)
    freeze(frozen)
    rewrite(app)
    app.signal(signal.SIGHUP)
    os.kill(dead, signal.SIGKILL)
    app.wait_for(r"mob \| reloaded \d workers in")
    say_goodbye_to([dead, frozen])
    wait_until(lambda: len(pids(app, client)) == 2, "both places are taken")
    assert client.require("back").version().result(patient(10)) in ("one", "the next one")
