"""Processes that the code of a role, or of a client, forks or starts: nothing of mob remains in them."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator

import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, is_alive, wait_until

# ------------------------------------------------------------------------------------------------ forked children

CHILDREN = """
import asyncio
import multiprocessing
import os
import signal
import socket
import time

import mob

fork = multiprocessing.get_context("fork")

def terminated():
    child = fork.Process(target=time.sleep, args=(300,))
    child.start()
    child.terminate()
    child.join(60)
    return child.exitcode

def pooled():
    with fork.Pool(2) as pool:
        return pool.map(abs, [-1, -2])

def _tell(pipe):
    names = ("SIGTERM", "SIGHUP", "SIGINT", "SIGUSR1")
    pipe.send([getattr(signal.getsignal(getattr(signal, name)), "__name__", "default") for name in names])
    pipe.send(signal.set_wakeup_fd(-1))

def told():
    mine, other = fork.Pipe()
    child = fork.Process(target=_tell, args=(other,))
    child.start()
    told = mine.recv(), mine.recv()
    child.join()
    return told

def _own(signum, frame):
    os._exit(7)

def with_handlers_of_its_own():
    before = signal.signal(signal.SIGUSR1, _own)
    try:
        return told()
    finally:
        signal.signal(signal.SIGUSR1, before)

async def with_handlers_of_the_loop():
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, print)
    try:
        return told()
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)

def managed():
    with fork.Manager() as manager:
        shared = manager.dict()
        shared["x"] = 1
        return dict(shared)

def _listen(pipe):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        pipe.send(sock.getsockname()[1])
        with sock.accept()[0] as connection:
            connection.sendall(b"from the child")

def served_by_child():
    mine, other = fork.Pipe()
    child = fork.Process(target=_listen, args=(other,))
    child.start()
    with socket.create_connection(("127.0.0.1", mine.recv())) as sock:
        data = sock.recv(100)
    child.join()
    return data.decode()

def prefork():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        pid = os.fork()
        if not pid:
            try:
                with sock.accept()[0] as connection:
                    connection.sendall(b"accepted by the child")
            finally:
                os._exit(0)
        with socket.create_connection(sock.getsockname()) as connection:
            data = connection.recv(100)
        os.waitpid(pid, 0)
        return data.decode()

def _ask(pipe, me, call):
    said = []
    uses = (lambda: me.who().result(5), lambda: call.result(5), lambda: mob.me().role, lambda: asyncio.run(_wait(call)))
    for use in uses:
        try:
            said.append(repr(use()))
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    call.cancel()
    pipe.send(said)

async def _wait(call):
    return await call

def asked_by_child():
    mine, other = fork.Pipe()
    child = fork.Process(target=_ask, args=(other, mob.require("other"), mob.require("other").slow()))
    child.start()
    said = mine.recv()
    child.join()
    return said, child.exitcode

def who():
    return os.getpid()
"""
OTHER = """
import asyncio

def who(): return 1
async def slow(): await asyncio.sleep(300)
"""


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mob.Proxy]:
    with apps_in(tmp_path_factory.mktemp("children")) as apps:
        roles = '.role("back", "./back.py").role("other", "./other.py")'
        app = apps.start(roles, options="grace=2", back=CHILDREN, other=OTHER)
        yield app.wait_ready().require("back")


def test_a_child_is_terminated_at_once(children: mob.Proxy) -> None:
    assert children.terminated().result(patient(60)) == -signal.SIGTERM


def test_a_pool_ends_with_its_block(children: mob.Proxy) -> None:
    assert children.pooled().result(patient(60)) == [1, 2]


def test_a_child_has_the_default_handlers(children: mob.Proxy) -> None:
    defaults = ["default", "default", "default_int_handler", "default"]
    assert children.told().result(patient(60)) == [defaults, -1]
    assert children.with_handlers_of_the_loop().result(patient(60)) == [defaults, -1]


def test_a_child_keeps_the_handlers_of_the_application(children: mob.Proxy) -> None:
    handlers, _ = children.with_handlers_of_its_own().result(patient(60))
    assert handlers == ["default", "default", "default_int_handler", "_own"]


def test_a_child_listens_as_in_any_python(children: mob.Proxy) -> None:
    assert children.managed().result(patient(60)) == {"x": 1}
    assert children.served_by_child().result(patient(60)) == "from the child"


def test_a_child_accepts_on_a_socket_of_its_parent(children: mob.Proxy) -> None:
    assert children.prefork().result(patient(60)) == "accepted by the child"


def test_a_child_of_a_worker_is_told_that_it_is_no_mobster(children: mob.Proxy) -> None:
    said, status = children.asked_by_child().result(patient(60))
    call, old_call, me, awaited = said
    refused = r"NotInMobster: this process \(pid \d+\) was forked by back\.0 \(pid \d+\) and is not a worker: .* here\."
    for each in (call, old_call, awaited):
        assert re.fullmatch(refused, each)
    assert me.startswith("NotInMobster: mob.me() works only in workers")
    assert status == 0


# ---------------------------------------------------------------------------------- children that come back to mob

GHOSTS = """
import asyncio
import os
import sys

