"""What one process sends to another begins there in the order in which it was sent, whatever its kind."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

import mob
from tests.patience import patient
from tests.running import RunningApp, apps_in

BACK = """
import asyncio
import mob

begun = []

def plain(n): begun.append(n)

async def task(n):
    begun.append(n)
    await asyncio.sleep(0)

async def long(n):
    begun.append(n)
    await asyncio.sleep(0.01)

def makes(n): return task(n)

def rows(n):
    begun.append(n)
    yield n

async def arows(n):
    begun.append(n)
    yield n

@mob.export(concurrency=1000)
async def gated(n):
    begun.append(n)
    await asyncio.sleep(0)

@mob.on("message")
def hear(obj): begun.append(obj)

@mob.export
async def seen():
    kept, begun[:] = list(begun), []
    return kept
"""
ALL_MARKED = "".join(f"mob.export({name})\n" for name in ("plain", "task", "long", "makes", "rows", "arows"))
ASYNC = BACK.replace("def hear(obj)", "async def hear(obj)")
BOTH = BACK + "\n@mob.on('message')\nasync def hear_too(obj): begun.append(obj)\n"
KINDS = ("plain", "task", "long", "makes", "rows", "arows", "gated", "message")
ROUNDS = 30


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("order")) as apps:
        roles = '.role("back", "./back.py").role("later", "./later.py").role("both", "./both.py")'
        roles += '.role("wide", "./back.py", threads=4)'
        app = apps.start(roles, back=BACK + ALL_MARKED, later=ASYNC + ALL_MARKED, both=BOTH + ALL_MARKED)
        app.wait_ready()
        yield app


def begin(client: mob.Client, role: str, kind: str, number: int) -> Callable[[], object]:
    """Send one of that kind; return what waits for its end."""
    if kind == "message":
        client.any(role).send(number)
        return lambda: None
    call: mob.Call[object] = getattr(client.require(role), kind)(number)
    if kind in ("rows", "arows"):
        stream = call.stream()
        return lambda: list(stream)
    return lambda: call.result(patient(20))


@pytest.mark.parametrize("role", ["back", "later"])
@pytest.mark.parametrize("kinds", list(itertools.combinations(KINDS, 2)), ids="-".join)
def test_two_kinds_begin_in_order(app: RunningApp, role: str, kinds: tuple[str, str]) -> None:
    with app.connect() as client:
        back = client.require(role)
        for first, second in (kinds, kinds[::-1]):
            ends = [begin(client, role, (first, second)[n % 2], n) for n in range(2 * ROUNDS)]
            assert back.seen().result(patient(20)) == list(range(2 * ROUNDS))
            for end in ends:
                end()


def test_a_mixture_begins_in_order(app: RunningApp) -> None:
    with app.connect() as client:
        back = client.require("back")
        kinds = [kind for some in itertools.permutations(KINDS, 3) for kind in some]
        for first in range(0, len(kinds), 2 * ROUNDS):  # so few that none waits here for room: waiting calls have lanes
            ends = [begin(client, "back", kind, n) for n, kind in enumerate(kinds[first : first + 2 * ROUNDS])]
            assert back.seen().result(patient(20)) == list(range(len(ends)))
            for end in ends:
                end()


def test_handlers_of_both_kinds_begin_in_their_order_with_calls_between(app: RunningApp) -> None:
    with app.connect() as client:
        back = client.require("both")
        ends = [begin(client, "both", ("message", "task", "plain")[n % 3], n) for n in range(ROUNDS)]
        begun = back.seen().result(patient(20))
        assert begun == [n for n in range(ROUNDS) for _ in range(2 if n % 3 == 0 else 1)]
        for end in ends:
            end()


def test_a_chunk_of_a_map_does_not_overtake(app: RunningApp) -> None:
    with app.connect() as client:
        back = client.require("back")
        first = back.long(0)
        assert list(back.plain.map(range(1, 50))) == [None] * 49
        assert back.seen().result(patient(20)) == list(range(50))
        assert first.result(patient(20)) is None


def test_a_call_in_a_thread_does_not_overtake_what_runs_on_the_loop(app: RunningApp) -> None:
    with app.connect() as client:
        back = client.require("wide")
        for kind in ("task", "arows", "message", "gated"):
            for n in range(ROUNDS):  # one thread call at once: the order of two in threads is up to the threads
                first = begin(client, "wide", kind, 2 * n)
                begin(client, "wide", "plain", 2 * n + 1)()
                first()
            assert back.seen().result(patient(20)) == list(range(2 * ROUNDS))


def test_a_call_that_is_cancelled_at_once_does_not_hold_up_the_next(app: RunningApp) -> None:
    with app.connect() as client:
        back = client.require("back")
        for _ in range(ROUNDS):
            back.task(1).cancel()
            assert back.plain(2).result(patient(20)) is None
        assert back.seen().result(patient(20)).count(2) == ROUNDS
