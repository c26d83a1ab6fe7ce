"""Listening sockets that the workers of a role share: one queue, whatever the server, and it survives any worker."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.patience import patient
from tests.real.servers import SERVERS, ask, ask_many, begin_request, can_listen, finish_request, source_of
from tests.running import Apps, RunningApp, apps_in, free_port, freeze, wait_until


@dataclass
class Site:
    """A role with two workers of a web server on one port."""

    app: RunningApp
    role: str
    port: int

    def pids(self) -> list[int]:
        """Return the pids of the two workers, both ready."""
        return [member.pid for member in self.app.ready(self.app.clients[0], self.role)]

    def wait_for_both(self, besides: int = 0) -> list[int]:
        """Wait until two workers are ready, neither of them `besides`."""
        wait_until(lambda: len(set(self.pids()) - {besides}) == 2, "both workers are ready")
        return self.pids()


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    """Yield one app with a role for each kind of server; the last test stops it."""
    ports = {make: free_port() for make in SERVERS}
    with apps_in(tmp_path_factory.mktemp("sites")) as apps:
        names = {make: f"s{number}" for number, make in enumerate(SERVERS)}
        roles = "".join(f'.role("{name}", "./{name}.py", workers=2)' for name in names.values())
        modules: dict[str, Any] = {name: source_of(make, ports[make]) for make, name in names.items()}
        app = apps.start(roles, **modules)
        app.wait_ready()
        yield {make: Site(app, names[make], ports[make]) for make in SERVERS}


@pytest.fixture(params=SERVERS)
def site(request: pytest.FixtureRequest, sites: dict[str, Site]) -> Site:
    return sites[request.param]


def in_hand(pid: int, port: int) -> int:
    """Return how many connections to the port the process has accepted and not closed."""
    there = psutil.Process(pid).net_connections("tcp")
    return sum(c.laddr.port == port and c.status != psutil.CONN_LISTEN for c in there)


def test_both_workers_answer_a_share(site: Site) -> None:
    pids = site.wait_for_both()
    answered = ask_many(site.port, 120)
    assert set(answered) == set(pids)
    assert answered.total() == 120
    assert min(answered.values()) >= 12, answered


def test_nothing_that_waits_in_the_queue_is_lost_with_a_worker(site: Site) -> None:
    first, second = site.wait_for_both()
    freeze(first)
    freeze(second)
    waiting = [begin_request(site.port, patience=0.9) for _ in range(30)]  # a full queue is retried after 1 s
    os.kill(first, signal.SIGKILL)
    os.kill(second, signal.SIGCONT)
    answers = [finish_request(sock) for sock in waiting]
    assert 0 not in answers
    assert first not in answers
    site.wait_for_both(besides=first)


def test_under_load_a_dying_worker_takes_only_what_it_had_in_hand(site: Site) -> None:
    victim = site.wait_for_both()[0]
    lost = threading.Semaphore(0)
    hurry = threading.Event()

    def client(_: int) -> list[int]:
        answers: list[int] = []
        while not hurry.is_set() or len(answers) < 10:
            answers.append(finish_request(begin_request(site.port, patience=patient(30))))
            if answers[-1] == victim:
                lost.release()
        return answers

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(client, i) for i in range(8)]
        lost.acquire()  # the victim is working
        freeze(victim)
        had = in_hand(victim, site.port)
        os.kill(victim, signal.SIGKILL)
        hurry.set()
        answers = [pid for future in running for pid in future.result()]
    assert answers.count(0) <= had
    assert len(answers) - answers.count(0) >= 8 * 9
    site.wait_for_both(besides=victim)


def test_a_worker_that_gets_sigterm_ends_and_is_replaced(site: Site) -> None:
    old = site.wait_for_both()[0]
    os.kill(old, signal.SIGTERM)
    site.app.wait_for(
        rf"mob \| {site.role}\.\d \(pid {old}\) stopped as requested; restarting it\.", patience=patient(10)
    )
    site.wait_for_both(besides=old)
    assert set(ask_many(site.port, 40)) <= set(site.pids())


def test_while_a_worker_starts_the_others_serve_on(site: Site) -> None:
    old = site.wait_for_both()[0]
    os.kill(old, signal.SIGKILL)
    begun = time.monotonic()
    while old in site.pids() or len(site.pids()) < 2:
        ask(site.port)  # one at a time, so that no later request frees a loop that hangs
    assert time.monotonic() - begun < patient(10)


def test_a_stop_is_in_order_and_frees_the_ports(sites: dict[str, Site]) -> None:
    for site in sites.values():
        site.wait_for_both()
        assert ask(site.port)
        assert not can_listen(site.port)
        app = site.app
    assert app.stop() == 0
    app.wait_gone()
    assert all(can_listen(site.port) for site in sites.values())
    assert "Traceback" not in app.output
    assert "killing" not in app.output


# ----------------------------------------------------------------------------------------------- Unix sockets

UNIX = """
    import asyncio, os
    import mob

    async def answer(reader, writer):
        writer.write(b"%d" % os.getpid())
        await writer.drain()
        writer.close()

    @mob.on("start")
    async def start():
        global server
        server = await asyncio.start_unix_server(answer, "front.sock")
    """


def read_all(path: Path) -> int:
    """Return the pid of the process that answers on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(patient(30))
        sock.connect(os.path.relpath(path))  # the path of a test's directory may be too long for an address
        return int(sock.recv(100))


