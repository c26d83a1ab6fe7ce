"""Spares in real processes: which one takes a place, what it knows of it, and that nothing waits for a boot."""

from __future__ import annotations

import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mob
from mob import testing
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, free_port, wait_until

BACK = """
    import os, time, mob

    print("is loaded", mob.me().index)

    @mob.on("start")
    def start():
        print("starts", mob.me().index)

    @mob.on("ready")
    def ready():
        print("is ready", mob.me().index)

    def place():
        return os.getpid(), mob.me().index, mob.me().generation

    def crash():
        os._exit(3)

    def waits(seconds):
        time.sleep(seconds)
    """


@pytest.fixture
def apps(tmp_path: Path) -> Iterator[Apps]:
    with apps_in(tmp_path) as apps:
        yield apps


def members(client: mob.Client, role: str = "back") -> dict[int, tuple[int, str]]:
    """Return the place and state of each process of a role, by its pid."""
    return {each.pid: (each.index, each.state) for each in client.members() if each.role == role}


def wait_spare(client: mob.Client, role: str = "back", other_than: int = 0) -> int:
    """Wait until a spare has booted; return its pid."""

    def pid() -> int:
        found = [pid for pid, (_, state) in members(client, role).items() if state == "spare" and pid != other_than]
        return found[0] if found else 0

    return wait_until(pid, f"{role} has a spare")


def start(apps: Apps, options: str = "", back: str = BACK) -> tuple[RunningApp, mob.Client]:
    app = apps.start(f'.role("back", "./back.py", spare=1{options})', back=back)
    return app, app.connect()


def test_a_spare_takes_the_place_of_a_worker_that_is_killed(apps: Apps) -> None:
    app, client = start(apps)
    back = client.require("back")
    spare = wait_spare(client)
    before, *_ = back.place().result()
    app.wait_for(rf"back.spare {spare} \| starts -1")
    assert members(client) == {before: (0, "ready"), spare: (-1, "spare")}

    os.kill(before, signal.SIGKILL)
    assert back.place().result() == [spare, 0, 2]
    app.wait_for(rf"back.0 {spare} \| is ready 0")
    app.wait_for(rf"mob \| back.0 \(pid {before}\) was killed by SIGKILL; back.spare \(pid {spare}\) takes its place.")
    following = wait_spare(client, other_than=spare)
    assert members(client) == {spare: (0, "ready"), following: (-1, "spare")}
    assert [row.restarts for row in client.overview() if row.index == 0] == [1]


def test_calls_go_on_while_workers_are_killed_without_end(apps: Apps) -> None:
    _, client = start(apps, ", workers=2")
    back = client.require("back")
    seen: set[int] = set()
    for _ in range(5):
        wait_spare(client)
        pid, *_ = back.place().result()
        seen.add(pid)
        os.kill(pid, signal.SIGKILL)
        calls = [back.place() for _ in range(20)]
        places = [call.result() for call in calls]
        assert {index for _, index, _ in places} <= {0, 1}
    assert len(seen) == 5


def test_a_crash_of_its_own_making_is_reported_with_its_status(apps: Apps) -> None:
    app, client = start(apps)
    spare = wait_spare(client)
    with pytest.raises(mob.Lost, match="exited with status 3"):
        client.require("back").crash().result()
    app.wait_for(rf"exited with status 3; back.spare \(pid {spare}\) takes its place.")


def test_a_worker_that_is_stopped_or_restarted_is_followed_by_the_spare(apps: Apps) -> None:
    app, client = start(apps)
    back = client.require("back")
    for end in (lambda pid: os.kill(pid, signal.SIGTERM), client.restart):
        spare = wait_spare(client)
        before, *_ = back.place().result()
        end(before)
        app.wait_for(rf"\(pid {before}\) stopped as requested; back.spare \(pid {spare}\) takes its place.")
        wait_until(lambda spare=spare: back.place().result()[0] == spare, "the spare has its place")


def test_a_program_that_replaces_itself_is_not_taken_for_dead(apps: Apps) -> None:
    code = (
        BACK
        + """
    def replaces():
        os.execvp("sleep", ["sleep", "600"])
    """
    )
    _, client = start(apps, back=code)
    spare = wait_spare(client)
    before, *_ = client.require("back").place().result()
    with pytest.raises(mob.Lost):
        client.require("back").replaces().result()
    assert spare in members(client), "it lives, so it has its place"
    assert members(client)[spare] == (-1, "spare")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: members(client).get(spare) == (0, "ready"), "its end was seen all the same")


