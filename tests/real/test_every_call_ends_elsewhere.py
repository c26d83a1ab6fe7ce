"""Like `test_every_call_ends`, elsewhere: the threads of a role, a client's process, deep stacks, no memory.

All lines: `EACH=1 python -m pytest tests/real/test_every_call_ends_elsewhere.py`. By default every 20th line is tested.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import mob
from tests.injecting import INJECTOR
from tests.patience import PATIENCE, patient
from tests.running import Apps

EACH = int(os.environ.get("EACH", "20"))

THREADED = (
    INJECTOR
    + """
import asyncio, mob

gathering = threading.Barrier(4)

@mob.export
def each_records():
    gathering.wait(20)
    sys.settrace(_trace)

@mob.export
def each_arms():
    gathering.wait(20)
    sys.settrace(_trace)

@mob.export
async def aim(file, line):
    global _armed
    _fired.clear()
    _armed = [file, line, 1]

@mob.export
async def lines():
    global _armed
    found = sorted(_lines)
    _armed = ["", 0, 0]
    return found

@mob.export
def plain(n): return n
@mob.export
def fail(n): raise ValueError(n)
@mob.export(concurrency=2)
def gated(n): return n
@mob.export
def rows(n): yield from range(n)
@mob.export
def back(f, n): return f(n).result(10)
@mob.export
async def task(n): return n

@mob.export
async def state():
    from mob.mobster import api
    peer = api.current("state")
    gates = sum(e.limiter.running for e in peer.serving.exports.values() if e.limiter is not None)
    in_hand = peer.serving.in_hand - 1  # this one
    return {**peer.statistics(), "in_hand": in_hand, "gates": gates, "threads": peer.serving.threads.calls}
"""
)


def has_ended(wait: Callable[[], Any], *values: Any) -> bool:
    """Return whether it ended with one of these values, or with an error that says so."""
    try:
        return wait() in values
    except mob.CallTimeout:
        return False
    except mob.CallError:
        return True


def threaded_calls(b: Any) -> list[str]:
    """Make calls of each kind; return those that hang."""
    calls = [(f"plain {n}", b.plain(n), n) for n in range(4)]
    calls += [(f"gated {n}", b.gated(n), n) for n in range(4)]
    calls += [("fail", b.fail(1), None), ("back", b.back(lambda n: n, 2), 2), ("task", b.task(3), 3)]
    streams = [("rows", b.rows(40).stream()), ("map", b.plain.map(range(40)))]
    hung = [name for name, call, value in calls if not has_ended(lambda call=call: call.result(PATIENCE), value)]
    return hung + [
        name for name, stream in streams if not has_ended(lambda stream=stream: list(stream), list(range(40)))
    ]


def nothing_left(b: Any) -> dict[str, int]:
    """Wait until nothing is in hand; return what stays."""
    until = time.monotonic() + PATIENCE
    while True:
        state = b.state().result(PATIENCE)
        left = {name: state[name] for name in ("pending", "in_hand", "gates", "threads") if state[name]}
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.02)


def aim(b: Any, file: str, line: int) -> None:
    """Have an exception raised at that line.

    The one before may be raised only now: while the answer to this is sent, which closes the link.
    """
    while True:
        calls = [b.each_arms() for _ in range(4)]  # all four threads exist, and are watched
        with contextlib.suppress(mob.Lost):
            for call in calls:
                call.result(PATIENCE)
            b.aim(file, line).result(PATIENCE)
            return


@pytest.mark.timeout(3600 if EACH < 10 else 300)
def test_an_exception_at_any_line_in_the_threads_of_a_role_leaves_no_call_open(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", threads=4)', back=THREADED)
    with app.connect() as client:
        b = client.require("back")
        assert threaded_calls(b) == []
        for call in [b.each_records() for _ in range(4)]:
            call.result(PATIENCE)
        for _ in range(2):
            assert threaded_calls(b) == []
        lines = b.lines().result(PATIENCE)
        assert len(lines) > 50
        for file, line in (each for each in lines if each[1] % EACH == 0):
            aim(b, file, line)
            assert threaded_calls(b) == [], f"{file}:{line}"
            assert nothing_left(b) == {}, f"{file}:{line}"


OTHER = """
import asyncio, mob

