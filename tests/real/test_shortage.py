"""A Kingpin without free file descriptors: it keeps running, and catches up as soon as it can."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psutil
import pytest

import mob
from mob.rim.addresses import address_of
from tests.patience import patient
from tests.running import Apps, RunningApp, free_port, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit of another process is set")
FEW = 3


def set_limit(app: RunningApp, soft: int) -> int:
    """Let the Kingpin open only descriptors below that number; return the previous limit."""
    before, hard = resource.prlimit(app.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(app.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    return before


def test_a_worker_that_dies_meanwhile_is_revived_when_there_are_descriptors_again(apps: Apps) -> None:
    app = apps.start('.role("a", "./a.py", workers=2)', a="def f(): return 1")
    client = app.wait_ready()
    victim = app.ready(client)[0].pid
    call = client.require("a").f()  # from now on there are links, so calls do not need the Kingpin
    assert call.result(patient(20)) == 1
    before = set_limit(app, FEW)
    os.kill(victim, signal.SIGKILL)
    app.wait_for(r"mob \| a\.0 could not be launched: Too many open files \(ulimit -n is 3\)\. Retrying every 1 s")
    assert client.require("a").f().result(patient(20)) == 1
    wait_until(lambda: any("could not be launched" in row.note for row in client.overview()), "ps says why")
    set_limit(app, before)
    wait_until(lambda: len(app.ready(client)) == 2, "it is restarted")
    assert app.output.count("could not be launched") == 1
    assert app.stop() == 0


def test_a_fork_server_that_dies_meanwhile_is_replaced_when_there_are_descriptors_again(apps: Apps) -> None:
    app = apps.start('.role("a", "./a.py")', a="import os\ndef pid(): return os.getpid()")
    client = app.wait_ready()
    before = set_limit(app, FEW)
    os.kill(app.fork_server(), signal.SIGKILL)
    app.wait_for(r"a fork server cannot be started: Too many open files")
    set_limit(app, before)
    victim = app.ready(client)[0].pid
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: {member.pid for member in app.ready(client)} - {victim}, "its worker is restarted")
    assert client.require("a").pid().result(patient(20))


def test_a_stop_ends_though_nothing_can_be_launched(apps: Apps) -> None:
    app = apps.start('.role("a", "./a.py")', a="def f(): return 1")
    client = app.wait_ready()
    victim = app.ready(client)[0].pid
    set_limit(app, FEW)
    os.kill(app.fork_server(), signal.SIGKILL)
    os.kill(victim, signal.SIGKILL)
    app.wait_for(r"a fork server cannot be started: Too many open files")
    app.wait_for(r"a\.0 could not be launched")
    client.close()
    status = app.stop()
    assert status == 0, app.output


def test_a_client_that_cannot_be_let_in_is_let_in_later_and_nothing_spins(apps: Apps) -> None:
    app = apps.start('.role("a", "./a.py")', a="def f(): return 1")
    app.wait_ready().close()
    before = set_limit(app, FEW)
    with ThreadPoolExecutor(1) as elsewhere:
        visitor = elsewhere.submit(mob.connect, app.name)
        app.wait_for(r"mob \| clients cannot connect: Too many open files")
        kingpin = psutil.Process(app.process.pid)
        used = sum(kingpin.cpu_times()[:2])
        with pytest.raises(TimeoutError):
            visitor.result(2)
        assert sum(kingpin.cpu_times()[:2]) - used < 1.0  # it would use two seconds if it retried without a pause
        set_limit(app, before)
        client = visitor.result(patient(30))
    assert client.require("a").f().result(patient(20)) == 1
    client.close()
    assert app.stop() == 0


def test_visitors_leave_a_reserve_and_are_told_so(apps: Apps) -> None:
    app = apps.start('.role("a", "./a.py")', a="def f(): return 1")
    client = app.wait_ready()
    set_limit(app, 100)
    with ExitStack() as idle:
        for _ in range(150):
            stranger = idle.enter_context(socket.socket(socket.AF_UNIX))
            stranger.connect(address_of(app.name))
            idle.callback(stranger.close)
        with pytest.raises(mob.AppNotRunning, match=r"no file descriptors left for more clients \(ulimit -n is 100\)"):
            mob.connect(app.name)
        victim = app.ready(client)[0].pid
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: {member.pid for member in app.ready(client)} - {victim}, "its worker is restarted meanwhile")
        assert client.require("a").f().result(patient(20)) == 1
    client.close()
    assert app.stop() == 0


def test_a_worker_that_cannot_listen_waits_and_ps_says_why(apps: Apps) -> None:
    port = free_port()
    app = apps.start(
        '.role("a", "./a.py")',
        a=f"""
        import socket
        def f(): return 1
        def listen():
            with socket.create_server(("127.0.0.1", {port})):
                return True
        """,
    )
    client = app.wait_ready()
    back = client.require("a")
    assert back.f().result(patient(20)) == 1  # from now on there is a link
    before = set_limit(app, FEW)
    listening = back.listen()
    lack = f"a.0 cannot listen on 127.0.0.1:{port}: Too many open files"
    wait_until(lambda: lack in client.metrics().lacks, "ps shows it")
    set_limit(app, before)
    assert listening.result(patient(30))
    wait_until(lambda: not client.metrics().lacks, "ps shows nothing more")
    client.close()
    assert app.stop() == 0


def test_two_that_cannot_be_linked_are_linked_later(apps: Apps) -> None:
    app = apps.start('.role("a", "./a.py")', a="def f(): return 1")
    client = app.wait_ready()
    before = set_limit(app, FEW)
    call = client.require("a").f()
    app.wait_for(r"mob \| a\.0 and client \d+ \(pid \d+\) cannot be linked: Too many open files")
    set_limit(app, before)
    assert call.result(patient(30)) == 1
    client.close()
    assert app.stop() == 0


def test_a_kingpin_that_gets_no_more_memory_can_be_stopped(apps: Apps) -> None:
    app = apps.start('.role("a", "./a.py")', a="def f(): return 1")
    app.wait_ready().close()
    _, hard = resource.prlimit(app.process.pid, resource.RLIMIT_DATA)
    resource.prlimit(app.process.pid, resource.RLIMIT_DATA, (1024 * 1024, hard))
    assert app.stop() == 0


@pytest.mark.parametrize("options", [[], ["--now"]])
def test_mob_stop_ends_an_app_that_lets_nobody_in(apps: Apps, options: list[str]) -> None:
    app = apps.start('.role("a", "./a.py")', a="def f(): return 1")
    app.wait_ready().close()
    set_limit(app, FEW)
    os.kill(app.fork_server(), signal.SIGKILL)
    app.wait_for(r"a fork server cannot be started: Too many open files")
    command = [sys.executable, "-m", "mob", "stop", app.name, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient(90), check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "It was sent SIGTERM and has stopped." in done.stdout
    app.wait()
