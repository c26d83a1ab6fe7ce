"""`mob.on("crash")`: handlers receive each crash of a worker with its report; processes without one receive nothing."""

from __future__ import annotations

import os
import queue
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mob
from tests.patience import PATIENCE, patient
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
    import os, sys, time
    import mob
    def leave(status):
        print("about to leave")
        sys.stdout.flush()
        os._exit(status)
    def wait():
        time.sleep(600)
    def end():
        mob.exit(0)
    """
WATCH = """
    import asyncio
    import mob
    seen, left = [], []
    @mob.on("crash")
    def note(crash):
        seen.append([crash.role, crash.index, crash.pid, crash.returncode, crash.why, list(crash.lines), crash.path])
    @mob.on("crash")
    async def note_later(crash):
        await asyncio.sleep(0)
        seen.append(["later", crash.text(), [each.label for each in crash.running], type(crash).__name__])
    @mob.on("crash")
    def broken(crash):
        raise RuntimeError("the handler is broken")
    @mob.on("leave")
    def gone(member):
        left.append(member.pid)
    def told():
        return seen
    def forget():
        seen.clear()
    def pid():
        return mob.me().pid
    """


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("crashes")) as apps:
        running = apps.start(
            '.role("back", "./back.py", intensity=100).role("watch", "./watch.py", workers=2)',
            back=BACK,
            watch=WATCH,
        )
        running.wait_ready()
        yield running


def watchers(client: mob.Client) -> list[list[list[object]]]:
    return list(client.all("watch").call.told().result(patient(20)).values())


def worker(app: RunningApp, client: mob.Client) -> mob.Member:
    return wait_until(lambda: app.ready(client, "back"), "a worker is there")[0]


def crash(app: RunningApp, client: mob.Client, signum: int = signal.SIGKILL) -> int:
    """Kill the worker; return its pid when its successor is ready."""
    before = worker(app, client)
    os.kill(before.pid, signum)
    wait_until(lambda: worker(app, client).generation > before.generation, "it has a successor")
    return before.pid


def test_each_listener_gets_the_report_once(app: RunningApp) -> None:
    client = app.clients[0]
    client.all("watch").call.forget().result()
    pid = worker(app, client).pid
    with pytest.raises(mob.Lost):
        client.require("back").leave(3).result(patient(20))
    wait_until(lambda: all(len(each) == 2 for each in watchers(client)), "both workers of the role have heard")
    for first, later in watchers(client):
        role, index, whose, returncode, why, lines, path = first
        assert (role, index, whose, returncode) == ("back", 0, pid, 3)
        assert str(why).startswith("exited with status 3")
        assert lines == ["about to leave"]
        assert f'"pid":{pid}' in Path(str(path)).read_text()
        assert later[0] == "later"
        assert f"back.0 (pid {pid}) exited with status 3" in str(later[1])
        assert later[3] == "Crash"
    app.wait_for("a handler of 'crash' raised RuntimeError: the handler is broken")


def test_a_kill_is_told_with_its_signal_and_the_calls_that_ran(app: RunningApp) -> None:
    client = app.clients[0]
    client.all("watch").call.forget().result()
    before = worker(app, client)
    call = client.require("back").wait()
    wait_until(
        lambda: [each for each in client.metrics().exports if each.export == "wait" and each.in_flight], "the call runs"
    )
    os.kill(before.pid, signal.SIGKILL)
    with pytest.raises(mob.Lost):
        call.result(patient(20))
    wait_until(lambda: all(len(each) == 2 for each in watchers(client)), "both have heard")
    for first, later in watchers(client):
        assert first[3] == -signal.SIGKILL
        assert later[2] == ["back.wait"]


def test_an_end_in_order_is_no_crash(app: RunningApp) -> None:
    client = app.clients[0]
    client.all("watch").call.forget().result()
    before = worker(app, client)
    client.require("back").end().result()
    wait_until(lambda: [each for each in app.ready(client, "back") if each.pid != before.pid], "another is there")
    client.reload("back", timeout=patient(30))
    pid = crash(app, client)
    wait_until(lambda: all(len(each) == 2 for each in watchers(client)), "both have heard")
    assert {each[0][2] for each in watchers(client)} == {pid}


def test_a_listener_that_died_itself_is_told_of_to_the_other(app: RunningApp) -> None:
    client = app.clients[0]
    first, second = app.ready(client, "watch")
    client.all("watch").call.forget().result()
    os.kill(first.pid, signal.SIGKILL)

    def told() -> list[list[object]]:
        return client.pid(second.pid).call.told().result(patient(20))

    wait_until(lambda: len(told()) == 2, "the other has heard")
    assert told()[0][:3] == ["watch", 0, first.pid]
    wait_until(lambda: len(app.ready(client, "watch")) == 2, "its successor is there")
    client.all("watch").call.forget().result()
    crash(app, client)
    wait_until(lambda: [len(each) for each in watchers(client)] == [2, 2], "the successor hears as well")


def test_a_client_may_listen_before_and_after_an_upgrade(app: RunningApp) -> None:
    client = app.clients[0]
    heard: queue.Queue[mob.Crash] = queue.Queue()
    with mob.connect(app.name) as listener:
        listener.on("crash", heard.put)
        listener.overview()  # its answer comes after the request for crashes arrived
        pid = crash(app, client)
        assert heard.get(timeout=PATIENCE).pid == pid
        client.upgrade(patient(30))
        pid = crash(app, client, signal.SIGABRT)
        report = heard.get(timeout=PATIENCE)
        assert (report.pid, report.returncode, report.node) == (pid, -signal.SIGABRT, "")


def test_a_client_listens_to_an_app_that_was_restarted(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    client = app.wait_ready()
    heard: queue.Queue[mob.Crash] = queue.Queue()
    client.on("crash", heard.put)
    app.stop()
    again = apps.run(app.name, [sys.executable, "main.py"])
    other = again.wait_ready()
    wait_until(lambda: _is_back(client), "the client takes part again")
    pid = crash(again, other)
    assert heard.get(timeout=PATIENCE).pid == pid


def _is_back(client: mob.Client) -> bool:
    try:
        return bool(client.overview())
    except mob.AppNotRunning:
        return False


def test_a_module_that_cannot_be_imported_is_told_with_its_traceback(apps: Apps) -> None:
    app = apps.start(
        '.role("watch", "./watch.py").role("back", "./back.py", needs=["watch"])', watch=WATCH, back="1 / 0"
    )
    client = app.wait_ready(1)
    (later,) = wait_until(lambda: [each for each in watchers(client)[0] if each[0] == "later"][:1], "it has heard")
    assert "ZeroDivisionError" in str(later[1])
    assert watchers(client)[0][0][3] == 1


def test_the_event_has_one_name(app: RunningApp) -> None:
    with pytest.raises(ValueError, match=r"there is no event 'crashes'.*'crash'"):
        app.clients[0].on("crashes", print)