@mob.export
def plain(n): return n
@mob.export
async def task(n): return n
@mob.export
def rows(n): yield from range(n)
@mob.export
def back(f, n): return f(n).result(10)
@mob.export
async def forever(): await asyncio.sleep(1000)
"""
CALLER = (
    INJECTOR
    + """
import asyncio, faulthandler, time
NAME, EACH, WHERE = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if WHERE == "reader":
    threading.settrace(_trace)
import mob

client = mob.connect(NAME)
b = client.require("other")

def plainly():
    assert b.plain(1).result(30) == 1
    assert [call.result(30) for call in [b.task(n) for n in range(5)]] == list(range(5))
    assert list(b.rows(40)) == list(range(40))
    assert list(b.plain.map(range(40))) == list(range(40))
    assert b.back(lambda n: n, 2).result(30) == 2
    call = b.forever()
    try:
        call.cancel()
    except BaseException:
        call.cancel()
        raise

async def awaiting():
    assert await b.plain(1) == 1
    assert await asyncio.gather(*[b.task(n) for n in range(5)]) == list(range(5))
    assert [n async for n in b.rows(40)] == list(range(40))
    assert [n async for n in b.plain.map(range(40))] == list(range(40))
    assert await b.back(lambda n: n, 2) == 2

def all_kinds():
    for kind in (plainly, lambda: asyncio.run(awaiting())):
        try:
            kind()
        except (Injected, mob.CallError, RuntimeError) as error:
            if isinstance(error, mob.CallTimeout) or isinstance(error, RuntimeError) and "njected" not in str(error):
                raise

def settle():
    until = time.monotonic() + 30
    while client.statistics()["pending"]:
        assert time.monotonic() < until, client.statistics()
        time.sleep(0.01)

def lost(file, line):
    # The first line of what asyncio calls of a call that a task waits for: it never runs the task again.
    with open(os.path.join(HOME, file)) as source:
        text = source.read().splitlines()
    return text[line - 1].strip() == "try:" and any(
        f"def {name}(" in each for name in ("get_loop", "add_done_callback") for each in text[line - 5 : line]
    )

def trace_here():
    if WHERE != "reader":
        sys.settrace(_trace)

all_kinds()
trace_here()
for _ in range(2):
    all_kinds()
sys.settrace(None)
lines = [line for line in sorted(_lines) if line[1] % EACH == 0 and not lost(*line)]
print(len(_lines), "lines", flush=True)
for file, line in lines:
    faulthandler.dump_traceback_later(40, exit=True)
    print(f"{file}:{line}", flush=True)
    _armed = [file, line, 1]
    trace_here()
    all_kinds()
    sys.settrace(None)
    _armed = ["", 0, 0]
    plainly()
    asyncio.run(awaiting())
    settle()
    faulthandler.cancel_dump_traceback_later()
print("all have ended", flush=True)
client.close()
"""
)


@pytest.mark.timeout(3600 if EACH < 10 else 300)
@pytest.mark.parametrize("where", ["caller", "reader"])
def test_an_exception_at_any_line_in_a_client_leaves_no_call_open(apps: Apps, where: str) -> None:
    """In the thread that calls, and in the one that reads the answers, which goes on."""
    app = apps.start('.role("other", "./other.py")', other=OTHER)
    app.wait_ready()
    script = app.directory / "caller.py"
    script.write_text(CALLER)
    done = subprocess.run(
        [sys.executable, str(script), app.name, str(EACH), where], capture_output=True, text=True, timeout=patient(3000)
    )
    assert done.stdout.endswith("all have ended\n"), done.stdout[-200:] + done.stderr[-4000:]


DEEP = """
import mob

def deep(levels, function):
    return function() if not levels else deep(levels - 1, function)

@mob.export
def echo(n): return n

