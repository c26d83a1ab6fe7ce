"""Bad input: each kind has an error of its own, and its text says whose fault it is, what was seen and what was wanted.

On a link, what is not mob's closes that link and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import psutil
import pytest

import mob
from mob.rim.addresses import address_of
from mob.wire import messages as m
from mob.wire.frames import HEADER, frame
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, free_port, wait_until

BACK = """
import os

def foo(*args):
    return os.getpid()
"""
PATH = r"/\S+"


def said(apps: Apps, main: str) -> str:
    """What a main script says that fails, without the frames of its traceback."""
    apps.write(main=main, back=BACK)
    app = apps.run("none", [sys.executable, "main.py"])
    app.wait()
    head, _, tail = app.output.partition("Traceback (most recent call last):\n")
    return head + "\n".join(line for line in tail.splitlines() if not line.startswith(" "))


# ------------------------------------------------------------------------------------------------ the main script


NAMED = "Expected: a letter, then up to 63 letters, digits, '_', '.' or '-', as in"
WRONG_LINES = {
    '.role("back", "./bakc.py")': (
        f"role 'back': there is no file {PATH}/bakc.py. Did you mean 'back.py'? Role files are looked up from the "
        f"base; .base(__file__) makes it the main script's directory."
    ),
    '.role("back", "bakc.worker")': (
        f"role 'back': there is no module 'bakc' to import 'bakc.worker' from, neither in {PATH} nor among the "
        f"installed packages. Is it a file? Then write './bakc/worker.py'."
    ),
    '.role("back", "no module")': (
        "role 'back': 'no module' is neither a file (it would end in .py) nor an import string (names separated "
        "by dots)."
    ),
    '.role("back", 5)': (
        "role 'back': 5 is not a module. Expected: a file ending in .py, as in .role(\"back\", "
        '"./background_worker.py"), or an import string such as "pkg.module".'
    ),
    '.role("2nd", "./back.py")': f'\'2nd\' cannot name a role. {NAMED} .role("back", "./background_worker.py").',
    '.role("kingpin", "./back.py")': "'kingpin' cannot name a role: mob uses that name itself. Choose another one.",
    '.role("back", "./back.py").role("back", "other")': (
        f"the role 'back' is declared twice: first with '{PATH}/back.py', then with 'other'. Give each role "
        f"its own name; for more processes of one role use workers=."
    ),
    '.role("back", "./back.py", workers=0)': "role 'back': workers=0 is not a whole number of at least 1.",
    '.role("back", "./back.py", threads="2")': (
        "role 'back': threads='2' is not a whole number of at least 1, or None."
    ),
    '.role("back", "./back.py", worker=4)': "role 'back': unknown option 'worker'. Did you mean 'workers'?",
    "": 'the app \'bad\' has no role, so there is nothing to run. Add one: .role("back", "./worker.py").',
    '.base("./nowhere")': f"base('./nowhere'): no such file or directory: {PATH}/nowhere.",
}


TRIES = """
import mob
for number, line in enumerate({lines!r}):
    try:
        eval(f"mob.start('bad').base(__file__){{line}}.run()")
    except mob.errors.PlanError as error:
        print(number, error)
