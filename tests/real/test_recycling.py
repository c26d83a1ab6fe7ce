"""Old workers are replaced while their callers continue: no call fails, and none is missing."""

from __future__ import annotations

import os
import threading
from typing import Any

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, wait_until

BACK = """
    import os
    hoard = []

    def work(number):
        return number, os.getpid()

    def eat(size):
        hoard.append(b"x" * size)
    """


class Caller:
    """Calls without a pause, in a thread, until it is stopped."""

    def __init__(self, app: RunningApp, role: str = "back") -> None:
        self.calls = 0
        self.pids: set[int] = set()
        self._app = app
        self._export = app.connect().require(role).work
        self._is_over = False
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over = True
        self._thread.join(patient(30))
        assert not self._thread.is_alive()
        assert self.error is None, f"{self.error!r}\n{self._app.output}"

    def _run(self) -> None:
        try:
            while not self._is_over:
                calls = [self._export(number) for number in range(20)]
                for number, call in enumerate(calls):
                    answer = call.result(patient(20))
                    assert answer[0] == number
                    self.pids.add(answer[1])
                self.calls += 20
        except BaseException as error:  # noqa: BLE001  shown by the test
            self.error = error


class Watcher:
    """Counts the ready workers whenever a member joins, leaves or changes."""

    def __init__(self, client: mob.Client, role: str) -> None:
        self.fewest = 10**6
        self._client, self._role = client, role
        client.on("leave", self._look)
        client.on("join", self._look)

    def _look(self, member: Any) -> None:
        ready = [each for each in self._client.members() if each.role == self._role and each.state == "ready"]
        self.fewest = min(self.fewest, len(ready))


def test_old_ones_are_replaced_and_no_call_fails(apps: Apps) -> None:
    why = {"calls": r"served [\d,]+ calls \(max_calls=\d+ \+- 10 %\)", "age": r"is \d+ s old \(max_age=\d+ \+- 10 %\)"}
    roles = '.role("calls", "./back.py", workers=2, max_calls=200).role("age", "./back.py", workers=2, max_age=1)'
    app = apps.start(roles, back=BACK)
    client = app.wait_ready()
    watchers = [Watcher(client, role) for role in why]
    before = {member.pid for member in app.ready(client)}
    with Caller(app, "calls") as first, Caller(app, "age") as second:
        for role, reason in why.items():
            app.wait_for(rf"mob \| {role}\.\d \(pid \d+\) {reason}; replacing it\.", 3)
        for caller in (first, second):
            wait_until(lambda caller=caller: len(caller.pids - before) >= 2, "successors were called")
    assert all(watcher.fewest >= 2 for watcher in watchers)
    wait_until(lambda: len(app.ready(client)) == 4, "there are two again of each")
    assert "Traceback" not in app.output


def test_one_that_has_grown_is_replaced(apps: Apps) -> None:
    app = apps.start(f'.role("back", "./back.py", max_memory={150 * 1024 * 1024})', back=BACK)
    client = app.wait_ready()
    old = app.ready(client)[0].pid
    with Caller(app):
        client.require("back").eat(200 * 1024 * 1024).result(patient(20))
        app.wait_for(rf"mob \| back\.0 \(pid {old}\) grew to \d+ MiB \(max_memory=150 MiB \+- 10 %\); replacing it\.")
        wait_until(lambda: [m.pid for m in app.ready(client)] not in ([old], []), "its successor is ready")
    wait_until(lambda: old not in app.processes(), "the big one is gone")


def test_a_successor_that_does_not_get_ready_leaves_the_old_one_where_it_is(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", max_age=1)', back=BACK)
    client = app.wait_ready()
    old = app.ready(client)[0].pid
    (apps.directory / "back.py").write_text("1 / 0")
    app.wait_for(r"mob \| the new back\.0 could not be imported: ZeroDivisionError: division by zero; ")
    assert client.require("back").work(1).result(patient(20)) == [1, old]
    assert app.output.count("; replacing it") == 1
    assert os.path.exists(f"/proc/{old}")
