"""What probes are told: `mob check`, `/livez` and `/readyz`, through a start, a crash and a stop."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.patience import patient
from tests.running import Apps, RunningApp, free_port, wait_until

HELD = """
    import os, pathlib, sys, time
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    def foo(): pass
    """
SLOW_END = """
    import pathlib, time
    import mob
    @mob.on("drain")
    def wait():
        pathlib.Path("draining").touch()
        while not pathlib.Path("end").exists():
            time.sleep(0.01)
    """


def check(app: RunningApp, *options: str) -> tuple[int, str]:
    """Status and output of `mob check`."""
    command = [sys.executable, "-m", "mob", "check", app.name, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient(30), cwd=app.directory)
    return done.returncode, (done.stdout + done.stderr).strip()


def ask(port: int, path: str, method: str = "GET", host: str = "") -> tuple[int, str]:
    """Status and body; asked again while a Kingpin that lacks a processor has not answered in time."""

    def answered() -> tuple[int, str] | None:
        status, text = ask_once(port, path, method, host)
        return None if "no answer within" in text else (status, text)

    return wait_until(answered, f"{path} is answered")


def ask_once(port: int, path: str, method: str = "GET", host: str = "") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patient(30))
    try:
        connection.request(method, path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def test_an_app_that_starts_is_alive_before_it_is_ready(apps: Apps) -> None:
    port = free_port()
    app = apps.start(f'.role("back", "./back.py", workers=2).dashboard(port={port})', back=HELD)
    client = app.connect()
    wait_until(lambda: ask(port, "/readyz?role=dashboard") == (200, "ok\n"), "the dashboard is ready")
    assert ask(port, "/livez") == (200, "ok\n")
    status, text = ask(port, "/readyz")
    assert status == 503
    assert text == (
        "[+]kingpin: answers\n[-]back: 0 of 2 workers ready\n[+]dashboard: 1 of 1 workers ready\nreadyz check failed\n"
    )
    assert ask(port, "/readyz?exclude=back") == ask(port, "/readyz?role=dashboard") == (200, "ok\n")
    assert check(app) == (0, "alive")
    status, text = check(app, "--ready")
    assert status == 1
    assert text.startswith("Error: not ready: back: 0 of 2 workers ready (")
    assert check(app, "--role", "dashboard") == (0, "ready")
    assert json.loads(check(app, "--ready", "--json")[1])["ok"] is False
    (app.directory / "go").touch()
    wait_until(lambda: not client.not_ready(), "it is ready")
    assert check(app, "--ready") == (0, "ready")
    assert check(app, "--ready", "--json") == (0, '{"ok":true,"problems":[]}')
    wait_until(lambda: ask(port, "/readyz") == (200, "ok\n"), "the dashboard says so")
    assert ask(port, "/readyz?verbose")[1].endswith(
        " of 2 workers ready\n[+]dashboard: 1 of 1 workers ready\nreadyz check passed\n"
    )
    assert ask(port, "/livez?verbose") == (200, "[+]kingpin: answers\nlivez check passed\n")
    assert ask(port, "/livez", "HEAD") == (200, "")
    assert ask(port, "/livez", "POST")[0] == 405
    assert ask(port, "/readyz?role=bakc") == (400, "there is no role 'bakc'\n")
    status, text = check(app, "--role", "bakc")
    assert (status, "back" in text) == (1, True)


def test_one_of_several_workers_may_die(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=HELD)
    (app.directory / "go").touch()
    client = app.wait_ready()
    (app.directory / "go").unlink()
    first, second = app.ready(client, "back")
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: len(app.ready(client, "back")) == 1, "one is left")
    assert client.not_ready() == []
    os.kill(second.pid, signal.SIGKILL)
    wait_until(lambda: client.not_ready("back"), "none is left")
    (app.directory / "go").touch()
    wait_until(lambda: not client.not_ready("back"), "another is ready")


def test_nobody_has_to_log_in_where_other_machines_may_ask(apps: Apps) -> None:
    port = free_port()
    app = apps.start(f'.role("back", "./back.py").dashboard(port={port}, host="0.0.0.0")', back="")
    app.wait_ready()
    host = f"10.1.2.3:{port}"  # as a kubelet names a pod
    assert ask(port, "/metrics", host=host)[0] == 401
    assert ask(port, "/livez", host=host) == (200, "ok\n")
    assert ask(port, "/readyz", host=host) == (200, "ok\n")


def test_on_the_loopback_other_names_are_refused(apps: Apps) -> None:
    port = free_port()
    apps.start(f'.role("back", "./back.py").dashboard(port={port})', back="").wait_ready()
    assert ask(port, "/livez", host="evil.example")[0] == 403


def test_an_app_that_stops_is_not_ready(apps: Apps) -> None:
    port = free_port()
    roles = f'.dashboard(port={port}).role("slow", "./slow.py")'
    app = apps.start(roles, options="grace=600", slow=SLOW_END)
    client = app.wait_ready()
    assert client.not_ready() == []
    app.signal(signal.SIGTERM)
    wait_until((app.directory / "draining").exists, "it stops")
    assert client.not_ready() == ["the app is stopping"]
    assert check(app, "--ready") == (1, "Error: not ready: the app is stopping")
    assert check(app) == (0, "alive")
    status, text = ask(port, "/readyz")
    assert (status, "[-]app: stopping\n" in text) == (503, True)
    assert ask(port, "/livez") == (200, "ok\n")
    (app.directory / "end").touch()
    assert app.wait() == 0
    for options in ((), ("--ready",)):
        status, text = check(app, *options)
        assert (status, app.name in text) == (1, True)


def test_a_kingpin_that_stands_still_is_not_alive(apps: Apps, tmp_path: Path) -> None:
    port = free_port()
    app = apps.start(f'.role("back", "./back.py").dashboard(port={port})', back="")
    app.wait_ready()
    app.signal(signal.SIGSTOP)
    try:
        status, text = ask_once(port, "/livez")
        assert status == 503
        assert text == "[-]kingpin: no answer within 3 s\nlivez check failed\n"
    finally:
        app.signal(signal.SIGCONT)
    wait_until(lambda: ask(port, "/livez") == (200, "ok\n"), "it lives again")
