"""`mob top` in a terminal, at a real app: what is seen, what its keys do, and that the terminal is given back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, is_alive, mob_command, wait_until
from tests.terminals import Terminal, terminal

BACK = """
    import asyncio
    import mob

    @mob.export
    async def foo(n):
        print("foo was called with", n)
        if n == 13:
            raise ValueError("thirteen")
        return n

    @mob.export
    async def sleeps_here():
        await asyncio.sleep(3600)
    """
MOB = [sys.executable, "-m", "mob"]


def started(apps: Apps) -> RunningApp:
    """Three mobsters in two roles."""
    app = apps.start('.role("back", "./back.py", workers=2).role("other", "./other.py")', back=BACK, other="")
    app.wait_ready()
    return app


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """An app that each test leaves as it was."""
    with apps_in(tmp_path_factory.mktemp("top")) as apps:
        yield started(apps)


def env_of(app: RunningApp, **more: str) -> dict[str, str]:
    unset = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    env = {key: value for key, value in os.environ.items() if key not in unset}
    return {**env, "TERM": "xterm-256color", "XDG_STATE_HOME": str(app.directory / "state"), **more}


def top_of(app: RunningApp, *options: str, size: tuple[int, int] = (120, 30), **env: str) -> Any:
    return terminal([*MOB, "top", "-a", app.name, "-d", "0.2", *options], env_of(app, **env), size)


@pytest.fixture
def window(app: RunningApp) -> Iterator[Terminal]:
    """`mob top` of it, drawn."""
    with top_of(app) as window:
        window.wait_for("workers 3/3", "back.1")
        yield window


def assert_given_back(window: Terminal) -> None:
    """The terminal is as it was."""
    assert window.modes() == window.modes_before
    wait_until(lambda: window.raw.endswith(b"\x1b[?1049l"), f"the screen is given back: {window.raw[-99:]!r}")
    assert window.raw.rindex(b"\x1b[?25h") > window.raw.rindex(b"\x1b[?25l")  # the cursor is seen again


def test_it_shows_the_app_and_is_left_by_q(app: RunningApp, window: Terminal) -> None:
    seen = window.wait_for("q quit", f"Kingpin {app.process.pid}")
    assert window.modes() != window.modes_before
    for member in app.ready(app.clients[0]):
        assert any(f"{member.role}.{member.index}" in row and str(member.pid) in row for row in seen.splitlines())
    assert "Traceback" not in seen
    window.type("q")
    assert window.wait() == 0
    assert_given_back(window)


def test_sorting_and_filtering(app: RunningApp, window: Terminal) -> None:
    assert window.selected().split()[0] == "back"
    window.type("s")
    window.wait_for("by pid")
    pids = sorted((member.pid for member in app.ready(app.clients[0])), reverse=True)
    assert [int(line.split()[1]) for line in window.lines[3:6]] == pids
    window.type("/other")
    window.wait_without("back.0")
    window.type("\r")
    window.wait_for("filter other", "other.0")
    window.type("\x1b")
    window.wait_for("back.0")
    window.type("<")
    window.wait_without("by pid")


def test_calls_are_counted_by_mobster_and_export(app: RunningApp, window: Terminal) -> None:
    back = app.clients[0].require("back")
    for n in range(20):
        if n != 13:
            assert back.foo(n).result(patient(30)) == n
    back.foo(13).exception(patient(30))
    window.type("\t")
    row = wait_until(
        lambda: next((line for line in window.lines if line.startswith("back.foo") and " 20 " in line), ""),
        "the calls of back.foo are seen",
    )
    assert row.split()[-2:] == ["ValueError", "1"]
    window.type("e")
    window.wait_for("back.0")


def test_a_role_is_scaled_and_reloaded(app: RunningApp, window: Terminal) -> None:
    window.type("+")
    window.wait_for("back.2", "workers 4/4")
    window.type("-")
    window.wait_for("workers 3/3")
    window.wait_without("back.2")
    before = {member.pid for member in app.ready(app.clients[0], "back")}
    window.type("L")
    wait_until(lambda: not before & {m.pid for m in app.ready(app.clients[0], "back")}, "all of back are new")
    window.wait_for("workers 3/3")
    window.type("q")
    assert window.wait() == 0


def test_a_mobster_is_restarted_when_that_is_confirmed(app: RunningApp, window: Terminal) -> None:
    first = app.ready(app.clients[0], "back")[0].pid
    window.type("jR")
    window.wait_for(f"Restart back.0 (pid {first})?")
    window.type("n")
    window.wait_for("cancelled")
    assert is_alive(first)
    window.type("Ry")
    wait_until(lambda: not is_alive(first), "the mobster has ended")
    wait_until(lambda: len(app.ready(app.clients[0], "back")) == 2, "another one is ready")
    new = app.ready(app.clients[0], "back")[0].pid
    wait_until(lambda: str(new) in window.selected(), "the successor is selected")


def test_an_error_of_the_app_stands_in_the_line_of_messages(app: RunningApp, window: Terminal) -> None:
    window.type("\x1b[F")  # End: other.0, the only one of its role
    wait_until(lambda: "other.0" in window.selected(), "the last line is selected")
    window.type("-")
    window.wait_for("'other' cannot have 0 workers")
    window.type("k")
    window.wait_without("cannot have 0 workers")
    window.type("q")
    assert window.wait() == 0


def test_stacks_and_help(app: RunningApp, window: Terminal) -> None:
    client = app.clients[0]
    asleep = client.require("back").sleeps_here()
    wait_until(lambda: any(each.in_hand for each in client.metrics().mobsters), "it sleeps")
    window.type("t")
    window.wait_for("stacks of back", "back.0 (pid ", "MainThread")
    window.type("/sleeps_here\r")
    window.wait_for("filter sleeps_here", "in sleeps_here")
    window.type("\x1b")
    window.wait_for("MainThread")
    window.type("\x1b")
    window.wait_for("back.1", "q quit")
    window.type("?")
    window.wait_for("help", "one more worker for its role")
    window.type("q")
    window.wait_for("q quit")
    asleep.cancel()


def test_logs_are_followed(app: RunningApp, window: Terminal) -> None:
    back = app.clients[0].require("back")
    back.foo(71).result(patient(30))
    window.type("l")
    window.wait_for("logs of back", "foo was called with 71")
    back.foo(82).result(patient(30))
    window.wait_for("foo was called with 82")
    window.type("/with 82\r")
    window.wait_without("with 71")
    window.type("\x1b")
    window.wait_for("foo was called with 71")
    window.type("\x1b")
    window.wait_for("back.1", "q quit")


def test_reports_of_crashes(app: RunningApp, window: Terminal) -> None:
    window.type("c")
    window.wait_for(f"No crash of '{app.name}' is recorded.")
    window.type("q")
    victim = app.ready(app.clients[0], "back")[0].pid
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: str(victim) in mob_command(app.directory, "crashes", app.name).stdout, "it is on record")
    window.wait_for("workers 3/3")
    window.type("c")
    window.wait_for(f"back.0 (pid {victim})")


def test_an_app_that_ends_is_waited_for_until_it_is_there_again(apps: Apps) -> None:
    app = started(apps)
    with top_of(app) as window:
        window.wait_for("workers 3/3", "back.1")
        window.type("l")
        window.wait_for("logs of back")
        assert app.stop() == 0
        window.wait_for("the app has ended.")
        window.type("\x1b")
        window.wait_for(f"waiting for '{app.name}'")
        window.type("+")
        window.wait_for("is not connected at the moment")
        again = apps.run(app.name, [sys.executable, "main.py"])
        again.wait_ready(3)
        window.wait_for("workers 3/3", f"Kingpin {again.process.pid}")
        window.type("q")
        assert window.wait() == 0
        assert_given_back(window)


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["INT", "TERM", "HUP"]
)
def test_signals_give_the_terminal_back(window: Terminal, signum: int, status: int) -> None:
    window.process.send_signal(signum)
    assert window.wait() == status
    assert_given_back(window)


def test_it_is_put_aside_by_ctrl_z_and_comes_back_by_fg(app: RunningApp) -> None:
    with terminal(["bash", "--norc", "--noprofile", "-i"], env_of(app, PS1="READY>"), (100, 20)) as window:
        window.wait_for("READY>")
        modes = window.modes()
        window.type(f"{sys.executable} -m mob top -a {app.name} -d 0.2\r")
        window.wait_for("workers 3/3", "back.1")
        for count in (1, 2):
            window.type("\x1a")
            wait_until(lambda count=count: window.raw.count(b"Stopped") == count, "the shell is there")
            assert window.raw.count(b"\x1b[?1049l") == count
            window.type("fg\r")
            wait_until(lambda count=count: window.raw.count(b"\x1b[?1049h") == count + 1, "it is on the screen again")
            window.wait_for("workers 3/3", "back.1")
        window.type("q")
        wait_until(lambda: window.raw.count(b"\x1b[?1049l") == 3, "the screen was given back")
        window.type("echo end$((1+1))\r")
        wait_until(lambda: b"end2" in window.raw, "the shell goes on")
        assert_same(window.modes(), modes)
        window.type("exit\r")
        assert window.wait() == 0


def assert_same(modes: list[Any], others: list[Any]) -> None:
    """The shell's own line editor changes single keys, so only what it leaves alone is compared."""
    assert modes[:3] == others[:3]
    assert modes[3] & termios.ISIG == others[3] & termios.ISIG


