"""An app used by other processes: clients, and the `mob` command."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import mob
from mob.cli.main import main
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
    import asyncio, os
    import mob

    @mob.on("message")
    def hear(obj):
        print("heard:", obj, "of", repr(mob.caller().role))

    def pid():
        return os.getpid()

    def add(a, b=2):
        return a + b

    async def wait(seconds, begin=None):
        if begin is not None:
            await begin()
        await asyncio.sleep(seconds)
        return seconds

    async def ask(question, times):
        return [await question(number) for number in range(times)]

    def say(text):
        print("says:", text)

    def work():
        import time
        print("works")
        time.sleep(0.5)
    """


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("outside")) as apps:
        app = apps.start('.role("back", "./back.py", workers=2).role("one", "./back.py")', back=BACK)
        app.wait_ready()
        yield app


@pytest.fixture
def client(app: RunningApp) -> Iterator[mob.Client]:
    with mob.connect(app.name) as client:
        yield client


@pytest.fixture
def running(apps: Apps) -> RunningApp:
    """An app for this test alone, which ends it."""
    app = apps.start('.role("back", "./back.py", workers=2)', options="grace=1", back=BACK)
    app.wait_ready()
    return app


def pids(client: mob.Client) -> set[int]:
    return {member.pid for member in client.members() if member.role == "back" and member.state == "ready"}


# ------------------------------------------------------------------------------------------------- clients


def test_a_client_calls(client: mob.Client) -> None:
    back = client.require("back")
    assert back.add(1).result(patient(10)) == 3
    assert back.add(1, b=5).result(patient(10)) == 6
    assert {back.pid().result(patient(10)) for _ in range(10)} == pids(client)


def test_a_client_sends_to_all_to_any_and_to_one(app: RunningApp, client: mob.Client) -> None:
    one = min(pids(client))
    client.send("for everybody")
    client.all("back").send("for all")
    client.any("back").send("for any")
    client.pid(one).send("for one")
    app.wait_for("heard: for everybody of ''", 2)
    app.wait_for("heard: for all of ''", 2)
    app.wait_for("heard: for any of ''", 1)
    app.wait_for(f"{one} .* heard: for one of ''", 1)


def test_a_client_calls_all_any_and_one(client: mob.Client) -> None:
    one = min(pids(client))
    assert client.all("back").call.pid().result(patient(10)) == {pid: pid for pid in pids(client)}
    assert client.any("back").call.pid().result(patient(10)) in pids(client)
    assert client.pid(one).call.pid().result(patient(10)) == one


def test_a_mobster_calls_a_function_of_a_client(client: mob.Client) -> None:
    threads: set[int] = set()

    def question(number: int) -> int:
        threads.add(threading.get_ident())
        return number * number

    assert client.require("back").ask(question, 5).result(patient(10)) == [0, 1, 4, 9, 16]
    assert threads.isdisjoint({threading.get_ident()})


def test_a_mobster_calls_an_async_function_of_a_client(client: mob.Client) -> None:
    async def question(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    assert client.require("back").ask(question, 3).result(patient(10)) == [1, 2, 3]


def test_a_client_hears_who_leaves_and_joins(client: mob.Client) -> None:
    heard: list[tuple[str, int]] = []
    client.on("leave", lambda member: heard.append(("leave", member.pid)))

    @client.on("join")
    def joined(member: Any) -> None:
        heard.append(("join", member.pid))

    old = min(pids(client))
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: len(heard) == 2, "both were heard")
    assert heard[0] == ("leave", old)
    assert heard[1][0] == "join"
    assert heard[1][1] in pids(client) - {old}


def test_a_client_serves_asyncio_code(client: mob.Client) -> None:
    back = client.require("back")

    async def main() -> tuple[list[int], dict[int, int]]:
        sums = await asyncio.gather(*(back.add(number, 1) for number in range(50)))
        return sums, await client.all("back").call.pid()

    sums, everywhere = asyncio.run(main())
    assert sums == list(range(1, 51))
    assert set(everywhere) == pids(client)


