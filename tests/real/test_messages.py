"""Messages between real processes: which get them, in which order, and which events follow."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import mob
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

MEMBER = """
import asyncio
import mob

heard = []
numbers = []
events = []

@mob.on("message")
def hear(obj):
    caller = mob.caller()
    heard.append(["def", obj, caller.role, caller.pid])

async def hear_async(obj):
    await asyncio.sleep(0)
    caller = mob.caller()
    heard.append(["async def", obj, caller.role, caller.pid])

mob.on("message", hear_async)

@mob.on("message")
def count(obj):
    if isinstance(obj, list):
        number(*obj)

@mob.on("message")
def stumble(obj):
    if obj == "stumble":
        raise ValueError("over a stone")

@mob.on("join")
def see_join(member):
    events.append(["join", member.role, member.index, member.pid, member.generation])

@mob.on("leave")
async def see_leave(member):
    events.append(["leave", member.role, member.index, member.pid, member.generation])

def what_was_heard(obj):
    return [entry for entry in heard if entry[1] == obj]

def what_was_seen():
    return events

def number(sender, n):
    numbers.append([sender, n])

def numbers_of(sender):
    return [n for name, n in numbers if name == sender]

def shout(obj):
    mob.send(obj)

def tell_all(role, obj):
    mob.all(role).send(obj)

def tell_any(role, obj):
    mob.any(role).send(obj)

def tell_pid(pid, obj):
    mob.pid(pid).send(obj)

def who():
    return mob.me().pid

def triple(n, *, extra=0):
    return 3 * n + extra

def fail_in_the_second():
    if mob.me().index == 1:
        raise ValueError("I am the second")
    return "fine"

async def ask_all(role, n):
    return await mob.all(role).call.triple(n)

def ask_all_by_result(role, n):
    return mob.all(role).call.triple(n).result()

async def pour(pid, sender, count):
    target, calls = mob.pid(pid), []
    for n in range(count):
        if n % 3:
            target.send([sender, n])
        else:
            calls.append(target.call.number(sender, n))
        if n % 100 == 0:
            await asyncio.sleep(0)     # some in one turn of the loop, some in the next
    await asyncio.gather(*calls)

def pour_by_hand(pid, sender, count):
    target = mob.pid(pid)
    for n in range(count):
        if n % 50 == 0:
            target.call.number(sender, n).result()
        elif n % 3:
            target.send([sender, n])
        else:
            target.call.number(sender, n)
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("messages")) as apps:
        workers = {"red": 2, "blue": 1, "mayfly": 2}
        roles = "".join(f'.role("{role}", "./member.py", workers={count})' for role, count in workers.items())
        app = apps.start(roles, member=MEMBER)
        app.wait_ready()
        yield app


@pytest.fixture(scope="module")
def client(app: RunningApp) -> mob.Client:
    return app.clients[0]


def pids(app: RunningApp, role: str = "") -> list[int]:
    return [member.pid for member in app.ready(app.clients[0], role)]


def heard(client: mob.Client, pid: int, obj: Any) -> list[Any]:
    return client.pid(pid).call.what_was_heard(obj).result(patient(20))


def wait_heard(client: mob.Client, pid: int, obj: Any) -> list[Any]:
    """Wait until both handlers received it; return what they noted, always in the same order."""
    wait_until(lambda: len(heard(client, pid, obj)) >= 2, f"{pid} received {obj!r}")
    return sorted(heard(client, pid, obj), reverse=True)


# -- which processes get a message -------------------------------------------------------------------------------------


def test_send_reaches_every_mobster_once_the_sender_too(app: RunningApp, client: mob.Client) -> None:
    sender = pids(app, "red")[0]
    client.pid(sender).call.shout("to everybody").result(patient(20))
    for pid in pids(app):
        assert wait_heard(client, pid, "to everybody") == [
            ["def", "to everybody", "red", sender],
            ["async def", "to everybody", "red", sender],
        ]


