"""Large buffers between real processes: every kind, in every place, read-only, and freed whatever happens."""

from __future__ import annotations

import array
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

import mob
from mob.rim.segments import IS_AVAILABLE
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

pytestmark = pytest.mark.skipif(not IS_AVAILABLE, reason="no memfd here")

MIB = 1024 * 1024
BIG = 300_000
SMALL_POOL = 4 * MIB

COMMON = """
import gc
import os

import numpy as np
from mob.mobster import api

def statistics():
    gc.collect()
    peer = api.current("statistics")
    peer.tidy()
    return peer.statistics()

def who():
    return os.getpid()

def describe(value):
    if isinstance(value, np.ndarray):
        return ["ndarray", value.dtype.str, list(value.shape), value.flags.writeable, repr(value)]
    if isinstance(value, memoryview):
        return ["memoryview", value.readonly, len(value), sum(value)]
    return [type(value).__name__, len(value), sum(value)]
"""

BACK = """
import asyncio
import dataclasses
import time

import mob
import numpy as np
from common import describe, statistics, who

__all__ = [
    "statistics", "who", "describe", "echo", "echo_named", "as_bytes", "as_bytearray", "as_memoryview", "as_array",
    "as_job", "two", "write", "keep", "keep_part", "kept_sums", "forget", "call_back", "make", "view", "hang", "block",
    "numbers", "total",
]
kept = []

@dataclasses.dataclass
class Job:
    name: str
    data: bytes
    parts: list[memoryview]

@mob.on("message")
def hear(obj):
    obj["reply"](obj["data"])

def echo(value):
    return value

def echo_named(*, value):
    return value

def as_bytes(value: bytes):
    return describe(value)

def as_bytearray(value: bytearray):
    value[0] = 7
    return describe(value)

def as_memoryview(value: memoryview):
    return describe(value)

def as_array(value: np.ndarray):
    return describe(value)

def as_job(job: Job):
    return [job.name, describe(job.data), [describe(part) for part in job.parts]]

def two(number: int, value: bytes):
    return describe(value)

def write(value):
    value[0] = 1

def keep(value):
    kept.append(value)

def keep_part(value):
    kept.append(value[1000:2000])

def kept_sums():
    return [int(np.frombuffer(each, "u1").sum()) for each in kept]

def forget():
    kept.clear()

async def call_back(function, value):
    return await function(value)

async def make(size):
    return bytes(size)

async def view(size):
    return memoryview(bytes(size))

async def hang(value):
    await asyncio.Event().wait()

def block(seconds):
    time.sleep(seconds)

async def numbers(count, size):
    for number in range(count):
        yield np.full(size, number, "u1")

async def total(parts):
    result = 0
    async for part in parts:
        result += int(np.frombuffer(part, "u1")[0])
    return result
"""

