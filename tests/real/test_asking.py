"""What asks a person in another way than `breakpoint()`: it gets the terminal, or says why there is none."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

import mob
from tests.real.test_debugging import Keyboard
from tests.running import PATIENCE, Apps, apps_in, wait_until

BACK = """
    import os, pdb, threading
    from getpass import getpass

    def ask(question):
        return input(question)

    def set_trace(x):
        y = x + 1
        pdb.set_trace()
        return y

    def header():
        pdb.set_trace(header="look here")
        return "went on"

    def console():
        import code
        value = [1]
        code.interact(local=locals())
        return value

    def secret():
        return getpass("Password: ")

    def dead():
        try:
            {}["key"]
        except KeyError as error:
            trace = error.__traceback__
        pdb.post_mortem(trace)
        return "went on"

    def of_my_own(lines):
        import io, sys
        before, sys.stdin = sys.stdin, io.StringIO(lines)
        try:
            return [input(), input()]
        finally:
            sys.stdin = before

    def in_a_child():
        reading, writing = os.pipe()
        if (pid := os.fork()) == 0:
            names = [pdb.set_trace.__qualname__, type(__builtins__["input"]).__name__]
            os.write(writing, " ".join(names).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        return os.read(reading, 100).decode()

    def both():
        answers = {}
        def ask(name):
            answers[name] = input(f"{name}? ")
        threads = [threading.Thread(target=ask, args=(name,)) for name in ("first", "second")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def remote(port):
        import socket
        sock = socket.create_connection(("127.0.0.1", port))
        file = sock.makefile("rw")
        pdb.Pdb(stdin=file, stdout=file).set_trace()
        return "went on"
    """


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyboard]:
    with apps_in(tmp_path_factory.mktemp("asked")) as apps:
        roles = '.role("back", "./back.py", hang_timeout=2, threads=4)'
        app = apps.start(roles, options="grace=2", terminal=True, env={"TERM": "dumb"}, back=BACK)
        app.wait_ready()
        yield Keyboard(app)


@pytest.fixture
def terminal(shared: Keyboard) -> Keyboard:
    shared.look_away()
    return shared


def back(terminal: Keyboard) -> mob.Proxy:
    return terminal.app.clients[0].require("back")


def test_input_asks_at_the_terminal(terminal: Keyboard) -> None:
    call = back(terminal).ask("Your name? ")
    terminal.wait_for("Your name? ")
    terminal.app.type("Ada\n")
    assert call.result(PATIENCE) == "Ada"


def test_set_trace_is_a_breakpoint(terminal: Keyboard) -> None:
    call = back(terminal).set_trace(20)
    assert "return y" in terminal.wait_stopped()
    assert "21" in terminal.say("p y")
    terminal.say_last("c")
    assert call.result(PATIENCE) == 21


def test_its_header_is_shown(terminal: Keyboard) -> None:
    call = back(terminal).header()
    assert "look here" in terminal.wait_stopped()
    terminal.say_last("c")
    assert call.result(PATIENCE) == "went on"


def test_a_console_has_the_terminal_until_it_is_left(terminal: Keyboard) -> None:
    call = back(terminal).console()
    terminal.wait_for(">>> ")
    terminal.app.type("value.append(6 * 7)\n")
    terminal.wait_for(">>> ")
    terminal.app.type("exit()\n")
    assert call.result(PATIENCE) == [1, 42]


def test_a_password_is_not_shown(terminal: Keyboard) -> None:
    call = back(terminal).secret()
    terminal.wait_for("Password: ")
    terminal.app.type("sesame\n")
    assert call.result(PATIENCE) == "sesame"
    assert "sesame" not in terminal.app.screen


def test_post_mortem(terminal: Keyboard) -> None:
    call = back(terminal).dead()
    assert '["key"]' in terminal.wait_for("(Pdb) ")
    terminal.say_last("q")
    assert call.result(PATIENCE) == "went on"


def test_two_threads_ask_one_after_the_other(terminal: Keyboard) -> None:
    call = back(terminal).both()
    for _ in range(2):
        first_or_second = terminal.wait_for("? ").split()[-1][:-1]
        terminal.app.type(f"I am {first_or_second}\n")
    assert call.result(PATIENCE) == {"first": "I am first", "second": "I am second"}


def test_a_standard_input_of_the_applications_own_is_read(terminal: Keyboard) -> None:
    assert back(terminal).of_my_own("a\nb\n").result(PATIENCE) == ["a", "b"]


def test_a_forked_child_has_pythons_own(terminal: Keyboard) -> None:
    assert back(terminal).in_a_child().result(PATIENCE) == "set_trace builtin_function_or_method"


def test_without_a_terminal_it_goes_on_or_says_why(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    proxy = app.wait_ready().require("back")
    assert proxy.set_trace(1).result(PATIENCE) == 2
    assert proxy.console().result(PATIENCE) == [1]
    assert proxy.dead().result(PATIENCE) == "went on"
    app.wait_for(r"pdb\.set_trace\(\) at back\.py:10 skipped: .*breakpoint\(\)")
    app.wait_for(r"code\.interact\(\) at back\.py:20 skipped")
    app.wait_for(r"pdb\.post_mortem\(\) at back\.py:31 skipped")
    for call, name in ((proxy.ask("?"), "input"), (proxy.secret(), "getpass.getpass")):
        with pytest.raises(
            EOFError, match=rf"{name}\(\) at back\.py:\d+ cannot ask the user: this app does not run in"
        ):
            call.result(PATIENCE)


def test_a_worker_that_another_debugger_has_stopped_does_not_hang(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", hang_timeout=1)', back=BACK)
    client = app.wait_ready()
    pid = app.ready(client, "back")[0].pid
    with socket.create_server(("127.0.0.1", 0)) as server:
        call = client.require("back").remote(server.getsockname()[1])
        connection, _ = server.accept()
        with connection:
            wait_until(lambda: max(each.lag for each in client.metrics().mobsters) > 3.5, "it stands for long")
            connection.sendall(b"c\n")
            assert call.result(PATIENCE) == "went on"
    assert app.ready(client, "back")[0].pid == pid
    assert "hangs" not in app.output
    assert os.getpgid(pid) == pid
