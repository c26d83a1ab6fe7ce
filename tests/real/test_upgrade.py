"""A Kingpin with new code replaces the running one, without an interruption."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import mob
from tests.patience import patient
from tests.real.loads import Load
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
import os, sys, time

def pid():
    return os.getpid()

def say(text):
    print(text, end="", flush=True)

def slow(seconds):
    time.sleep(seconds)
    return seconds

def count(n):
    yield from range(n)

def call(f, n):
    return [f(i).result() for i in range(n)]
"""
FRONT = """
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())

    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""


TAKEN_OVER = "mob | the new Kingpin took over"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Site:
    def __init__(self, app: RunningApp, port: int) -> None:
        self.app = app
        self.port = port
        self.client = app.wait_ready()

    def get(self) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patient(10))
        connection.request("GET", "/")
        answer = connection.getresponse().read()
        connection.close()
        return answer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with apps_in(tmp_path_factory.mktemp("upgrade")) as apps:
        port = free_port()
        front = FRONT.replace("PORT", str(port))
        app = apps.start(
            '.role("back", "./back.py", workers=2).role("front", "./front.py", workers=2)', back=BACK, front=front
        )
        yield Site(app, port)


def mobsters(client: mob.Client) -> list[int]:
    return sorted(member.pid for member in client.members() if member.role)


def test_under_load_nothing_is_lost_and_everybody_stays(site: Site) -> None:
    client = site.client
    back = client.require("back")
    before = mobsters(client)
    (kingpin,) = {site.app.process.pid}
    with Load(lambda: back.pid().result(patient(10)), lambda: list(back.count(100)), site.get, site.get) as load:
        for _ in range(3):
            assert client.upgrade(30) == "the new Kingpin took over 4 mobsters."
            done = load.done
            wait_until(lambda: load.done > done + 50, "the load continues")  # noqa: B023  called at once
    assert load.errors == []
    assert mobsters(client) == before
    assert site.app.process.pid == kingpin == client.kingpin_pid
    assert mob.connect(site.app.name).kingpin_pid == kingpin


def test_what_is_under_way_goes_on(site: Site) -> None:
    back = site.client.require("back")
    slow = back.slow(2.0)
    numbers = iter(back.count(1000))
    first = [next(numbers) for _ in range(10)]
    seen: list[int] = []
    called = back.call(seen.append, 20)
    site.client.upgrade(30)
    assert [*first, *numbers] == list(range(1000))
    assert called.result(patient(10)) == [None] * 20
    assert seen == list(range(20))
    assert slow.result(patient(10)) == 2.0


def test_a_new_client_and_new_links_are_served(site: Site) -> None:
    site.client.upgrade(30)
    with mob.connect(site.app.name) as other:
        assert other.require("back").pid().result(patient(10)) in mobsters(other)
        assert len(other.overview()) == 4


def test_who_dies_afterwards_is_revived(site: Site) -> None:
    client = site.client
    client.upgrade(30)
    for role in ("back", "front"):
        doomed = site.app.ready(client, role)[0]
        os.kill(doomed.pid, signal.SIGKILL)
        wait_until(
            lambda: [m for m in site.app.ready(client, role) if m.generation > doomed.generation],  # noqa: B023
            f"{role} has a successor",
        )
    assert int(site.get()) in mobsters(client)


def test_who_dies_at_that_moment_is_revived(site: Site) -> None:
    client = site.client
    doomed = site.app.ready(client, "back")[0]
    upgrades = site.app.output.count(TAKEN_OVER)
    os.kill(site.app.process.pid, signal.SIGUSR2)
    os.kill(doomed.pid, signal.SIGKILL)
    wait_until(
        lambda: [m for m in site.app.ready(client, "back") if m.generation > doomed.generation],
        "its successor is ready",
    )
    wait_until(lambda: site.app.output.count(TAKEN_OVER) > upgrades, "the upgrade is done")


def test_what_is_printed_is_not_torn(site: Site) -> None:
    back = site.client.require("back")
    back.say("one half, ").result(patient(10))
    site.client.upgrade(30)
    for _ in range(2):  # each worker may have answered half of them
        back.say("the other\n").result(patient(10))
    site.app.wait_for(r"back\.\d \d+ \| one half, the other$")


def test_there_is_one_fork_server_and_no_descriptor_is_left(site: Site) -> None:
    site.client.upgrade(30)
    kingpin = psutil.Process(site.app.process.pid)

    def settled() -> int:
        children = [child for child in kingpin.children() if "fork server" in " ".join(child.cmdline())]
        return len(children) == 1 and kingpin.num_fds()

    before = wait_until(settled, "the old fork server exited")
    for _ in range(3):
        site.client.upgrade(30)
    wait_until(lambda: settled() == before, "as many descriptors as before")


def test_a_main_script_that_fails_changes_nothing(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    client = app.wait_ready()
    main = app.directory / "main.py"
    good = main.read_text()
    main.write_text("raise RuntimeError('not today')\n")
    with pytest.raises(mob.MobError, match=r"the new Kingpin failed to start(?s:.)*RuntimeError: not today"):
        client.upgrade(30)
    main.write_text(good.replace(app.name, "another"))
    with pytest.raises(mob.MobError, match=rf"is named '{app.name}', but the main script names it 'another'"):
        client.upgrade(30)
    main.write_text(good)
    assert client.upgrade(30) == "the new Kingpin took over 1 mobster."


def test_the_new_main_script_counts(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py").role("old", "./old.py")', back=BACK, old=BACK)
    client = app.wait_ready()
    main = app.directory / "main.py"
    roles = '.role("back", "./back.py", workers=3).role("new", "./back.py")'
    main.write_text(main.read_text().replace('.role("back", "./back.py").role("old", "./old.py")', roles))
    client.upgrade(30)
    wait_until(
        lambda: sorted(m.role for m in client.members() if m.role and m.state == "ready") == ["back"] * 3 + ["new"],
        "the roles of the new plan exist",
    )
    assert client.require("new").pid().result(patient(10)) in mobsters(client)
    app.wait_for(r"mob \| back: 1 -> 3 workers; as the new plan says\.")


def test_it_stops_in_order_and_leaves_nothing(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=BACK)
    client = app.wait_ready()
    done = subprocess.run(
        [sys.executable, "-m", "mob", "upgrade", "-a", app.name],
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(60),
    )
    assert (done.returncode, done.stdout) == (
        0,
        f"the Kingpin of {app.name} runs new code; its 2 workers kept running.\n",
    )
    everybody = app.processes()
    client.close()
    app.signal(signal.SIGTERM)
    assert app.process.wait(patient(30)) == 0
    wait_until(lambda: not [pid for pid in everybody if psutil.pid_exists(pid)], "all exited")


def test_kill_9_afterwards_leaves_nothing(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=BACK)
    client = app.wait_ready()
    client.upgrade(30)
    assert len(app.processes()) >= 4
    app.kill()
    wait_until(lambda: not app.processes(), "all exited")


def test_a_stop_during_the_rehearsal_is_a_stop(apps: Apps, tmp_path: Path) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    client = app.wait_ready()
    main = app.directory / "main.py"
    mark = tmp_path / "rehearsing"
    main.write_text(f"import time\nopen({str(mark)!r}, 'w').close()\ntime.sleep(1)\n{main.read_text()}")
    os.kill(app.process.pid, signal.SIGUSR2)
    wait_until(mark.exists, "the rehearsal runs")
    client.close()
    app.signal(signal.SIGTERM)
    assert app.process.wait(patient(30)) == 0
