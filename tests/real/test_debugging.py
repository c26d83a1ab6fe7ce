"""`breakpoint()` in mobsters, on a real terminal."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

import mob
from tests.running import PATIENCE, Apps, RunningApp, apps_in, wait_until

BACK = """
    import asyncio, os, sys, threading
    import mob

    def plain(x):
        y = x + 1
        breakpoint()
        y = 2 * y
        return y

    def twice():
        breakpoint()
        breakpoint()
        return "twice"

    async def waits():
        breakpoint()
        await asyncio.sleep(0.01)
        after = "the wait"
        return after

    async def lends(f):
        call = f(at_callback)
        breakpoint()
        return await call

    def at_callback():
        breakpoint()
        return "nested"

    def echo(x):
        print("echo", x)
        return x

    async def busy():
        while True:
            await asyncio.sleep(0.01)
    """


class Keyboard:
    """A user at the terminal of an app: reads its output, and types."""

    def __init__(self, app: RunningApp) -> None:
        self.app = app
        self._read = 0

    def look_away(self) -> None:
        """What was shown so far is of no interest."""
        self._read = len(self.app.screen)

    def wait_for(self, text: str) -> str:
        """Waits until a text has come since what was waited for last; all until there."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            screen = self.app.screen
            if (found := screen.find(text, self._read)) >= 0:
                seen, self._read = screen[self._read : found + len(text)], found + len(text)
                return seen
            time.sleep(0.005)
        raise AssertionError(f"no {text!r} in:\n{self.app.screen[self._read :]!r}\nafter:\n{self.app.screen!r}")

    def wait_stopped(self) -> str:
        """Wait until `breakpoint()` has stopped the program at the line below it, and return what was shown."""
        shown = self.wait_for("(Pdb) ")
        if sys.version_info >= (3, 13):  # which stops in the line of `breakpoint()`, before the next one
            shown += self.say("n")
        return shown

    def say(self, command: str) -> str:
        """Types a command at the prompt; what came before the next prompt."""
        self.app.type(command + "\n")
        return self.wait_for("(Pdb) ")

    def say_last(self, command: str) -> None:
        """Types a command after which there is no prompt."""
        self.app.type(command + "\n")
        self.wait_for(command)


def started(apps: Apps) -> Keyboard:
    roles = '.role("back", "./back.py", workers=2, hang_timeout=1.0)'
    app = apps.start(roles, options="grace=2", terminal=True, env={"TERM": "dumb"}, back=BACK)
    app.wait_ready()
    return Keyboard(app)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyboard]:
    with apps_in(tmp_path_factory.mktemp("debugged")) as apps:
        yield started(apps)


@pytest.fixture
def terminal(shared: Keyboard) -> Keyboard:
    """That of an app whose mobsters go on after each test."""
    shared.look_away()
    return shared


@pytest.fixture
def own_terminal(apps: Apps) -> Keyboard:
    """That of an app for one test."""
    return started(apps)


def back(terminal: Keyboard, index: int = 0) -> mob.Proxy:
    client = terminal.app.clients[0]
    return client.require("back").options(pid=terminal.app.ready(client, "back")[index].pid)


def test_values_are_looked_at_and_the_call_goes_on(terminal: Keyboard) -> None:
    call = back(terminal).plain(20)
    assert "y = 2 * y" in terminal.wait_stopped()
    assert "21" in terminal.say("p y")
    assert "return y" in terminal.say("n")
    assert "42" in terminal.say("p y")
    assert "plain" in terminal.say("w")
    terminal.say("y = 43")
    terminal.say_last("c")
    assert call.result(PATIENCE) == 43
    assert back(terminal).echo(1).result(PATIENCE) == 1
    terminal.wait_for("echo 1")


def test_steps_over_an_await_and_out_of_the_function(terminal: Keyboard) -> None:
    call = back(terminal).waits()
    terminal.wait_stopped()
    assert 'after = "the wait"' in terminal.say("n")
    assert "return after" in terminal.say("n")
    assert "--Return--" in terminal.say("n")
    terminal.say_last("n")
    assert call.result(PATIENCE) == "the wait"
    back(terminal).echo("next").result(PATIENCE)
    terminal.wait_for("echo next")


