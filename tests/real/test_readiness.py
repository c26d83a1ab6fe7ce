"""When a worker is ready: what its module does in its import, and what happens to the sockets that it binds."""

from __future__ import annotations

import os
import socket
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import mob
from mob.errors import MobError
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, free_port, wait_until

PROBE = """
    import os, socket, time
    try:
        probe = socket.socket(socket.AF_INET6)
        probe.bind(("::1", PORT))
    except OSError:
        probe = socket.socket()
        probe.bind(("127.0.0.1", PORT))
    probe.close()
    if os.path.exists("broken"):
        time.sleep(0.5)
        raise ImportError("the new code is broken")
    def f():
        return "old"
    """


def client_of(app: RunningApp) -> mob.Client:
    """The client of the test."""
    return app.clients[0] if app.clients else app.connect()


def open_when(path: str) -> str:
    """Return the lines of a module that wait for a file, and time out after a second."""
    return f"while not os.path.exists({path!r}): time.sleep(0.02)"


def start_each(apps: Apps, modules: dict[str, str], workers: int = 1) -> RunningApp:
    """Start an app in which each module is a role: r0, r1, ... in this order."""
    roles = "".join(f'.role("r{number}", "./r{number}.py", workers={workers})' for number in range(len(modules)))
    files: dict[str, Any] = {f"r{number}": source for number, source in enumerate(modules.values())}
    return apps.start(roles, **files)


# ------------------------------------------------------------------------------- a port that is open on the way


def test_a_bind_that_is_closed_again_makes_nobody_ready(apps: Apps) -> None:
    modules: dict[str, Any] = {"free": PROBE.replace("PORT", "0"), "fixed": PROBE.replace("PORT", str(free_port()))}
    app = apps.start('.role("free", "./free.py").role("fixed", "./fixed.py")', **modules)
    client = app.wait_ready()
    (apps.directory / "broken").touch()
    for role in modules:
        with pytest.raises(MobError, match="the new code is broken"):
            client.reload(role)
        assert client.require(role).f().result(patient(10)) == "old"


ON_THE_WAY = {
    "a server in a thread": """
        from http.server import ThreadingHTTPServer, BaseHTTPRequestHandler
        server = ThreadingHTTPServer(("127.0.0.1", PORT), BaseHTTPRequestHandler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        """,
    "a socket from which nothing is accepted": """
        sock = socket.create_server(("127.0.0.1", PORT))
        """,
    "a pair of sockets made by hand": """
        with socket.create_server(("127.0.0.1", 0)) as server:
            first = socket.create_connection(server.getsockname())
            second, _ = server.accept()
        """,
    "a loop in a thread": """
        import asyncio
        async def serve():
            async with await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", PORT) as server:
                await server.serve_forever()
        threading.Thread(target=asyncio.run, args=(serve(),), daemon=True).start()
        """,
}


def test_a_port_that_is_opened_on_the_way_makes_nobody_ready(apps: Apps) -> None:
    def source(how: str) -> str:
        opened = textwrap.dedent(ON_THE_WAY[how].replace("PORT", str(free_port())))
        loads = f"print('opened')\ntime.sleep(3.5)\nprint('loaded')\n{open_when('go')}\ndef predict(): return 1\n"
        return f"import os, socket, threading, time\n{opened}\n{loads}"

    app = start_each(apps, {how: source(how) for how in ON_THE_WAY})
    app.wait_for("loaded", len(ON_THE_WAY))
    client = app.connect()
    assert [row.state for row in client.overview()] == ["booting"] * len(ON_THE_WAY)
    (apps.directory / "go").touch()
    app.wait_ready()
    assert [client.require(f"r{n}").predict().result(patient(10)) for n in range(4)] == [1] * 4


# ----------------------------------------------------------------------------------- a module that blocks and serves

SERVING = {
    "accept": "sock = socket.create_server(AT)\nwhile True: sock.accept()[0].close()",
    "poll": "import http.server\nhttp.server.HTTPServer(AT, http.server.BaseHTTPRequestHandler).serve_forever()",
    "select": "import select\nsock = socket.create_server(AT)\nwhile select.select([sock], [], []): sock.accept()",
    "asyncio": """
import asyncio
async def serve():
    await (await asyncio.start_server(lambda r, w: w.close(), *AT)).serve_forever()
asyncio.run(serve())""",
    "uvloop": """
import asyncio, uvloop
async def serve():
    await (await asyncio.start_server(lambda r, w: w.close(), *AT)).serve_forever()
uvloop.run(serve())""",
    "SO_REUSEPORT": "sock = socket.create_server(AT, reuse_port=True)\nwhile True: sock.accept()[0].close()",
    "a thread, and join": """
def serve():
    sock = socket.create_server(AT)
    while True: sock.accept()[0].close()
thread = threading.Thread(target=serve)
thread.start()
thread.join()""",
    "a thread, and a long sleep": """
def serve():
    sock = socket.create_server(AT)
    while True: sock.accept()[0].close()
threading.Thread(target=serve).start()
time.sleep(86400)""",
    "a thread, and short sleeps": """
def serve():
    sock = socket.create_server(AT)
    while True: sock.accept()[0].close()
threading.Thread(target=serve).start()
while True: time.sleep(0.1)""",
    "a child that serves, as of a reloader": """
import subprocess, sys
sock = socket.create_server(AT)
serve = f"import socket\\nsock = socket.socket(fileno={sock.fileno()})\\nwhile True: sock.accept()[0].close()"
subprocess.call([sys.executable, "-c", serve], pass_fds=[sock.fileno()])""",
    "a thread, and short waits for a lock": """
def serve():
    sock = socket.create_server(AT)
    while True: sock.accept()[0].close()
threading.Thread(target=serve).start()
ended = threading.Event()
while not ended.wait(timeout=0.1): pass""",
}


