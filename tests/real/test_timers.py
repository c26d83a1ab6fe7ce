"""Timers of real apps: which workers run them, how runs end, and what reloads, deaths and upgrades do to them."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mob
from tests.patience import PATIENCE
from tests.real.test_idle import MOST, SECONDS, wakes
from tests.running import Apps, RunningApp, apps_in, freeze, mob_command, wait_until

BACK = """
import asyncio
import os
import threading
import mob

seen = []
may_end = threading.Event()


@mob.every(0.05)
def _private():
    "Not exported."


@mob.every(0.05, name="later")
async def async_one():
    await asyncio.sleep(0)


@mob.every(0.05)
async def broken():
    raise ValueError("no report today")


@mob.every(0.05, each=True)
def everywhere(): ...


@mob.cron("* * * * * *")
def each_second():
    return threading.Lock()  # what it returns goes nowhere


@mob.every(3600)
def rare():
    print("rare", flush=True)


@mob.every(3600)
def held():
    print("held begins", flush=True)
    may_end.wait()


@mob.on("error")
def keep(error, context):
    if len(seen) < 5:
        seen.append([context.kind, context.name, str(error), context.caller])


@mob.export
def what_was_seen():
    return seen


@mob.export
def release():
    may_end.set()


@mob.export
def pid():
    return os.getpid()