def test_one_at_a_time_and_others_wait_and_print_later(terminal: Keyboard) -> None:
    first = back(terminal, 0).plain(1)
    terminal.wait_stopped()
    second = back(terminal, 1).plain(2)
    rows = terminal.app.clients[0].overview
    wait_until(lambda: any("waits at back.py" in row.note for row in rows()), "the second one waits")
    assert any("in the debugger at back.py" in row.note for row in rows())
    assert "2" in terminal.say("p y")
    terminal.app.type("c\n")
    terminal.wait_for("waits at back.py")
    terminal.wait_stopped()
    assert "3" in terminal.say("p y")
    terminal.say_last("c")
    assert [first.result(PATIENCE), second.result(PATIENCE)] == [4, 6]


def test_a_callback_at_a_breakpoint_of_its_own_while_its_process_waits_for_the_terminal(terminal: Keyboard) -> None:
    first = back(terminal, 0).plain(1)
    terminal.wait_stopped()
    has_called = threading.Event()
    answers: list[mob.Call[str]] = []

    def call_back(function: mob.RemoteFunction) -> str:
        answers.append(function())
        has_called.set()
        return answers[0].result(PATIENCE)

    second = back(terminal, 1).lends(call_back)
    assert has_called.wait(PATIENCE)
    terminal.app.type("c\n")
    terminal.wait_stopped()
    terminal.app.type("c\n")
    terminal.wait_stopped()
    terminal.say_last("c")
    assert [first.result(PATIENCE), second.result(PATIENCE)] == [4, "nested"]


def test_a_debugger_is_no_hang_and_what_others_print_is_held(terminal: Keyboard) -> None:
    client = terminal.app.clients[0]
    call = back(terminal).twice()
    terminal.wait_stopped()
    pid = terminal.app.ready(client, "back")[0].pid
    back(terminal, 1).echo("held").result(PATIENCE)

    def lag() -> float:
        return max(each.lag for each in client.metrics().mobsters if each.pid == pid)

    wait_until(lambda: lag() > 2.5, "it stands for longer than hang_timeout")
    assert "echo held" not in terminal.say("p 'still there'")
    terminal.app.type("c\n")
    terminal.wait_for("echo held")
    terminal.wait_stopped()
    terminal.say_last("c")
    assert call.result(PATIENCE) == "twice"
    assert terminal.app.ready(client, "back")[0].pid == pid


LIMITED = """
    import os, time
    import mob

    @mob.export(kill_after=1)
    def stops_twice():
        breakpoint()
        breakpoint()
        return os.getpid()

    @mob.export(kill_after=1)
    def goes_on_for_ever():
        breakpoint()
        time.sleep(1000)

    @mob.export(kill_after=1)
    async def beside():
        time.sleep(1000)
    """


def test_time_in_the_debugger_does_not_count_for_kill_after(apps: Apps) -> None:
    app = apps.start(
        '.role("back", "./back.py", threads=2)', options="grace=2", terminal=True, env={"TERM": "dumb"}, back=LIMITED
    )
    client, terminal = app.wait_ready(), Keyboard(app)
    proxy = client.require("back")
    pid = app.ready(client, "back")[0].pid
    call = proxy.stops_twice()
    for _ in range(2):
        terminal.wait_stopped()
        stopped = time.monotonic()
        wait_until(lambda stopped=stopped: time.monotonic() > stopped + 1.5, "longer than kill_after")
        terminal.say_last("c")
    assert call.result(PATIENCE) == pid
    endless = proxy.goes_on_for_ever()
    terminal.wait_stopped()
    beside = proxy.beside()  # has no more time than it, and is excused with it
    stopped = time.monotonic()
    wait_until(lambda: time.monotonic() > stopped + 1.5, "longer than kill_after")
    assert not any(call.done() for call in (endless, beside))
    terminal.say_last("c")
    with pytest.raises(mob.CallTimeout, match=rf"for more than 1 s .* \(pid {pid}\) was killed"):
        endless.result(PATIENCE)
    assert isinstance(beside.exception(PATIENCE), mob.CallError)


def test_quit_fails_the_call_and_nothing_else(terminal: Keyboard) -> None:
    call = back(terminal).plain(1)
    terminal.wait_stopped()
    pid = terminal.app.ready(terminal.app.clients[0], "back")[0].pid
    terminal.say_last("q")
    with pytest.raises(mob.RemoteError, match="BdbQuit"):
        call.result(PATIENCE)
    again = back(terminal).plain(2)
    terminal.wait_stopped()
    terminal.say_last("c")
    assert again.result(PATIENCE) == 6
    assert terminal.app.ready(terminal.app.clients[0], "back")[0].pid == pid