def start_unix(apps: Apps) -> tuple[RunningApp, Path]:
    app = apps.start('.role("front", "./front.py", workers=2)', options="grace=2", front=UNIX)
    app.wait_ready(2)
    return app, apps.directory / "front.sock"


def test_a_unix_socket_is_shared_outlives_the_worker_that_made_it_and_is_removed_at_the_end(apps: Apps) -> None:
    app, path = start_unix(apps)
    client = app.clients[0]
    pids = {m.pid for m in app.ready(client)}
    wait_until(lambda: {read_all(path) for _ in range(20)} == pids, "both answer")
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda gone=pid: len({m.pid for m in app.ready(client)} - {gone}) == 2, "its successor is ready")
        assert {read_all(path) for _ in range(5)} <= {m.pid for m in app.ready(client)}
    assert app.stop() == 0
    assert list(apps.directory.glob("*.sock*")) == []


def test_a_stale_file_does_not_disturb_and_kill_9_of_the_kingpin_leaves_none(apps: Apps) -> None:
    path = apps.directory / "front.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(os.path.relpath(path))
    assert path.is_socket()
    app, path = start_unix(apps)
    assert read_all(path) in {m.pid for m in app.ready(app.clients[0])}
    app.kill()
    app.wait_gone(patient(10))
    wait_until(lambda: list(apps.directory.glob("*.sock*")) == [], "the file is removed", patient(5))


def test_a_file_that_is_no_socket_is_left_alone(apps: Apps) -> None:
    (apps.directory / "front.sock").write_text("precious")
    app = apps.start('.role("front", "./front.py")', front=UNIX)
    app.wait_for(r"OSError: .*Address 'front\.sock' is already in use")
    assert (apps.directory / "front.sock").read_text() == "precious"


# ---------------------------------------------------------------------------------------- addresses and sockets

LISTENER = """
    import os, socket, threading

    def serve():
        while True:
            connection, _ = sock.accept()
            with connection:
                connection.sendall(b"%d" % os.getpid())

    def port():
        return sock.getsockname()[1]

    def inode():
        return os.fstat(sock.fileno()).st_ino

    HOW
    threading.Thread(target=serve, daemon=True).start()
    print("serves")
    """


def start_listener(apps: Apps, how: str) -> RunningApp:
    app = apps.start('.role("front", "./front.py", workers=2)', front=LISTENER.replace("HOW", how))
    app.wait_ready(2)
    app.wait_for("serves", 2)  # it is ready slightly earlier: as soon as it listens
    return app


def everywhere(app: RunningApp, function: str) -> set[Any]:
    """Return the results of the function in both workers."""
    answers = getattr(app.clients[0].all("front").call, function)().result(patient(10))
    assert len(answers) == 2
    return set(answers.values())


def wait_for_answers_of_both(app: RunningApp, host: str, port: int) -> None:
    pids = {m.pid for m in app.ready(app.clients[0])}
    seen: set[int] = set()

    def ask_once_more() -> bool:
        with socket.create_connection((host, port), timeout=patient(30)) as sock:
            seen.add(int(sock.recv(100)))
        return seen == pids

    wait_until(ask_once_more, "both workers have answered")


def test_port_0_is_one_free_port_for_all_workers(apps: Apps) -> None:
    app = start_listener(apps, "sock = socket.create_server(('127.0.0.1', 0))")
    (port,) = everywhere(app, "port")
    assert port != 0
    wait_for_answers_of_both(app, "127.0.0.1", port)


def test_two_binds_to_port_0_are_two_ports(apps: Apps) -> None:
    how = "sock, other = socket.create_server(('127.0.0.1', 0)), socket.create_server(('127.0.0.1', 0))"
    app = start_listener(apps, f"def both(): return [sock.getsockname()[1], other.getsockname()[1]]\n    {how}")
    first, second = app.clients[0].all("front").call.both().result(patient(10)).values()
    assert first == second
    assert first[0] != first[1]


def test_a_successor_gets_its_predecessors_free_port(apps: Apps) -> None:
    app = start_listener(apps, "sock = socket.create_server(('127.0.0.1', 0))")
    before = everywhere(app, "port")
    client = app.clients[0]
    victim = app.ready(client)[0].pid
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len({m.pid for m in app.ready(client)} - {victim}) == 2, "the successor is ready")
    app.wait_for("serves", 3)
    assert everywhere(app, "port") == before


def test_ipv6(apps: Apps) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error}")
    port = free_port()
    app = start_listener(apps, f"sock = socket.create_server(('::1', {port}), family=socket.AF_INET6)")
    assert len(everywhere(app, "inode")) == 1
    wait_for_answers_of_both(app, "::1", port)


