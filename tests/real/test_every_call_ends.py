"""Whatever is raised at any line of mob's own code: every call ends, places are free again, and work goes on.

A worker serves calls of all kinds and makes some. The test notes the lines of mob that it runs; then it repeats this
for each line, where it raises an exception once that no `except Exception` catches. All lines take 15 minutes:
`EACH=1 python -m pytest tests/real/test_every_call_ends.py`. By default every 20th line is tested.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import mob
from tests.injecting import INJECTOR
from tests.patience import PATIENCE, patient
from tests.running import Apps, RunningApp, apps_in

ROLE = """
import asyncio
from fractions import Fraction
import mob

mob.register(Fraction, str, Fraction)
other = mob.require("other")

@mob.export
def plain(n): return n

@mob.export
async def task(n): return n

@mob.export
async def slow(n):
    await asyncio.sleep(0.001)
    return n

@mob.export
def rows(n):
    yield from range(n)

@mob.export
async def arows(n):
    for i in range(n):
        yield i

@mob.export(concurrency=1)
async def gated(n):
    await asyncio.sleep(0)
    return n

@mob.export(concurrency=1)
def gated_plain(n): return n

@mob.export(batch=3)
def batched(ns): return [n + 1 for n in ns]

@mob.export(batch=3, within=0.005)
async def abatched(ns):
    await asyncio.sleep(0)
    return [n + 1 for n in ns]

@mob.export
def back(f, n): return f(n).result(10)

@mob.export
async def aback(f, n): return await f(n)

@mob.export
def give(): return plain

@mob.export
def fail(n): raise ValueError(n)

@mob.export
async def afail(n): raise ValueError(n)

@mob.export
async def forever(): await asyncio.sleep(1000)

@mob.export
def half(f): return f / 2

@mob.export
def relay(n): return other.plain(n).result(10)

@mob.export
async def arelay(n): return await asyncio.gather(*[other.task(n) for _ in range(5)])

@mob.export
async def afail_there(n):
    try: await other.fail(n)
    except ValueError: return n

@mob.export
def stream_there(n): return list(other.rows(n))

@mob.export
async def astream_there(n): return [i async for i in other.arows(n)]

@mob.export
def map_there(n): return list(other.plain.map(range(n)))

@mob.export
async def lend_there(n): return await other.aback(plain, n)

@mob.export
async def large_there(n): return len(await other.plain(bytes(n)))

@mob.export
async def cancel_there():
    call = other.forever()
    await asyncio.sleep(0)
    try: call.cancel()
    except BaseException:
        call.cancel()
        raise
    return await other.plain(1)

@mob.export
async def send_there(n): mob.any("other").send(n)

heard = []
@mob.on("message")
def hear(obj): heard.append(obj)
@mob.on("message")
async def ahear(obj): heard.append(obj)

@mob.export
def state():
    from mob.mobster import api
    peer = api.current("state")
    gates = {e.name: e.limiter.running for e in peer.serving.exports.values() if e.limiter is not None}
    return {**peer.statistics(), "gates": sum(gates.values()), "driving": peer.context.reactor.driving}