def test_a_client_serves_many_threads(client: mob.Client) -> None:
    back = client.require("back")
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: back.add(number).result(patient(10)), range(200))) == list(range(2, 202))


def test_two_clients_are_two(app: RunningApp, client: mob.Client) -> None:
    back = client.require("back")
    with mob.connect(app.name) as other:
        assert other.require("back").add(1).result(patient(10)) == back.add(1).result(patient(10)) == 3
    assert back.add(1).result(patient(10)) == 3


def test_a_client_knows_the_app(app: RunningApp, client: mob.Client) -> None:
    assert client.app == app.name
    assert client.kingpin_pid == app.process.pid
    assert repr(client) == f"<Client of {app.name!r}>"
    assert {"add", "ask", "pid", "say", "wait"} <= {export.name for export in client.roles()["back"].exports or ()}
    assert client.statistics()["pending"] == 0


# ------------------------------------------------------------------------------------------------- the end of one


def test_what_was_said_before_the_close_arrives(app: RunningApp) -> None:
    with mob.connect(app.name) as client:
        client.all("back").send("just before the close")
    app.wait_for("heard: just before the close", 2, patience=patient(5))


def test_a_call_that_nobody_waits_for_arrives_before_the_close(app: RunningApp) -> None:
    with mob.connect(app.name) as client:
        client.require("back").say("called just before the close")
    app.wait_for("says: called just before the close", 1, patience=patient(5))


def test_a_message_is_heard_though_its_sender_has_gone(app: RunningApp, client: mob.Client) -> None:
    gone = mob.connect(app.name)
    gone.require("one").work()
    app.wait_for("works")
    client.require("one").work()
    gone.all("one").send("goodbye")
    gone.close()
    app.wait_for("heard: goodbye")


def test_a_client_that_knows_itself_sends_nothing_to_itself(app: RunningApp) -> None:
    with mob.connect(app.name) as client:
        assert os.getpid() in [member.pid for member in client.members() if not member.role]
        assert all(each.member.role for each in client._peer.contacts.hearing_and_self())


def test_a_closed_client_says_so(app: RunningApp) -> None:
    client = mob.connect(app.name)
    client.close()
    client.close()
    assert repr(client) == f"<Client of {app.name!r}, closed>"
    for use in (
        lambda: client.require("back"),
        lambda: client.send(1),
        lambda: client.all("back"),
        lambda: client.any("back"),
        lambda: client.pid(1),
        client.members,
        client.overview,
    ):
        with pytest.raises(mob.AppNotRunning, match=re.escape(f"this client of {app.name!r} was closed.")):
            use()


def test_a_proxy_of_a_closed_client_fails_at_once(app: RunningApp) -> None:
    client = mob.connect(app.name)
    back, everybody = client.require("back"), client.all("back")
    assert back.add(1).result(patient(10)) == 3
    client.close()
    with pytest.raises(mob.Unavailable, match="has ended"):
        back.add(1).result(patient(5))
    with pytest.raises((mob.Unavailable, mob.PartialFailure), match="has ended"):
        everybody.call.add(1).result(patient(5))


def test_calls_under_way_end_with_the_client(app: RunningApp) -> None:
    client = mob.connect(app.name)
    back = client.require("back")
    has_begun = threading.Event()
    call = back.wait(1000, has_begun.set)
    assert has_begun.wait(patient(20))
    client.close()
    with pytest.raises((mob.Lost, mob.Unavailable)):
        call.result(patient(5))


def test_a_script_that_forgets_to_close_ends_all_the_same(app: RunningApp) -> None:
    script = f"import mob; print(mob.connect({app.name!r}).require('back').add(1).result(10))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=patient(20), check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


# ------------------------------------------------------------------------------------------- the end of the app


