"""Loans and forwarded buffers between real processes: not copied, sealed, used again, and freed whatever dies."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import mob
from mob.rim.segments import IS_AVAILABLE
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

pytestmark = pytest.mark.skipif(not IS_AVAILABLE, reason="no memfd here")

BIG = 4_000_000

COMMON = """
import gc
import os

import mob
import numpy as np
from mob.mobster import api

kept = []

def statistics():
    gc.collect()
    peer = api.current("statistics")
    peer.tidy()
    return peer.statistics()

def who():
    return os.getpid()

def echo(value):
    return value

def part(value):
    return value[1000:-1000]

async def echo_later(value):
    return value

def keep(value):
    kept.append(value)
    return int(kept[-1][0])

def first():
    return [int(each[0]) for each in kept]

def forget():
    kept.clear()

def made(size, value):
    loan = mob.empty(size, "u1")
    loan[:] = value
    kept.append(loan)
    return loan

def is_shared():
    return api.current("is_shared").statistics()["shared"]

def items(value, count):
    for _ in range(count):
        yield value

def hear(reply, value):
    reply(value).result()

@mob.on("message")
def handle(obj):
    kept.append(obj)
"""

BACK = """
from common import *

__all__ = [
    "statistics", "who", "echo", "part", "echo_later", "keep", "first", "forget", "made", "is_shared", "items", "hear",
    "pass_on", "pass_on_and_die", "copies", "dead_men",
]
third = mob.require("third")

def pass_on(value):
    return third.keep(value).result()

def pass_on_and_die(value):
    call = third.keep(value)
    call.result()
    os.kill(os.getpid(), 9)

def copies(value):
    address = value.__array_interface__["data"][0]
    return [value.base is not None, third.echo(value).result().__array_interface__["data"][0] == address]

def dead_men(value):
    kept.append(value)
    return third.keep(kept[0]).result()
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("loans")) as apps:
        app = apps.start(
            '.role("back", "./back.py").role("third", "./third.py").role("doomed", "./back.py")'
            '.role("tight", "./back.py", shared_memory=1024 * 1024)',
            common=COMMON,
            back=BACK,
            third=BACK.replace('third = mob.require("third")', "third = None"),
        )
        app.wait_ready()
        yield app


@pytest.fixture
def client(app: RunningApp) -> Iterator[mob.Client]:
    with app.connect() as client:
        yield client
        for role in ("back", "third", "doomed", "tight"):
            client.require(role).forget().result(patient(30))
        wait_until(lambda: set(pools_of(client)) == {(0, 0)}, f"all is free: {pools_of(client)}")


def pools_of(client: mob.Client) -> list[tuple[int, int]]:
    """Return (bytes in the pool, views) of this process and of each worker."""
    gc.collect()
    roles = [client.require(role).statistics() for role in ("back", "third", "doomed", "tight")]
    found = [client.statistics(), *(call.result(patient(30)) for call in roles)]
    return [(each["shared"], each["views"]) for each in found]


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def loan(value: int = 1, size: int = BIG) -> Any:
    made = mob.empty(size, "u1")
    made[:] = value
    return made


# --- without a copy ---------------------------------------------------------------------------------------------------