def test_a_window_that_is_closed_ends_it(app: RunningApp) -> None:
    with top_of(app) as window:
        window.wait_for("workers 3/3")
        process = psutil.Process(window.process.pid)
    wait_until(lambda: not is_alive(process.pid), "it has ended")


def test_it_follows_the_size_of_the_window(window: Terminal) -> None:
    window.wait_for("minute")
    window.resize((60, 15))
    window.wait_without("minute")
    wait_until(lambda: window.lines[-1].startswith(" q quit"), "the keys stand in the last row")
    window.resize((200, 40))
    window.wait_for("minute")
    wait_until(lambda: window.lines[-1].startswith(" q quit"), "the keys stand in the last row")


def test_a_kingpin_that_stands_still_is_told_and_the_screen_does_not_freeze(apps: Apps) -> None:
    app = started(apps)
    with top_of(app) as window:
        window.wait_for("workers 3/3")
        app.signal(signal.SIGSTOP)
        try:
            window.wait_for("no answer from the Kingpin (supervisor) for")
            window.type("s")
            window.wait_for("by pid")
            window.type("+")
            window.wait_for("back +1 ...")
            window.type("q")
            assert window.wait() == 0
        finally:
            app.signal(signal.SIGCONT)
        assert_given_back(window)


FAILS = """
from rich.console import Console
from mob.cli.top.terminal import Terminal

with Terminal(Console()) as terminal:
    terminal.show("on the screen")
    raise RuntimeError("all went wrong")
"""