def test_a_module_that_waits_for_connections_is_ready(apps: Apps) -> None:
    head = "import os, socket, threading, time\nAT = ('127.0.0.1', PORT)\n"
    app = start_each(apps, {how: head.replace("PORT", str(free_port())) + SERVING[how] for how in SERVING})
    app.wait_ready()
    assert app.stop() == 0


# --------------------------------------------------------------------------------------- a module that says nothing


def test_a_module_that_blocks_without_a_port_is_told_of_mob_ready(apps: Apps) -> None:
    source = "import queue\nqueue.Queue().get()\n"
    app = apps.start('.role("a", "./a.py", boot_timeout=6)', a=source)
    where = r"a\.py:2 in <module>"
    app.wait_for(rf"a\.0 \(pid \d+\) is not ready: its module is blocked at \S*{where}.*call mob\.ready\(\) before")
    (row,) = client_of(app).overview()
    assert "mob.ready()" in row.note
    app.wait_for(rf"was not ready within 6 s \(boot_timeout\); its module was at \S*{where} .*mob\.ready\(\)")


# ------------------------------------------------------------------------------------------- handlers of `ready`


def test_a_handler_of_ready_that_raises_ends_its_worker(apps: Apps) -> None:
    source = """
        import os, mob
        @mob.on("ready")
        DEF begin():
            if not os.path.exists("mended"):
                raise RuntimeError("no queue to consume")
        def f():
            return mob.last_error()
        """
    app = start_each(apps, {how: source.replace("DEF", how) for how in ("def", "async def")})
    for role in ("r0", "r1"):
        app.wait_for(rf"mob \| {role}\.0 \(pid \d+\) failed in a handler of 'ready'; restarting it")
    app.wait_for("RuntimeError: no queue to consume")
    (apps.directory / "mended").touch()
    client = app.connect()

    def last(role: str) -> str:
        try:
            return str(client.require(role).f().result(patient(30))) if len(app.ready(client, role)) == 1 else ""
        except MobError:  # it was the one that fails
            return ""

    for role in ("r0", "r1"):
        assert "no queue to consume" in wait_until(lambda role=role: last(role), "one that does not fail answers")


# ------------------------------------------------------------------------------------ ports that are closed again

PORTS = """
    import socket, subprocess, sys

    def free(host="127.0.0.1"):
        with socket.socket() as probe:
            probe.bind((host, 0))
            return probe.getsockname()[1]

    def many(count, listens):
        for _ in range(count):
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                if listens:
                    sock.listen()

    def fixed(port, count):
        for _ in range(count):
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", port))

    def dropped(port):
        sock = socket.create_server(("127.0.0.1", port))

    def in_child(port):
        fixed(port, 1)
        code = f"import socket; socket.create_server(('127.0.0.1', {port}))"
        return subprocess.run([sys.executable, "-c", code]).returncode

    async def on_the_loop(port, count):
        import asyncio
        for _ in range(count):
            server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", port)
            server.close()
            await server.wait_closed()

    held = []
    def hold():
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        held.append(sock)
        return sock.getsockname()[1]

    def serve():
        held.append(socket.create_server(("127.0.0.1", 0)))
        return held[-1].getsockname()[1]

    def look_then_serve():
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        held.append(sock)
        port = sock.getsockname()[1]
        sock.listen()
        return port == sock.getsockname()[1], port
    """


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("ports")) as apps:
        app = apps.start('.role("a", "./a.py").role("two", "./a.py", workers=2)', a=PORTS)
        app.wait_ready()
        yield app


def listening(kingpin: psutil.Process) -> int:
    """Return the number of ports that the Kingpin listens on."""
    return sum(each.status == psutil.CONN_LISTEN for each in kingpin.net_connections("tcp"))