FRONT = """
import mob
import numpy as np
from common import describe, statistics, who

__all__ = ["statistics", "who", "describe", "through", "aliased", "own", "again"]
back = mob.require("back")

async def through(value):
    return describe(await back.echo(value))

async def aliased():
    data = bytearray(b"a" * 300_000)
    call = back.echo(data)
    data[:] = b"b" * 300_000
    return bytes((await call)[:3])

async def own(value):
    return describe(await mob.require("front").again(value))

async def again(value):
    return value
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("big")) as apps:
        app = apps.start(
            '.role("back", "./back.py").role("front", "./front.py")'
            f'.role("tight", "./back.py", shared_memory={SMALL_POOL}).role("none", "./back.py", shared_memory=0)'
            '.role("doomed", "./back.py")',
            common=COMMON,
            back=BACK,
            front=FRONT,
        )
        app.wait_ready()
        yield app


@pytest.fixture
def client(app: RunningApp) -> Iterator[mob.Client]:
    with app.connect() as client:
        yield client
        assert_all_is_free(client)


@pytest.fixture
def back(client: mob.Client) -> Any:
    return client.require("back")


def pools_of(client: mob.Client) -> dict[str, tuple[int, int]]:
    """Return (bytes in the pool, views of others' buffers) by role; the client's own are under ""."""
    gc.collect()
    found = {"": client.statistics()}
    for role in ("back", "front", "tight", "none", "doomed"):
        found[role] = client.require(role).statistics().result(patient(30))
    return {role: (all["shared"], all["views"]) for role, all in found.items()}


def assert_all_is_free(client: mob.Client) -> None:
    wait_until(lambda: set(pools_of(client).values()) == {(0, 0)}, f"all is free: {pools_of(client)}")


def memfds_of(pid: int) -> set[str]:
    """Return the anonymous files that a process has open or mapped."""
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add((os.readlink(each), each.stat().st_ino))
        except OSError:
            continue
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    mapped = {("/memfd:mob (deleted)", int(line.split()[4])) for line in lines if "/memfd:mob (" in line}
    return {str(inode) for name, inode in found | mapped if name.startswith("/memfd:mob (")}


# --- what arrives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [65_535, 65_536, BIG, 5 * MIB])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, array.array], ids=lambda kind: kind.__name__)
def test_bytes_go_there_and_back(back: Any, kind: Any, size: int) -> None:
    data = os.urandom(size)
    sent = array.array("B", data) if kind is array.array else kind(data)
    arrived = back.echo(sent).result(patient(30))
    assert arrived == data
    assert type(arrived) is (bytes if kind is array.array else kind)
    if isinstance(arrived, memoryview):
        assert (arrived.readonly, arrived.format) == (True, "B")


@pytest.mark.parametrize(
    ("export", "wanted"),
    [
        ("as_bytes", ["bytes", BIG, BIG]),
        ("as_bytearray", ["bytearray", BIG, BIG + 6]),
        ("as_memoryview", ["memoryview", True, BIG, BIG]),
    ],
)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_arrive_as_annotated(back: Any, export: str, wanted: list[Any], kind: Any) -> None:
    assert getattr(back, export)(kind(b"\1" * BIG)).result(patient(30)) == wanted


class Back(Protocol):
    def make(self, size: int) -> bytes: ...

    def echo(self, value: Any) -> memoryview: ...


def test_results_arrive_as_an_interface_annotates(client: mob.Client) -> None:
    typed: Any = client.require("back", Back)
    assert type(typed.make(BIG).result(patient(30))) is bytes
    arrived = typed.echo(b"x" * BIG).result(patient(30))
    assert type(arrived) is memoryview
    assert client.statistics()["views"] == 1  # it was not copied


def test_other_arguments_stay_as_they_are(back: Any) -> None:
    assert back.two(5, b"\1" * BIG).result(patient(30)) == ["bytes", BIG, BIG]
    with pytest.raises(mob.ArgumentError, match="number"):
        back.two("x", b"\1" * BIG).result(patient(30))
    with pytest.raises(mob.ArgumentError):
        back.two(b"\1" * BIG).result(patient(30))
    with pytest.raises(mob.CallError, match="no_such"):
        back.no_such(b"\1" * BIG).result(patient(30))


ARRAYS = {
    "float64": np.linspace(0, 1, 50_000),
    "big endian": np.arange(50_000, dtype=">i4"),
    "bool": np.arange(100_000) % 3 == 0,
    "complex": np.arange(20_000) * 1j,
    "structured": np.zeros(10_000, [("x", "<f8"), ("name", "S8")]),
    "datetime": np.arange(20_000).astype("M8[s]"),
    "text": np.full(10_000, "abc", "U8"),
    "three axes": np.arange(60_000, dtype="i4").reshape(20, 30, 100),
    "Fortran's order": np.asfortranarray(np.arange(60_000.0).reshape(200, 300)),
    "every other": np.arange(200_000.0)[::2],
    "backwards": np.arange(100_000.0)[::-1],
    "transposed part": np.arange(300_000.0).reshape(3, 1000, 100).transpose(2, 0, 1)[:, 1:],
    "broadcast": np.broadcast_to(np.arange(1000.0), (100, 1000)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_keeps_type_shape_and_order(back: Any, name: str) -> None:
    sent = ARRAYS[name]
    for arrived in (back.echo(sent).result(patient(30)), back.echo_named(value=[sent]).result(patient(30))[0]):
        assert (arrived.dtype, arrived.shape) == (sent.dtype, sent.shape)
        assert arrived.flags.fnc == sent.flags.fnc
        assert not arrived.flags.writeable
        assert np.array_equal(arrived, sent)
    assert back.as_array(sent).result(patient(30)) == back.describe(sent).result(patient(30))


def test_what_arrives_is_read_only(back: Any) -> None:
    for sent in (memoryview(b"\1" * BIG), np.zeros(BIG)):
        with pytest.raises((TypeError, ValueError), match=r"read-only"):
            back.write(sent).result(patient(30))


def test_buffers_deep_within(back: Any) -> None:
    data, numbers = b"\2" * BIG, np.arange(BIG)
    sent = {"small": b"x", "list": [1, {"deep": (data, numbers)}, *range(50)], "again": data}
    arrived = back.echo(sent).result(patient(30))
    assert arrived["small"] == b"x"
    assert arrived["list"][1]["deep"][0] == data
    assert np.array_equal(arrived["list"][1]["deep"][1], numbers)
    assert arrived["again"] == data
    assert arrived["list"][2:] == list(range(50))
    job = back.as_job({"name": "j", "data": data, "parts": [data, memoryview(data)[1:]]}).result(patient(30))
    assert job == ["j", ["bytes", BIG, 2 * BIG], [["memoryview", True, n, 2 * n] for n in (BIG, BIG - 1)]]


def test_a_long_body_without_large_buffers(back: Any) -> None:
    for sent in (list(range(100_000)), ["x" * 100] * 5000, "y" * 10 * MIB, [b"z" * 60_000] * 10, [2**70] * 10_000):
        assert back.echo(sent).result(patient(30)) == sent
    assert back.echo({b"k" * BIG: 1, (b"k" * BIG, 2): 3}).result(patient(30)) == {b"k" * BIG: 1, (b"k" * BIG, 2): 3}
    assert back.echo([2**70] * 10_000 + [b"\1" * BIG]).result(patient(30))[-1] == b"\1" * BIG


def test_callbacks(client: mob.Client, back: Any) -> None:
    got = []

    def hear(value: Any) -> Any:
        got.append(bytes(value[:2]))
        return value

    assert back.call_back(hear, b"ab" * BIG).result(patient(30)) == b"ab" * BIG
    assert back.call_back(lambda value: [len(value[0]), value[0]], [b"cd" * BIG]).result(patient(30))[1] == b"cd" * BIG
    assert got == [b"ab"]
    del hear
    wait_until(lambda: client.statistics()["lent"] == 0, "the functions are freed")


def test_messages_to_all(client: mob.Client) -> None:
    got: list[int] = []
    client.send({"data": b"\3" * BIG, "reply": lambda value: got.append(len(value))})
    wait_until(lambda: got == [BIG] * 4, "all four that listen have it")


def test_streams(back: Any) -> None:
    assert [int(each[0]) for each in back.numbers(20, BIG)] == list(range(20))
    assert back.total(np.full(BIG, number, "u1") for number in range(20)).result(patient(30)) == sum(range(20))


@pytest.mark.parametrize(
    "sent", [b"\1" * BIG, np.ones(BIG), {"deep": [b"\1" * BIG]}], ids=lambda sent: type(sent).__name__
)
def test_between_mobsters_and_to_oneself(client: mob.Client, sent: Any) -> None:
    if isinstance(sent, dict):
        sent = sent["deep"][0]
    front = client.require("front")
    wanted = front.describe(sent).result(patient(30))
    assert front.through(sent).result(patient(30)) == wanted
    assert front.own(sent).result(patient(30)) == wanted


def test_what_changes_after_the_call_is_not_seen(client: mob.Client) -> None:
    assert client.require("front").aliased().result(patient(30)) == b"aaa"


# --- keeping and freeing ----------------------------------------------------------------------------------------------


def test_a_view_that_is_kept_keeps_its_content(client: mob.Client, back: Any) -> None:
    back.keep(memoryview(b"\1" * BIG)).result(patient(30))
    back.keep_part(np.full(BIG, 2, "u1")).result(patient(30))
    mine = back.view(BIG).result(patient(30))[5:]
    for number in range(200):
        assert back.describe(bytes([number]) * BIG).result(patient(30)) == ["bytes", BIG, number * BIG]
    assert back.kept_sums().result(patient(30)) == [BIG, 2000]
    assert mine == bytes(BIG - 5)
    assert client.statistics()["shared"] == 2 * 5 * 65_536
    assert pools_of(client)["back"][1] == 2
    back.forget().result(patient(30))
    del mine


def test_a_full_pool_falls_back_to_the_socket(client: mob.Client) -> None:
    tight = client.require("tight")
    kept = [tight.view(BIG).result(patient(30)) for _ in range(30)]
    assert all(type(each) is memoryview and each == bytes(BIG) for each in kept)
    assert client.statistics()["views"] == SMALL_POOL // (5 * 65_536)
    assert pools_of(client)["tight"][0] <= SMALL_POOL
    assert tight.make(2 * SMALL_POOL).result(patient(30)) == bytes(2 * SMALL_POOL)
    del kept
    wait_until(lambda: pools_of(client)["tight"][0] == 0, "the pool is free")
    again = tight.view(BIG).result(patient(30))
    assert (again, client.statistics()["views"]) == (bytes(BIG), 1)


def test_a_role_without_shared_memory(client: mob.Client) -> None:
    none = client.require("none")
    assert none.make(BIG).result(patient(30)) == bytes(BIG)
    assert type(none.make(BIG).result(patient(30))) is bytes
    assert none.describe(b"\1" * BIG).result(patient(30)) == ["bytes", BIG, BIG]  # the sender's pool counts


def test_calls_that_are_given_up_or_refused(client: mob.Client, back: Any) -> None:
    calls = [back.hang(b"\1" * BIG) for _ in range(5)]
    back.who().result(patient(30))
    for call in calls:
        call.cancel()
    blocked = back.block(0.3)
    queued = [back.echo(b"\1" * BIG) for _ in range(5)]
    with pytest.raises(mob.CallTimeout):
        back.options(timeout=0.05).echo(b"\1" * BIG).result(30)
    for call in queued:
        call.cancel()
    blocked.result(patient(30))
    assert_all_is_free(client)


def test_many_at_once(back: Any) -> None:
    calls = [back.echo(bytes([number]) * BIG) for number in range(250)]
    assert all(call.result(patient(60)) == bytes([number]) * BIG for number, call in enumerate(calls))


def test_mob_ps_shows_what_is_shared(app: RunningApp, client: mob.Client, back: Any) -> None:
    kept = back.view(10 * MIB).result(patient(30))
    wait_until(lambda: any(row.shared == 10 * MIB for row in client.overview()), "the overview shows it")
    command = [sys.executable, "-m", "mob", "ps", "-a", app.name]
    env = {**os.environ, "COLUMNS": "120"}
    shown = subprocess.run(command, capture_output=True, text=True, env=env)
    assert "shared" in shown.stdout, shown
    assert "10 MB" in shown.stdout
    assert len(kept) == 10 * MIB


# --- deaths -----------------------------------------------------------------------------------------------------------


def test_the_receiver_is_killed_in_the_middle(client: mob.Client) -> None:
    doomed = client.require("doomed")
    pid = doomed.who().result(patient(30))
    calls = [doomed.hang([np.ones(BIG), b"x" * BIG]) for _ in range(20)]
    doomed.keep(memoryview(b"y" * BIG)).result(patient(30))
    assert client.statistics()["shared"] > 0
    os.kill(pid, signal.SIGKILL)
    for call in calls:
        assert isinstance(call.exception(patient(30)), mob.Lost)
    wait_until(lambda: client.statistics()["shared"] == 0, "all that the dead process held is free")
    assert doomed.options(wait=30).describe(b"\1" * BIG).result(patient(30)) == ["bytes", BIG, BIG]


def test_the_sender_is_killed_in_the_middle(client: mob.Client) -> None:
    doomed = client.require("doomed")
    pid = doomed.who().result(patient(30))
    kept = doomed.view(BIG).result(patient(30))
    before = memfds_of(os.getpid())
    calls = [doomed.make(BIG) for _ in range(50)]
    os.kill(pid, signal.SIGKILL)
    for call in calls:
        error = call.exception(patient(30))
        assert error is None or isinstance(error, mob.Lost)
    assert kept == bytes(BIG)  # while there are views of it
    wait_until(lambda: doomed.who().exception(patient(30)) is None, "its successor is there")
    del kept, calls, call
    gc.collect()
    # A successor repeated what it had not begun, so the memory here is the successor's.
    wait_until(lambda: set(before) - set(memfds_of(os.getpid())), "the dead process's memory is unmapped")


def test_survivors_have_their_own_pool_and_those_of_the_living(app: RunningApp, client: mob.Client) -> None:
    for role in ("back", "front", "tight", "none", "doomed"):
        client.require(role).describe(b"\1" * BIG).result(patient(30))
    for _ in range(3):
        with app.connect() as other:
            other.require("back").keep(b"\1" * BIG).result(patient(30))
    back = client.require("back")
    back.forget().result(patient(30))
    living = len(app.ready(client)) + 1
    pid = back.who().result(patient(30))
    wait_until(lambda: len(memfds_of(pid)) <= living, "nothing is left of the clients")
