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
    """The first true answer; asked again every few milliseconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(0.005)
    raise AssertionError(f"waited {patience} s in vain until {what}")


def unmeasured() -> dict[str, str]:
    """An environment for a process that may write no files here: `make coverage` does not measure it."""
    return {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}


class RunningApp:
    """An app in processes of its own; `terminal`: it thinks that a person sits there."""

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
        """All that was shown on the terminal, if there is one, also what is no whole line."""
        self.clients: list[mob.Client] = []
        self._seen: set[int] = set()
        self._is_asked = False  # to stop: a second SIGTERM means "at once", and its mobsters are killed
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
        """All that was printed so far, as lines."""
        return self._printed.all

    @property
    def output(self) -> str:
        """All that was printed so far."""
        return self._printed.text

    def wait_for(self, pattern: str, count: int = 1, patience: float = PATIENCE) -> list[re.Match[str]]:
        """Waits until `count` lines match; the matches."""
        return self._printed.wait_for(pattern, count, patience)

    def connect(self) -> mob.Client:
        """A client of the app, closed at the end of the test."""

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
        """Waits until so many mobsters (all that the app describes) are ready; a client."""
        client = self.connect()
        wanted = len(client.overview()) if count is None else count
        wait_until(
            lambda: len(self.ready(client)) >= wanted, f"{wanted} mobsters of {self.name} are ready\n{self.output}"
        )
        return client

    def ready(self, client: mob.Client, role: str = "") -> list[Any]:
        """The ready mobsters, in order of their index."""
        members = [m for m in client.members() if m.role and m.state == "ready" and (not role or m.role == role)]
        self._seen.update(m.pid for m in members)
        return sorted(members, key=lambda m: (m.role, m.index))

    def processes(self) -> list[int]:
        """The Kingpin and all its descendants that are alive."""
        try:
            kingpin = psutil.Process(self.process.pid)
            found = [kingpin.pid, *(child.pid for child in kingpin.children(recursive=True))]
        except psutil.NoSuchProcess:
            found = []
        self._seen.update(found)
        return [pid for pid in self._seen if is_alive(pid)]

    def signal(self, signum: int) -> None:
        """Sends a signal to the Kingpin."""
        self.process.send_signal(signum)
        self._is_asked |= signum == signal.SIGTERM

    def kill(self) -> None:
        """Ends the Kingpin by `kill -9`; what it leaves is seen by `processes`."""
        self.processes()
        self.signal(signal.SIGKILL)
        self.process.wait()

    def fork_server(self) -> int:
        """The pid of the fork server."""

        def found() -> int:
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):  # one that has just been replaced
                    if child.cmdline()[:1] == [f"{self.name} (fork server)"]:
                        return child.pid
            return 0

        return wait_until(found, "there is a fork server")

    def type(self, text: str) -> None:
        """Types into the terminal of the app."""
        os.write(self._terminal, text.encode())

    def attributes(self) -> list[Any]:
        """How the terminal is set."""
        return termios.tcgetattr(self._terminal)

    def stop(self, patience: float = PATIENCE) -> int:
        """Asks the app to stop, and its exit status."""
        self.processes()
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait(patience)

    def wait(self, patience: float = PATIENCE) -> int:
        """Waits for the end of the Kingpin; its exit status."""
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the app has not ended within {patience} s:\n{self.output}") from None
        self._reader.join(patience)
        return status

    def wait_gone(self, patience: float = PATIENCE) -> None:
        """Waits until no process of the app is left."""
        wait_until(lambda: not self.processes(), f"all processes are gone; left: {self.processes()}", patience)

    def end(self) -> None:
        """At the end of the test: whatever happened, nothing is left."""
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
        """Writes `name.py` for each argument, dedented; the directory."""
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
        """Starts an app. `roles`: the `.role(...)` lines of its main script; `files`: the modules by name.

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
        """Starts an app by a command of one's own."""
        own = ("PYTHONPATH", "PYTHONUNBUFFERED", "COLUMNS", "TERM")  # another machine may not have them
        clean = {key: value for key, value in os.environ.items() if key not in own}
        if terminal:
            clean["TERM"] = "xterm"
        clean["XDG_STATE_HOME"] = str(self.directory / "state")  # not the reports of crashes of whoever runs the tests
        app = RunningApp(self.directory, name, command, {**clean, **(env or {})}, terminal)
        self.running.append(app)
        return app


@contextlib.contextmanager
def apps_in(directory: Path) -> Iterator[Apps]:
    """Apps that are ended with the block, with nothing left of them."""
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
    """A TCP port of the loopback that nobody has at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def freeze(pid: int) -> None:
    """Stops a process in the middle of whatever it does."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, f"{pid} stands still")


def heed_signals() -> None:
    """Has apps hear signals that are ignored here, as where tests run under `nohup` or behind a script."""
    for signum, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, handler)


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
