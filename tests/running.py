"""Real apps for tests: written to a directory, started as a user would, watched by events, and always ended.

Nothing here sleeps to wait: `wait_for` waits on the app's output, `wait_until` polls a condition with a bound.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

import psutil
from click.testing import CliRunner

import mob
from mob.cli.main import main
from mob.testing.lines import PrintedLines
from tests.patience import PATIENCE

T = TypeVar("T")


def wait_until(question: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """Return the first true answer; the question is repeated every few milliseconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(0.005)
    raise AssertionError(f"waited {patience} s without success until {what}")


def unmeasured() -> dict[str, str]:
    """Return an environment for a process that may not write files here: `make coverage` does not measure it."""
    return {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}


class RunningApp:
    """An app in its own processes; with `terminal` it has a terminal, as if a person sat there."""

    def __init__(
        self, directory: Path, name: str, command: list[str], env: dict[str, str], terminal: bool = False
    ) -> None:
        self.directory = directory
        self.name = name
        heed_signals()
        self._terminal = 0
        if terminal:
            self._terminal, other = pty.openpty()
            self.process = subprocess.Popen(command, cwd=directory, env=env, preexec_fn=lambda: os.login_tty(other))
            os.close(other)
            output: Any = os.fdopen(self._terminal, errors="replace")
        else:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                process_group=0,
            )
            output = self.process.stdout
        self._output: TextIO = output
        self._printed = PrintedLines()
        self.screen = ""
        """All that was shown on the terminal, if there is one, including unfinished lines."""
        self.clients: list[mob.Client] = []
        self._seen: set[int] = set()
        self._is_asked = False  # to stop: a second SIGTERM kills its mobsters at once
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        begun = ""
        with contextlib.suppress(OSError):  # how a terminal ends
            while data := os.read(self._output.fileno(), 65536):
                text = decoder.decode(data)
                *lines, begun = (begun + text).replace("\r\n", "\n").split("\n")
                self.screen += text if self._terminal else ""
                self._printed.add(lines)
        self._printed.add([begun] if begun else [])

    @property
    def lines(self) -> list[str]:
        """All lines printed so far."""
        return self._printed.all

    @property
    def output(self) -> str:
        """All output so far."""
        return self._printed.text

    def wait_for(self, pattern: str, count: int = 1, patience: float = PATIENCE) -> list[re.Match[str]]:
        """Wait until `count` lines match; return the matches."""
        return self._printed.wait_for(pattern, count, patience)

    def connect(self) -> mob.Client:
        """Return a client of the app, which is closed at the end of the test."""

        def attempt() -> mob.Client | None:
            if self.process.poll() is not None:
                raise AssertionError(f"the app has ended with {self.process.returncode}:\n{self.output}")
            with contextlib.suppress(mob.AppNotRunning):
                return mob.connect(self.name)
            return None

        client = wait_until(attempt, f"{self.name} lets a client in")
        assert client is not None
        self.clients.append(client)
        return client

    def wait_ready(self, count: int | None = None) -> mob.Client:
        """Wait until `count` mobsters (all that the app describes) are ready; return a client."""
        client = self.connect()
        wanted = len(client.overview()) if count is None else count
        wait_until(
            lambda: len(self.ready(client)) >= wanted, f"{wanted} mobsters of {self.name} are ready\n{self.output}"
        )
        return client

    def ready(self, client: mob.Client, role: str = "") -> list[Any]:
        """Return the ready mobsters, in order of their index."""
        members = [m for m in client.members() if m.role and m.state == "ready" and (not role or m.role == role)]
        self._seen.update(m.pid for m in members)
        return sorted(members, key=lambda m: (m.role, m.index))

    def processes(self) -> list[int]:
        """Return the Kingpin and all its descendants that are alive."""
        try:
            kingpin = psutil.Process(self.process.pid)
            found = [kingpin.pid, *(child.pid for child in kingpin.children(recursive=True))]
        except psutil.NoSuchProcess:
            found = []
        self._seen.update(found)
        return [pid for pid in self._seen if is_alive(pid)]

    def signal(self, signum: int) -> None:
        """Send a signal to the Kingpin."""
        self.process.send_signal(signum)
        self._is_asked |= signum == signal.SIGTERM

    def kill(self) -> None:
        """End the Kingpin with `kill -9`; `processes` shows what it leaves behind."""
        self.processes()
        self.signal(signal.SIGKILL)
        self.process.wait()

    def fork_server(self) -> int:
        """Process id of the fork server."""

        def found() -> int:
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):  # a process that was just replaced
                    if child.cmdline()[:1] == [f"{self.name} (fork server)"]:
                        return child.pid
            return 0

        return wait_until(found, "there is a fork server")

    def type(self, text: str) -> None:
        """Type into the terminal of the app."""
        os.write(self._terminal, text.encode())

    def attributes(self) -> list[Any]:
        """Return the settings of the terminal."""
        return termios.tcgetattr(self._terminal)

    def stop(self, patience: float = PATIENCE) -> int:
        """Stop the app, and return its exit status."""
        self.processes()
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait(patience)

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for the end of the Kingpin; return its exit status."""
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the app has not ended within {patience} s:\n{self.output}") from None
        self._reader.join(patience)
        return status

    def wait_gone(self, patience: float = PATIENCE) -> None:
        """Wait until no process of the app is left."""
        wait_until(lambda: not self.processes(), f"all processes exited; left: {self.processes()}", patience)

    def end(self) -> None:
        """End everything at the end of the test, whatever happened."""
        self.processes()
        for client in self.clients:
            client.close()
        try:
            if self.process.poll() is None:
                self.wait() if self._is_asked else self.stop()
        finally:
            left = self.processes()
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._reader.join(PATIENCE)
            self._output.close()


class Apps:
    """The apps of one test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: list[RunningApp] = []

    def write(self, **files: str) -> Path:
        """Write `name.py` for each argument, dedented; return the directory."""
        for name, text in files.items():
            (self.directory / f"{name}.py").write_text(textwrap.dedent(text))
        return self.directory

    def start(
        self,
        roles: str,
        *,
        name: str = "",
        options: str = "",
        env: dict[str, str] | None = None,
        terminal: bool = False,
        **files: str,
    ) -> RunningApp:
        """Start an app. `roles`: the `.role(...)` lines of its main script; `files`: the modules by name.

        >>> app = apps.start('.role("back", "./back.py", workers=2)', back="def foo(): ...")   # doctest: +SKIP
        """
        name = name or f"t{os.getpid()}-{len(self.running)}-{self.directory.name[-20:]}".replace("_", "-")
        start = f"mob.start({name!r}, {options})"
        main = f"import mob\n\napp = {start}.base(__file__)\napp{roles}\napp.run()\n"
        self.write(**files)
        (self.directory / "main.py").write_text(main)
        return self.run(name, [sys.executable, "main.py"], env, terminal)

    def run(
        self, name: str, command: list[str], env: dict[str, str] | None = None, terminal: bool = False
    ) -> RunningApp:
        """Start an app with a given command."""
        own = ("PYTHONPATH", "PYTHONUNBUFFERED", "COLUMNS", "TERM")  # another machine may not have them
        clean = {key: value for key, value in os.environ.items() if key not in own}
        if terminal:
            clean["TERM"] = "xterm"
        clean["XDG_STATE_HOME"] = str(self.directory / "state")  # not the crash reports of the user who runs the tests
        app = RunningApp(self.directory, name, command, {**clean, **(env or {})}, terminal)
        self.running.append(app)
        return app


@contextlib.contextmanager
def apps_in(directory: Path) -> Iterator[Apps]:
    """Yield apps that end with the block, with nothing left of them."""
    apps = Apps(directory)
    try:
        yield apps
    finally:
        for app in apps.running:
            app.end()


def mob_command(directory: Path, *arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run the `mob` command in this process as a person in that directory would."""
    there = {"COLUMNS": None, "MOB_APP": None, "XDG_STATE_HOME": str(directory / "state"), **env}
    with contextlib.chdir(directory):
        ran = CliRunner().invoke(main, arguments, stdin, there, prog_name="mob", catch_exceptions=False)
    return subprocess.CompletedProcess(["mob", *arguments], ran.exit_code, ran.stdout, ran.stderr)


def free_port() -> int:
    """Return a TCP port of the loopback that no process uses at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def freeze(pid: int) -> None:
    """Stop a process in the middle of whatever it does."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, f"{pid} is stopped")


def heed_signals() -> None:
    """Make apps react to signals that are ignored here, as when tests run under `nohup` or from a script."""
    for signum, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, handler)


def is_alive(pid: int) -> bool:
    """Return whether the process runs (a zombie does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
