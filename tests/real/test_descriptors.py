"""Sockets and open files between real processes: handed over in every place, and nothing stays open."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import itertools
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

import mob
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

MEMBER = '''
import asyncio
import dataclasses
import io
import os
import resource
import signal
import socket
import threading
from typing import BinaryIO, TextIO

import mob
from mob.mobster import api

back = mob.require("back")
kept = []

@dataclasses.dataclass
class Job:
    name: str
    conn: socket.socket
    others: dict[str, list[socket.socket]]
    log: io.TextIOBase

@mob.on("message")
def hear(obj):
    obj["conn"].sendall(b"%d\\n" % os.getpid())

# -- for the tests

def statistics():
    return api.current("statistics").statistics()

def who():
    return os.getpid()

async def meet_all():
    for role in ("back", "front", "doomed", "again"):
        await mob.require(role).who()

# -- taking

def serve(conn: socket.socket):
    """To the end, in the words of the one who serves."""
    with conn, conn.makefile("rwb", buffering=0) as stream:
        for line in stream:
            stream.write(b"%d: %s" % (os.getpid(), line))

def serve_one(listener: socket.socket):
    with listener:
        serve(listener.accept()[0])

def answer_and_linger(conn, gate):
    with conn, gate:
        conn.sendall(b"done")
        conn.close()
        gate.recv(1)

def echo(thing):
    return thing

def keep(thing):
    kept.append(thing)

def forget():
    kept.clear()

def timeout_of(conn):
    with conn:
        return conn.gettimeout()

async def serve_by_asyncio(conn: socket.socket):
    reader, writer = await asyncio.open_connection(sock=conn)
    async for line in reader:
        writer.write(line.upper())
    writer.close()
    await writer.wait_closed()

async def accept_by_asyncio(gate):
    """Hands over what a server of asyncio has accepted."""
    served = asyncio.Event()

    async def accept(reader, writer):
        with writer.get_extra_info("socket").dup() as conn:
            back.serve_by_asyncio(conn)
        writer.close()
        served.set()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        gate.send(b"%d" % server.sockets[0].getsockname()[1])
        gate.close()
        await served.wait()

def receive(sock):
    with sock:
        return sock.recv(100)

def read(file: TextIO):
    with file:
        return file.read()

def read_bytes(file: BinaryIO):
    with file:
        return file.read()

def write(file, text):
    with file:
        file.write(text)

def run(job: Job):
    with job.log:
        job.log.write(job.name)
    for number, conn in enumerate([job.conn, *job.others["a"], *job.others["b"]]):
        conn.sendall(b"%d" % number)

def greet_all(conns):
    for number, conn in enumerate(conns):
        conn.sendall(b"%d" % number)
        conn.close()

async def greet_each(conns):
    async for conn in conns:
        with conn:
            conn.sendall(b"hello")

def take_number(number: int):
    pass

# -- giving

def pair():
    one, other = socket.socketpair()
    kept.append(one)
    return other

async def pairs(count):
    for number in range(count):
        one, other = socket.socketpair()
        with one, other:
            one.sendall(b"%d" % number)
            yield {"conn": other}

async def call_with_pair(function):
    one, other = socket.socketpair()
    with one, other:
        with await function(one) as back_again:
            back_again.sendall(b"there and back")
        return other.recv(100)

async def through(thing):
    return await back.echo(thing)

async def own(thing):
    return await mob.require("front").echo(thing)

def accept_for_back():
    """A port: back serves everyone that connects."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            conn, _ = listener.accept()
            back.serve(conn)
            conn.close()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]

# -- dying

def hand_over_and_die(conn):
    sender = threading.Thread(target=back.serve, args=(conn,))
    sender.start()
    sender.join()
    os.kill(os.getpid(), signal.SIGKILL)

async def hang(thing):
    await asyncio.Event().wait()

# -- too many