def test_there_is_no_such_app(app: RunningApp) -> None:
    with pytest.raises(mob.AppNotRunning) as caught:
        mob.connect(app.name + "x")
    assert (
        str(caught.value) == f"no app named {app.name + 'x'!r} is running on this machine. Did you mean {app.name!r}?"
    )


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_calls_under_way_end_with_the_app_and_its_client_says_so(running: RunningApp, how: str) -> None:
    client = running.clients[0]
    back, everybody = client.require("back"), client.all("back")
    assert back.add(1).result(patient(10)) == 3
    call = back.wait(1000)
    running.kill() if how == "killed" else running.stop()
    with pytest.raises((mob.Lost, mob.Unavailable)):
        call.result(patient(5))
    running.wait_gone()

    def refuses() -> bool:
        try:
            client.require("back")
        except mob.AppNotRunning as error:
            return str(error) == f"the app {running.name!r} has ended."
        return False

    wait_until(refuses, "the client has noticed", patient(5))
    with pytest.raises(mob.Unavailable, match="has ended"):
        back.add(1).result(patient(5))
    with pytest.raises((mob.Unavailable, mob.PartialFailure), match="has ended"):
        everybody.call.add(1).result(patient(5))


def test_calls_that_wait_for_a_worker_end_with_the_app(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back="import threading; threading.Event().wait()")
    client = app.connect()
    call = client.require("back").foo()
    app.stop()
    with pytest.raises(mob.Unavailable, match=rf"back\.foo: the app '{app.name}' has ended\.|has ended"):
        call.result(patient(5))