def test_what_comes_back_is_where_it_was(client: mob.Client) -> None:
    sent = loan()
    for export in ("echo", "echo_later"):
        back = getattr(client.require("back"), export)(sent).result(patient(30))
        assert address(back) == address(sent)
        assert not back.flags.writeable
    assert client.statistics()["shared"] == -(-BIG // 65536) * 65536  # once
    assert client.require("back").is_shared().result(patient(30)) == 0
    assert address(client.require("back").part(sent).result(patient(30))) == address(sent) + 1000
    assert address(client.require("back").echo(sent[65536:]).result(patient(30))) == address(sent) + 65536
    assert address(client.require("back").echo([{"a": sent}]).result(patient(30))[0]["a"]) == address(sent)


@pytest.mark.parametrize("shape", [(2000, 500), (10, 20, 5000)])
def test_shapes_dtypes_and_memoryviews(client: mob.Client, shape: tuple[int, ...]) -> None:
    back = client.require("back")
    for sent in (mob.zeros(shape, "f4"), mob.zeros(shape).T, mob.empty(shape, "M8[s]"), mob.zeros(shape)[1:]):
        found = back.echo(sent).result(patient(30))
        assert address(found) == address(sent)
        assert (found.shape, found.dtype, found.strides) == (sent.shape, sent.dtype, sent.strides)
    view = mob.buffer(BIG)
    view[:3] = b"abc"
    found = back.echo(view).result(patient(30))
    assert (bytes(found[:4]), type(found), len(found)) == (b"abc\0", memoryview, BIG)
    assert address(np.frombuffer(found, "u1")) == address(np.frombuffer(view, "u1"))
    every_other = mob.zeros(shape)[::2]
    assert np.array_equal(back.echo(every_other).result(patient(30)), every_other)  # with gaps: a copy


@pytest.mark.parametrize("by_name", [False, True])
def test_the_first_call_of_a_client_copies_nothing(app: RunningApp, by_name: bool) -> None:
    with app.connect() as client:  # the client does not know the exports yet
        sent, echo = loan(), client.require("back").echo
        found = (echo(value=sent) if by_name else echo(sent)).result(patient(30))
        assert address(found) == address(sent)
        assert not sent.flags.writeable
        del found
    app.clients.remove(client)


def test_streams_messages_and_callbacks(client: mob.Client) -> None:
    sent, got = loan(), []
    back = client.require("back")
    assert {address(each) for each in back.items(sent, 5)} == {address(sent)}
    back.hear(lambda value: got.append(address(value)), sent).result(patient(30))
    assert got == [address(sent)]
    client.all("back").send(sent)
    client.all("third").send(sent)
    wait_until(
        lambda: back.first().result(patient(30)) == client.require("third").first().result(patient(30)) == [1],
        "both have it",
    )
    assert client.statistics()["shared"] == -(-BIG // 65536) * 65536


def test_a_third_process_looks_at_it_where_it_lies(client: mob.Client) -> None:
    back, third = client.require("back"), client.require("third")
    sent = loan(7)
    for _ in range(3):
        assert back.pass_on(sent).result(patient(30)) == 7
    assert back.is_shared().result(patient(30)) == 0
    del sent
    for number in range(20):
        assert back.pass_on(loan(number)).result(patient(30)) == number
    assert third.first().result(patient(30)) == [7, 7, 7, *range(20)]
    made = back.made(BIG, 9).result(patient(30))
    assert third.keep(made).result(patient(30)) == 9
    assert client.statistics()["shared"] == 21 * -(-BIG // 65536) * 65536


# --- sealed, and used again -------------------------------------------------------------------------------------------


def test_what_was_sent_is_read_only(client: mob.Client) -> None:
    array, view = loan(), mob.buffer(BIG)
    early = array[:5]
    client.require("back").echo([array, view]).result(patient(30))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1
    with pytest.raises(TypeError, match="read-only"):
        view[:5][0] = 1
    early[0] = 3  # as the page says


def test_a_view_that_was_sent_is_read_only_as_what_it_is_a_view_of(client: mob.Client) -> None:
    back = client.require("back")
    array, view = loan(), mob.buffer(BIG)
    over_array, over_view = memoryview(array), np.frombuffer(view, "u1")
    shaped, cast = mob.empty(BIG, "u1").reshape(1000, -1), mob.buffer(BIG).cast("f")
    shaped[:], cast[0] = 1, 1
    matters = [
        (array[1000:], array),
        (array.view("f4"), array),
        (over_array, array),
        (np.frombuffer(over_array, "u2"), array),
        (shaped, shaped),
        (shaped.T, shaped.base),
        (over_view, view),
        (over_view[1000:], over_view),
        (over_view.reshape(1000, -1), view),
        (view[1000:], view),
        (cast, cast),
    ]
    for sent, lent in matters:
        assert [is_writable(sent), is_writable(lent)] == [True, True]
        back.echo([sent]).result(patient(30))
        assert [is_writable(sent), is_writable(lent)] == [False, False]
        with mob.lend(sent):
            pass
        assert [is_writable(sent), is_writable(lent)] == [True, True]
    readonly = array.view()
    readonly.flags.writeable = False
    back.echo(readonly).result(patient(30))
    with mob.lend(array):
        pass
    assert [is_writable(array), is_writable(readonly)] == [True, False]  # the program made it so, not mob


def test_what_a_receiver_has_is_not_changed_through_what_was_sent(client: mob.Client) -> None:
    back = client.require("back")
    base = loan()
    before = base[:BIG]
    assert back.keep(before).result(patient(30)) == 1
    with pytest.raises(ValueError, match="read-only"):
        before[:] = 2
    base = loan()
    foreign = np.frombuffer(memoryview((ctypes.c_char * BIG).from_buffer(base)), "u1")
    assert back.keep(foreign).result(patient(30)) == 1
    foreign[:] = 2  # what was sent is a copy, because it could be written through the object of ctypes
    assert back.first().result(patient(30)) == [1, 1]


def is_writable(view: Any) -> bool:
    return not view.readonly if isinstance(view, memoryview) else bool(view.flags.writeable)


def test_a_ring_of_buffers(client: mob.Client) -> None:
    back = client.require("back")
    for frame in (loan(), mob.buffer(BIG)):
        for number in range(20):
            with mob.lend(frame) as sent:
                sent[0] = number
                assert back.echo_later(sent).result(patient(30))[0] == number
        frame[0] = 99
    assert client.statistics()["shared"] <= 2 * -(-BIG // 65536) * 65536


def test_a_ring_in_async_code(client: mob.Client) -> None:
    back, frame = client.require("back"), loan()

    async def ring() -> None:
        for number in range(20):
            async with mob.lend(frame) as sent:
                sent[0] = number
                assert (await back.echo(sent))[0] == number

    asyncio.run(ring())
    frame[0] = 99


def test_one_who_keeps_it_keeps_it(client: mob.Client) -> None:
    back, frame = client.require("back"), loan()
    with pytest.raises(TimeoutError, match=r"still have this buffer after 0\.05 s"), mob.lend(frame, 0.05):
        back.keep(frame).result(patient(30))
    with pytest.raises(ValueError, match="read-only"):
        frame[0] = 1
    back.forget().result(patient(30))
    with mob.lend(frame):
        pass
    frame[0] = 1

    async def lend_in_vain() -> None:
        async with mob.lend(frame, 0.05) as sent:
            await back.keep(sent)

    with pytest.raises(TimeoutError):
        asyncio.run(lend_in_vain())


def test_lending_what_others_have_already_waits_first(client: mob.Client) -> None:
    back, frame = client.require("back"), loan()
    assert back.keep(frame).result(patient(30)) == 1
    with pytest.raises(TimeoutError, match=r"still have this buffer after 0\.05 s"), mob.lend(frame, 0.05):
        pytest.fail("others have it")

    async def lend(timeout: float | None) -> None:
        async with mob.lend(frame, timeout) as sent:
            sent[0] = 2

    with pytest.raises(TimeoutError, match="other processes still have this buffer"):
        asyncio.run(lend(0.05))
    assert frame[0] == 1
    forgetting = back.forget()
    asyncio.run(lend(patient(30)))
    forgetting.result(patient(30))
    assert back.keep(frame).result(patient(30)) == 2
    forgetting = back.forget()
    with mob.lend(frame, patient(30)) as sent:
        sent[0] = 3
    forgetting.result(patient(30))


def test_ordinary_memory_where_there_is_no_room(client: mob.Client) -> None:
    tight = client.require("tight")
    assert int(tight.made(BIG, 5).result(patient(30))[0]) == 5
    assert tight.is_shared().result(patient(30)) == 0
    small = mob.zeros(10)
    with mob.lend(small):
        client.require("back").echo(small).result(patient(30))
    small[0] = 1


# --- deaths -----------------------------------------------------------------------------------------------------------


def test_the_owner_dies(client: mob.Client) -> None:
    doomed, third, back = client.require("doomed"), client.require("third"), client.require("back")
    made = doomed.made(BIG, 6).result(patient(30))
    assert third.keep(made).result(patient(30)) == 6
    os.kill(doomed.who().result(patient(30)), signal.SIGKILL)
    wait_until(lambda: doomed.who().exception(patient(30)) is None, "its successor is there")
    assert doomed.made(BIG, 8).result(patient(30))[0] == 8
    assert third.first().result(patient(30)) == [6]
    assert back.keep(made).result(patient(30)) == 6  # even after its death
    assert int(made[-1]) == 6


def test_the_one_who_passes_it_on_dies(client: mob.Client) -> None:
    doomed, third = client.require("doomed"), client.require("third")
    sent = loan(4)
    assert isinstance(doomed.pass_on_and_die(sent).exception(patient(30)), mob.Lost)
    wait_until(lambda: doomed.who().exception(patient(30)) is None, "its successor is there")
    del sent
    gc.collect()
    for number in range(50):
        loan(number)
        assert third.first().result(patient(30)) == [4]


def test_the_last_receiver_dies(client: mob.Client) -> None:
    back, doomed = client.require("back"), client.require("doomed")
    sent = back.made(BIG, 3).result(patient(30))
    assert doomed.keep(sent).result(patient(30)) == 3
    back.forget().result(patient(30))
    del sent
    gc.collect()
    assert back.is_shared().result(patient(30)) > 0
    os.kill(doomed.who().result(patient(30)), signal.SIGKILL)
    wait_until(lambda: back.is_shared().result(patient(30)) == 0, "all that the dead process held is free")
    wait_until(lambda: doomed.who().exception(patient(30)) is None, "its successor is there")


def test_nothing_piles_up(client: mob.Client) -> None:
    back = client.require("back")

    def in_use() -> list[int]:
        return [len(os.listdir(f"/proc/{pid}/{what}")) for pid in pids for what in ("fd", "map_files")]

    pids = [os.getpid(), back.who().result(patient(30)), client.require("third").who().result(patient(30))]
    back.pass_on(loan()).result(patient(30))
    client.require("third").forget().result(patient(30))
    before = in_use()
    for number in range(300):
        assert back.pass_on(loan(number % 200)).result(patient(30)) == number % 200
        assert back.echo(loan(number % 200)).result(patient(30))[0] == number % 200
        client.require("third").forget().result(patient(30))
    wait_until(lambda: all(now <= then + 5 for now, then in zip(in_use(), before, strict=True)), "nothing has grown")


# --- outside ----------------------------------------------------------------------------------------------------------


def test_without_an_app_it_is_ordinary_memory() -> None:
    array, view = mob.zeros((300, 300)), mob.buffer(100_000)
    assert (array.sum(), bytes(view[:2]), mob.empty(5).shape) == (0.0, b"\0\0", (5,))
    with mob.lend(array) as same:
        assert same is array
    with mob.lend(view):
        view[0] = 1
    for lent in (array[:, 1], view[1:], np.frombuffer(view, "u2"), mob.zeros((3, 3)).T, mob.empty(2, object)):
        with mob.lend(lent) as same:
            assert same is lent


@pytest.mark.parametrize("lent", [5, b"x", [1], None, bytearray(3)])
def test_lending_what_is_neither_array_nor_memoryview(lent: object) -> None:
    kind = type(lent).__name__
    with pytest.raises(TypeError, match=f"array or memoryview of mob.empty, mob.zeros or mob.buffer, not {kind}"):
        mob.lend(lent)


@pytest.mark.parametrize("lent", [np.zeros(10), np.zeros(100_000)[::2], memoryview(bytearray(3)), memoryview(b"abc")])
def test_lending_memory_that_is_not_of_mob(lent: object) -> None:
    with pytest.raises(ValueError, match=f"this {type(lent).__name__} is not from mob.empty, mob.zeros or mob.buffer"):
        mob.lend(lent)


@pytest.mark.parametrize(("length", "error"), [(-1, ValueError), ("x", TypeError), (1.5, TypeError), (None, TypeError)])
def test_a_buffer_of_what_is_no_number_of_bytes(length: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"mob\.buffer\({length!r}\): expected a whole number of bytes, at least 0\."):
        mob.buffer(length)


@pytest.mark.parametrize("shape", [(3, 4), (300, 400), [300, 400], 120_000, np.int64(120_000), (0, 5), ()])
@pytest.mark.parametrize("order", ["C", "F"])
def test_shapes_and_orders_are_those_of_numpy(client: mob.Client, shape: Any, order: Any) -> None:
    for ours, theirs in ((mob.empty, np.empty), (mob.zeros, np.zeros)):
        made, wanted = ours(shape, "f4", order=order), theirs(shape, "f4", order=order)
        assert (made.shape, made.strides, made.dtype) == (wanted.shape, wanted.strides, wanted.dtype)
        made[...] = 7
        found = client.require("back").echo(made).result(patient(30))
        assert np.array_equal(found, made)
        assert found.flags.fnc == made.flags.fnc
        assert (address(found) == address(made)) == (made.nbytes >= 65536)


@pytest.mark.parametrize("shape", [3, 100_000])
def test_an_order_that_does_not_exist(client: mob.Client, shape: int) -> None:
    with pytest.raises(ValueError, match=r"mob\.zeros: order='K': expected 'C' \(row by row\) or 'F'"):
        mob.zeros(shape, order="K")  # type: ignore[arg-type]


def test_lending_what_has_arrived(client: mob.Client) -> None:
    back, sent = client.require("back"), loan()
    with pytest.raises(ValueError, match=r"this ndarray is not from mob\.empty"):
        mob.lend(back.made(BIG, 1).result(patient(30)))
    with mob.lend(back.echo(sent).result(patient(30))) as came_back:
        assert address(came_back) == address(sent)
    back.forget().result(patient(30))
