"""`mob shell` on a real terminal, and as a script."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.patience import patient
from tests.running import PATIENCE, RunningApp, apps_in, wait_until

BACK = """
    import mob

    def foo(a, x=0):
        "Adds."
        return a + x

    def forty_two():
        return {"answer": 42}

    def nothing():
        pass

    def bad():
        raise ValueError("no good")

    def count(n):
        yield from range(n)

    async def waits():
        import asyncio
        try:
            print("waits")
            await asyncio.sleep(1000)
        finally:
            print("cancelled")
    """
ROLES = '.role("back", "./back.py").role("image-worker", "./back.py").role("print", "./back.py")'


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("shell")) as apps:
        app = apps.start(ROLES, back=BACK)
        app.wait_ready()
        yield app


class Terminal:
    """A shell on a terminal of its own."""

    def __init__(self, app: RunningApp, *words: str) -> None:
        self._fd, other = pty.openpty()
        env = {**os.environ, "XDG_STATE_HOME": str(app.directory / "state"), "TERM": "dumb"}
        line = [sys.executable, "-m", "mob", "shell", "--plain", "-a", app.name, *words]
        self.process = subprocess.Popen(line, env=env, preexec_fn=lambda: os.login_tty(other))
        os.close(other)
        self.seen = ""
        self._read = 0

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for(self, pattern: str) -> str:
        """Waits until that is seen after what was waited for before; all that is seen up to it."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.compile(pattern, re.DOTALL).search(self.seen, self._read)) is None:
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.seen[self._read :]!r}"
            if select.select([self._fd], [], [], 0.1)[0]:
                self.seen += os.read(self._fd, 65536).decode().replace("\r\n", "\n")
        before = self._read
        self._read = found.end()
        return self.seen[before : self._read]

    def run(self, line: str) -> str:
        """What a line brings."""
        self.type(line + "\n")
        self.wait_for(re.escape(line) + "\n")
        return self.wait_for(r"(?:^|\n)?>>> ").removesuffix(">>> ")

    def end(self) -> int:
        self.type("\x04")
        status = self.process.wait(PATIENCE)
        os.close(self._fd)
        return status


@pytest.fixture
def terminal(app: RunningApp) -> Iterator[Terminal]:
    terminal = Terminal(app)
    terminal.wait_for(">>> ")
    yield terminal
    try:
        if terminal.process.poll() is None:
            terminal.end()
    finally:
        terminal.process.kill()
        terminal.process.wait()


def test_it_tells_what_is_there(app: RunningApp, terminal: Terminal) -> None:
    assert f"· {app.name} · Kingpin {app.process.pid}\n" in terminal.seen
    assert "\n  back       foo, forty_two, nothing, bad, count, waits\n" in terminal.seen
    assert "\n  image_worker foo," in terminal.seen
    assert "\n  print_     foo," in terminal.seen
    assert re.fullmatch(r"back\.0 .* ready\n.*client .*\n", terminal.run("members()"), re.DOTALL)
    assert terminal.run("app") == f"<Client of {app.name!r}>\n"
    assert terminal.run("mob.plan.GRACE") == "30.0\n"
    assert terminal.end() == 0


def test_a_call_shows_its_value(terminal: Terminal) -> None:
    assert terminal.run("back.foo(1, x=2)") == "3\n"
    assert terminal.run("_") == "3\n"
    assert terminal.run("image_worker.forty_two()") == "{'answer': 42}\n"
    assert terminal.run("back.nothing()") == ""
    assert terminal.run("list(back.count(3))") == "[0, 1, 2]\n"
    assert terminal.run("back.count(2)") == "0\n1\n"
    assert terminal.run("call = back.foo(5)") == ""
    assert terminal.run("call.result()") == "5\n"
    assert terminal.end() == 0


def test_errors_are_told_and_the_shell_goes_on(terminal: Terminal) -> None:
    remote = terminal.run("back.bad()")
    assert remote.startswith("Error: the export raised ValueError: no good\n\nIn the worker:\nTraceback")
    assert "mob/cli" not in remote
    assert terminal.run("back.fo()") == "UnknownExport: 'back' exports no function 'fo'. Did you mean 'foo'?\n"
    assert terminal.run("1 / 0").endswith("ZeroDivisionError: division by zero\n")
    assert "SyntaxError" in terminal.run("1 /")
    assert terminal.run("back.foo(1)") == "1\n"
    assert terminal.end() == 0