def test_a_client_of_a_killed_kingpin_still_gets_what_was_under_way(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', options="grace=20", back=BACK)
    has_begun = threading.Event()
    call = app.wait_ready().require("back").wait(0.5, has_begun.set)
    assert has_begun.wait(patient(20))
    app.kill()
    assert call.result(patient(20)) == 0.5


# ---------------------------------------------------------------------------------------------- the command

MOB = str(Path(sys.executable).parent / "mob")


def command(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a pipe."""
    env = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    return subprocess.run(arguments, capture_output=True, text=True, timeout=patient(30), check=False, cwd=cwd, env=env)


def table(text: str) -> list[list[str]]:
    """Return the rows below the headings."""
    lines = [line for line in text.splitlines() if line.strip() and not set(line) <= set(" ─")]
    return [re.split(r"\s{2,}", line.strip()) for line in lines[2:]]


def test_ps_shows_a_line_for_each_place(apps: Apps) -> None:
    app = apps.start(
        '.role("back", "./back.py", workers=2).role("bad", "./bad.py")', back=BACK, bad="raise ValueError('no luck')"
    )
    client = app.wait_ready(2)
    for member in app.ready(client):
        for _ in range(3):
            client.pid(member.pid).call.add(1).result(patient(10))
    victim = app.ready(client)[1].pid
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len({m.pid for m in app.ready(client)} - {victim}) == 2, "the successor is ready")
    wait_until(lambda: client.overview()[0].calls == 3, "the calls were reported")
    wait_until(lambda: client.overview()[2].state == "failing", "the bad role waits for its next try")
    shown = command(MOB, "ps", "-a", app.name)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert re.match(rf"\s*{app.name} · Kingpin {app.process.pid}\s*\n", shown.stdout)
    heads = ["role", "index", "pid", "state", "uptime", "restarts", "calls", "hand", "cpu", "memory", "note"]
    assert shown.stdout.splitlines()[2].split() == heads
    first, second = app.ready(client)
    rows = table(shown.stdout)
    assert rows[0][:4] == ["back", "0", str(first.pid), "ready"]
    assert rows[0][5:7] == ["0", "3"]
    assert rows[1][:4] == ["back", "1", str(second.pid), "ready"]
    assert rows[1][5:7] == ["1", "0"]
    for row in rows[:2]:
        assert re.fullmatch(r"\d+s", row[4])
        assert row[7] == "0"
        assert re.fullmatch(r"\d+%", row[8])
        assert re.fullmatch(r"\d+ MB", row[9])
    assert rows[2][:2] == ["bad", "0"]
    assert "ValueError: no luck" in shown.stdout
    narrow = CliRunner(env={"COLUMNS": "80"}).invoke(main, ["ps", "-a", app.name])
    assert narrow.output.splitlines()[2].split() == heads  # only the note is wrapped


def test_metrics_asks_which_app_is_meant(apps: Apps, app: RunningApp) -> None:
    second = apps.start('.role("back", "./back.py")', name="t-second", back=BACK)
    second.wait_ready()
    shown = CliRunner().invoke(main, ["metrics"])
    assert shown.exit_code == 2
    assert re.fullmatch(
        r"Error: several apps are running: .*\. Choose one with -a NAME, or set MOB_APP\.\n", shown.output
    )
    assert {app.name, "t-second"} <= set(re.split(r"[ ,.]+", shown.output))


def test_ps_of_an_app_that_does_not_run() -> None:
    shown = command(sys.executable, "-m", "mob", "ps", "-a", "t-there-is-no-such-app")
    assert shown.returncode == 3
    assert shown.stderr.startswith("Error: no app named 't-there-is-no-such-app' is running on this machine. ")


@pytest.fixture
def alone() -> list[str]:
    """Return the start of a command that cannot see other apps (they are found by their sockets)."""
    head = ["unshare", "--net"]
    if shutil.which("unshare") is None or command(*head, "true").returncode:
        pytest.skip("this user cannot make a network namespace, and other apps may be running")
    return head


def test_ps_when_nothing_runs(alone: list[str]) -> None:
    shown = command(*alone, MOB, "ps")
    assert shown.returncode == 3
    assert shown.stderr == "Error: no app of yours is running on this machine. Start one with `mob run main.py`.\n"


def test_ps_when_one_app_runs_needs_no_name(apps: Apps, alone: list[str]) -> None:
    apps.write(back=BACK, main='import mob\nmob.start("t-alone").base(__file__).role("back", "./back.py").run()')
    app = apps.run("t-alone", [*alone, sys.executable, "main.py"])
    network = f"/proc/{app.process.pid}/ns/net"
    wait_until(lambda: os.readlink(network) != os.readlink("/proc/self/ns/net"), "it has a network of its own")
    here = ["nsenter", f"--net={network}"]
    shown = wait_until(lambda: s if " ready " in (s := command(*here, MOB, "ps")).stdout else None, "it is ready")
    assert f"t-alone · Kingpin {app.process.pid}" in shown.stdout
    assert [row[0] for row in table(shown.stdout)] == ["back"]


def test_run_runs_the_main_script_as_python_would(apps: Apps) -> None:
    apps.write(
        back=BACK,
        beside="name = 't-by-run'",
        main="""
        import sys
        import mob
        import beside

        if __name__ == "__main__":
            print("arguments:", sys.argv[1:])
            mob.start(beside.name).base(__file__).role("back", "./back.py", workers=2).run()
            print("all is over")
        """,
    )
    app = apps.run("t-by-run", [MOB, "run", "main.py", "--some", "thing"])
    client = app.wait_ready()
    assert client.require("back").add(1).result(patient(10)) == 3
    app.signal(signal.SIGINT)
    assert app.wait() == 0
    app.wait_gone()
    assert app.lines == ["arguments: ['--some', 'thing']", "mob | stopping.", "all is over"]


def test_run_tells_a_wrong_plan_without_a_traceback(apps: Apps) -> None:
    apps.write(main='import mob\nmob.start("bad").base(__file__).role("back", "./bakc.py").run()', back="")
    shown = command(MOB, "run", "main.py", cwd=apps.directory)
    assert shown.returncode == 1
    assert shown.stderr.startswith("Error: role 'back': there is no file ")
    assert "Did you mean 'back.py'?" in shown.stderr


def test_run_of_no_file_and_the_version() -> None:
    shown = CliRunner().invoke(main, ["run", "no-such-file.py"])
    assert shown.exit_code == 2
    assert "no-such-file.py" in shown.output
    shown = CliRunner().invoke(main, ["--version"])
    assert (shown.exit_code, shown.output) == (0, f"mob, version {mob.__version__}\n")