"""
TRACED = INJECTOR + ROLE + "".join(f"mob.export({name})\n" for name in ("record", "recorded", "arm", "disarm"))
LARGE = 300_000
mob.register(Fraction, str, Fraction)


EACH = int(os.environ.get("EACH", "20"))
HOME = Path(mob.__file__).parent
LOST = {"get_loop", "add_done_callback"}
"""What asyncio itself calls for a call that a task waits for: it never runs the task again if the first line raises."""

Kind = tuple[str, Callable[[], Any], Any]
"""The kind of a call, what waits for its end, and its value or the type of its error."""


def calls_of_all_kinds(client: mob.Client) -> list[Kind]:
    """Make calls of each kind at once."""
    b = client.require("back")
    calls: list[tuple[str, Any, Any]] = [
        ("def", b.plain(1), 1),
        ("async def", b.task(2), 2),
        ("slow", b.slow(2), 2),
        ("gated 1", b.gated(3), 3),
        ("gated 2", b.gated(4), 4),
        ("gated 3", b.options(timeout=30).gated(5), 5),
        ("gated def", b.gated_plain(6), 6),
        *((f"batched {n}", b.batched(n), n + 1) for n in range(4)),
        *((f"async batched {n}", b.abatched(n), n + 1) for n in range(4)),
        ("callback", b.back(lambda n: n + 1, 7), 8),
        ("awaited callback", b.aback(lambda n: n + 1, 8), 9),
        ("large", b.plain(bytes(LARGE)), bytes(LARGE)),
        ("fails", b.fail(9), ValueError),
        ("fails later", b.afail(9), ValueError),
        ("registered", b.half(Fraction(1, 3)), Fraction(1, 6)),
        ("timeout", b.options(timeout=30).task(10), 10),
        ("unknown", b.plain(1, 2), mob.ArgumentError),
        ("relay", b.relay(11), 11),
        ("gathered relay", b.arelay(12), [12] * 5),
        ("failure there", b.afail_there(13), 13),
        ("lend there", b.lend_there(17), 17),
        ("large there", b.large_there(LARGE), LARGE),
        ("cancel there", b.cancel_there(), 1),
        ("send there", b.send_there(1), None),
        ("stream there", b.stream_there(100), list(range(100))),
        ("astream there", b.astream_there(100), list(range(100))),
        ("map there", b.map_there(50), list(range(50))),
        ("def", b.plain(1), 1),
        ("async def", b.task(2), 2),
    ]
    streams: list[tuple[str, Any, Any]] = [
        ("generator", b.rows(100).stream(), list(range(100))),
        ("async generator", b.arows(100).stream(), list(range(100))),
        ("map", b.plain.map(range(100)), list(range(100))),
        ("map of async def", b.task.map(range(100)), list(range(100))),
    ]
    b.forever().cancel()
    client.any("back").send("hello")
    waits: list[Kind] = [(name, lambda call=call: call.result(PATIENCE), value) for name, call, value in calls]
    return waits + [(name, lambda stream=stream: list(stream), value) for name, stream, value in streams]


def ends_of(kinds: list[Kind]) -> list[str]:
    """Wait for all of them; return the faults in their ends."""
    outcomes: dict[int, Any] = {}

    def wait(number: int) -> None:
        try:
            outcomes[number] = kinds[number][1]()
        except BaseException as error:  # noqa: BLE001  looked at below
            outcomes[number] = error

    threads = [threading.Thread(target=wait, args=(number,), daemon=True) for number in range(len(kinds))]
    for thread in threads:
        thread.start()
    until = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    wrong: list[str] = []
    for number, (name, _, value) in enumerate(kinds):
        outcome = outcomes.get(number, mob.CallTimeout("hangs"))
        if isinstance(outcome, mob.CallTimeout):
            wrong.append(f"{name} hangs")
        elif isinstance(outcome, BaseException):
            if not isinstance(outcome, mob.CallError) or outcome.executed not in ("no", "yes", "maybe"):
                wrong.append(f"{name} has ended with {outcome!r}")
        elif outcome != value:
            wrong.append(f"{name} has given {outcome!r:.80}")
    return wrong


def left_over(client: mob.Client) -> list[str]:
    """Make calls as if nothing had happened, and check what is still in hand; return the faults."""
    b = client.require("back")
    try:
        for _ in range(2):
            assert (b.gated(1).result(PATIENCE), b.gated_plain(2).result(PATIENCE)) == (1, 2)
            assert (b.relay(3).result(PATIENCE), b.plain(4).result(PATIENCE)) == (3, 4)
            assert (b.batched(5).result(PATIENCE), b.abatched(6).result(PATIENCE)) == (6, 7)
        until = time.monotonic() + PATIENCE
        while True:
            state = b.state().result(PATIENCE)
            left = {name: state[name] for name in ("pending", "in_hand", "gates", "driving") if state[name]}
            if not left:
                return []
            if time.monotonic() > until:
                return [f"left over: {left}"]
            time.sleep(0.02)
    except mob.CallError as error:
        return [f"a later call has ended with {error!r}"]


def round_with(client: mob.Client, file: str, line: int) -> list[str]:
    """Have the line raise once during a round; return the faults afterwards."""
    b = client.require("back")
    wrong = ends_of([("arm", lambda: b.arm(file, line).result(PATIENCE), None)])
    wrong += ends_of(calls_of_all_kinds(client))
    wrong += ends_of([("disarm", lambda: len(b.disarm().result(PATIENCE)) < 2, True)])
    return wrong or left_over(client)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[RunningApp]:
    with apps_in(tmp_path) as apps:
        yield start(apps)


def start(apps: Apps) -> RunningApp:
    app = apps.start('.role("back", "./back.py").role("other", "./other.py")', back=TRACED, other=ROLE)
    app.wait_ready()
    return app


def lines_of(client: mob.Client, *rooms: str) -> list[tuple[str, int]]:
    """Return the lines of those rooms that a round runs."""
    b = client.require("back")
    assert ends_of(calls_of_all_kinds(client)) == []
    b.record().result(PATIENCE)
    for _ in range(2):
        assert ends_of(calls_of_all_kinds(client)) == []
    lines = [(file, line) for file, line in b.recorded().result(PATIENCE) if file.startswith(rooms)]
    return [line for line in lines if not is_lost(*line)]


def is_lost(file: str, line: int) -> bool:
    """Return whether it is the first line of what asyncio calls."""
    text = (HOME / file).read_text().splitlines()
    return text[line - 1].strip() == "try:" and any(
        f"def {name}(" in each for name in LOST for each in text[line - 5 : line]
    )


@pytest.mark.timeout(3600 if EACH < 10 else 300)
@pytest.mark.parametrize("room", ["peer/", "rim/", "wire/", "core/"])
def test_an_exception_at_any_line_leaves_no_call_open(app: RunningApp, room: str) -> None:
    with app.connect() as client:
        lines = lines_of(client, room)
        assert len(lines) > 50
        for file, line in (each for each in lines if each[1] % EACH == 0):
            assert round_with(client, file, line) == [], f"{file}:{line}"


PANIC = """
import asyncio, mob
from fractions import Fraction