def allow_descriptors(free):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_one = os.dup(0)
    os.close(next_one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one + free, hard))
    return soft

def limit_descriptors(limit):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

def allow_memory(free):
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + free, hard))
    return soft

def limit_memory(limit):
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
'''

AGAIN = """
import os
import signal

import mob

@mob.export
def who():
    return os.getpid()

@mob.export
def statistics():
    from mob.mobster import api
    return api.current("statistics").statistics()

@mob.export
def meet_all():
    pass

@mob.export(idempotent=True)
def serve_or_die(conn):
    if mob.me().generation == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    with conn:
        conn.sendall(b"by the successor")
"""

ROLES = ("back", "front", "doomed", "again")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("descriptors")) as apps:
        app = apps.start(
            '.role("back", "./member.py", threads=4).role("front", "./member.py").role("doomed", "./member.py")'
            '.role("again", "./again.py")',
            member=MEMBER,
            again=AGAIN,
        )
        back = app.wait_ready().require("back")
        back.echo(bytes(100_000)).result(patient(30))  # the shared memory is mapped at both ends
        yield app


@pytest.fixture(scope="module")
def client(app: RunningApp) -> mob.Client:
    return app.clients[0]


@pytest.fixture(scope="module")
def back(client: mob.Client) -> Any:
    return client.require("back")


@pytest.fixture(scope="module")
def front(client: mob.Client) -> Any:
    return client.require("front")


def descriptors_of(pid: int) -> int:
    """Return the number of open descriptors of a process, except the one of /dev/null that uvloop keeps."""
    links: list[str] = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(each))
    return len(links) - links.count("/dev/null")


@pytest.fixture(autouse=True)
def nothing_leaks(app: RunningApp, client: mob.Client) -> Iterator[None]:
    """After every test each process has as many descriptors as before, even without a garbage collection."""

    def counts() -> dict[str, int]:
        wait_until(lambda: len(app.ready(client)) == len(ROLES), "all are ready")
        for role in ROLES:
            client.require(role).meet_all().result(patient(30))  # all links exist
        found = {member.role: descriptors_of(member.pid) for member in app.ready(client)}
        waiting = {f"of {role}": client.require(role).statistics().result(patient(30))["descriptors"] for role in ROLES}
        own = {"own": descriptors_of(os.getpid()), "of own": client.statistics()["descriptors"]}
        return {**found, **waiting, **own}

    def is_as(before: dict[str, int]) -> bool:
        with contextlib.suppress(mob.Lost):  # the death of one that was killed has not been noticed yet
            return counts() == before
        return False

    before = counts()
    gc.disable()
    try:
        yield
        with contextlib.suppress(AssertionError):  # the counts themselves say more
            wait_until(lambda: is_as(before), "all is closed", patient(5))
        assert counts() == before
    finally:
        gc.enable()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return the two ends of a connection; reading from it has a timeout."""
    one, other = socket.socketpair()
    for sock in (one, other):
        sock.settimeout(patient(30))
    with one, other:
        yield one, other


Ends = tuple[socket.socket, socket.socket]


def kill(client: mob.Client, role: str) -> None:
    """Kill the only worker of a role and wait until its death is known."""
    pid = client.require(role).who().result(patient(30))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(member.pid != pid for member in client.members()), f"the end of {role} is known")


# --- handing over -----------------------------------------------------------------------------------------------------


def test_an_accepted_connection_is_served_by_another_process(client: mob.Client, back: Any) -> None:
    port = client.require("doomed").accept_for_back().result(patient(30))
    pid = back.who().result(patient(30))
    for _ in range(3):
        with (
            socket.create_connection(("127.0.0.1", port), patient(30)) as sock,
            sock.makefile("rwb", buffering=0) as stream,
        ):
            for word in (b"hello\n", b"again\n"):
                stream.write(word)
                assert stream.readline() == b"%d: %s" % (pid, word)
            sock.shutdown(socket.SHUT_WR)
            assert stream.readline() == b""
    kill(client, "doomed")  # because its listener is to be closed


def test_a_listening_socket(back: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        call = back.serve_one(listener)
    with socket.create_connection(address, patient(30)) as sock, sock.makefile("rwb", buffering=0) as stream:
        stream.write(b"hello\n")
        assert stream.readline().endswith(b": hello\n")
    call.result(patient(30))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["UDP", "Unix"])
def test_datagrams(back: Any, tmp_path: Path, family: int) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as sock, socket.socket(family, socket.SOCK_DGRAM) as other:
        sock.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "socket"))
        call = back.receive(sock)
        other.sendto(b"hello", sock.getsockname())
        assert call.result(patient(30)) == b"hello"


@pytest.mark.parametrize("timeout", [None, 0.0, 1.5])
def test_the_timeout_is_kept(back: Any, ends: Ends, timeout: float | None) -> None:
    ends[0].settimeout(timeout)
    assert back.timeout_of(ends[0]).result(patient(30)) == timeout


def test_the_connection_ends_when_its_receiver_closes_it_though_the_call_goes_on(back: Any, ends: Ends) -> None:
    gate, other = socket.socketpair()
    with gate:
        call = back.answer_and_linger(ends[0], other)
        other.close()
        ends[0].close()
        assert ends[1].recv(100) == b"done"
        assert ends[1].recv(100) == b""
        assert not call.done()
        gate.sendall(b"x")
        call.result(patient(30))


def test_the_same_by_a_role_that_has_one_thread(front: Any, ends: Ends) -> None:
    gate, other = socket.socketpair()
    with gate:
        call = front.answer_and_linger(ends[0], other)
        other.close()
        ends[0].close()
        assert ends[1].recv(100) + ends[1].recv(100) == b"done"
        assert not call.done()
        gate.sendall(b"x")
        call.result(patient(30))


def test_connections_of_asyncio(front: Any, ends: Ends) -> None:
    call = front.accept_by_asyncio(ends[0])
    ends[0].close()
    port = int(ends[1].recv(100))
    with (
        socket.create_connection(("127.0.0.1", port), patient(30)) as sock,
        sock.makefile("rwb", buffering=0) as stream,
    ):
        call.result(patient(30))
        for word in (b"hello\n", b"again\n"):
            stream.write(word)
            assert stream.readline() == word.upper()
        sock.shutdown(socket.SHUT_WR)
        assert stream.readline() == b""


def test_a_process_that_had_no_descriptor_for_a_link_gets_it_later(app: RunningApp, front: Any) -> None:
    soft = front.allow_descriptors(0).result(patient(30))
    with app.connect() as other:
        assert other.require("front").options(wait=2).who().exception(patient(30)) is not None  # lost, or never sent
        app.wait_for("no link to client .*: this process has too many open files")
        front.limit_descriptors(soft).result(patient(30))
        wait_until(lambda: other.require("front").who().exception(patient(30)) is None, "they have met")
    app.clients.remove(other)


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_go_on_where_they_stand(back: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one\nzwölf\nthree\n" * 1000, "utf-8")
    with path.open(encoding="utf-8") as text, path.open("rb") as data, path.open("rb", 0) as raw:
        for file in (text, data, raw):
            assert len(file.readline()) == 4
        assert back.read(text).result(patient(30)) == path.read_text("utf-8")[4:]
        assert (
            back.read_bytes(data).result(patient(30))
            == back.read_bytes(raw).result(patient(30))
            == path.read_bytes()[4:]
        )
    with path.open(encoding="utf-8") as file, pytest.raises(mob.ArgumentError, match=r"expected BinaryIO, got TextIO"):
        back.read_bytes(file).result(patient(30))


def test_both_write_one_file(back: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w", encoding="latin-1") as file:
        file.write("hüben ")
        back.write(file, "drüben ").result(patient(30))
        file.write("und hier")
    assert path.read_text("latin-1") == "hüben drüben und hier"


def test_pipes(back: Any) -> None:
    r, w = os.pipe()
    with os.fdopen(r) as reader, os.fdopen(w, "w") as writer:
        back.write(writer, "through a pipe")
        writer.close()
        assert reader.read() == "through a pipe"


def test_a_file_without_a_name(back: Any) -> None:
    with tempfile.TemporaryFile("w+") as file:
        file.write("abc")
        file.seek(1)
        assert back.read(file).result(patient(30)) == "bc"


# --- every place ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Job:
    name: str
    conn: socket.socket
    others: dict[str, list[socket.socket]]
    log: Any


def test_within_structures(back: Any, tmp_path: Path) -> None:
    pairs = [socket.socketpair() for _ in range(5)]
    first, *others = [there for _, there in pairs]
    with (tmp_path / "log").open("w") as log:
        job = Job("build", first, {"a": others[:2], "b": others[2:]}, log)
        back.run(job).result(patient(30))
    assert (tmp_path / "log").read_text() == "build"
    assert [here.recv(10) for here, _ in pairs] == [b"%d" % number for number in range(5)]
    for sock in (sock for pair in pairs for sock in pair):
        sock.close()


@pytest.mark.parametrize("count", [16, 17, 100])
def test_many_in_one_call(back: Any, count: int) -> None:
    pairs = [socket.socketpair() for _ in range(count)]
    call = back.greet_all([there for _, there in pairs])
    for _, there in pairs:
        there.close()
    assert [here.recv(10) for here, _ in pairs] == [b"%d" % number for number in range(count)]
    call.result(patient(30))
    for here, _ in pairs:
        assert here.recv(10) == b""
        here.close()


def test_beside_large_buffers_and_functions(back: Any, ends: Ends) -> None:
    data = b"x" * 100_000
    sent = {"conn": [ends[0], {"deep": data}], "call": len, "numbers": list(range(20_000)), "again": ends[0]}
    arrived = back.echo(sent).result(patient(30))
    with arrived["conn"][0] as one, arrived["again"] as other:
        assert arrived["conn"][1]["deep"] == data
        assert arrived["call"] is len
        one.sendall(b"a")
        other.sendall(b"b")
        assert ends[1].recv(1) + ends[1].recv(1) == b"ab"


@pytest.mark.parametrize("way", ["echo", "through", "own"])
def test_in_answers(front: Any, ends: Ends, way: str) -> None:
    with getattr(front, way)(ends[0]).result(patient(30)) as arrived:
        arrived.sendall(b"home again")
    assert ends[1].recv(100) == b"home again"


class Back(Protocol):
    def pair(self) -> socket.socket: ...


def test_in_answers_that_are_annotated(client: mob.Client, back: Any) -> None:
    with client.require("back", Back).pair().result(patient(30)) as arrived:  # type: ignore[attr-defined]
        assert type(arrived) is socket.socket
        arrived.settimeout(patient(30))
        back.forget().result(patient(30))
        assert arrived.recv(1) == b""


def test_in_streams_both_ways(back: Any) -> None:
    for number, item in enumerate(back.pairs(10)):
        with item["conn"] as conn:
            assert conn.recv(10) == b"%d" % number
    pairs = [socket.socketpair() for _ in range(10)]
    back.greet_each(there for _, there in pairs).result(patient(30))
    for here, there in pairs:
        there.close()
        assert here.recv(10) + here.recv(10) == b"hello"
        here.close()


def test_in_callbacks_both_ways(back: Any) -> None:
    got: list[socket.socket] = []

    def give_back(conn: socket.socket) -> socket.socket:
        got.append(conn)
        return conn

    assert back.call_with_pair(give_back).result(patient(30)) == b"there and back"
    got[0].close()


def test_in_messages(app: RunningApp, client: mob.Client, ends: Ends) -> None:
    def pids(count: int) -> list[int]:
        return sorted(int(line) for line in itertools.islice(stream, count))

    members = {member.role: member.pid for member in app.ready(client)}
    hearing = [pid for role, pid in members.items() if role != "again"]
    with ends[1].makefile("rb") as stream:
        client.send({"conn": ends[0]})
        assert pids(3) == sorted(hearing)
        client.all("back").send({"conn": ends[0]})
        client.any("front").send({"conn": ends[0]})
        client.pid(members["doomed"]).send({"conn": ends[0]})
        assert pids(3) == sorted(hearing)
        ends[0].close()
        assert stream.readline() == b""


def test_in_calls_to_all(client: mob.Client, ends: Ends) -> None:
    assert list(client.all("back").call.timeout_of(ends[0]).result(patient(30)).values()) == [patient(30)]


def test_from_several_threads_at_once(back: Any) -> None:
    failed: list[BaseException] = []

    def greet() -> None:
        try:
            for _ in range(30):
                here, there = socket.socketpair()
                with here:
                    back.greet_all([there])
                    there.close()
                    assert here.recv(10) + here.recv(10) == b"0"
        except BaseException as error:  # noqa: BLE001  the test reports it
            failed.append(error)

    threads = [threading.Thread(target=greet) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_handed_over_is_named_with_its_place(back: Any, ends: Ends) -> None:
    ends[0].close()
    with pytest.raises(mob.BadMessage) as caught:
        back.echo(1, [ends[1], {"conn": ends[0]}])
    assert str(caught.value) == (
        "cannot send args[1][1]['conn']: a closed socket cannot be sent. Send it before you close it."
    )
    with pytest.raises(mob.BadMessage, match="kwargs"):
        back.echo(ends[1], thing=ends[0])


def test_a_refused_connection_ends(back: Any, ends: Ends) -> None:
    call = back.take_number(ends[0])
    ends[0].close()
    assert ends[1].recv(10) == b""
    with pytest.raises(mob.ArgumentError, match="expected int, got socket"):
        call.result(patient(30))


# --- deaths -----------------------------------------------------------------------------------------------------------


def test_a_receiver_is_killed(client: mob.Client, ends: Ends) -> None:
    doomed = client.require("doomed")
    calls = [doomed.hang(ends[0]) for _ in range(20)]
    doomed.keep(ends[0]).result(patient(30))
    ends[0].close()
    kill(client, "doomed")
    assert {type(call.exception(patient(30))) for call in calls} == {mob.Lost}
    assert ends[1].recv(1) == b""


def test_a_sender_is_killed(client: mob.Client, ends: Ends) -> None:
    call = client.require("doomed").hand_over_and_die(ends[0])
    ends[0].close()
    assert isinstance(call.exception(patient(30)), mob.Lost)
    with contextlib.suppress(ConnectionError), ends[1].makefile("rb") as stream:
        ends[1].sendall(b"hello\n")  # back has begun to serve, or knew of the death before it did
        ends[1].shutdown(socket.SHUT_WR)
        assert stream.read() in (b"", b"%d: hello\n" % client.require("back").who().result(patient(30)))


@contextlib.contextmanager
def news_held_up(client: mob.Client) -> Iterator[None]:
    """Hold back the Kingpin's news of deaths, so that only broken links show them; no successor comes."""
    os.kill(client.kingpin_pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(client.kingpin_pid, signal.SIGCONT)


def test_for_a_worker_that_is_not_there_yet(client: mob.Client, ends: Ends) -> None:
    doomed = client.require("doomed")
    pid = doomed.who().result(patient(30))
    links = client.statistics()["links"]
    with news_held_up(client):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: client.statistics()["links"] < links, "the client sees that the link has ended")
        doomed.greet_all([ends[0]])
        ends[0].close()
    assert ends[1].recv(10) + ends[1].recv(10) == b"0"


def test_for_a_worker_that_dies_before_it_is_asked(client: mob.Client, ends: Ends) -> None:
    doomed = client.require("doomed")
    peer = client._peer
    contact = peer.contacts.of_pid(doomed.who().result(patient(30)))
    on_loop: Callable[[Callable[[], None]], None] = peer.context.reactor.call

    def call_a_dead_one() -> None:  # in one turn of the loop, so the call is still here when the link ends
        doomed.greet_all([ends[0]])
        ends[0].close()
        assert contact.link is not None
        contact.link.close("broken by the test")

    on_loop(call_a_dead_one)
    assert ends[1].recv(10) + ends[1].recv(10) == b"0"


def test_a_call_that_may_be_repeated_has_its_sockets_again(client: mob.Client, ends: Ends) -> None:
    call = client.require("again").serve_or_die(ends[0])
    ends[0].close()
    call.result(patient(30))
    assert ends[1].recv(100) == b"by the successor"
    assert ends[1].recv(100) == b""


def test_a_client_that_goes(app: RunningApp, ends: Ends) -> None:
    with app.connect() as other:
        other.require("back").keep(ends[0]).result(patient(30))
        other.require("back").hang(ends[0])
    app.clients.remove(other)
    ends[0].close()
    app.clients[0].require("back").forget().result(patient(30))
    assert ends[1].recv(1) == b""


# --- too many ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "free"), [(1, 0), (5, 3), (40, 20)])
def test_a_receiver_that_has_too_many_open(back: Any, client: mob.Client, count: int, free: int) -> None:
    pairs = [socket.socketpair() for _ in range(count)]
    pid = back.who().result(patient(30))
    soft = back.allow_descriptors(free).result(patient(30))
    calls = [back.greet_all([there for _, there in pairs]), back.who()]
    for _, there in pairs:
        there.close()
    with pytest.raises(mob.ArgumentError) as caught:
        calls[0].result(patient(30))
    assert re_worded(str(caught.value)) == (
        "back.greet_all(): a socket that was sent along was lost: this process has too many open files. The limit is N "
        "(`ulimit -n`)."
    )
    assert caught.value.executed == "no"
    assert calls[1].result(patient(30)) == pid  # nothing else was affected
    back.limit_descriptors(soft).result(patient(30))
    for here, _ in pairs:
        assert here.recv(1) == b""
        here.close()
    one, other = socket.socketpair()
    with one, other:
        back.greet_all([one]).result(patient(30))
        assert other.recv(1) == b"0"


def test_a_pool_of_shared_memory_that_could_not_be_mapped_is_mapped_later(app: RunningApp, back: Any) -> None:
    """The descriptor arrives, but the address space of the process has no room for the whole pool."""
    with app.connect() as other:
        theirs = other.require("back")
        pid = theirs.who().result(patient(30))  # the link exists, the pool does not yet
        soft = back.allow_memory(128 * 1024 * 1024).result(patient(30))  # the pool has 256 MiB
        with pytest.raises(mob.CallError, match=r"cannot map now: Cannot allocate memory") as caught:
            theirs.echo(bytes(100_000)).result(patient(30))
        assert caught.value.executed == "no"
        back.limit_memory(soft).result(patient(30))
        assert bytes(theirs.echo(bytes(100_000)).result(patient(30))) == bytes(100_000)
        assert theirs.who().result(patient(30)) == pid
    app.clients.remove(other)


def re_worded(text: str) -> str:
    head, _, rest = text.partition("The limit is ")
    return f"{head}The limit is N {rest.partition(' ')[2]}"


def test_a_sender_that_has_too_many_open(front: Any, client: mob.Client) -> None:
    soft = front.allow_descriptors(2).result(patient(30))
    with pytest.raises(mob.CallError, match=r"a file descriptor cannot be duplicated: Too many open files\. .*ulimit"):
        front.pair().result(patient(30))
    front.limit_descriptors(soft).result(patient(30))
    front.forget().result(patient(30))