def test_ctrl_c_cancels_a_call(app: RunningApp, terminal: Terminal) -> None:
    terminal.type("back.waits()\n")
    app.wait_for(r"back\.0 \d+ \| waits")
    shell = psutil.Process(terminal.process.pid)
    wait_until(lambda: shell.status() == psutil.STATUS_SLEEPING, "it waits for the answer")
    terminal.type("\x03")
    terminal.wait_for("back.waits was cancelled.\n>>> ")
    app.wait_for(r"back\.0 \d+ \| cancelled")
    assert terminal.run("back.foo(1)") == "1\n"
    assert terminal.end() == 0


def test_tab_completes_roles_and_exports(terminal: Terminal) -> None:
    terminal.type("back.forty\t")
    terminal.wait_for(r"back\.forty_two\(")
    terminal.type(")\n")
    terminal.wait_for("{'answer': 42}\n>>> ")
    terminal.type("image_w\t.fo\t\t")
    terminal.wait_for(r"image_worker\.fo.*foo\(.*forty_two\(.*>>> image_worker\.fo")
    terminal.type("o(6)\n")
    terminal.wait_for("6\n>>> ")
    assert terminal.end() == 0


def test_the_history_is_kept(app: RunningApp, terminal: Terminal) -> None:
    terminal.run("back.foo(271828)")
    terminal.end()
    file = app.directory / "state" / "mob" / ".shell_history"
    assert "back.foo(271828)" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    again = Terminal(app)
    again.wait_for(">>> ")
    again.type("\x1b[A\n")  # the arrow up
    again.wait_for("271828\n>>> ")
    assert again.end() == 0


def test_the_end_of_the_app_is_told(app: RunningApp, tmp_path: object) -> None:
    with apps_in(app.directory) as apps:
        other = apps.start('.role("back", "./back.py")', name=f"{app.name[:50]}-end")
        other.wait_ready()
        terminal = Terminal(other)
        terminal.wait_for(">>> ")
        terminal.run("x = back.foo(7).result()")
        other.stop()
        terminal.type("\n")
        terminal.wait_for(f"The app '{other.name}' has ended.\n>>> ")
        assert "Unavailable" in terminal.run("back.foo(1)")
        assert terminal.run("x") == "7\n"
        assert terminal.end() == 0


def script(app: RunningApp, text: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "mob", "shell", "-a", app.name]
    return subprocess.run(line, input=text, capture_output=True, text=True, timeout=patient(60))


def test_standard_input_is_run_as_a_script(app: RunningApp) -> None:
    done = script(app, "back.foo(1)\nfor n in range(2):\n    back.foo(n, x=1)\n\nx = back.foo(5)\nx\nback.count(2)\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n1\n2\n5\n0\n1\n", "")
    assert script(app, "").returncode == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("back.bad()", "Error: the export raised ValueError: no good\n\nIn the worker:\n"),
        ("back.fo()", "UnknownExport: 'back' exports no function 'fo'. Did you mean 'foo'?\n"),
        ("def f():\n    1 / 0\nf()", 'Traceback (most recent call last):\n  File "<mob shell>", line 3, in <module>\n'),
        ("1 /", '  File "<mob shell>", line 1\n'),
    ],
    ids=range(4),
)
def test_an_error_ends_a_script(app: RunningApp, text: str, told: str) -> None:
    done = script(app, f"{text}\nprint('no')\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(told)


def test_a_remote_error_can_be_caught(app: RunningApp) -> None:
    done = script(
        app, "try:\n    back.bad().result()\nexcept ValueError as error:\n    print(type(error).__mro__[2])\n"
    )
    assert (done.returncode, done.stdout) == (0, "<class 'mob.errors.CallError'>\n")


def test_an_app_that_is_not_there_is_told(app: RunningApp) -> None:
    line = [sys.executable, "-m", "mob", "shell", "-a", f"{app.name}x"]
    done = subprocess.run(line, input="", capture_output=True, text=True, timeout=patient(60))
    assert done.returncode == 3
    assert f"no app named '{app.name}x' is running on this machine. Did you mean '{app.name}'?" in done.stderr
    wait_until(lambda: app.process.poll() is None, "the app goes on")