@mob.export
async def aecho(n): return n

@mob.export
def again(f, n): return f(n).result(20) if n else 0

@mob.export
def nested(levels):
    value = None
    for _ in range(levels): value = [value]
    return value

@mob.export
async def anested(levels): return nested(levels)

@mob.export
def endless(): return endless()

@mob.export
async def aendless(): return endless()

@mob.export
def rendless():
    yield 1
    yield endless()

other = mob.require("other")

@mob.export
def from_below(levels):
    return deep(levels, lambda: other.echo(levels).result(20))

@mob.export
def left_below(levels):
    return deep(levels, lambda: other.aecho(levels)).result(20)
"""


def test_a_stack_that_is_used_up_ends_the_call_that_uses_it(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py").role("other", "./other.py")', back=DEEP, other=DEEP)
    back: Any = app.wait_ready().require("back")

    def chain(n: int) -> Any:
        return back.again(chain, n - 1).result(patient(20)) if n else 0

    limit = sys.getrecursionlimit()
    calls: dict[str, Any] = {
        "nested": back.nested(100_000),  # more levels than Python 3.12 and later allow in C
        "nested later": back.anested(100_000),
        "endless": back.endless(),
        "endless later": back.aendless(),
    }
    assert {name: call.exception(PATIENCE) is not None for name, call in calls.items()} == dict.fromkeys(calls, True)
    with pytest.raises((mob.CallError, RecursionError)):
        list(back.rendless())
    for levels in [*range(limit - 200, limit - 20, 5), limit]:
        for name in ("from_below", "left_below"):
            assert has_ended(lambda name=name, levels=levels: getattr(back, name)(levels).result(PATIENCE), levels), (
                levels
            )

    def deep(levels: int, function: Callable[[], Any]) -> Any:
        return function() if not levels else deep(levels - 1, function)

    for levels in range(limit - 200, limit, 3):  # the calling side
        made: list[Any] = []

        def call(made: list[Any] = made) -> Any:
            made.append(back.echo(1))
            return made[0].result(PATIENCE)

        with contextlib.suppress(RecursionError, mob.CallError):
            assert deep(levels, call) == 1
        assert all(has_ended(lambda each=each: each.result(PATIENCE), 1) for each in made)
    assert back.echo(3).result(PATIENCE) == 3
    assert has_ended(lambda: back.again(chain, 200).result(PATIENCE), 0)
    assert back.from_below(3).result(PATIENCE) == 3


SCARCE = """
import mob, resource

def _limit():
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 150_000_000, hard))

@mob.on("ready")
def begin(): _limit()

@mob.export
def large(n): return ["x" * 1000 for _ in range(n)]
@mob.export
async def alarge(n): return large(n)
@mob.export
def bytes_of(n): return bytes(n)
@mob.export(concurrency=1)
async def gated(n): return bytes(n)
@mob.export
def rows(n):
    yield 1
    yield bytes(n)
@mob.export
def length(data): return len(data)
@mob.export
def one(n): return 1
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_process_without_memory_ends_the_calls_that_want_it(apps: Apps, threads: int) -> None:
    app = apps.start(f'.role("back", "./back.py", threads={threads})', back=SCARCE)
    back: Any = app.wait_ready().require("back")
    size = 100_000_000
    for _ in range(3):
        calls: dict[str, Any] = {
            "large": back.large(100_000),
            "large later": back.alarge(100_000),
            "bytes": back.bytes_of(size),
            "gated": back.gated(size),
            "gated again": back.gated(size),
            "argument": back.length(b"x" * 60_000_000),
        }
        for name, call in calls.items():
            try:
                call.exception(patient(90))  # a call waits 30 s for a worker, if all of them died
            except mob.CallTimeout:
                pytest.fail(f"{name} hangs")
        assert has_ended(lambda: len(list(back.rows(size))), 2)
        assert [call.result(PATIENCE) for call in [back.one(1) for _ in range(20)]] == [1] * 20
        assert back.gated(3).result(PATIENCE) == bytes(3)  # its place is free