def test_all_reaches_every_worker_of_the_role_and_nobody_else(app: RunningApp, client: mob.Client) -> None:
    (blue,) = pids(app, "blue")
    client.pid(blue).call.tell_all("red", "to the reds").result(patient(20))
    for pid in pids(app, "red"):
        assert [entry[2:] for entry in wait_heard(client, pid, "to the reds")] == [["blue", blue]] * 2
    assert heard(client, blue, "to the reds") == []


def test_all_of_the_own_role_includes_the_sender(app: RunningApp, client: mob.Client) -> None:
    sender = pids(app, "red")[1]
    client.pid(sender).call.tell_all("red", "among us").result(patient(20))
    for pid in pids(app, "red"):
        assert len(wait_heard(client, pid, "among us")) == 2


def test_any_reaches_one_worker_of_the_role(app: RunningApp, client: mob.Client) -> None:
    (blue,) = pids(app, "blue")
    for n in range(6):
        client.pid(blue).call.tell_any("red", ["any", n]).result(patient(20))

    def counts() -> list[int]:
        return [len(client.pid(pid).call.numbers_of("any").result(patient(20))) for pid in pids(app, "red")]

    wait_until(lambda: sum(counts()) == 6, "all six have arrived")
    assert min(counts()) > 0  # and not all at the same one


def test_pid_reaches_one_process(app: RunningApp, client: mob.Client) -> None:
    first, second = pids(app, "red")
    client.pid(second).call.tell_pid(first, "to you").result(patient(20))
    assert [entry[2:] for entry in wait_heard(client, first, "to you")] == [["red", second]] * 2
    assert heard(client, second, "to you") == []


def test_a_client_sends_like_a_mobster(app: RunningApp, client: mob.Client) -> None:
    client.send("from outside")
    client.all("red").send("from outside to the reds")
    for pid in pids(app):
        assert [entry[2:] for entry in wait_heard(client, pid, "from outside")] == [["", os.getpid()]] * 2
    for pid in pids(app, "red"):
        assert len(wait_heard(client, pid, "from outside to the reds")) == 2


def test_an_unknown_pid_is_refused(client: mob.Client) -> None:
    with pytest.raises(mob.UnknownTarget, match="no ready worker has the pid 1"):
        client.pid(1).send("hello?")
    with pytest.raises(mob.UnknownTarget, match="no ready worker has the pid 1"):
        client.pid(1).call.who()


def test_an_unknown_role_is_refused(client: mob.Client) -> None:
    with pytest.raises(mob.UnknownRole, match=r"Did you mean 'red'\?"):
        client.all("rad")
    with pytest.raises(mob.UnknownRole, match=r"Did you mean 'blue'\?"):
        client.any("bleu")


def test_a_message_that_cannot_be_sent_raises_in_the_sender(client: mob.Client) -> None:
    with pytest.raises(mob.BadMessage) as caught:
        client.send({"lock": threading.Lock()})
    assert caught.value.where == "message['lock']"


def test_a_handler_that_raises_is_logged_and_the_others_run(app: RunningApp, client: mob.Client) -> None:
    (blue,) = pids(app, "blue")
    client.pid(blue).send("stumble")
    assert len(wait_heard(client, blue, "stumble")) == 2
    app.wait_for(r"blue\.0 \d+ \| a handler of 'message' raised")
    app.wait_for(r"blue\.0 \d+ \| ValueError: over a stone")


# -- order -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["pour", "pour_by_hand"])
def test_messages_and_calls_of_a_mobster_arrive_in_the_order_sent(
    way: str, app: RunningApp, client: mob.Client
) -> None:
    (blue,) = pids(app, "blue")
    numbers = client.pid(blue).call.numbers_of
    pours = [getattr(client.pid(pid).call, way)(blue, f"{way} {pid}", 1000) for pid in pids(app, "red")]
    for pour in pours:
        pour.result(patient(20))
    for pid in pids(app, "red"):
        wait_until(lambda sender=f"{way} {pid}": len(numbers(sender).result(patient(20))) == 1000, "all have arrived")
        assert numbers(f"{way} {pid}").result(patient(20)) == list(range(1000))


