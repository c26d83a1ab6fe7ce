"""Functions that cross between real processes: called there, passed on, passed back, and freed at both ends."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import operator
import os
import signal
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

import mob
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

CALLBACKS = int(os.environ.get("MOB_TEST_CALLBACKS", "100000"))
"""Number of functions that are passed and never called; a million for the full measurement."""
BATCH = 500
ROLES = ("front", "back", "third", "doomed", "pool")
MIB = 1024 * 1024

MEMBER = """
import asyncio
import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import mob
from mob.mobster import api

front = mob.require("front")
back = mob.require("back")
third = mob.require("third")
kept = []
there = []

@dataclasses.dataclass
class Job:
    name: str
    on_done: Callable[..., Any]
    hooks: list[Callable[..., Any]]

@mob.on("message")
def answer(obj):
    obj["reply"](mob.me().pid)

def ask_who_is_there():
    mob.send({"reply": there.append})

def who_is_there():
    return there

def tables():
    all = api.current("tables").statistics()
    return {name: all[name] for name in ("lent", "held")}

def take(*functions):
    pass

def keep(f):
    kept.append(f)

def forget():
    kept.clear()

def links():
    return api.current("links").statistics()["links"]

def known_pids():
    return [member.pid for member in api.current("known_pids").context.roster]

def call_kept(*args):
    return kept[-1](*args).result()

def try_kept():
    call = kept[-1]()
    try:
        return call.result()
    except mob.CallError as error:
        return [type(error).__name__, error.executed]

async def call_with(f, *args, **named):
    return await f(*args, **named)

def call_by_result(f, *args):
    return f(*args).result()

async def call_times(f, count):
    return [await f(n) for n in range(count)]

async def call_at_once(f, count):
    return await asyncio.gather(*(f(n) for n in range(count)))

def report(f, count):
    for n in range(count):
        f(n)                           # not waited for

async def call_deep(structure):
    return [await structure["a"][0](1), await structure["b"]["c"][1][0](2)]

async def run_job(job: Job):
    return [await job.on_done(job.name), *[await hook() for hook in job.hooks]]

def show(f):
    return repr(f)

def give_back(f):
    return f

async def give_back_by_third(f):
    return await third.give_back(f)

async def let_third_call(f, count):
    return await third.call_times(f, count)

async def let_third_keep(f):
    await third.keep(f)

def make_counter():
    count = 0
    def step(by=1):
        nonlocal count
        count += by
        return count
    return step

told, waiting = threading.Event(), threading.Event()

def make_counter_when_told():
    waiting.set()
    told.wait(20)
    waiting.clear()
    return make_counter()

def tell():
    told.set()

def is_waiting():
    return waiting.is_set()

def lend_to_back():
    back.keep(lambda: "alive").result()

def callback_while_blocking(n):
    seen = []
    def callback(m):
        seen.append(m)
        return m + 1
    return [back.call_by_result(callback, n).result(), seen]

def nested_callbacks_while_blocking(n):
    def inner(m):
        return m * 2
    def outer(f):
        return f(n).result() + 1       # back, which waits for `outer`, runs its own callback for us
    return back.call_with_own_callback(outer).result()

def call_with_own_callback(f):
    return f(lambda m: m * 10).result()

async def be_teased():
    return await back.tease(lambda: "called")

def tease(f):
    front.block_on_back()              # no one waits for this one
    return f().result(10)

def block_on_back():
    back.double(1).result(10)          # back is busy with `tease`, and serves this when it is through

async def callback_while_awaiting(n):
    async def callback(m):
        return await back.double(m)    # calls the one that waits for it
    return await back.call_with(callback, n)

def double(n):
    return 2 * n

def who_called_before_and_after(f):
    before = mob.caller()
    f().result()
    return before == mob.caller()

def callbacks_of_back_while_serving():
    before = mob.caller()
    back.call_by_result(lambda: None).result()
    return before == mob.caller()

async def pour(count, batch):
    for start in range(0, count, batch):
        await back.take(*[lambda n=n: n for n in range(start, start + batch)])
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("callbacks")) as apps:
        roles = [f'.role("{role}", "./member.py", threads={2 if role == "pool" else 1})' for role in ROLES]
        app = apps.start("".join(roles), member=MEMBER)
        app.wait_ready()
        yield app


@pytest.fixture(scope="module")
def client(app: RunningApp) -> mob.Client:
    return app.clients[0]


