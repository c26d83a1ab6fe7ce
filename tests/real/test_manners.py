"""How an app behaves towards the system: service manager, passed sockets, limits, containers, and its end."""

from __future__ import annotations

import os
import shutil
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
from tests.running import Apps, RunningApp, free_port, is_alive, wait_until

BACK = """
    import os, resource

    def pid():
        return os.getpid()

    def settings():
        return (
            os.environ.get("COLOR"), os.nice(0), sorted(os.sched_getaffinity(0)),
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        )
    """
WEB = """
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *args):
            pass

    ThreadingHTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
    """


class Manager:
    """The service manager's end of sd_notify."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(self.path)
        self._sock.settimeout(patient(20))

    def next(self) -> str:
        """Return the first line of the next message that is not a keep-alive."""
        while True:
            word = self._sock.recv(4096).decode().splitlines()[0]
            if word != "WATCHDOG=1":
                return word

    def wait_for(self, word: str) -> None:
        while self._sock.recv(4096).decode().splitlines()[0] != word:
            pass

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    manager = Manager(tmp_path_factory.mktemp("notify") / "socket")
    yield manager
    manager.close()


# ------------------------------------------------------------------------------------------- the service manager


def test_the_service_manager_is_told(apps: Apps, manager: Manager) -> None:
    back = BACK + "import mob, time\n    time.sleep(0.3)\n    print('up')\n"
    app = apps.start('.role("back", "./back.py", workers=2)', back=back, env={"NOTIFY_SOCKET": manager.path})
    assert manager.next() == "READY=1"
    app.wait_for(r"\| up$")
    client = app.wait_ready()
    app.signal(signal.SIGHUP)
    assert manager.next() == "RELOADING=1"
    assert manager.next() == "READY=1"
    app.wait_for(r"mob \| reloaded 2 workers")
    assert "NOTIFY_SOCKET" not in psutil.Process(app.ready(client)[0].pid).environ()
    app.signal(signal.SIGTERM)
    assert manager.next() == "STOPPING=1"
    assert app.wait() == 0


def test_a_reload_that_fails_ends_as_well(apps: Apps, manager: Manager) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK, env={"NOTIFY_SOCKET": manager.path})
    assert manager.next() == "READY=1"
    (apps.directory / "back.py").write_text("1 / 0")
    app.signal(signal.SIGHUP)
    assert [manager.next(), manager.next()] == ["RELOADING=1", "READY=1"]
    app.wait_for("reload failed; the old workers keep running")


def test_an_app_that_ends_by_itself_says_so(apps: Apps, manager: Manager) -> None:
    app = apps.start('.role("back", "./back.py", restart="temporary")', back="", env={"NOTIFY_SOCKET": manager.path})
    assert manager.next() == "READY=1"
    os.kill(app.ready(app.connect())[0].pid, signal.SIGTERM)
    assert manager.next() == "STOPPING=1"


def test_the_watchdog_is_fed(apps: Apps, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"}
    apps.start('.role("back", "./back.py")', back=BACK, env=env)
    for _ in range(5):
        manager.wait_for("WATCHDOG=1")


def test_a_socket_that_was_opened_beforehand_is_the_shared_port(apps: Apps) -> None:
    port = free_port()
    apps.write(
        main='import mob\nmob.start("t-passed").base(__file__).role("web", "./web.py", workers=2).run()\n',
        web=WEB.format(port=port),
        activate="""
        import os, sys
        os.dup2(int(sys.argv[1]), 3)
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        os.execv(sys.executable, [sys.executable, "main.py"])
        """,
    )
    with socket.create_server(("127.0.0.1", port)) as sock:
        sock.set_inheritable(True)
        with socket.create_connection(("127.0.0.1", port), patient(10)) as early:  # before any process accepts
            env = {**os.environ, "XDG_STATE_HOME": str(apps.directory / "state")}
            command = [sys.executable, "activate.py", str(sock.fileno())]
            process = subprocess.Popen(command, cwd=apps.directory, env=env, close_fds=False)
            try:
                early.sendall(b"GET / HTTP/1.0\r\n\r\n")
                early.settimeout(patient(20))
                assert early.makefile("rb").read().endswith(b"hello")
            finally:
                process.terminate()
                assert process.wait(patient(30)) == 0
        assert sock.fileno() >= 0  # the app must not close it


# ----------------------------------------------------------------------------------------------- limits of a role


def test_what_a_role_is_given(apps: Apps) -> None:
    cpu = min(os.sched_getaffinity(0))
    settings = f'env={{"COLOR": "red"}}, nice=3, cpus=[{cpu}], limits={{"nofile": 500}}'
    app = apps.start(f'.role("back", "./back.py", {settings}).role("plain", "./back.py")', back=BACK)
    client = app.wait_ready()
    assert client.require("back").settings().result(patient(20)) == ["red", os.nice(0) + 3, [cpu], 500]
    color, nice, cpus, _ = client.require("plain").settings().result(patient(20))
    assert (color, nice, cpus) == (None, os.nice(0), sorted(os.sched_getaffinity(0)))


def test_what_cannot_be_had_is_told(apps: Apps) -> None:
    options = {
        "cores": ("cpus=[1000]", r"cpus=\(1000,\) is not possible on this machine, or not for this user\."),
        "files": ('limits={"nofile": 2**60}', r"limits=\{'nofile': \d+\} is not possible"),
        "unknown": ('limits={"nofiles": 5}', r"limits=\{'nofiles': 5\} is not possible"),
    }
    roles = "".join(f'.role("{role}", "./back.py", {option})' for role, (option, _) in options.items())
    app = apps.start(f'{roles}.role("plain", "./back.py")', back=BACK)
    client = app.connect()
    assert client.require("plain").pid().result(patient(20))
    for role, (_, told) in options.items():
        app.wait_for(f"role '{role}': {told}")
        row = wait_until(
            lambda role=role: next((row for row in client.overview() if row.role == role and row.note), None), "shown"
        )
        assert row.state in ("failing", "booting", "launching")


# -------------------------------------------------------------------------------------------------- the end


def test_a_stop_handler_that_takes_too_long_is_cut_off(apps: Apps) -> None:
    head = "import asyncio, time, mob\n@mob.on('stop')\n"
    app = apps.start(
        '.role("task", "./task.py").role("plain", "./plain.py")',
        options="grace=1.5",
        task=f"{head}async def wait():\n    await asyncio.sleep(1000)\n",
        plain=f"{head}def wait():\n    time.sleep(1000)\n",
    )
    app.wait_ready()
    assert app.stop(patient(10)) == 0
    app.wait_gone(patient(5))
    assert "a handler of 'stop' did not end within the grace period" in app.output
    assert "killing plain.0" in app.output


def test_a_kingpin_that_is_killed_takes_a_worker_that_is_stuck_in_c_with_it(apps: Apps) -> None:
    app = apps.start(
        '.role("back", "./back.py")',
        options="grace=1",
        back="""
        import subprocess
        subprocess.Popen(["sleep", "1000"])

        def count():
            print("counts")
            return sum(range(10**15))
        """,
    )
    client = app.wait_ready()
    wait_until(lambda: len(app.processes()) == 5, "its child runs")
    client.require("back").count()
    app.wait_for("counts")
    app.kill()
    app.wait_gone(patient(6))


# --------------------------------------------------------------------------------------------------- containers

ORPHANS = """
    import os, subprocess, sys

    def orphan():
        '''A daemon: a grandchild in a session of its own, whose parent has ended.'''
        code = "import os, subprocess; print(subprocess.Popen(['sleep', '0.2'], start_new_session=True).pid)"
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)

    def pid():
        return os.getpid()
    """


def test_an_orphan_is_reaped_and_not_taken_for_a_worker(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=ORPHANS)
    client = app.wait_ready()
    back = client.require("back")
    worker, orphan = back.pid().result(patient(20)), back.orphan().result(patient(20))
    wait_until(lambda: not psutil.pid_exists(orphan), "it was reaped")
    assert back.pid().result(patient(20)) == worker
    os.kill(app.fork_server(), signal.SIGKILL)  # from now on the Kingpin gets the orphans
    app.wait_for("starting a new one")
    orphan = back.orphan().result(patient(20))
    wait_until(lambda: not psutil.pid_exists(orphan), "it was reaped")
    assert back.pid().result(patient(20)) == worker


def can_unshare() -> bool:
    """Return True if this machine lets its user make a namespace of process ids."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="needs the right to make a space of process ids (unshare --pid)")
def test_as_the_first_process_of_a_container(apps: Apps) -> None:
    apps.write(
        main='import mob\nmob.start("t-first").base(__file__).role("back", "./back.py", workers=2).run()\n',
        back=ORPHANS + "print('my Kingpin is', __import__('psutil').Process(os.getppid()).ppid())\n",
    )
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL", sys.executable, "main.py"]
    app: RunningApp = apps.run("t-first", command)
    app.wait_for("my Kingpin is 1", 2)
    client = app.connect()
    back = client.require("back")
    worker = back.pid().result(patient(20))
    orphan = back.orphan().result(patient(20))
    assert orphan != worker
    first = wait_until(lambda: psutil.Process(app.process.pid).children(), "it runs")[0]
    assert first.pid != app.process.pid
    wait_until(lambda: not [p for p in first.children(recursive=True) if p.status() == psutil.STATUS_ZOMBIE], "reaped")
    first.send_signal(signal.SIGTERM)
    assert app.wait() == 0
    assert not is_alive(first.pid)
    assert isinstance(client, mob.Client)