"""


@pytest.fixture(scope="module")
def apps_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apps]:
    with apps_in(tmp_path_factory.mktemp("timers")) as apps:
        yield apps


@pytest.fixture(scope="module")
def app(apps_here: Apps) -> RunningApp:
    return apps_here.start('.role("back", "./back.py", workers=2, threads=4)', back=BACK)


@pytest.fixture(scope="module")
def client(app: RunningApp) -> mob.Client:
    return app.wait_ready()


def timer(client: mob.Client, label: str) -> mob.TimerMetrics | None:
    return next((each for each in client.timers() if each.label == label), None)


def known(client: mob.Client, label: str) -> mob.TimerMetrics:
    found = timer(client, label)
    assert found is not None
    return found


def wait_timer(
    client: mob.Client, label: str, question: Callable[[mob.TimerMetrics], object], what: str
) -> mob.TimerMetrics:
    def answer() -> mob.TimerMetrics | None:
        found = timer(client, label)
        return found if found is not None and question(found) else None

    return wait_until(answer, f"{label} {what}")


def runs(found: mob.TimerMetrics, outcome: str = "ok") -> int:
    return found.runs.get(outcome, 0)


# ------------------------------------------------------------------------------------------------------ the ordinary


@pytest.mark.parametrize("name", ["_private", "later", "everywhere", "each_second"])
def test_it_runs_again_and_again(client: mob.Client, name: str) -> None:
    found = wait_timer(client, f"back.{name}", lambda each: runs(each) >= 2, "has run twice")
    assert (found.outcome, found.error) == ("ok", "")
    assert found.last > 0
    assert set(found.runs) <= {"ok", "missed"}  # a busy machine may miss some


def test_what_is_raised_is_an_error_and_the_timer_goes_on(app: RunningApp, client: mob.Client) -> None:
    found = wait_timer(client, "back.broken", lambda each: runs(each, "failed") >= 3, "has failed three times")
    assert (found.outcome, found.error) == ("failed", "ValueError: no report today")
    app.wait_for(r"mob \| timer back.broken failed: ValueError: no report today")
    shown = mob_command(app.directory, "ps", app.name).stdout
    assert "the last run of the timer back.broken failed: ValueError: no report today" in shown
    assert any("timer back.broken failed" in each.text for each in client.history().events)
    app.wait_for(r"back\.\d \d+ \| the timer back.broken raised ValueError: no report today")
    app.wait_for(r'back\.\d \d+ \|     raise ValueError\("no report today"\)')
    wait_until(lambda: any(client.require("back").what_was_seen().result(PATIENCE)), "the hook has seen it")
    found_by_hook = client.all("back").call.what_was_seen().result(PATIENCE)
    entry = next(seen[0] for seen in found_by_hook.values() if seen)
    assert entry == ["timer", "back.broken", "no report today", None]


def test_each_worker_runs_what_is_for_each(client: mob.Client) -> None:
    assert client.run_timer("back.everywhere").endswith("in 2 workers.")


def test_runs_count_among_the_calls_and_are_not_for_callers(client: mob.Client) -> None:
    wait_until(
        lambda: any(each.export == "_private" and each.calls for each in client.metrics().exports), "runs are measured"
    )
    wait_until(
        lambda: any(each.export == "broken" and each.failed for each in client.metrics().exports), "failures, too"
    )
    assert not any("!" in each.export for each in client.metrics().exports)
    with pytest.raises(mob.UnknownExport):
        client.require("back").rare().result(PATIENCE)
    assert {each.name for each in client.roles()["back"].exports or ()} == {"what_was_seen", "release", "pid"}


def test_one_alarm_for_all_of_them(app: RunningApp) -> None:
    assert timer_descriptors(app.process.pid) == 1


def timer_descriptors(pid: int) -> int:
    links = Path(f"/proc/{pid}/fd").iterdir()
    return sum("timerfd" in os.readlink(each) for each in links)


# ----------------------------------------------------------------------------------------------------------- run now


def test_run_now_says_how_it_went(app: RunningApp, client: mob.Client) -> None:
    before = wait_timer(client, "back.rare", lambda each: each.next, "is there")
    done = mob_command(app.directory, "timers", "run", "back.rare", "-a", app.name)
    assert (done.returncode, done.stdout[:15]) == (0, "back.rare: ok a")
    app.wait_for(r"\| rare$")
    after = timer(client, "back.rare")
    assert after is not None
    assert after.next == pytest.approx(before.next, abs=1)
    done = mob_command(app.directory, "timers", "run", "back.broken", "-a", app.name)
    assert done.returncode == 1
    assert "back.broken: failed after" in done.stderr
    assert "ValueError: no report today" in done.stderr


def test_one_that_runs_is_not_run_beside_itself(app: RunningApp, client: mob.Client) -> None:
    with pytest.raises(mob.CallTimeout):
        client.run_timer("back.held", timeout=0.01)
    app.wait_for("held begins")
    assert (known(client, "back.held")).running == 1
    done = mob_command(app.directory, "timers", "run", "back.held", "-a", app.name)
    assert done.returncode == 1
    assert "back.held is already running, for" in done.stderr
    client.all("back").call.release().result(PATIENCE)
    wait_timer(client, "back.held", lambda each: runs(each) == 1, "has ended")
    assert len(app.wait_for("held begins")) == 1


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["run", "back.tick"], 1, "'back' has no timer 'tick'."),
        (["run", "bakc.rare"], 1, "this app has no role 'bakc'. Did you mean 'back'?"),
        (
            ["run", "rare"],
            2,
            "'rare' does not name the role of the timer. Expected ROLE.NAME. Did you mean 'back.rare'?",
        ),
        (["run", "tick"], 2, "Expected ROLE.NAME. `mob timers` lists them."),
        (["run"], 2, "expected one timer, as in `mob timers run back.report`."),
        (["a", "b"], 2, "expected at most one app, got 2 words"),
    ],
)
def test_what_cannot_be_run(app: RunningApp, client: mob.Client, words: list[str], status: int, text: str) -> None:
    wait_timer(client, "back.rare", bool, "is declared")
    done = mob_command(app.directory, "timers", *words, "-a", app.name)
    assert done.returncode == status
    assert text in " ".join(done.stderr.split())


def test_they_are_shown_as_a_table_and_as_json(app: RunningApp, client: mob.Client) -> None:
    wait_timer(client, "back.broken", lambda each: each.outcome, "has ended")
    shown = mob_command(app.directory, "timers", app.name).stdout
    for text in (
        "back.rare",
        "every 3600 s",
        "* * * * * *",
        "every 0.05 s, in each worker",
        "failed",
        "ValueError: no ",
    ):
        assert text in shown
    narrow = mob_command(app.directory, "timers", app.name, COLUMNS="80").stdout
    assert re.search(r" next \(\S+\)", narrow)
    assert re.search(r"\n   (.*; )?ValueError: no report today\n", narrow)
    assert "…" not in narrow
    rows = json.loads(mob_command(app.directory, "timers", "--json", "-a", app.name).stdout)
    row = next(each for each in rows if each["timer"] == "back.broken")
    assert (row["outcome"], row["error"], row["app"]) == ("failed", "ValueError: no report today", app.name)


# ------------------------------------------------------------------------------------------------ deaths, standstills

HOLDING = """
import os, signal, time, mob

@mob.every(0.05)
def tick():
    print("tick", os.getpid(), flush=True)
    while not os.path.exists("go"):
        time.sleep(0.01)