@pytest.fixture(scope="module")
def front(client: mob.Client) -> mob.Proxy:
    return client.require("front")


@pytest.fixture(scope="module")
def back(client: mob.Client) -> mob.Proxy:
    return client.require("back")


@pytest.fixture
def tables(client: mob.Client) -> Callable[[], list[dict[str, int]]]:
    """Ask the client and every mobster how many functions they have lent and hold."""

    def ask() -> list[dict[str, int]]:
        own = client.statistics()
        return [{name: own[name] for name in ("lent", "held")}] + [
            client.require(role).tables().result(patient(20)) for role in ROLES
        ]

    return ask


@pytest.fixture(autouse=True)
def nothing_leaks(client: mob.Client, tables: Callable[[], list[dict[str, int]]]) -> Iterator[None]:
    """After every test the tables of all processes are no longer than before."""
    before = tables()
    yield
    for role in ROLES:
        client.require(role).forget().result(patient(20))
    gc.collect()

    def grown() -> list[str]:
        now = zip(("client", *ROLES), before, tables(), strict=True)
        return [f"{who}: {old} -> {new}" for who, old, new in now if any(new[name] > old[name] for name in new)]

    with contextlib.suppress(AssertionError):  # the tables themselves say more
        wait_until(lambda: not grown(), "all functions are freed", patience=3)
    assert grown() == []


# -- calling -----------------------------------------------------------------------------------------------------------


def test_a_function_is_called_many_times(back: mob.Proxy) -> None:
    assert back.call_times(lambda n: n * n, 100).result(patient(20)) == [n * n for n in range(100)]


def test_a_function_is_called_many_times_at_once(back: mob.Proxy) -> None:
    async def slow_square(n: int) -> int:
        await asyncio.sleep(0.01)
        return n * n

    assert back.call_at_once(slow_square, 50).result(patient(20)) == [n * n for n in range(50)]


def test_a_function_that_nobody_waits_for_is_called_in_order(back: mob.Proxy) -> None:
    seen: list[int] = []
    back.report(seen.append, 100).result(patient(20))
    wait_until(lambda: len(seen) == 100, "all reports are in", patience=patient(10))
    assert seen == list(range(100))


class Greeter:
    def __init__(self, word: str) -> None:
        self.word = word

    def greet(self, name: str, mark: str = "") -> str:
        return f"{self.word} {name}{mark}"

    def __call__(self, name: str) -> str:
        return self.greet(name, "!")


@pytest.mark.parametrize(
    "function",
    [
        lambda name: f"hello {name}",
        Greeter("hello").greet,
        functools.partial(Greeter("hello").greet, mark=""),
        functools.partial(operator.add, "hello "),
        "hello ".__add__,
    ],
    ids=["lambda", "bound method", "partial", "partial of a builtin", "method of a builtin"],
)
def test_many_kinds_of_functions_cross(function: Callable[[str], str], back: mob.Proxy) -> None:
    assert back.call_with(function, "world").result(patient(20)) == "hello world"


def test_a_callable_object_crosses(back: mob.Proxy) -> None:
    assert back.call_with(Greeter("hello"), "world").result(patient(20)) == "hello world!"


def test_a_function_takes_named_arguments(back: mob.Proxy) -> None:
    assert back.call_with(Greeter("hello").greet, "world", mark="?").result(patient(20)) == "hello world?"


def test_functions_cross_in_lists_and_dicts(back: mob.Proxy) -> None:
    structure = {"a": [lambda n: n + 1], "b": {"c": [0, [lambda n: n * 10]]}}
    assert back.call_deep(structure).result(patient(20)) == [2, 20]


@dataclasses.dataclass
class Job:
    name: str
    on_done: Callable[..., Any]
    hooks: list[Callable[..., Any]]


def test_functions_cross_in_fields_of_a_dataclass(back: mob.Proxy) -> None:
    job = Job("build", lambda name: f"{name} is done", [lambda: 1, lambda: 2])
    assert back.run_job(job).result(patient(20)) == ["build is done", 1, 2]


def test_functions_cross_in_messages(app: RunningApp, client: mob.Client) -> None:
    answers: list[int] = []
    client.send({"reply": answers.append})
    pids = {member.pid for member in app.ready(client)}
    wait_until(lambda: set(answers) == pids, "all have answered", patience=patient(10))
    assert len(answers) == len(pids)