def test_a_spare_can_call_others_while_it_boots(apps: Apps) -> None:
    front = """
        import mob
        BEFORE = mob.require("back").place().result()
        def told():
            return BEFORE[1]
        """
    app = apps.start('.role("back", "./back.py").role("front", "./front.py", spare=1)', back=BACK, front=front)
    client = app.connect()
    spare = wait_spare(client, "front")
    (worker,) = (pid for pid, (index, _) in members(client, "front").items() if index == 0)
    os.kill(worker, signal.SIGKILL)
    assert client.require("front").told().result() == 0
    assert members(client, "front")[spare] == (0, "ready")


def test_a_module_that_says_that_it_is_ready_waits_there_for_its_place(apps: Apps) -> None:
    code = """
        import os, threading, mob
        mob.ready()
        print("consumes as", mob.me().index)
        def place():
            return os.getpid()
        threading.Event().wait()
        """
    app, client = start(apps, back=code)
    spare = wait_spare(client)
    app.wait_for(r"back.0 \d+ \| consumes as 0")
    before = client.require("back").place().result()
    assert not [line for line in app.lines if str(spare) in line]
    os.kill(before, signal.SIGKILL)
    app.wait_for(rf"back.0 {spare} \| consumes as 0")
    assert client.require("back").place().result() == spare
    wait_spare(client)  # a spare does not delay a stop


def test_a_module_that_serves_by_itself_cannot_be_a_spare(apps: Apps) -> None:
    port = free_port()
    code = f"""
        from http.server import BaseHTTPRequestHandler, HTTPServer
        HTTPServer(("127.0.0.1", {port}), BaseHTTPRequestHandler).serve_forever()
        """
    app, client = start(apps, back=code)
    app.wait_for("'back' continues without it. Its error:")
    app.wait_for("SpareError: the module of this role serves a port by itself")
    states = [(row.index, row.state) for row in client.overview()]
    assert states == [(0, "ready"), (-1, "failed")]


def test_a_role_that_serves_http(apps: Apps) -> None:
    port = free_port()
    code = """
        import os
        async def app(scope, receive, send):
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
        """
    app = apps.start(f'.role("web", "./web.py:app", spare=1, serve="127.0.0.1:{port}")', web=code)
    client = app.connect()

    def ask() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=patient(10)) as answer:
            return int(answer.read())

    for _ in range(2):
        spare = wait_spare(client, "web")
        before = ask()
        os.kill(before, signal.SIGKILL)
        wait_until(lambda spare=spare: members(client, "web").get(spare) == (0, "ready"), "the spare serves")
        assert ask() == spare


def test_a_reload_renews_the_spare(apps: Apps) -> None:
    app, client = start(apps)
    first = wait_spare(client)
    (app.directory / "back.py").write_text("import os\ndef place():\n    return os.getpid(), 'new'\n")
    client.reload("back")
    app.wait_for("reloaded 1 worker in")
    second = wait_spare(client, other_than=first)
    before, _ = client.require("back").place().result()
    os.kill(before, signal.SIGKILL)
    assert client.require("back").place().result() == [second, "new"]


def test_another_kingpin_keeps_the_spare_and_sees_at_once_who_dies(apps: Apps) -> None:
    _, client = start(apps)
    spare = wait_spare(client)
    before, *_ = client.require("back").place().result()
    client.upgrade()
    assert members(client) == {before: (0, "ready"), spare: (-1, "spare")}
    os.kill(before, signal.SIGKILL)
    assert client.require("back").place().result() == [spare, 0, 2]
    wait_spare(client, other_than=spare)


def test_a_stop_and_the_death_of_the_kingpin_leave_no_spare(apps: Apps) -> None:
    app, client = start(apps)
    spare = wait_spare(client)
    app.process.send_signal(signal.SIGTERM)
    assert app.process.wait(patient(20)) == 0
    app.wait_for("stopping.")

    app, client = start(apps)
    spare = wait_spare(client)
    app.process.kill()
    wait_until(lambda: not os.path.exists(f"/proc/{spare}"), "the spare has ended")


def test_an_app_in_one_process_has_spares_too(tmp_path: Path) -> None:
    (tmp_path / "back.py").write_text("import mob\ndef place():\n    return mob.me().pid, mob.me().index\n")
    app = mob.start("spares").base(tmp_path).role("back", "./back.py", spare=1)
    with testing.start(app, one_process=True) as running:
        spare = wait_spare(running)
        back: Any = running.require("back")
        before, _ = back.place().result()
        running.faults.kill(before)
        wait_until(lambda: running.require("back").place().result() == [spare, 0], "the spare has its place")
