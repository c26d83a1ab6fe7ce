"""A real Kingpin holds no application code; and the example does what its page says."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import mob
from tests.patience import patient
from tests.running import RunningApp, apps_in, free_port, wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "hello"
NAME = f"hello-{os.getpid()}"

WITNESS = """
import runpy
import socket
import sys
import threading

def testify(desk):
    while True:
        visitor, _ = desk.accept()
        with visitor:
            visitor.sendall("\\n".join(sorted(sys.modules)).encode())

desk = socket.socket(socket.AF_UNIX)
desk.bind("witness.sock")
desk.listen()
threading.Thread(target=testify, args=(desk,), daemon=True).start()
runpy.run_path("main.py", run_name="__main__")
"""
"""Run main.py, and answer any client with the modules that this process has loaded."""


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[RunningApp]:
    directory = tmp_path_factory.mktemp("hello")
    for path in EXAMPLE.glob("*.py"):
        text = path.read_text().replace("1337", str(port)).replace('"myapp"', f'"{NAME}"')
        (directory / path.name).write_text(text)
    with apps_in(directory) as apps:
        apps.write(witness=WITNESS)
        app = apps.run(NAME, [sys.executable, "witness.py"])
        app.wait_ready(6)
        yield app


@pytest.fixture(scope="module")
def client(app: RunningApp) -> mob.Client:
    return app.clients[0]


def get(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=patient(20)) as answer:
        return bytes(answer.read())


def get_until_both_have_served(app: RunningApp, port: int) -> tuple[int, Counter[int]]:
    """Send requests until each front has answered some; return how many, and how many each has answered."""
    pattern = r"^front\.\d \d+ \| Server (\d+) served an http request\.$"
    before = len(app.wait_for(pattern, 0))
    count = 0
    served: Counter[int] = Counter()
    while len(served) < 2:
        assert count < 2000, f"only one of two fronts serves: {served}"
        assert get(port) == b"Hello World\n"
        count += 1
        served = Counter(int(match[1]) for match in app.wait_for(pattern, before + count)[before:])
    return count, served


def modules_of_the_kingpin(app: RunningApp) -> set[str]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(patient(20))
        sock.connect(str(app.directory / "witness.sock"))
        with sock.makefile() as file:
            return set(file.read().splitlines())


def test_the_kingpin_holds_no_code_of_the_application(app: RunningApp, port: int) -> None:
    get_until_both_have_served(app, port)
    loaded = modules_of_the_kingpin(app)
    assert "mob.kingpin.kingpin" in loaded
    assert not loaded & {"background_worker", "http_server", "http.server"}


def test_the_kingpin_opens_no_body_and_is_no_mobster(app: RunningApp) -> None:
    loaded = modules_of_the_kingpin(app)
    assert not {
        name
        for name in loaded
        if name.startswith(("mob.mobster", "mob.cli")) or name in ("mob.wire.codec", "mob.wire.arguments", "mob.client")
    }
    assert not loaded & {"click", "rich", "numpy", "attrs"}


def test_every_process_is_titled(app: RunningApp, client: mob.Client) -> None:
    title = {pid: psutil.Process(pid).cmdline()[0] for pid in app.processes()}
    assert title.pop(app.process.pid) == f"{NAME} (kingpin)"
    assert Counter(title.values()) == {
        f"{NAME} (fork server)": 1,
        f"guardian of pid {app.process.pid}": 1,
        f"{NAME} - back (mobster)": 4,
        f"{NAME} - front (mobster)": 2,
    }
    for member in app.ready(client):
        assert title[member.pid] == f"{NAME} - {member.role} (mobster)"


def test_each_background_worker_says_that_it_runs(app: RunningApp, client: mob.Client) -> None:
    said = app.wait_for(r"^back\.(\d) (\d+) \| Background worker (\d+) running\.$", 4)
    assert {(int(match[1]), int(match[2]), int(match[3])) for match in said} == {
        (member.index, member.pid, member.pid) for member in app.ready(client, "back")
    }


def test_two_servers_share_one_port_and_each_request_makes_a_worker_print(
    app: RunningApp, client: mob.Client, port: int
) -> None:
    bar = r"^back\.(\d) (\d+) \| Bar! My pid is (\d+)$"
    wait_until(
        lambda: len(app.wait_for(bar, 0)) == len(app.wait_for(r"\| Server \d+ served", 0)), "earlier requests are done"
    )
    before = len(app.wait_for(bar, 0))
    count, served = get_until_both_have_served(app, port)
    assert set(served) == {member.pid for member in app.ready(client, "front")}
    bars = app.wait_for(bar, before + count)[before:]
    assert len(bars) == count
    index_of = {member.pid: member.index for member in app.ready(client, "back")}
    for match in bars:
        assert match[2] == match[3]
        assert index_of[int(match[2])] == int(match[1])


def test_what_the_mobsters_print_is_prefixed(app: RunningApp, client: mob.Client, port: int) -> None:
    get_until_both_have_served(app, port)
    names = {f"{member.role}.{member.index} {member.pid}" for member in app.ready(client)}
    assert {line.partition(" | ")[0] for line in app.lines} - {"mob"} <= names
    app.wait_for(r'^front\.\d \d+ \| 127\.0\.0\.1 - - \[.*\] "GET / HTTP/1\.1" 200 -$')


def test_the_kingpin_has_threads_for_its_loop_its_output_and_its_watchdog(app: RunningApp) -> None:
    assert psutil.Process(app.process.pid).num_threads() == 4  # including this test's witness


def test_the_example_stops_in_order(tmp_path: Path, port: int) -> None:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    own = free_port()
    for path in tmp_path.glob("*.py"):
        path.write_text(path.read_text().replace("1337", str(own)).replace('"myapp"', f'"{NAME}-2"'))
    with apps_in(tmp_path) as apps:
        app = apps.run(f"{NAME}-2", [sys.executable, "main.py"])
        app.wait_ready(6)
        assert get(own) == b"Hello World\n"
        app.wait_for(r"Bar! My pid is")
        assert app.stop() == 0
        app.wait_gone()
        assert [line for line in app.lines if line.startswith("mob | ")] == ["mob | stopping."]