def test_messages_and_calls_of_a_thread_outside_arrive_in_the_order_sent(app: RunningApp, client: mob.Client) -> None:
    (blue,) = pids(app, "blue")
    target = client.pid(blue)

    def pour(sender: str) -> None:
        for n in range(1000):
            if n % 3:
                target.send([sender, n])
            else:
                target.call.number(sender, n)

    senders = [f"thread {n}" for n in range(3)]
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(pour, senders))
    for sender in senders:
        assert target.call.numbers_of(sender).result(patient(20)) == list(
            range(1000)
        )  # the question arrives in order as well


# -- calls on targets --------------------------------------------------------------------------------------------------


def test_a_call_on_all_brings_a_value_from_each_pid(app: RunningApp, client: mob.Client) -> None:
    assert client.all("red").call.triple(2).result(patient(20)) == dict.fromkeys(pids(app, "red"), 6)
    assert client.all("red").call.triple(2, extra=1).result(patient(20)) == dict.fromkeys(pids(app, "red"), 7)


@pytest.mark.parametrize("way", ["ask_all", "ask_all_by_result"])
def test_a_mobster_calls_all_of_a_role(way: str, app: RunningApp, client: mob.Client) -> None:
    (blue,) = pids(app, "blue")
    ask = getattr(client.pid(blue).call, way)
    assert ask("red", 2).result(patient(20)) == dict.fromkeys(pids(app, "red"), 6)


def test_a_mobster_calls_all_of_its_own_role(app: RunningApp, client: mob.Client) -> None:
    one = client.pid(pids(app, "red")[0])
    assert one.call.ask_all("red", 2).result(patient(20)) == dict.fromkeys(pids(app, "red"), 6)


def test_a_call_on_all_that_fails_somewhere_brings_values_and_errors(app: RunningApp, client: mob.Client) -> None:
    first, second = pids(app, "red")
    with pytest.raises(mob.PartialFailure, match=r"red\.fail_in_the_second failed in 1 of 2 workers") as caught:
        client.all("red").call.fail_in_the_second().result(patient(20))
    assert caught.value.results == {first: "fine"}
    assert list(caught.value.errors) == [second]
    assert isinstance(caught.value.errors[second], ValueError)


def test_a_call_on_any_and_on_a_pid(app: RunningApp, client: mob.Client) -> None:
    assert {client.any("red").call.who().result(patient(20)) for _ in range(6)} == set(pids(app, "red"))
    for pid in pids(app):
        assert client.pid(pid).call.who().result(patient(20)) == pid


# -- events ------------------------------------------------------------------------------------------------------------


def test_the_others_see_a_death_and_the_successor(app: RunningApp, client: mob.Client) -> None:
    seen_outside: list[tuple[str, int]] = []
    client.on("leave", lambda member: seen_outside.append(("leave", member.pid)))
    client.on("join", lambda member: seen_outside.append(("join", member.pid)))
    doomed, other = app.ready(client, "mayfly")
    (blue,) = pids(app, "blue")
    os.kill(doomed.pid, signal.SIGKILL)

    def successor() -> int:
        seen = client.pid(blue).call.what_was_seen().result(patient(20))
        return next((e[3] for e in seen if e[0] == "join" and e[1:3] == ["mayfly", 0] and e[4] == 2), 0)

    pid = wait_until(successor, "blue has seen the successor")
    seen = client.pid(blue).call.what_was_seen().result(patient(20))
    assert seen.index(["leave", "mayfly", 0, doomed.pid, 1]) < seen.index(["join", "mayfly", 0, pid, 2])
    assert all(entry[3] != other.pid for entry in seen if entry[0] == "leave")
    wait_until(lambda: seen_outside == [("leave", doomed.pid), ("join", pid)], "the client has seen both")


def test_an_unknown_event_is_refused(client: mob.Client) -> None:
    with pytest.raises(ValueError, match=r"no event 'mesage'\. Did you mean 'message'\?"):
        client.on("mesage", print)