"""


def test_wrong_lines_of_a_main_script(apps: Apps) -> None:
    shown = said(apps, TRIES.format(lines=list(WRONG_LINES))).splitlines()
    for number, text in enumerate(WRONG_LINES.values()):
        assert re.fullmatch(re.escape(f"{number} {text}").replace(re.escape(PATH), PATH), shown[number])


def test_a_bad_name_for_an_app(apps: Apps) -> None:
    assert said(apps, 'import mob\nmob.start("my app")\n') == (
        f"mob.errors.PlanError: 'my app' cannot name an app. {NAMED} mob.start(\"myapp\")."
    )


def test_an_unusable_limit(apps: Apps) -> None:
    script = 'import mob\nmob.start("bad", frame_limit=10).base(__file__).role("back", "./back.py").run()\n'
    text = "mob.errors.PlanError: frame_limit=10 is not a number of bytes of at least 4096. Did you mean '10M'?"
    assert said(apps, script) == text


@pytest.mark.parametrize(
    "decorator", ["@mob.on('crash')", "@mob.on('message')", "@mob.every", "@mob.cron"], ids=lambda each: each[5:]
)
@pytest.mark.parametrize("start", [".run()", ".up()"])
def test_a_function_that_the_main_script_registers_would_never_be_called(
    apps: Apps, decorator: str, start: str
) -> None:
    line = {"@mob.every": "@mob.every(60)", "@mob.cron": "@mob.cron('* * * * *')"}.get(decorator, decorator)
    script = (
        f"import mob\n{line}\ndef tell(*args): print('told')\n"
        f'mob.start("bad").base(__file__).role("back", "./back.py"){start}\n'
    )
    assert said(apps, script) == (
        f"mob.errors.PlanError: {decorator} in line 2 of the main script would never be called: this process starts "
        "the app and is not one of its workers. Move the function into the module of a role. To handle messages, "
        "joins, leaves, crashes and errors in this process, use app.on(...) of a client from .up() or mob.connect()."
    )


def test_a_main_script_that_is_the_module_of_a_role_may_register_functions(apps: Apps) -> None:
    apps.write(
        main="""
        import mob
        @mob.on("start")
        def begin(): print("has begun")
        def foo(): return 1
        if __name__ == "__main__":
            with mob.start("bad").base(__file__).role("main", "./main.py").up() as app:
                assert app.require("main").foo().result() == 1
        """
    )
    app = apps.run("none", [sys.executable, "main.py"])
    assert app.wait() == 0
    assert "has begun" in app.output


def test_run_was_forgotten(apps: Apps) -> None:
    script = 'import mob\nmob.start("bad").base(__file__).role("back", "./back.py")\n'
    assert said(apps, script) == ("mob: the app 'bad' was described but never run. Did you forget .run() at the end?")


def test_a_script_that_fails_before_run_is_not_told_that_it_forgot_it(apps: Apps) -> None:
    script = 'import mob\napp = mob.start("bad").base(__file__).role("back", "./back.py")\nraise ValueError("mine")\n'
    assert said(apps, script) == "ValueError: mine"


def test_mob_run_says_the_error_alone(apps: Apps) -> None:
    apps.write(
        main='import mob\nmob.start("bad").base(__file__).role("a", "./back.py").role("a", "other")\n', back=BACK
    )
    app = apps.run("none", [sys.executable, "-m", "mob", "run", "main.py"])
    assert app.wait() == 1
    assert re.fullmatch(r"Error: the role 'a' is declared twice: first with .*", app.output)


@pytest.mark.parametrize(
    "call",
    ['require("back").foo()', "send(1)", 'all("back").send(1)', "me().role", "scale(1)", 'listen("", 1).accept()'],
)
def test_what_belongs_in_mobsters_called_in_the_kingpin(apps: Apps, call: str) -> None:
    name = call.partition("(")[0]
    script = f'import mob\nback = mob.{call}\nmob.start("bad").base(__file__).role("back", "./back.py").run()\n'
    assert said(apps, script) == (
        f"mob.errors.NotInMobster: mob.{name}() works only in workers (mobsters), and this process is not one. If it "
        f"is the Kingpin (the script that calls .run()), move this code into the module of a role. If it only imported "
        f"the module of a role (a test, a child of multiprocessing, a REPL), the module may call mob.{name}(), but the "
        f'result cannot be used here: use mob.connect("name of the app") to reach the app.'
    )


def test_run_in_a_mobster(apps: Apps) -> None:
    app = apps.start(
        '.role("back", "./nested.py")',
        nested="""
            import mob
            mob.start("inner").base(__file__).role("back", "./nested.py").run()
        """,
    )
    app.wait_for(
        r"NotInMobster: run\(\) was called in a mobster \(a worker\)\. An app is started once, by its main script\."
    )


def test_an_app_of_that_name_is_running(apps: Apps) -> None:
    app = apps.start(f'.role("back", "./back.py").dashboard({free_port()})', back=BACK)
    app.connect()
    app.wait_for("dashboard: http://")
    assert app.lines[0].startswith("dashboard: http://")
    second = apps.run(app.name, [sys.executable, "main.py"])
    assert second.wait() == 1
    (line,) = second.lines
    assert line == (
        f"mob: an app named {app.name!r} is already running (its Kingpin has pid {app.process.pid}). "
        f"Stop it first, or give this one another name in mob.start(...)."
    )
    assert app.connect().overview()


# ---------------------------------------------------------------------------------------------------------- a port


SERVER = """
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ThreadingHTTPServer(("127.0.0.1", {port}), BaseHTTPRequestHandler).serve_forever()
"""


def test_a_port_that_a_stranger_holds(apps: Apps) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        app = apps.start(
            '.role("front", "./front.py").role("back", "./back.py")', front=SERVER.format(port=port), back=BACK
        )
        client = app.wait_ready(1)
        held = (
            f"cannot listen on 127.0.0.1:{port}: Address already in use. It is held by process {os.getpid()} "
            f"({psutil.Process().name()}), which is not part of this app."
        )
        wait_until(lambda: client.roles()["front"].failing, "the role is shown as failing")
        assert client.roles()["front"].failing == f"front.0: mob.errors.AddressHeld: [Errno 98] {held}"
        row = wait_until(
            lambda: next((row for row in client.overview() if row.state == "failing"), None), "the table shows it too"
        )
        assert row is not None
        assert (row.role, row.index) == ("front", 0)
        note = re.escape(f"mob.errors.AddressHeld: [Errno 98] {held.removesuffix('.')}; next try in ")
        assert re.fullmatch(note + r"\d+\.\d s", row.note)
        app.wait_for(re.escape(held))
        assert client.require("back").foo().result(patient(20)) in app.processes()
    wait_until(lambda: client.roles()["front"].failing == "", "the stranger is gone: the next try succeeds")
    app.wait_ready()


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ('("127.0.0.1", 70000)', "OverflowError: bind(): port must be 0-65535."),
        ('("192.0.2.1", 70)', "[Errno 99] cannot listen on 192.0.2.1:70: Cannot assign requested address."),
    ],
)
def test_an_address_that_cannot_be(apps: Apps, address: str, error: str) -> None:
    app = apps.start('.role("front", "./front.py")', front=f"import socket\nsocket.socket().bind({address})\n")
    app.wait_for(re.escape(error))
    assert app.process.poll() is None


# ------------------------------------------------------------------------------------------------ what is sent


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("garbage")) as apps:
        app = apps.start('.role("back", "./back.py", workers=2)', back=BACK)
        app.wait_ready()
        yield app


@pytest.fixture
def client(app: RunningApp) -> mob.Client:
    return app.connect()


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ((threading.Lock(),), "args[0]"),
        ((1, {"user": [None, threading.Lock()]}), "args[1]['user'][1]"),
        (({"lock": {threading.Lock()}},), "args[0]['lock']{...}"),
    ],
)
def test_an_argument_that_cannot_be_sent(client: mob.Client, arguments: tuple[object, ...], where: str) -> None:
    with pytest.raises(mob.BadMessage) as caught:
        client.require("back").foo(*arguments)
    assert caught.value.where == where
    assert str(caught.value) == (
        f"cannot send {where}: a thread lock (_thread.lock) is not data. Send what it describes, or register the type "
        f"with mob.register(...)."
    )


def test_a_message_beyond_the_limit(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', options="frame_limit=10_000", back=BACK)
    client = app.wait_ready()
    with pytest.raises(mob.BadMessage) as caught:
        client.require("back").foo(b"x" * 20_000)
    assert re.fullmatch(
        r"cannot send args: 20,\d\d\d bytes; the limit is 10,000 \(frame_limit of the app\)\. "
        r"Send it in parts, or raise the limit\.",
        str(caught.value),
    )
    assert client.require("back").foo(b"x" * 5_000).result(patient(20))


# ---------------------------------------------------------------------------------------------------- on a link

JUNK = {
    "junk": (b"\xff" * 100, "the other end announced a frame of 4,294,967,295 bytes"),
    "an HTTP request": (
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "the other end announced a frame of 542,393,671 bytes",
    ),
    "1 GB announced": (HEADER.pack(1 << 30), "the other end announced a frame of 1,073,741,824 bytes"),
    "nothing announced": (HEADER.pack(0), "the other end announced an empty frame. mob sends none,"),
    "no MessagePack": (frame(b"\xc1 is never used"), "a frame of 15 bytes does not decode to messages ("),
    "no message": (frame(b"\x91\x93\xcc\xc8\x01\x02"), "a frame of 6 bytes does not decode to messages ("),
    "a flood": (b"\xff" * 500_000, "the other end announced a frame of 4,294,967,295 bytes"),
}
"""Bytes that are not mob's, by what they are, and what is said of them."""