def test_a_function_in_a_message_to_all_comes_home_to_its_sender_too(
    app: RunningApp, client: mob.Client, front: mob.Proxy
) -> None:
    front.ask_who_is_there().result(patient(20))
    pids = {member.pid for member in app.ready(client)}
    wait_until(lambda: set(front.who_is_there().result(patient(20))) == pids, "all have answered", patience=patient(10))
    assert len(front.who_is_there().result(patient(20))) == len(pids)


def test_a_function_in_a_result_is_called_here(back: mob.Proxy) -> None:
    step = back.make_counter().result(patient(20))
    assert [step().result(patient(20)), step(by=5).result(patient(20)), step(1).result(patient(20))] == [1, 6, 7]


def test_a_remote_function_shows_where_it_lives(app: RunningApp, client: mob.Client, back: mob.Proxy) -> None:
    (member,) = app.ready(client, "back")
    assert f"of back.0 (pid {member.pid})>" in repr(back.make_counter().result(patient(20)))
    assert f"of client (pid {os.getpid()})>" in back.show(print).result(patient(20))


def test_what_a_callback_raises_arrives_at_the_one_who_called_it(back: mob.Proxy) -> None:
    def fail(n: int) -> None:
        raise KeyError("no such thing")

    with pytest.raises(KeyError) as caught:
        back.call_with(fail, 1).result(patient(20))
    assert isinstance(caught.value, mob.RemoteError)
    assert caught.value.type_name == "KeyError"
    assert "in fail" in str(caught.value.__cause__)


# -- while the owner waits ---------------------------------------------------------------------------------------------


def test_a_callback_runs_while_its_owner_blocks_in_result(front: mob.Proxy) -> None:
    assert front.callback_while_blocking(41).result(patient(20)) == [42, [41]]


def test_callbacks_run_at_both_ends_while_both_block_in_result(front: mob.Proxy) -> None:
    assert front.nested_callbacks_while_blocking(4).result(patient(20)) == 41


def test_a_callback_calls_the_one_that_awaits_it(front: mob.Proxy) -> None:
    assert front.callback_while_awaiting(21).result(patient(20)) == 42


def test_a_callback_that_waits_behind_a_blocking_export_runs(front: mob.Proxy) -> None:
    """Both arrive in one frame, the export first; it blocks until the one that waits for the other has run."""
    assert front.be_teased().result(patient(20)) == "called"


def test_the_caller_is_the_same_after_a_callback_as_before(front: mob.Proxy) -> None:
    assert front.who_called_before_and_after(lambda: None).result(patient(20))


def test_the_caller_is_the_same_after_serving_a_callback_in_between(front: mob.Proxy) -> None:
    assert front.callbacks_of_back_while_serving().result(patient(20))


# -- passing on --------------------------------------------------------------------------------------------------------


def test_a_function_is_passed_on_and_called_there(back: mob.Proxy) -> None:
    assert back.let_third_call(lambda n: n + 1, 3).result(patient(20)) == [1, 2, 3]


def test_a_function_lives_on_where_it_was_passed_to(client: mob.Client, back: mob.Proxy) -> None:
    held = back.tables().result(patient(20))["held"]
    back.let_third_keep(lambda: "still here").result(patient(20))
    wait_until(lambda: back.tables().result(patient(20))["held"] == held, "back no longer holds it")
    assert client.require("third").call_kept().result(patient(20)) == "still here"


def test_a_function_passed_home_is_the_function_itself(back: mob.Proxy) -> None:
    def function() -> None: ...

    method = Greeter("hello").greet
    assert back.give_back(function).result(patient(20)) is function
    assert back.give_back(method).result(patient(20)) == method
    assert back.give_back([function, method]).result(patient(20)) == [function, method]


def test_a_function_passed_home_by_a_third_is_the_function_itself(back: mob.Proxy) -> None:
    def function() -> None: ...

    assert back.give_back_by_third(function).result(patient(20)) is function


# -- freeing -----------------------------------------------------------------------------------------------------------


def test_a_function_is_held_as_long_as_somebody_keeps_it(client: mob.Client, back: mob.Proxy) -> None:
    def function() -> str:
        return "kept"

    gone = weakref.ref(function)
    lent, held = client.statistics()["lent"], back.tables().result(patient(20))["held"]
    back.keep(function).result(patient(20))
    del function
    gc.collect()
    assert client.statistics()["lent"] == lent + 1
    assert back.tables().result(patient(20))["held"] == held + 1
    assert back.call_kept().result(patient(20)) == "kept"
    back.forget().result(patient(20))
    wait_until(lambda: client.statistics()["lent"] == lent, "it is freed")
    wait_until(lambda: gc.collect() >= 0 and gone() is None, "it is collected")


