"""A fork server that cannot start is not retried forever, and running workers continue without it."""

from __future__ import annotations

import time

import psutil

from mob.kingpin.kingpin import FUTILE_PAUSE
from tests.patience import patient
from tests.running import Apps


def test_an_app_whose_fork_server_cannot_start_says_why_and_ends(apps: Apps) -> None:
    roles = '.preload("ends").role("back", "./back.py", workers=2)'
    app = apps.start(roles, back="def foo(): ...", ends="import os; os.write(2, b'not today\\n'); os._exit(1)")
    assert app.wait(patient(20)) == 1
    app.wait_for(r"mob \| the fork server exited with status 1, like those before it\. .*; the app stops\.")
    assert app.output.count("not today") == 3
    app.wait_gone()


def test_mobsters_that_run_go_on_when_no_new_fork_server_can_start(apps: Apps) -> None:
    roles = '.preload("ends").role("back", "./back.py", workers=2)'
    app = apps.start(roles, back="def double(n): return 2 * n", ends="")
    client = app.wait_ready()
    before = app.ready(client)
    (fork_server,) = psutil.Process(app.process.pid).children()
    apps.write(ends="import os; os._exit(1)")
    fork_server.kill()
    app.wait_for(r"mob \| the fork server exited with status 1 before it launched anything; next attempt in")
    assert [client.require("back").double(n).result(patient(20)) for n in range(4)] == [0, 2, 4, 6]
    assert app.ready(client) == before
    assert app.stop() == 0
    app.wait_gone()


def test_a_reload_that_starts_one_meanwhile_is_not_followed_by_another(apps: Apps) -> None:
    roles = '.preload("ends").role("back", "./back.py", workers=2)'
    app = apps.start(roles, back="def double(n): return 2 * n", ends="")
    client = app.wait_ready()
    (fork_server,) = psutil.Process(app.process.pid).children()
    apps.write(ends="import os; os._exit(1)")
    fork_server.kill()
    app.wait_for(r"mob \| the fork server exited with status 1 before it launched anything; next attempt in")
    apps.write(ends="")
    assert client.reload(timeout=patient(60)).startswith("reloaded 2 workers")
    time.sleep(FUTILE_PAUSE)  # then the next attempt would be due if it was needed
    client.overview()
    children = [child.cmdline()[0] for child in psutil.Process(app.process.pid).children()]
    assert children == [f"{app.name} (fork server)"]
    assert app.stop() == 0
    app.wait_gone()