def test_localhost_of_an_ipv4_socket_is_ipv4(apps: Apps) -> None:
    port = free_port()
    app = start_listener(apps, f"sock = socket.create_server(('localhost', {port}))")
    wait_for_answers_of_both(app, "127.0.0.1", port)


def test_mob_listen(apps: Apps) -> None:
    port = free_port()
    app = start_listener(apps, f"import mob; sock = mob.listen('127.0.0.1', {port})")
    assert len(everywhere(app, "inode")) == 1
    wait_for_answers_of_both(app, "127.0.0.1", port)


def test_accept_waits_where_it_should_and_only_there(apps: Apps) -> None:
    port = free_port()
    app = apps.start(
        '.role("front", "./front.py")',
        front=f"""
        import socket, threading
        sock = socket.create_server(("127.0.0.1", {port}))
        copy = sock.dup()

        def tell(name, listener):
            try:
                connection, _ = listener.accept()
                print(f"{{name}} accepted {{connection.recv(5)}} {{connection.gettimeout()}}\\n", end="")
            except OSError as error:
                print(f"{{name}} raised {{type(error).__name__}}\\n", end="")

        sock.settimeout(0.01)
        tell("short of time", sock)
        sock.setblocking(False)
        tell("impatient", sock)
        sock.settimeout(None)
        threading.Thread(target=tell, args=("patient", sock)).start()
        copy.setblocking(True)
        threading.Thread(target=tell, args=("copied", copy)).start()
        """,
    )
    app.wait_for(r"short of time raised TimeoutError")
    app.wait_for(r"impatient raised BlockingIOError")
    app.wait_ready()
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port), timeout=patient(10)) as sock:
            sock.sendall(b"hello")
    app.wait_for(r"(patient|copied) accepted b'hello' None", 2)
    assert app.stop() == 0


def test_so_reuseport_opts_out(apps: Apps) -> None:
    port = free_port()
    app = start_listener(apps, f"sock = socket.create_server(('127.0.0.1', {port}), reuse_port=True)")
    assert len(everywhere(app, "inode")) == 2
    assert all(c.laddr.port != port for c in psutil.Process(app.process.pid).net_connections("tcp") if c.laddr)


def test_a_port_that_python_refuses_is_refused_as_python_does(apps: Apps) -> None:
    app = apps.start(
        '.role("front", "./front.py")',
        front="""
        import socket
        try:
            socket.create_server(("127.0.0.1", 70000))
        except OverflowError as error:
            print("refused:", error)
        try:
            socket.create_server(("no.such.host.invalid", 80))
        except OSError as error:
            print("unknown:", error.errno in (socket.EAI_NONAME, socket.EAI_AGAIN))
        """,
    )
    app.wait_for("refused: .*port must be 0-65535", patience=patient(10))
    app.wait_for("unknown: True", patience=patient(10))


# ------------------------------------------------------------------------------------------------- connecting


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    """Yield a server in this process that belongs to no app."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(patient(30))
        yield server


CALLER = """
    import socket

    def call(port):
        with socket.create_connection(("127.0.0.1", port), 10, source_address=("127.0.0.1", 0)) as sock:
            return sock.getsockname()[1]

    def call_from(port, own):
        with socket.create_connection(("127.0.0.1", port), 10, source_address=("127.0.0.1", own)) as sock:
            return sock.getsockname()[1]
    """


def test_a_socket_bound_to_a_source_address_or_port_still_connects_and_leaves_nothing_in_the_kingpin(
    apps: Apps, stranger: socket.socket
) -> None:
    app = apps.start('.role("back", "./back.py")', back=CALLER)
    back = app.wait_ready().require("back")
    call = back.call(stranger.getsockname()[1])
    connection, (_, port) = stranger.accept()
    with connection:
        assert call.result(patient(10)) == port
    own = free_port()
    call = back.call_from(stranger.getsockname()[1], own)
    connection, (_, port) = stranger.accept()
    with connection:
        assert call.result(patient(10)) == port == own

    kingpin = psutil.Process(app.process.pid)

    def count() -> int:
        call = back.call(stranger.getsockname()[1])
        stranger.accept()[0].close()
        call.result(patient(10))
        return kingpin.num_fds()

    before = count()
    assert [count() for _ in range(5)] == [before] * 5


# ---------------------------------------------------------------------------------------------------- readiness


def test_a_mobster_is_ready_as_soon_as_it_listens_or_says_so(apps: Apps) -> None:
    blocked = "\n        threading.Event().wait()\n"
    app = apps.start(
        '.role("listens", "./listens.py").role("says", "./says.py").role("silent", "./silent.py")',
        listens=f"""
        import socket, threading
        sock = socket.create_server(("127.0.0.1", {free_port()})){blocked}""",
        says=f"""
        import mob, threading
        mob.ready(){blocked}""",
        silent=f"""
        import threading
        print("runs"){blocked}""",
    )
    client = app.wait_ready(2)
    app.wait_for(r"^silent\.0 .* runs")
    assert {member.role: member.state for member in client.members() if member.role} == {
        "listens": "ready",
        "says": "ready",
        "silent": "booting",
    }