class Panic(BaseException): pass

class Frame:
    @property
    def __array_interface__(self): raise Panic("rust panicked")

def Shy():
    class Meta(type):
        def __getattribute__(kind, name): raise Panic("the class panicked")
    class Shy(metaclass=Meta): pass
    return Shy()

mob.register(Fraction, str, Fraction)

@mob.export
def plain(): return Frame()
@mob.export
async def task(): return Frame()
@mob.export(concurrency=1)
async def gated(what): return {"frame": Frame, "shy": Shy, "none": int}[what]()
@mob.export
def shy(): return Shy()
@mob.export
def rows(): yield Frame()
@mob.export
async def arows(): yield Shy()
@mob.export
def third(): return Fraction(1, 3)
@mob.export
async def thirds():
    yield 1
    yield Fraction(1, 3)
@mob.export
def one(): return 1
"""


def test_a_result_that_raises_no_exception_of_the_ordinary_kind_ends_its_call(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=PANIC)
    back = app.wait_ready().require("back")
    for call in (back.plain(), back.task(), back.shy(), back.gated("frame"), back.gated("shy")):
        error = call.exception(patient(20))
        assert isinstance(error, mob.CallError)
        assert error.executed == "yes"
    assert back.gated("none").result(patient(20)) == 0  # its place is free
    for stream in (back.rows(), back.arows()):
        with pytest.raises(mob.CallError):
            list(stream)


class Panic(BaseException):
    """Raised by a decoder."""


def panic(data: Any) -> Any:
    raise Panic("rust panicked")


def test_a_decoder_that_raises_ends_its_own_call_only(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=PANIC)
    back = app.wait_ready().require("back")
    mob.register(Fraction, str, panic)
    try:
        calls = [back.one(), back.third(), back.one(), back.one()]
        stream = iter(back.thirds())
        assert [call.exception(patient(20)) is None for call in calls] == [True, False, True, True]
        assert isinstance(error := calls[1].exception(), mob.CallError)
        assert error.executed == "yes"
        assert next(stream) == 1
        with pytest.raises(mob.CallError, match="rust panicked"):
            next(stream)
        assert back.one().result(patient(20)) == 1
    finally:
        mob.register(Fraction, str, Fraction)


ALARMS = """
import signal

class Alarmed(BaseException): pass

def _ring(number, frame): raise Alarmed("the alarm has rung")

@mob.export
def alarms(seconds):
    signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
"""


def test_a_signal_handler_that_raises_anywhere_leaves_no_call_open(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py").role("other", "./other.py")', back=ROLE + ALARMS, other=ROLE)
    client = app.wait_ready()
    b = client.require("back")
    b.alarms(0.0017).exception(PATIENCE)
    for _ in range(10):
        assert ends_of(calls_of_all_kinds(client)) == []
    for _ in range(100):  # the alarm may end this call, too
        if b.alarms(0).exception(PATIENCE) is None:
            break
    assert left_over(client) == []