junk = pytest.mark.parametrize(("data", "why"), JUNK.values(), ids=JUNK)


def visitor(app: RunningApp) -> socket.socket:
    """A connection to the app's desk that has not said a word."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(patient(20))
    sock.connect(address_of(app.name))
    return sock


def is_hung_up_on(sock: socket.socket) -> bool:
    """Waits for the other end to close; whether it has said nothing before."""
    try:
        return not sock.recv(1)
    except ConnectionResetError:
        return True


@junk
def test_garbage_on_a_control_link_closes_that_link(app: RunningApp, client: mob.Client, data: bytes, why: str) -> None:
    told = len(app.lines)
    with visitor(app) as sock:
        with contextlib.suppress(BrokenPipeError):
            sock.sendall(data)
        assert is_hung_up_on(sock)
    said = re.compile(rf"mob \| client \d+ \(pid {os.getpid()}\) was disconnected: {re.escape(why)}")
    wait_until(lambda: any(map(said.match, app.lines[told:])), f"{said.pattern} is said")
    assert len(client.overview()) == 2
    assert client.require("back").foo().result(patient(20))
    assert app.process.poll() is None


def test_a_visitor_that_does_not_say_hello_is_shown_out(app: RunningApp) -> None:
    with visitor(app) as sock:
        sock.sendall(frame(m.encode([m.Overview(1)])))
        assert is_hung_up_on(sock)


def test_a_visitor_that_says_nothing_disturbs_nobody(app: RunningApp, client: mob.Client) -> None:
    with visitor(app), visitor(app) as half:
        half.sendall(b"\x10")
        assert client.require("back").foo().result(patient(20))
        assert len(app.connect().overview()) == 2


def is_answered_by(back: mob.Proxy, pid: int) -> bool:
    """Whether a call of the worker brings a value. One that is made just when the link breaks is lost or refused."""
    try:
        return bool(back.options(pid=pid).foo().result(patient(20)) == pid)
    except (mob.CallError, mob.UnknownTarget):
        return False


@junk
def test_garbage_on_a_direct_link_closes_that_link(app: RunningApp, client: mob.Client, data: bytes, why: str) -> None:
    back, other = client.require("back"), app.connect()
    pids = {member.pid for member in app.ready(client, "back")}
    wait_until(lambda: {back.foo().result(patient(20)) for _ in range(4)} == pids, "both workers are linked")
    first, *_ = client._peer.contacts.links()
    pid = client._peer.contacts.of_link(first).member.pid
    told = len(app.lines)
    with contextlib.suppress(OSError):  # closed in the middle of it, perhaps
        first._sock.sendall(data)
    for _ in range(10):
        assert other.require("back").foo().result(patient(20)) in pids
    said = re.compile(rf"back\.\d {pid} \| the link to client \(pid {os.getpid()}\) was closed: {re.escape(why)}")
    wait_until(lambda: any(map(said.match, app.lines[told:])), f"{said.pattern} is said")
    wait_until(lambda: is_answered_by(back, pid), "the worker can be called again")
    assert [back.options(pid=pid).foo().result(patient(20)) for _ in range(50)] == [pid] * 50
    assert first.is_closed
    assert client.statistics()["links"] == 2
    assert {m.pid for m in app.ready(client, "back")} == pids


def test_a_mobster_that_was_killed_is_not_said_to_have_spoken_garbage(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=BACK)
    client = app.wait_ready()
    stuck, other = (member.pid for member in app.ready(client))
    os.kill(stuck, signal.SIGSTOP)
    os.kill(other, signal.SIGKILL)  # which is told to the one that stands still: it ends with something unread
    wait_until(lambda: client.overview()[1].pid not in (0, other), "the successor is there")
    os.kill(stuck, signal.SIGKILL)
    app.wait_for(rf"^mob \| back\.0 \(pid {stuck}\) was killed by SIGKILL; restarting it\.$")
    assert "garbage" not in app.output


# --------------------------------------------------------------------------------------------------- who is let in


def test_a_client_of_another_version_is_refused(app: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m, "PROTOCOL", m.PROTOCOL + 1)
    with pytest.raises(mob.AppNotRunning) as caught:
        mob.connect(app.name)
    assert str(caught.value) == (
        f"cannot connect to the app {app.name!r}: this app speaks version {m.PROTOCOL - 1} of mob's protocol, "
        f"the client version {m.PROTOCOL}."
    )


def test_the_link_of_a_refused_client_is_closed(app: RunningApp) -> None:
    why = f"this app speaks version {m.PROTOCOL} of mob's protocol, the client version 99."
    refusal = frame(m.encode([m.Refused(why)]))
    with visitor(app) as sock:
        sock.sendall(frame(m.encode([m.Hello(99, 1)])))
        assert sock.recv(len(refusal), socket.MSG_WAITALL) == refusal
        assert is_hung_up_on(sock)


def test_an_app_that_does_not_run_is_not_found(app: RunningApp) -> None:
    with pytest.raises(mob.AppNotRunning) as caught:
        mob.connect(app.name[:-1])
    assert str(caught.value) == f"no app named {app.name[:-1]!r} is running on this machine. Did you mean {app.name!r}?"


def test_a_process_of_another_user_is_turned_away(app: RunningApp, client: mob.Client) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can start a process of another user")
    nobody = pwd.getpwnam("nobody").pw_uid
    code = textwrap.dedent(f"""
        import os, socket
        os.setgid({nobody})
        os.setuid({nobody})
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect({address_of(app.name)!r})
            try:
                sock.sendall({frame(m.encode([m.Hello(m.PROTOCOL, 1)]))!r})
                told = b"".join(iter(lambda: sock.recv(1000), b""))
                print(os.getuid(), os.getpid(), "told" if b"Only that user" in told else "let-in")
            except OSError as error:
                print(os.getuid(), os.getpid(), type(error).__name__)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=patient(60), check=True)
    user, pid, outcome = done.stdout.split()
    assert int(user) == nobody
    assert outcome in {"told", "BrokenPipeError", "ConnectionResetError"}
    client.overview()  # a round trip: what the Kingpin had to tell has arrived
    assert int(pid) not in {member.pid for member in client.members()}