def test_functions_of_a_refused_call_are_freed(back: mob.Proxy) -> None:
    with pytest.raises(mob.ArgumentError):
        back.keep(lambda: None, lambda: None).result(patient(20))


def test_functions_of_a_call_that_finds_no_worker_are_freed(client: mob.Client, back: mob.Proxy) -> None:
    with pytest.raises(mob.UnknownTarget):
        back.options(pid=1).take(lambda: None)


def test_a_function_that_a_dead_process_has_held_is_freed(app: RunningApp, client: mob.Client) -> None:
    lent = client.statistics()["lent"]
    client.require("doomed").keep(lambda: None).result(patient(20))
    assert client.statistics()["lent"] == lent + 1
    kill(app, "doomed")
    wait_until(lambda: client.statistics()["lent"] == lent, "it is freed")


def test_a_function_in_a_result_is_freed_when_its_caller_has_gone(app: RunningApp, client: mob.Client) -> None:
    pool = client.require("pool")
    links = pool.links().result(patient(20))
    with mob.connect(app.name) as other:
        other.require("pool").make_counter_when_told()
        wait_until(lambda: pool.is_waiting().result(patient(20)), "the call has begun")
    wait_until(lambda: pool.links().result(patient(20)) == links, "the link to its caller has ended")
    pool.tell().result(patient(20))
    wait_until(lambda: not pool.is_waiting().result(patient(20)), "the call has ended")


def test_a_function_of_a_dead_process_is_lost(app: RunningApp, client: mob.Client, back: mob.Proxy) -> None:
    client.require("doomed").lend_to_back().result(patient(20))
    assert back.try_kept().result(patient(20)) == "alive"
    dead = kill(app, "doomed")
    wait_until(lambda: dead not in back.known_pids().result(patient(20)), "back knows of the death")
    assert back.try_kept().result(patient(20)) == ["Lost", "no"]


def test_a_function_called_in_the_moment_of_its_owners_death_is_lost(
    app: RunningApp, client: mob.Client, back: mob.Proxy
) -> None:
    client.require("doomed").lend_to_back().result(patient(20))
    links = back.links().result(patient(20))
    with news_held_up(client):
        os.kill(pid_of(app, "doomed"), signal.SIGKILL)
        wait_until(lambda: back.links().result(patient(20)) < links, "back sees that the link has ended")
        call = back.try_kept()
    assert call.result(patient(20)) == ["Lost", "no"]


def test_a_function_in_a_call_that_goes_to_the_successor_instead_can_be_called(
    app: RunningApp, client: mob.Client
) -> None:
    doomed = client.require("doomed")
    doomed.double(1).result(patient(20))
    links = client.statistics()["links"]
    with news_held_up(client):
        os.kill(pid_of(app, "doomed"), signal.SIGKILL)
        wait_until(lambda: client.statistics()["links"] < links, "the client sees that the link has ended")
        call = doomed.call_times(lambda n: n + 1, 3)
    assert call.result(patient(20)) == [1, 2, 3]


def test_functions_that_are_never_called_leave_no_memory(app: RunningApp, client: mob.Client, front: mob.Proxy) -> None:
    processes = [psutil.Process(pid_of(app, role)) for role in ("front", "back")]
    front.pour(20_000, BATCH).result(patient(60))
    before = [process.memory_info().rss for process in processes]
    front.pour(CALLBACKS, BATCH).result(patient(600))
    growth = [process.memory_info().rss - rss for process, rss in zip(processes, before, strict=True)]
    assert max(growth) < 3 * MIB, f"front and back have grown by {growth} bytes"


def pid_of(app: RunningApp, role: str) -> int:
    """Return the pid of the only worker of a role, once it is ready."""
    (member,) = wait_until(lambda: app.ready(app.clients[0], role), f"{role} is ready")
    return int(member.pid)


def kill(app: RunningApp, role: str) -> int:
    """Kill the only worker of a role, wait for its successor, and return the pid of that."""
    pid = pid_of(app, role)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid_of(app, role) != pid, f"the successor of {role} is ready")
    return pid


@contextlib.contextmanager
def news_held_up(client: mob.Client) -> Iterator[None]:
    """Hold back the Kingpin's news of deaths, so that only broken links show them."""
    os.kill(client.kingpin_pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(client.kingpin_pid, signal.SIGCONT)