import mob

def fails():
    pid = os.fork()
    if not pid:
        os.execvp("no-such-program", ["no-such-program"])
    return pid

def returns():
    return os.fork() or "the child"

def exits():
    pid = os.fork()
    if not pid:
        sys.exit(5)
    return pid

async def awaits():
    pid = os.fork()
    await asyncio.sleep(0)
    return pid

async def returns_async():
    return os.fork()

def yields():
    yield os.fork()

_forked = []

@mob.on("message")
def handle(obj):
    _forked.append(os.fork())

def forked(): return _forked.pop() if _forked else 0

def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def who(): return os.getpid()

def forks_at_two(n):
    with open("items", "a") as file: file.write(str(n))
    return os.fork() if n == 2 else 0

def note():
    with open("ran", "a") as file: print(os.getpid(), file=file)

async def many():
    note()
    return os.getpid()

def rows():
    note()
    yield os.getpid()
"""


@pytest.fixture(
    scope="module",
    params=["", ', loop="asyncio"', ", threads=2"],
    ids=["on the loop", "on a loop of asyncio", "in threads"],
)
def ghosts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningApp, mob.Client]]:
    with apps_in(tmp_path_factory.mktemp("ghosts")) as apps:
        app = apps.start(f'.role("back", "./back.py"{request.param})', back=GHOSTS)
        yield app, app.wait_ready()


untraced = pytest.mark.skipif(sys.gettrace() is not None, reason="what is traced, as by coverage, is left alone")


@pytest.mark.parametrize(
    ("way", "status"),
    [
        ("fails", 1),
        ("returns", 0),
        ("exits", 5),
        pytest.param("awaits", 0, marks=untraced),
        pytest.param("returns_async", 0, marks=untraced),
    ],
)
def test_a_child_that_comes_back_ends(ghosts: tuple[RunningApp, mob.Client], way: str, status: int) -> None:
    client = ghosts[1]
    back = client.require("back")
    worker = back.who().result(patient(60))
    before = [back.rows() for _ in range(3)]
    calls = [getattr(back, way)(), *(back.many() for _ in range(20))]
    behind = [back.rows() for _ in range(3)]
    pid = calls[0].result(patient(60))
    assert pid not in (0, worker)  # the answer came from the parent
    assert {call.result(patient(60)) for call in calls[1:]} == {worker}
    assert {each for rows in (*before, *behind) for each in rows} == {worker}
    assert back.wait(pid).result(patient(60)) == status
    assert set(map(int, (ghosts[0].directory / "ran").read_text().split())) == {worker}, "the child ran no other call"
    assert back.who().result(patient(60)) == worker
    with mob.connect(client.app) as another:  # and the loop of the worker gets new links
        assert another.require("back").who().result(patient(60)) == worker


def test_a_child_of_an_item_of_a_map_runs_no_other_item(ghosts: tuple[RunningApp, mob.Client]) -> None:
    back = ghosts[1].require("back")
    pids = list(back.forks_at_two.map(range(6), chunk=6))
    assert pids[:2] + pids[3:] == [0] * 5
    assert back.wait(pids[2]).result(patient(60)) == 0
    assert (ghosts[0].directory / "items").read_text() == "012345"


def test_a_child_that_yields_ends(ghosts: tuple[RunningApp, mob.Client]) -> None:
    back = ghosts[1].require("back")
    (pid,) = list(back.yields())
    assert back.wait(pid).result(patient(60)) == 0


def test_a_child_of_a_handler_ends(ghosts: tuple[RunningApp, mob.Client]) -> None:
    back = ghosts[1].require("back")
    ghosts[1].send("fork")
    pid = wait_until(lambda: back.forked().result(patient(60)), "the handler has forked")
    assert back.wait(pid).result(patient(60)) == 0


STOOD_IN = """
import os
import threading