def test_ctrl_c_is_the_debuggers_at_the_prompt_and_the_apps_otherwise(own_terminal: Keyboard) -> None:
    call = back(own_terminal).plain(1)
    own_terminal.wait_stopped()
    own_terminal.app.type("\x03")
    own_terminal.wait_for("(Pdb) ")
    assert "2" in own_terminal.say("p y")
    own_terminal.say_last("c")
    assert call.result(PATIENCE) == 4
    own_terminal.app.type("\x03")
    assert own_terminal.app.wait() == 0


def test_a_mobster_that_dies_at_the_prompt_gives_the_terminal_back(own_terminal: Keyboard) -> None:
    client = own_terminal.app.clients[0]
    before = own_terminal.app.attributes()
    call = back(own_terminal).plain(1)
    own_terminal.wait_stopped()
    pid = own_terminal.app.ready(client, "back")[0].pid
    os.kill(pid, signal.SIGKILL)
    assert isinstance(call.exception(PATIENCE), mob.Lost)
    wait_until(lambda: pid not in {m.pid for m in client.members()}, "its end was noticed")
    assert own_terminal.app.attributes() == before
    own_terminal.app.type("\x03")
    assert own_terminal.app.wait() == 0


def test_a_breakpoint_of_its_own_is_hit_after_continue(terminal: Keyboard) -> None:
    call = back(terminal).plain(1)
    terminal.wait_stopped()
    terminal.say("b echo")
    terminal.say_last("c")
    assert call.result(PATIENCE) == 4
    call = back(terminal).echo("hit")
    assert "echo" in terminal.wait_for("(Pdb) ")
    assert "hit" in terminal.say("p x")
    terminal.say("clear 1")
    terminal.say_last("c")
    assert call.result(PATIENCE) == "hit"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyboard]:
    with apps_in(tmp_path_factory.mktemp("places")) as apps:
        modules = {
            "imported": "breakpoint()\nvalue = 'imported'\ndef get():\n    return value",
            "threaded": "import threading\ndef get(x):\n    breakpoint()\n    return threading.current_thread().name",
            "started": (
                "import mob\nasync def prepare():\n    breakpoint()\n    global value\n    value = 'started'\n"
                "mob.on('start', prepare)\ndef get():\n    return value"
            ),
        }
        roles = '.role("threaded", "./threaded.py", threads=2).role("imported", "./imported.py", boot_timeout=4)'
        roles += '.role("started", "./started.py", boot_timeout=4)'
        app = apps.start(roles, options="grace=2", terminal=True, env={"TERM": "dumb"}, **modules)
        yield Keyboard(app)


def test_a_module_a_start_handler_and_a_thread(places: Keyboard) -> None:
    """The first two at once; each has its turn, and no time to boot runs out meanwhile."""
    client = places.app.connect()
    for _ in range(2):
        places.wait_stopped()
        wait_until(lambda: all(row.uptime > 4.5 for row in client.overview()), "boot_timeout is over")
        places.say_last("c")
    assert client.require("imported").get().result(PATIENCE) == "imported"
    assert client.require("started").get().result(PATIENCE) == "started"
    call = client.require("threaded").get(1)
    assert "return threading" in places.wait_stopped()
    places.app.type("\x03")
    assert "1" in places.say("p x")
    places.say_last("c")
    assert "Main" not in call.result(PATIENCE)


def test_without_a_terminal_it_is_passed_over_and_told(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    client = app.wait_ready()
    assert [client.require("back").plain(1).result(PATIENCE) for _ in range(3)] == [4, 4, 4]
    app.wait_for(r"breakpoint\(\) at back\.py:7 skipped: this app does not run in a terminal")
    assert app.output.count("back.py:7 skipped") == 1


def test_the_variable_turns_it_off(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', terminal=True, env={"PYTHONBREAKPOINT": "0"}, back=BACK)
    client = app.wait_ready()
    assert client.require("back").plain(1).result(PATIENCE) == 4
    assert "(Pdb)" not in app.output
