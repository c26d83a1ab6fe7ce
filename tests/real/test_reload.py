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

    def gives():
        def name():
            return VERSION
        return name
    """


def rewrite(app: RunningApp, *, name: str = "back", add: str = "", version: str = "the next one") -> None:
    """The module has other code from now on. (Of another length: Python tells by that, and by whole seconds.)"""
    path = app.directory / f"{name}.py"
    path.write_text(f"{path.read_text()}\nVERSION = {version!r}\n{add}\n")


def pids(app: RunningApp, client: mob.Client, role: str = "back") -> list[int]:
    return [member.pid for member in app.ready(client, role)]


def ask_to_reload(app: RunningApp, *roles: str) -> subprocess.CompletedProcess[str]:
    """The command `mob reload`."""
    command = [sys.executable, "-m", "mob", "reload", *roles, "-a", app.name]
    return subprocess.run(command, capture_output=True, text=True, timeout=patient(60), check=False)


def say_goodbye_to(old: list[int]) -> None:
    wait_until(lambda: not any(map(is_alive, old)), "the old ones have ended")


@pytest.mark.parametrize("how", ["client", "signal", "command"])
def test_a_reload_brings_new_code_in_new_processes(apps: Apps, how: str) -> None:
    app = apps.start('.role("back", "./back.py", workers=3)', back=BACK)
    client = app.wait_ready()
    old = pids(app, client)
    rewrite(app)
    if how == "client":
        assert client.reload().startswith("reloaded 3 workers in ")
    elif how == "command":
        done = ask_to_reload(app)
        assert (done.returncode, done.stdout[:22]) == (0, "reloaded 3 workers in ")
    else:
        app.signal(signal.SIGHUP)
    app.wait_for(r"mob \| reloading back\.")
    app.wait_for(r"mob \| reloaded 3 workers in [0-9.]+ s\.")
    wait_until(lambda: len(set(pids(app, client)) - set(old)) == 3, "the roster tells of it")
    say_goodbye_to(old)
    assert set(client.all("back").call.version().result(patient(10)).values()) == {"the next one"}
    assert [member.generation for member in app.ready(client)] == [2, 2, 2]
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
    "is never ready": ("time.sleep(1000)", "back.0: the new one was not ready within 5 s (boot_timeout)"),
}


@pytest.mark.parametrize("kind", BAD_CODE)
def test_code_that_does_not_come_up_changes_nothing(apps: Apps, kind: str) -> None:
    add, text = BAD_CODE[kind]
    patience = 5 if kind == "is never ready" else 60
    app = apps.start(f'.role("back", "./back.py", workers=2, boot_timeout={patience})', back=BACK)
    client = app.wait_ready()
    old = pids(app, client)
    good = (app.directory / "back.py").read_text()
    rewrite(app, add=add)
    with pytest.raises(mob.MobError) as caught:
        client.reload()
    assert str(caught.value).startswith(f"the reload has failed, the old ones stay. {text}")
    assert pids(app, client) == old
    assert set(client.all("back").call.version().result(patient(10)).values()) == {"one"}
    if kind == "syntax error":
        done = ask_to_reload(app)
        assert done.returncode == 1
        assert done.stderr == f"Error: {caught.value}\n"
        app.wait_for(r"SyntaxError: invalid syntax", 2)
    wait_until(lambda: len(client.overview()) == 2, "what was tried is gone")
    (app.directory / "back.py").write_text(f"{good}\nVERSION = 'healed'\n")
    client.reload()
    assert set(client.all("back").call.version().result(patient(10)).values()) == {"healed"}


def test_one_role_is_reloaded_and_the_others_stay(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2).role("other", "./back.py")', back=BACK)
    client = app.wait_ready()
    old, other = pids(app, client), pids(app, client, "other")
    rewrite(app)
    assert ask_to_reload(app, "back").returncode == 0
    assert pids(app, client, "other") == other
    assert not set(pids(app, client)) & set(old)
    assert client.require("back").version().result(patient(10)) == "the next one"
    assert client.require("other").version().result(patient(10)) == "one"


def test_an_unknown_role_is_told_with_the_nearest_name(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    app.wait_ready()
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


def test_a_role_that_pauses_after_failures_is_reloaded_at_once(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back="1 / 0")
    client = app.connect()
    app.wait_for(r"next try in [1-9]")
    apps.write(back=BACK)
    assert client.reload("back").startswith("reloaded 1 worker")
    assert client.require("back").version().result(patient(10)) == "one"


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


@pytest.mark.parametrize("export", ["waits_for", "sleeps_for"])
def test_a_call_in_flight_finishes_where_it_began(apps: Apps, tmp_path: Path, export: str) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    client = app.wait_ready()
    old = pids(app, client)
    call = getattr(client.require("back"), export)(str(tmp_path / "go"))
    app.wait_for("begun")
    rewrite(app)
    client.reload()
    assert client.require("back").version().result(patient(10)) == "the next one"
    assert is_alive(old[0])
    (tmp_path / "go").touch()
    assert call.result(patient(10)) == "one"
    say_goodbye_to(old)


def test_a_stream_that_is_read_goes_on_to_its_end(apps: Apps, tmp_path: Path) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    client = app.wait_ready()
    old = pids(app, client)
    stream = iter(client.require("back").counts_until(str(tmp_path / "go")))
    assert tuple(next(stream)) == ("one", 0)
    rewrite(app)
    client.reload()
    read = [next(stream) for _ in range(10)]
    (tmp_path / "go").touch()
    read += list(stream)
    assert [(version, number) for version, number in read] == [("one", number) for number in range(1, len(read) + 1)]
    say_goodbye_to(old)


def test_a_function_of_the_caller_is_called_through_a_reload_of_the_callee(apps: Apps, tmp_path: Path) -> None:
    back = """
        import asyncio, os

        async def reports_to(report, path):
            while not os.path.exists(path):
                await report("goes on")
                await asyncio.sleep(0.005)
            await report("ends")
        """
    app = apps.start('.role("back", "./back.py")', back=back)
    client = app.wait_ready()
    old = pids(app, client)
    heard: list[str] = []
    call = client.require("back").reports_to(heard.append, str(tmp_path / "go"))
    wait_until(lambda: heard, "it reports")
    client.reload()
    count = len(heard)
    wait_until(lambda: len(heard) > count, "it still reports")
    (tmp_path / "go").touch()
    call.result(patient(10))
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


def test_a_stop_during_a_reload_ends_all(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', options="grace=2", back=BACK)
    client = app.wait_ready()
    rewrite(app, add="time.sleep(1000)")
    app.signal(signal.SIGHUP)
    wait_until(lambda: len(client.overview()) == 3, "the reload has begun")
    app.processes()
    assert app.stop() == 0
    app.wait_gone()