import mob

def who(): return os.getpid()

def returns():
    answered = threading.Event()

    def ask():
        mob.require("other").who().result()
        answered.set()

    thread = threading.Thread(target=ask)
    thread.start()
    answered.wait()  # another thread reads while this one is here
    pid = os.fork()
    return pid

def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def test_a_child_ends_that_is_forked_while_another_thread_reads(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py").role("other", "./back.py")', back=STOOD_IN)
    back = app.wait_ready().require("back")
    pids = [back.returns().result(patient(60)) for _ in range(5)]
    assert 0 not in pids
    assert [back.wait(pid).result(patient(60)) for pid in pids] == [0] * 5


def test_the_error_of_a_child_is_printed(ghosts: tuple[RunningApp, mob.Client]) -> None:
    app, client = ghosts
    back = client.require("back")
    back.wait(back.fails().result(patient(60))).result(patient(60))
    app.wait_for(r"FileNotFoundError: .*No such file")


def test_a_child_that_a_module_forks_ends_with_the_module(apps: Apps) -> None:
    app = apps.start(
        '.role("back", "./back.py")',
        back="""
            import os
            pid = os.fork()
            def wait(): return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        """,
    )
    client = app.wait_ready()
    assert client.require("back").wait().result(patient(60)) == 0
    assert [row.restarts for row in client.overview()] == [0]


# --------------------------------------------------------------------------------------------- clients and forks

SERVES = """
import asyncio

async def echo(n):
    await asyncio.sleep(0.01)
    return n
def count(n): yield from range(n)
"""
FORKS = """
import os, sys
import mob

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # in one piece: three processes write here

app = mob.connect(sys.argv[1])
back = app.require("back")
assert back.echo(0).result(60) == 0
call, stream = back.echo(-1), iter(back.count(3))
pids = []
for number in (1, 2):
    pid = os.fork()
    if pid:
        pids.append(pid)
        continue
    uses = [
        lambda: back.echo(number).result(60), lambda: app.require("back"), lambda: app.send(1), lambda: call.result(60),
        lambda: app.overview(), lambda: app.all("back"), lambda: list(stream), lambda: list(back.echo.map([1])),
        lambda: app.on("message", print), lambda: mob.wait([call]),
    ]
    for use in uses:
        try:
            say("WRONG", use())
        except mob.WrongProcess as error:
            assert str(error).startswith(
                f"this client was made in process {os.getppid()}, and this is process {os.getpid()}: call mob.connect("
            ), error
    with mob.connect(sys.argv[1]) as own:
        assert own.require("back").echo(number).result(60) == number
    app.close()
    say("child done")
    sys.exit()
answers = [back.echo(n).result(60) for n in range(200)]
assert answers == list(range(200))
assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
assert call.result(60) == -1 and list(stream) == [0, 1, 2]
assert back.echo(7).result(60) == 7
app.close()
say("parent done")
"""


def test_a_client_belongs_to_the_process_that_made_it(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=SERVES)
    app.wait_ready()
    apps.write(forks=FORKS)
    script = apps.run("none", [sys.executable, "-W", "ignore", "forks.py", app.name])
    assert script.wait() == 0, script.output
    assert sorted(script.lines) == ["child done", "child done", "parent done"]


CLOSED = """
import os, sys
import mob

clients = [mob.connect(sys.argv[1]) for _ in range(3)]
for client in clients:
    client.close()
opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(60)]  # among them the numbers that the clients have had
pid = os.fork()
if not pid:
    for descriptor in opened:
        os.fstat(descriptor)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""


def test_a_closed_client_touches_no_descriptor_in_a_child(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=SERVES)
    app.wait_ready()
    apps.write(closed=CLOSED)
    script = apps.run("none", [sys.executable, "-W", "ignore", "closed.py", app.name])
    assert script.wait() == 0, script.output
    assert not script.output


# ------------------------------------------------------------------------ modules of roles that are imported elsewhere

ANYWHERE = """
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import mob

other = mob.require("back")
everybody, anybody, one = mob.all("back"), mob.any("back"), mob.pid(1)
me = mob.me()
sock = mob.listen("127.0.0.1", 0)
mob.on("leave", print)

@mob.on("message")
def handle(obj): ...

@mob.export
def square(number):
    return number * number

@mob.export
def squares(method):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        return list(pool.map(square, range(3)))

@mob.export
def started_with():
    return sys.argv, sys.orig_argv, hasattr(sys.modules["__main__"], "__file__")

mob.ready()
"""


@pytest.fixture(scope="module")
def anywhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("anywhere")) as apps:
        app = apps.start('.role("back", "./back.py").role("named", "names")', back=ANYWHERE, names=ANYWHERE)
        app.wait_ready()
        yield app


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_pool_of_processes_runs_the_functions_of_a_role(anywhere: RunningApp, method: str) -> None:
    assert anywhere.clients[0].require("back").squares(method).result(patient(60)) == [0, 1, 4]


def test_the_arguments_of_a_mobster_are_those_of_its_module(anywhere: RunningApp) -> None:
    client = anywhere.clients[0]
    path = str(anywhere.directory / "back.py")
    assert client.require("back").started_with().result(patient(60)) == [[path], [sys.executable, path], False]
    assert client.require("named").started_with().result(patient(60)) == [
        ["names"],
        [sys.executable, "-m", "names"],
        False,
    ]


def test_a_role_can_be_imported_anywhere_and_complains_when_it_is_used(apps: Apps) -> None:
    apps.write(
        back=ANYWHERE,
        imports="""
            import asyncio
            import mob
            import back

            assert back.square(3) == 9
            assert repr(back.other) == "<what mob.require() gives outside of a mobster>"
            assert not hasattr(back.other, "__wrapped__")
            uses = [
                lambda: back.other.foo, lambda: back.other(), lambda: list(back.other), lambda: back.everybody.send(1),
                lambda: back.anybody.call, lambda: back.one.send(1), lambda: back.me.role, lambda: bool(back.me),
                lambda: back.sock.accept(), lambda: mob.send(1), lambda: setattr(back.other, "x", 1),
            ]
            for use in uses:
                try:
                    print("WRONG", use())
                except mob.NotInMobster as error:
                    assert "works only in workers" in str(error)
            try:
                mob.on("massage")
            except ValueError as error:
                assert "Did you mean 'message'?" in str(error)
        """,
    )
    script = apps.run("none", [sys.executable, "imports.py"])
    assert (script.wait(), script.output) == (0, "")


def test_a_kingpin_may_import_the_module_of_a_role(apps: Apps) -> None:
    apps.write(back=ANYWHERE)
    name = f"t{os.getpid()}-imports"
    apps.write(main=f'import mob\nimport back\nmob.start("{name}").base(__file__).role("back", "./back.py").run()\n')
    app = apps.run(name, [sys.executable, "main.py"])
    assert app.wait_ready().require("back").square(3).result(patient(60)) == 9


def test_a_block_for_main_is_told_to_do_nothing(apps: Apps) -> None:
    uses = {
        "runs": "import asyncio; asyncio.run(main())",
        "exits": "sys.exit(main())",
        "prints": "print(main())",
        "tests": "import doctest; doctest.testmod()",
    }
    roles = "".join(f'.role("{name}", "./{name}.py", workers=2)' for name in uses)
    apps.write(**{name: f"def main(): ...\n\nif __name__ == '__main__':\n    {text}\n" for name, text in uses.items()})
    app = apps.start(f'{roles}.role("other", "./other.py")', other=OTHER)
    app.wait_ready()
    app.stop()
    said = [line for line in app.lines if "does not run in a worker" in line]
    assert sorted(re.findall(r"\((\w+)\.py:3\)", "\n".join(said))) == ["exits", "runs"]
    assert len(said) == 2
    assert all('@mob.on("start")' in line for line in said)


# --------------------------------------------------------------------------- children that have left the group

DETACHED = """
import os
import signal
import subprocess
import sys
import time

SLEEP = [sys.executable, "-c", "import time; time.sleep(3000)"]
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

def pid():
    return os.getpid()

def session():
    return subprocess.Popen(SLEEP, start_new_session=True, **QUIET).pid

def without_environment():
    return subprocess.Popen(SLEEP, start_new_session=True, env={}).pid

def without_a_trace():
    return subprocess.Popen(SLEEP, start_new_session=True, env={}, **QUIET).pid

def group():
    return subprocess.Popen(SLEEP, process_group=0, **QUIET).pid

def forked():
    pid = os.fork()
    if not pid:
        os.setsid()
        time.sleep(3000)
        os._exit(0)
    return pid

def daemon():
    mine, other = os.pipe()
    pid = os.fork()
    if not pid:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(other, b"%d" % subprocess.Popen(SLEEP, **QUIET).pid)
        time.sleep(3000)
        os._exit(0)
    os.waitpid(pid, 0)
    return int(os.read(mine, 100))

def family():
    code = "import subprocess, sys; "
    code += "p = subprocess.Popen(sys.argv[1:], start_new_session=True, env={}, stdout=-3, stderr=-3); "
    code += "print(p.pid, flush=True); p.wait()"
    command = [sys.executable, "-c", code, *SLEEP]
    return int(subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE).stdout.readline())