def test_a_port_that_was_closed_leaves_nothing_in_the_kingpin(ports: RunningApp) -> None:
    app, a = ports, ports.clients[0].require("a")
    kingpin = psutil.Process(app.process.pid)
    a.fixed(free_port(), 1).result(patient(30))
    before, ports_before = kingpin.num_fds(), listening(kingpin)
    a.many(10_000, False).result(patient(120))
    a.many(300, True).result(patient(60))
    a.fixed(free_port(), 300).result(patient(60))
    a.on_the_loop(0, 30).result(patient(60))
    a.on_the_loop(free_port(), 30).result(patient(60))
    wait_until(lambda: kingpin.num_fds() <= before, "the Kingpin has no descriptor more")
    assert listening(kingpin) == ports_before


def test_a_port_that_was_closed_can_be_bound_by_others(ports: RunningApp) -> None:
    a = ports.clients[0].require("a")
    assert a.in_child(free_port()).result(patient(30)) == 0
    port = free_port()
    a.fixed(port, 1).result(patient(30))
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_socket_that_is_dropped_is_given_back(ports: RunningApp) -> None:
    port, kingpin = free_port(), psutil.Process(ports.process.pid)
    ports.clients[0].require("a").dropped(port).result(patient(30))

    def is_free() -> bool:
        return all(c.laddr.port != port for c in kingpin.net_connections("tcp") if c.laddr)

    wait_until(is_free, "the port is free")


def test_what_a_worker_serves_from_stays_where_another_has_it_or_its_successor_needs_it(apps: Apps) -> None:
    port, kept = free_port(), free_port()
    shared = f"""
        import socket
        sock = socket.create_server(("127.0.0.1", {port}))
        def close():
            sock.close()
        """
    closes = f"""
        import os, signal, socket, time
        sock = socket.create_server(("127.0.0.1", {kept}))
        signal.signal(signal.SIGTERM, lambda *_: (sock.close(), os._exit(0)))
        while True:
            sock.accept()[0].sendall(b"%d" % os.getpid())
        """
    unix = """
        import os, socket
        def f():
            for _ in range(3):
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.bind("x.sock")
                os.unlink("x.sock")
        """
    app = start_each(apps, {"a": shared, "b": shared, "closes": closes, "unix": unix})
    client = app.wait_ready()
    client.require("r0").close().result(patient(10))
    with socket.create_connection(("127.0.0.1", port), timeout=patient(10)):
        pass

    def ask() -> int:
        with socket.create_connection(("127.0.0.1", kept), timeout=patient(30)) as sock:
            return int(sock.recv(20) or 0)

    old = ask()
    os.kill(old, 15)
    wait_until(lambda: ask() not in (old, 0), "its successor answers, and no client is refused")
    client.require("r3").f().result(patient(20))
    assert [path for path in Path(apps.directory).iterdir() if "sock" in path.name] == []


# ------------------------------------------------------------------------------------------------------------ port 0


def everywhere(app: RunningApp, function: str, role: str = "two") -> list[object]:
    """Return the results of the function in each worker."""
    answers = getattr(client_of(app).all(role).call, function)().result(patient(20))
    assert len(answers) == 2
    return list(answers.values())


def test_port_0_is_each_workers_own_until_it_listens(ports: RunningApp) -> None:
    assert len({*everywhere(ports, "hold"), *everywhere(ports, "hold")}) == 4
    first, second = everywhere(ports, "serve")
    assert first == second
    looks = everywhere(ports, "look_then_serve")
    assert all(same for same, _ in looks)  # type: ignore[misc]
    assert len({port for _, port in looks}) == 2  # type: ignore[misc]


FREE = {
    "asyncio": """
        import asyncio
        server = asyncio.run(asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0))
        port = server.sockets[0].getsockname()[1]
        """,
    "uvloop": """
        import asyncio, mob
        @mob.on("start")
        async def start():
            global server, port
            server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
        """,
    "http.server": """
        from http.server import ThreadingHTTPServer, BaseHTTPRequestHandler
        server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
        port = server.server_address[1]
        """,
}


def test_a_server_on_port_0_is_shared_by_all_workers(apps: Apps) -> None:
    which = "\ndef which(): return port\n"
    app = start_each(apps, {how: textwrap.dedent(FREE[how]) + which for how in FREE}, workers=2)
    app.wait_ready()
    for role in ("r0", "r1", "r2"):
        first, second = everywhere(app, "which", role)
        assert first == second != 0


def test_a_start_handler_that_lets_a_cancellation_through_has_failed(apps: Apps) -> None:
    role = """
        import asyncio, mob

        @mob.on("start")
        async def begin():
            task = asyncio.create_task(asyncio.sleep(1_000_000))
            task.cancel()
            await task
        """
    app = apps.start('.role("back", "./back.py")', back=role)
    app.wait_for("RuntimeError: a handler of 'start' ended with CancelledError: <function begin")