@mob.export
def foo(): ...
"""


def test_a_worker_that_dies_in_a_run_loses_it_and_another_runs_the_next(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=HOLDING)
    client = app.wait_ready()
    (begun,) = app.wait_for(r"tick (\d+)")
    os.kill(int(begun[1]), signal.SIGKILL)
    app.wait_for(r"mob \| timer back.tick: run lost: its worker was killed by SIGKILL")
    found = wait_timer(client, "back.tick", lambda each: runs(each, "lost"), "was lost")
    assert found.outcome == "lost"
    (apps.directory / "go").touch()
    wait_timer(client, "back.tick", lambda each: runs(each) >= 2, "goes on")


def test_a_run_that_takes_long_is_told_once_and_nothing_piles_up(apps: Apps) -> None:
    began = time.monotonic()
    app = apps.start('.role("back", "./back.py", threads=4)', back=HOLDING)
    client = app.wait_ready()
    wait_timer(client, "back.tick", lambda each: runs(each, "missed") >= 5, "was missed five times")
    app.wait_for("mob . timer back.tick: run skipped because the previous one is still running, for")
    assert app.output.count("run skipped") == 1
    assert len(app.wait_for(r"tick \d+")) == 1
    (apps.directory / "go").touch()
    wait_timer(client, "back.tick", lambda each: runs(each) >= 3, "goes on")
    told = app.output.count("run skipped") + app.output.count("runs missed")
    assert told <= 1 + (time.monotonic() - began) / 60  # at once, and then at most once a minute


def test_a_kingpin_that_stood_still_makes_up_for_one_run(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back="import mob\n@mob.every(0.2)\ndef tick(): ...")
    client = app.wait_ready()
    wait_timer(client, "back.tick", runs, "has run")
    freeze(app.process.pid)
    time.sleep(1.1)  # what it sleeps through
    app.signal(signal.SIGCONT)
    app.wait_for(r"mob \| timer back.tick: \d+ runs missed: the supervisor was stopped or busy\.")
    wait_timer(client, "back.tick", lambda each: runs(each) >= 3, "goes on")


def test_a_stop_waits_for_the_run_and_begins_none(apps: Apps) -> None:
    back = """
import time, mob

@mob.every(0.01)
def tick():
    print("begins", flush=True)
    time.sleep(0.3)
    print("ends", flush=True)
"""
    app = apps.start('.role("back", "./back.py")', back=back)
    app.wait_for("begins")
    assert app.stop() == 0
    assert app.output.count("begins") == app.output.count("ends")
    assert "lost" not in app.output


def test_a_kingpin_that_is_killed_leaves_nothing(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=HOLDING)
    app.wait_for(r"tick \d+")
    app.kill()
    (apps.directory / "go").touch()
    app.wait_gone()


# --------------------------------------------------------------------------------------------------------- new code


def write_timers(apps: Apps, *names: str, more: str = "") -> None:
    functions = "".join(f"@mob.every(0.05)\ndef {name}(): ...\n" for name in names)
    apps.write(back=f"import mob\n{functions}\ndef foo(): return {names!r}\n{more}")


def names(client: mob.Client) -> list[str]:
    return [each.name for each in client.timers()]


def test_a_reload_brings_the_timers_of_the_new_code(apps: Apps) -> None:
    write_timers(apps, "old", "kept")
    app = apps.start('.role("back", "./back.py", workers=2)')
    client = app.wait_ready()
    before = wait_timer(client, "back.kept", runs, "has run")
    write_timers(apps, "kept", "new")
    client.reload("back")
    assert sorted(names(client)) == ["kept", "new"]
    wait_timer(client, "back.new", runs, "has run")
    assert runs(timer(client, "back.kept") or before) >= runs(before)
    write_timers(apps)
    client.reload("back")
    assert names(client) == []
    assert mob_command(app.directory, "timers", app.name).stdout.startswith(f"{app.name} has no timers.")


def test_a_role_that_cannot_be_imported_is_named_by_mob_timers(apps: Apps) -> None:
    back = "import mob\n@mob.every(60)\ndef foo(): ...\nimport missing_one\n"
    app = apps.start('.role("back", "./back.py")', back=back)
    client = app.connect()
    wait_until(lambda: any("missing_one" in each for each in client.not_ready()), "it has failed")
    shown = mob_command(app.directory, "timers", app.name)
    assert (shown.returncode, shown.stdout) == (0, "")
    assert shown.stderr.startswith(
        "Timers of a role are known once it is ready. These roles are not ready and may have some; none are known "
        "yet:\n  back: 0 of 1 workers ready ("
    )
    assert "missing_one" in shown.stderr


def test_a_reload_that_fails_leaves_the_old_ones(apps: Apps) -> None:
    write_timers(apps, "old")
    app = apps.start('.role("back", "./back.py")')
    client = app.wait_ready()
    wait_timer(client, "back.old", runs, "has run")
    write_timers(apps, "new", more='@mob.on("start")\ndef fail(): raise ValueError("no")\n')
    with pytest.raises(mob.MobError):
        client.reload("back")
    assert names(client) == ["old"]
    count = runs(known(client, "back.old"))
    wait_timer(client, "back.old", lambda each: runs(each) > count, "goes on")


def test_an_upgrade_of_the_kingpin_keeps_what_was_and_what_runs(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", threads=2)', back=HOLDING + "\n@mob.every(0.05)\ndef tock(): ...\n")
    client = app.wait_ready()
    app.wait_for(r"tick \d+")
    before = wait_timer(client, "back.tock", runs, "has run")
    client.upgrade(PATIENCE)
    after = timer(client, "back.tock")
    assert after is not None
    assert runs(after) >= runs(before)
    assert (known(client, "back.tick")).running == 1
    (apps.directory / "go").touch()
    wait_timer(client, "back.tick", lambda each: runs(each) >= 2, "has ended and goes on")
    wait_timer(client, "back.tock", lambda each: runs(each) > runs(after), "goes on")
    assert timer_descriptors(app.process.pid) == 1


@pytest.mark.parametrize("is_export_first", [True, False])
def test_a_limit_of_an_export_holds_for_the_runs_of_its_timer(apps: Apps, is_export_first: bool) -> None:
    decorators = ["@mob.export(kill_after=0.5)", "@mob.every(0.1)"]
    lines = decorators if is_export_first else decorators[::-1]
    back = "\n".join(["import mob, threading", *lines, "def stuck():", "    threading.Event().wait()"])
    app = apps.start('.role("back", "./back.py")', back=back)
    client = app.wait_ready()
    found = wait_timer(client, "back.stuck", lambda each: runs(each, "lost"), "was killed")
    assert "back.stuck" in found.error
    assert "kill_after=0.5" in found.error


@pytest.mark.parametrize(
    ("word", "text"),
    [("list", "`mob timers` alone lists all"), ("back.report", "`mob timers run back.report` runs a timer")],
)
def test_a_word_that_names_no_app_is_told_what_it_may_mean(tmp_path: Path, word: str, text: str) -> None:
    done = mob_command(tmp_path, "timers", word)
    assert done.returncode == 2
    assert f"no app named {word!r} is running on this machine. {text}" in " ".join(done.stderr.split())


# ----------------------------------------------------------------------------------------------------- other roles


def test_who_may_call_a_role_says_nothing_of_its_timers(apps: Apps) -> None:
    back = "import mob\n@mob.every(0.05)\ndef tick(): ...\n"
    app = apps.start('.role("back", "./back.py", callers=["front"]).role("front", "./front.py")', back=back, front="")
    wait_timer(app.wait_ready(), "back.tick", runs, "runs")


def test_a_module_that_serves_for_ever_has_timers(apps: Apps) -> None:
    back = """
