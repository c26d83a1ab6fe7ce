"""Calls between machines: a call to a worker on another machine keeps every promise of a local call."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

import mob
from tests.patience import patient
from tests.real.cluster.machines import Nats, Node, nodes_in
from tests.running import wait_until

BACK = """
import asyncio, json, threading, time
import mob

log = []

def foo(x=0):
    "Adds one."
    return x + 1

async def afoo(x): return x + 1
def where(): return mob.me().node
def who_calls(): return mob.caller().node, mob.caller().role
def fails(x): raise ValueError(f"{x} is wrong")
def fails_in_its_way():
    class Own(LookupError): pass
    raise Own("a", 1)
def parses(): return json.loads("{")
def note(x): log.append(x)
def noted():
    taken = list(log)
    log.clear()
    return taken
def busy(seconds): time.sleep(seconds)
async def ahold(seconds):
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        log.append("cancelled")
        raise
def hold():
    while not mob.cancelled():
        time.sleep(0.001)
    log.append("cancelled")
def nested(): return third.left().result()
async def apply(f, x): return await f(x)
def apply_by_hand(f, x): return f(x).result()
async def passes_on(f, x): return await third.apply(f, x)
def gives():
    def inner(x): return x * 10, mob.me().node
    return inner
def front_once_more(x): return front.plain(x).result()

@mob.on("message")
def hear(obj): log.append(obj)

third = mob.require("third")
front = mob.require("front")
"""
THIRD = """
import asyncio, time
import mob

async def apply(f, x): return await f(x)
async def left():
    begun = time.monotonic()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return time.monotonic() - begun
log = []
@mob.on("message")
def hear(obj): log.append(obj)
def noted():
    taken = list(log)
    log.clear()
    return taken
"""
FRONT = """
import asyncio
import mob

back = mob.require("back")

async def awaits(n): return [await back.foo(i) for i in range(n)]
async def gathers(n): return await asyncio.gather(*(back.afoo(i) for i in range(n)))
def waits(n): return [back.foo(i).result() for i in range(n)]
async def who(): return await back.who_calls()
async def lends(x):
    async def twice(y): return 2 * y
    return await back.apply(twice, x), await back.passes_on(twice, x)
async def takes(x): return await (await back.gives())(x)
def sends(obj):
    mob.send(obj)
    mob.all("back").send(obj)
    mob.any("third").send(obj)
async def orders(n):
    for i in range(n):
        back.options(key=1).note(i)
    return await back.options(key=1).noted()