"""
WAYS = ["session", "without_environment", "group", "forked", "daemon", "family"]


def wait_ended(pids: list[int]) -> None:
    try:
        for pid in pids:
            wait_until(lambda pid=pid: not is_alive(pid), f"{pid} has ended")
    finally:
        for pid in pids:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_what_a_killed_worker_has_detached_ends_and_that_of_others_stays(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=DETACHED)
    client = app.wait_ready()
    one, other = (client.pid(member.pid).call for member in app.ready(client, "back"))
    of_one = [getattr(one, way)().result(patient(60)) for way in WAYS]
    of_other = [getattr(other, way)().result(patient(60)) for way in WAYS]
    os.kill(one.pid().result(patient(60)), signal.SIGKILL)
    wait_ended(of_one)
    assert all(is_alive(pid) for pid in of_other)
    app.stop()
    wait_ended(of_other)


def test_what_a_worker_has_detached_ends_with_it_in_a_reload(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=DETACHED)
    client = app.wait_ready()
    pids = [getattr(client.require("back"), way)().result(patient(60)) for way in [*WAYS, "without_a_trace"]]
    client.reload("back")
    wait_ended(pids)


@pytest.mark.parametrize("who", ["the Kingpin", "the fork server, then a worker", "a worker, then the app is stopped"])
def test_what_a_worker_has_detached_ends_whoever_is_killed(apps: Apps, who: str) -> None:
    app = apps.start('.role("back", "./back.py")', options="grace=5", back=DETACHED)
    client = app.wait_ready()
    back = client.require("back")
    ways = (
        [*WAYS, "without_a_trace"]
        if who != "the fork server, then a worker"
        else ["session", "daemon", "forked", "family"]
    )
    pids = [getattr(back, way)().result(patient(60)) for way in ways]
    worker = back.pid().result(patient(60))
    if who == "the Kingpin":
        app.kill()
    elif who == "a worker, then the app is stopped":
        os.kill(worker, signal.SIGKILL)
        app.wait_for("was killed by SIGKILL")
        app.stop()
    else:
        os.kill(app.fork_server(), signal.SIGKILL)
        app.wait_for("starting a new one")
        client.scale("back", 2)  # once the new fork server launched another worker, it has adopted this one
        wait_until(lambda: len(app.ready(client, "back")) == 2, "there is another worker")
        os.kill(worker, signal.SIGKILL)
    wait_ended(pids)