import socket, mob

@mob.every(0.05)
def tick(): ...

def add():
    mob.every(0.05, name="added")(lambda: None)

with mob.listen("127.0.0.1", 0) as sock:
    mob.ready()
    while True:
        sock.accept()
"""
    app = apps.start('.role("back", "./back.py")', back=back)
    client = app.wait_ready()
    wait_timer(client, "back.tick", runs, "runs")
    client.require("back").add().result(PATIENCE)
    wait_timer(client, "back.added", runs, "runs")


def test_two_timers_of_one_name_are_a_mistake(apps: Apps) -> None:
    back = "import mob\n@mob.every(1)\n@mob.every(2)\ndef tick(): ...\n@mob.every(3)\ndef tick(): ...\n"
    app = apps.start('.role("back", "./back.py", boot_tries=1)', back=back)
    app.wait_for("'back' already has a timer 'tick'. Give one of them another name: name='...'.")
    assert app.wait() == 3


# ------------------------------------------------------------------------------------------------------------- idle


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="proc(5)")
def test_who_waits_for_a_timer_uses_no_processor_time(apps: Apps) -> None:
    back = "import mob\n@mob.every(3600)\ndef rare(): ...\n@mob.cron('0 3 29 2 *')\ndef rarer(): ...\n"
    app = apps.start('.role("back", "./back.py", workers=2)', back=back)
    client = app.wait_ready()
    assert len(client.timers()) == 2
    pids = [app.process.pid, *(member.pid for member in app.ready(client))]
    time.sleep(0.5)  # what belongs to the start is over, mostly
    before = [wakes(pid) for pid in pids]
    time.sleep(SECONDS)
    after = [wakes(pid) for pid in pids]
    assert max(now - then for now, then in zip(after, before, strict=True)) <= MOST


def test_an_app_without_timers_has_nothing_of_them(apps: Apps) -> None:
    back = "import sys\ndef imported(): return [name for name in sys.modules if 'timer' in name or 'schedules' in name]"
    app = apps.start('.role("back", "./back.py")', back=back)
    client = app.wait_ready()
    assert client.timers() == ()
    assert client.require("back").imported().result(PATIENCE) == []
    assert timer_descriptors(app.process.pid) == 0
    with pytest.raises(mob.MobError, match="'back' has no timers"):
        client.run_timer("back.tick")