def plain(x): return x
def circle(): return back.options(timeout=20).front_once_more(1).result()
def keyed(keys): return [back.options(key=key).where().result() for key in keys]
"""
ROLES = '.role("back", "./back.py", workers=2).role("front", "./front.py").role("third", "./third.py")'
PLACED = {"a": {"front": 1}, "b": {"back": 2}, "c": {"third": 1}}

Three = tuple[Node, Node, Node]


@pytest.fixture(scope="module")
def three(nats: Nats, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    """The role "front" on machine a, two workers of "back" on b, "third" on c."""
    with nodes_in(tmp_path_factory.mktemp("calls")) as nodes:
        a, b, c = nodes.start(nats, ROLES, "abc", placed=PLACED, back=BACK, front=FRONT, third=THIRD)
        yield a, b, c


@pytest.fixture
def front(three: Three) -> Any:
    """The only worker of machine a."""
    return three[0].client.require("front")


@pytest.fixture
def back(three: Three) -> Any:
    """The role that runs on machine b, as a client on machine a sees it."""
    return three[0].client.require("back")


def test_a_call_goes_to_the_machine_that_has_the_role(three: Three, back: Any) -> None:
    a, b, _ = three
    assert back.foo(1).result(patient(10)) == 2
    assert back.where().result(patient(10)) == "b"
    assert a.pids("back") == []
    assert len(b.pids("back")) == 2


@pytest.mark.parametrize("way", ["awaits", "gathers", "waits"])
def test_a_mobster_calls_another_machine_in_any_way(front: Any, way: str) -> None:
    assert getattr(front, way)(100).result(patient(20)) == list(range(1, 101))


def test_a_client_awaits_far_calls(back: Any) -> None:
    async def ask() -> list[int]:
        return await asyncio.gather(*(back.foo(i) for i in range(50)))

    assert asyncio.run(ask()) == list(range(1, 51))


def test_exports_and_docs_are_known_where_the_role_does_not_run(back: Any) -> None:
    assert "foo" in dir(back)
    assert back.foo.__doc__ == "Adds one."
    with pytest.raises(mob.UnknownExport, match=r"fooo.*foo"):
        back.fooo().result(patient(10))


def test_exceptions_cross(back: Any) -> None:
    with pytest.raises(ValueError, match="7 is wrong") as caught:
        back.fails(7).result(patient(10))
    assert isinstance(caught.value, mob.RemoteError)
    assert "fails" in str(caught.value.__cause__)
    with pytest.raises(LookupError) as own:
        back.fails_in_its_way().result(patient(10))
    assert isinstance(own.value, mob.RemoteError)
    assert own.value.remote_args == ("a", 1)
    with pytest.raises(json.JSONDecodeError) as known:
        back.parses().result(patient(10))
    assert (known.value.doc, known.value.pos) == ("{", 1)


def test_arguments_that_do_not_fit_are_refused(back: Any) -> None:
    with pytest.raises(mob.ArgumentError, match="foo"):
        back.foo(1, 2, 3).result(patient(10))


class Back(Protocol):
    """Classes and stubs that a caller may declare."""

    def foo(self, x: int = 0) -> mob.Call[int]: ...


def test_a_typed_proxy_speaks_to_another_machine(three: Three) -> None:
    assert three[0].client.require("back", Back).foo(3).result(patient(10)) == 4


def test_the_callee_knows_which_machine_has_called(front: Any) -> None:
    assert front.who().result(patient(10)) == ["a", "front"]


def test_a_call_of_all_reaches_every_machine_and_names_each(three: Three) -> None:
    a, b, _ = three
    found = a.client.all("back").call.where().result(patient(10))
    assert found == {f"b:{pid}": "b" for pid in b.pids("back")}
    assert b.client.all("back").call.where().result(patient(10)) == dict.fromkeys(b.pids("back"), "b")


def test_one_worker_is_found_by_node_and_pid(three: Three) -> None:
    a, b, _ = three
    pid = b.pids("back")[1]
    assert a.client.pid(f"b:{pid}").call.where().result(patient(10)) == "b"
    assert b.client.pid(pid).call.where().result(patient(10)) == "b"
    assert b.client.pid(f"b:{pid}").call.where().result(patient(10)) == "b"
    with pytest.raises(mob.UnknownTarget, match="a:1"):
        a.client.pid("a:1").call.where().result(patient(10))
    with pytest.raises(mob.UnknownTarget):
        a.client.pid("nowhere:1").call.where().result(patient(10))


def test_messages_reach_all_machines(three: Three, front: Any) -> None:
    a, b, c = three
    front.sends("hello").result(patient(10))
    heard: dict[str, list[Any]] = {}

    def have_heard() -> bool:
        for key, words in b.client.all("back").call.noted().result(patient(10)).items():
            heard.setdefault(str(key), []).extend(words)
        heard.setdefault("third", []).extend(c.client.require("third").noted().result(patient(10)))
        return sum(map(len, heard.values())) >= 6

    wait_until(have_heard, f"all have heard: {heard}", patient(10))
    assert sorted(map(len, heard.values())) == [2, 2, 2]
    assert {word for words in heard.values() for word in words} == {"hello"}
    assert a.output.count("Traceback") == 0


def test_callbacks_are_called_from_far_at_any_depth(three: Three, front: Any) -> None:
    assert front.lends(21).result(patient(10)) == [42, 42]
    assert front.takes(4).result(patient(10)) == [40, "b"]
    calls: list[int] = []

    def outermost(x: int) -> int:
        calls.append(x)
        return x + 1

    client = three[0].client
    assert client.require("back").passes_on(outermost, 1).result(patient(10)) == 2
    assert client.require("back").apply_by_hand(outermost, 2).result(patient(10)) == 3
    assert calls == [1, 2]


def test_a_callback_made_far_away_is_called_from_here(back: Any) -> None:
    function = back.gives().result(patient(10))
    assert function(3).result(patient(10)) == [30, "b"]


def test_functions_are_freed_on_all_machines(three: Three, front: Any) -> None:
    client = three[0].client

    def own(x: int) -> int:
        return x

    assert client.require("back").passes_on(own, 1).result(patient(10)) == 1
    del own
    wait_until(
        lambda: client.statistics()["lent"] == 0 and client.statistics()["held"] == 0, "nothing is lent", patient(10)
    )


def test_a_cancelled_call_is_cancelled_far_away(back: Any) -> None:
    for name in ("ahold", "hold"):
        worker = back.options(key="cancel")
        worker.noted().result(patient(10))
        call = getattr(worker, name)(*([60] if name == "ahold" else []))
        if name == "ahold":
            worker.foo().result(patient(10))  # the order is kept: the other one has begun
            call.cancel()
        else:
            with pytest.raises(TimeoutError):
                call.result(0.2)
            call.cancel()
        assert wait_until(
            lambda worker=worker: worker.noted().result(patient(10)), f"{name} is cancelled", patient(10)
        ) == ["cancelled"]


def test_a_deadline_travels_over_two_machines(back: Any) -> None:
    begun = time.monotonic()
    with pytest.raises(mob.CallTimeout):
        back.options(timeout=0.5).nested().result(20)
    assert time.monotonic() - begun < patient(5)
    assert back.foo(1).result(patient(10)) == 2


def test_what_has_expired_on_its_way_is_not_started(back: Any) -> None:
    worker = back.options(key="expired")
    worker.noted().result(patient(10))
    blocking = worker.busy(0.5)
    late = back.options(key="expired", timeout=0.1).note("late")
    with pytest.raises(mob.CallTimeout):
        late.result(10)
    blocking.result(patient(10))
    assert worker.noted().result(patient(10)) == []


def test_calls_of_a_pair_arrive_in_order(front: Any) -> None:
    assert front.orders(2000).result(patient(30)) == list(range(2000))


def test_a_circle_over_machines_is_noticed_not_waited_for(front: Any) -> None:
    with pytest.raises(mob.Deadlock):
        front.circle().result(patient(15))


def test_a_call_without_end_does_not_outlive_its_caller(three: Three) -> None:
    b = three[1]
    with mob.connect(three[0].name) as client:
        worker = client.require("back").options(key="left")
        worker.noted().result(patient(10))
        worker.ahold(60)
        worker.foo().result(patient(10))
    own = b.client.require("back").options(key="left")
    assert wait_until(lambda: own.noted().result(patient(10)), "the call is cancelled", patient(10)) == ["cancelled"]


def _under_way(node: Node) -> dict[str, int]:
    sizes = node.client.statistics()
    return {name: size for name, size in sizes.items() if size and name not in ("links", "served")}


def test_the_tables_are_empty_afterwards(three: Three) -> None:
    for node in three:
        wait_until(
            lambda node=node: not _under_way(node),
            f"{node.node} has nothing under way: {_under_way(node)}",
            patient(10),
        )