def test_an_exception_gives_the_terminal_back_and_is_seen(app: RunningApp) -> None:
    env = env_of(app, PYTHON_COLORS="0")  # tracebacks have colours from Python 3.13 on
    with terminal([sys.executable, "-c", FAILS], env, (80, 20)) as window:
        assert window.wait() == 1
        wait_until(lambda: window.raw.endswith(b"RuntimeError: all went wrong\r\n"), "the error is seen")
        assert b"on the screen" in window.raw
        assert window.raw.index(b"\x1b[?1049l") < window.raw.index(b"Traceback")
        assert window.modes() == window.modes_before


def run(app: RunningApp, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*MOB, "top", "-a", app.name, *options]
    return subprocess.run(
        command, env=env_of(app), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patient(30)
    )


def test_once_is_for_pipes(app: RunningApp) -> None:
    done = run(app, "--once", "-d", "0.1", "-s", "mem", "-f", "back")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0].split()[:3] == [app.name, "up", lines[0].split()[2]]
    assert sorted(line.split()[0] for line in lines[3:]) == ["back.0", "back.1"]
    assert "\x1b" not in done.stdout


def test_without_a_terminal_it_says_what_there_is_instead(app: RunningApp) -> None:
    done = run(app)
    assert done.returncode == 2
    assert "`mob top --once`" in done.stderr
    with top_of(app, TERM="dumb") as window:
        assert window.wait() == 2
        window.wait_for("needs a terminal")
    done = run(app, "--once", "--sort", "memm")
    assert done.returncode == 2
    assert "there is no column 'memm' in the table of workers." in done.stderr
    assert "mem" in done.stderr.rpartition("workers.")[2]


def test_an_app_that_does_not_run_is_told_at_once(app: RunningApp) -> None:
    command = [*MOB, "top", "-a", f"{app.name}x"]
    with terminal(command, env_of(app), (100, 10)) as window:
        assert window.wait() == 3
        window.wait_for("no app named", f"{app.name}")
        assert window.modes() == window.modes_before
        assert b"\x1b[?1049h" not in window.raw
