"""`callers=`: which processes may call a role, and send to it."""

from __future__ import annotations

import pytest

import mob
from mob import plan
from tests.patience import patient
from tests.running import Apps, wait_until

BACK = """
import mob
seen = []
def foo(x): return x + 1
def heard(): return list(seen)
def lend(): return lambda x: x * 2
def count(n): yield from range(n)
@mob.on("message")
def note(obj): seen.append(obj)
"""
CALLING = """
import mob
back = mob.require("back")
async def ask(x): return await back.foo(x)
async def heard(): return await back.heard()
async def stream(): return [n async for n in back.count(3)]
async def all_of_it(x): return await mob.all("back").call.foo(x)
def say(obj): mob.any("back").send(obj)
async def borrow(): return await (await back.lend())(21)
async def apply(f, x): return await f(x)
"""


@pytest.fixture
def client(apps: Apps) -> mob.Client:
    app = apps.start(
        '.role("back", "./back.py", callers=["front"]).role("front", "./calling.py").role("side", "./calling.py")'
        '.role("open", "./calling.py", callers=["client"])',
        back=BACK,
        calling=CALLING,
    )
    client = app.wait_ready()
    client.running = app  # type: ignore[attr-defined]
    return client


def test_who_may_call_and_who_may_not(client: mob.Client) -> None:
    front, side = client.require("front"), client.require("side")
    assert front.ask(1).result(patient(10)) == 2
    assert front.stream().result(patient(10)) == [0, 1, 2]
    for refused in (side.ask(1), side.stream(), side.all_of_it(1)):
        with pytest.raises(mob.CallError, match=r"side\.0 \(pid \d+\) may not call back\.\w+: the role 'back' allows"):
            refused.result(patient(10))
    with pytest.raises(mob.Forbidden) as caught:
        client.require("back").foo(1).result(patient(10))
    assert caught.value.executed == "no"
    assert isinstance(caught.value, PermissionError)
    assert str(caught.value).endswith("may not call back.foo: the role 'back' allows callers=['front'] only.")
    assert client.require("open").ask(1).exception(patient(10)) is not None  # it may be called, and may not call on


def test_messages_of_others_are_dropped_and_told_of_once(client: mob.Client) -> None:
    front, side = client.require("front"), client.require("side")
    for number in range(3):
        side.say(number).result(patient(10))
        client.any("back").send(number)
    assert side.ask(1).exception(patient(10)) is not None  # on the same link, so earlier messages were handled
    front.say("hello").result(patient(10))
    wait_until(lambda: front.heard().result(patient(10)) == ["hello"], "the only message is heard")
    app = client.running  # type: ignore[attr-defined]
    app.wait_for(r"messages of side\.0 \(pid \d+\) are dropped: the role 'back' allows callers=")
    app.wait_for(r"messages of client \(pid \d+\) are dropped")
    assert app.output.count("are dropped") == 2


def test_a_lent_function_is_a_permission(client: mob.Client) -> None:
    assert client.require("front").borrow().result(patient(10)) == 42
    assert client.require("open").apply(lambda x: x + 1, 1).result(patient(10)) == 2


def test_a_misspelled_name_is_told() -> None:
    roles = (plan.RolePlan("back", "back", callers=("fornt",)), plan.RolePlan("front", "front"))
    with pytest.raises(mob.PlanError) as caught:
        plan.check_limits(plan.Plan("myapp", "/", roles))
    assert str(caught.value) == "role 'back': callers='fornt' is neither a role nor 'client'. Did you mean 'front'?"
