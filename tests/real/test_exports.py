"""Exports and proxies between real processes: what may be called, from where, and what comes back."""

from __future__ import annotations

import asyncio
import logging
import os
import pydoc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import mob
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

BACK = '''
import asyncio
import threading
import mob
from mob.mobster import api
from os.path import join

front = mob.require("front")      # front requires back as well: no boot order
notes = []
LIMIT = 3

class Tool(threading.local):
    """Its base is defined elsewhere, so it is not exported."""

class OwnError(LookupError):
    pass

class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("I have no text")

tool = Tool()

def add(a, b=2):
    """Add b to a.

    A second paragraph.
    """
    return a + b

async def aadd(a, b=2):
    return a + b

def echo(*values, **named):
    return [*values, named] if named else values[0] if len(values) == 1 else list(values)

def typed(count: int, names: list[str] = []):
    return count, names

def boom():
    raise ValueError("bad thing")

async def aboom():
    raise OwnError("nothing there", 42)

def unprintable():
    raise Unprintable

def lock():
    return threading.Lock()

def note(text):
    notes.append(text)

def noted():
    return notes

def in_hand():
    return api.current("in_hand").statistics()["in_hand"]

async def hang(name):
    notes.append(f"{name} started")
    try:
        await asyncio.Event().wait()
    finally:
        notes.append(f"{name} ended")

def who_calls():
    caller = mob.caller()
    return caller.role, caller.index, caller.pid, caller.generation

async def who_calls_async():
    await asyncio.sleep(0)
    return who_calls()

def who_are_you():
    me = mob.me()
    return me.app, me.role, me.index, me.pid, me.generation

async def name_of_front():
    return await front.name()

def ask_myself():
    return mob.require("back").add(1).result(5)

async def call_myself():
    me = mob.require("back")
    return [await me.add(1), await asyncio.to_thread(lambda: me.add(2).result(5))]

def _private():
    pass
'''

FRONT = """
import asyncio
import threading
import mob

back = mob.require("back")

def name():
    return "front"

def by_result(a, b):
    return back.add(a, b).result()

async def by_await(a, b):
    return await back.add(a, b)

async def by_result_in_async(a, b):
    return back.add(a, b).result()

async def by_await_on_another_loop(a, b):
    async def ask():
        return await back.add(a, b)
    return await asyncio.to_thread(asyncio.run, ask())

async def by_result_in_a_thread(a, b):
    return await asyncio.to_thread(lambda: back.add(a, b).result())

async def by_many_at_once(a, b):
    results = await asyncio.gather(*(back.add(a, b) for _ in range(50)))
    assert len(set(results)) == 1
    return results[0]

async def by_many_threads(a, b):
    results = await asyncio.gather(*(by_result_in_a_thread(a, b) for _ in range(20)))
    assert len(set(results)) == 1
    return results[0]

def who_do_i_look_like():
    return back.who_calls().result()

def tell(text):
    back.note(text)

def fire_and_fail():
    back.boom()

def add(a, b=2):
    return by_result(a, b)
"""

POOL = """
import threading
import mob

back = mob.require("back")
meeting = threading.Barrier(2)

def meet(a, b):
    meeting.wait(20)
    return back.add(a, b).result()
"""

LATE = """
with open("late.fifo") as fifo:        # blocks until somebody writes
    word = fifo.read()

def what_was_written():
    return word
"""

NEVER = 'open("never.fifo")'

SERVER = """
import threading
import mob

back = mob.require("back")

def sum_at_import():
    return total

total = back.add(20, 1).result()
mob.ready()

def defined_after_ready():
    return "defined later"

threading.Event().wait()               # as a server does: for ever
"""

LISTED = """
from os.path import basename
__all__ = ["_hidden", "basename", "CONSTANT", "Thing"]
CONSTANT = 1

class Thing:
    pass

def _hidden():
    return "listed"

def unlisted():
    pass
"""

MARKED = """
import mob
__all__ = ["unmarked"]

@mob.export
def _bare():
    return "bare"

@mob.export(timeout=5)
async def with_options():
    return "with options"

def unmarked():
    pass
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    directory = tmp_path_factory.mktemp("exports")
    for name in ("late.fifo", "never.fifo"):
        os.mkfifo(directory / name)
    with apps_in(directory) as apps:
        app = apps.start(
            """\\
            .role("front", "./front.py")\\
            .role("back", "./back.py")\\
            .role("twins", "./back.py", workers=2)\\
            .role("pool", "./pool.py", threads=2)\\
            .role("late", "./late.py")\\
            .role("never", "./never.py")\\
            .role("server", "./server.py")\\
            .role("listed", "./listed.py")\\
            .role("marked", "./marked.py")
            """.strip(),
            back=BACK,
            front=FRONT,
            pool=POOL,
            late=LATE,
            never=NEVER,
            server=SERVER,
            listed=LISTED,
            marked=MARKED,
        )
        app.wait_ready(8)  # all except the two that wait for input
        yield app


@pytest.fixture(scope="module")
def client(app: RunningApp) -> mob.Client:
    return app.clients[0]


@pytest.fixture(scope="module")
def back(client: mob.Client) -> mob.Proxy:
    return client.require("back")


@pytest.fixture(scope="module")
def front(client: mob.Client) -> mob.Proxy:
    return client.require("front")


def wait_noted(back: mob.Proxy, text: str) -> None:
    wait_until(lambda: text in back.noted().result(patient(20)), f"back has noted {text!r}")


# -- requiring ---------------------------------------------------------------------------------------------------------


def test_two_roles_require_each_other_at_import(front: mob.Proxy, back: mob.Proxy) -> None:
    assert front.by_await(20, 1).result(patient(20)) == 21
    assert back.name_of_front().result(patient(20)) == "front"


def test_calls_wait_for_a_worker_that_boots_slowly(app: RunningApp, client: mob.Client) -> None:
    late = client.require("late")
    early = [late.what_was_written() for _ in range(3)]
    client.require("back").add(1).result(patient(20))  # by now they would be answered, if any worker were there
    assert not any(call.done() for call in early)
    with (app.directory / "late.fifo").open("w") as fifo:
        fifo.write("good morning")
    assert [call.result(patient(20)) for call in early] == ["good morning"] * 3


def test_a_call_that_finds_no_worker_in_time_is_unavailable(client: mob.Client) -> None:
    impatient = client.require("never").options(wait=0.05)
    with pytest.raises(mob.Unavailable, match=r"never\.foo: no worker of 'never' became ready in time") as caught:
        impatient.foo().result(patient(20))
    assert caught.value.executed == "no"


def test_an_unknown_role_raises_at_once_with_the_nearest_name(client: mob.Client) -> None:
    with pytest.raises(mob.UnknownRole, match=r"no role 'bakc'\. Did you mean 'back'\?"):
        client.require("bakc")


def test_an_unknown_export_raises_at_once_with_the_nearest_name(back: mob.Proxy) -> None:
    with pytest.raises(mob.UnknownExport, match=r"'back' exports no function 'aad'\. Did you mean 'a?add'\?"):
        back.aad(1)
    assert not hasattr(back, "aad")


def test_outside_of_a_mob_there_is_nothing_to_require() -> None:
    with pytest.raises(mob.NotInMobster, match=r'mob\.require\(\) works .* mob\.connect\("name of the app"\)'):
        mob.require("back").foo()


# -- where calls are made ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way",
    [
        "by_result",
        "by_await",
        "by_result_in_async",
        "by_await_on_another_loop",
        "by_result_in_a_thread",
        "by_many_at_once",
        "by_many_threads",
    ],
)
def test_a_mobster_calls_from(way: str, front: mob.Proxy) -> None:
    assert getattr(front, way)(20, 1).result(patient(20)) == 21


def test_a_role_with_threads_runs_exports_at_once(client: mob.Client) -> None:
    pool = client.require("pool")
    both = pool.meet(1, 2), pool.meet(3, 4)
    assert [call.result(patient(30)) for call in both] == [3, 7]


def test_a_module_that_blocks_at_import_calls_and_is_called(client: mob.Client) -> None:
    assert client.require("server").sum_at_import().result(patient(20)) == 21


def test_what_is_defined_after_saying_ready_can_be_called(client: mob.Client) -> None:
    assert client.require("server").defined_after_ready().result(patient(20)) == "defined later"


def test_an_unfinished_module_is_asked_for_what_it_might_still_define(client: mob.Client) -> None:
    with pytest.raises(mob.UnknownExport, match="Did you mean 'sum_at_import'") as caught:
        client.require("server").sum_at_inport().result(patient(20))
    assert caught.value.executed == "no"


def test_outside_calls_come_from_plain_threads(back: mob.Proxy) -> None:
    with ThreadPoolExecutor(8) as threads:
        sums = list(threads.map(lambda n: back.add(n, 1).result(patient(20)), range(100)))
    assert sums == list(range(1, 101))


def test_outside_calls_come_from_several_loops_at_once(back: mob.Proxy) -> None:
    async def ask(n: int) -> list[int]:
        return await asyncio.gather(*(back.aadd(n, i) for i in range(20)))

    with ThreadPoolExecutor(3) as threads:
        sums = list(threads.map(lambda n: asyncio.run(ask(n)), range(3)))
    assert sums == [[n + i for i in range(20)] for n in range(3)]


def test_one_call_can_be_awaited_twice_and_asked_again(back: mob.Proxy) -> None:
    async def twice() -> tuple[int, int, int]:
        call = back.add(1)
        return await call, await call, call.result()

    assert asyncio.run(twice()) == (3, 3, 3)


def test_a_worker_that_would_wait_for_itself_is_told(back: mob.Proxy) -> None:
    with pytest.raises(mob.Deadlock, match=r"back\.add: this process would wait for itself") as caught:
        back.ask_myself().result(patient(20))
    assert caught.value.executed == "yes"  # ask_myself has run, add has not


def test_a_worker_that_does_not_block_calls_itself(back: mob.Proxy) -> None:
    assert back.call_myself().result(patient(20)) == [3, 4]


# -- what travels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, True, -1, 2**200, 1.5, "ü\n", b"\0\xff", [1, [2, []]], {"a": {"b": None}}])
def test_a_value_comes_back_as_it_went(value: Any, back: mob.Proxy) -> None:
    assert back.echo(value).result(patient(20)) == value


def test_a_value_longer_than_the_socket_buffers_comes_back(back: mob.Proxy) -> None:
    value = os.urandom(3_000_000)
    assert back.echo(value).result(patient(20)) == value


def test_arguments_by_position_by_name_and_by_default(back: mob.Proxy) -> None:
    assert back.add(1).result(patient(20)) == 3
    assert back.add(1, 5).result(patient(20)) == 6
    assert back.add(1, b=5).result(patient(20)) == 6
    assert back.aadd(b=1, a=1).result(patient(20)) == 2
    assert back.echo(1, 2, x=3).result(patient(20)) == [1, 2, {"x": 3}]


def test_arguments_are_taken_as_they_were_when_the_call_was_made(back: mob.Proxy) -> None:
    value = [1]
    call = back.echo(value)
    value.append(2)
    assert call.result(patient(20)) == [1]


def test_what_cannot_be_sent_raises_in_the_line_that_sends_it_and_names_the_place(back: mob.Proxy) -> None:
    with pytest.raises(mob.BadMessage, match=r"cannot send .*: a thread lock") as caught:
        back.echo({"user": [1, threading.Lock()]})
    assert caught.value.where == "args[0]['user'][1]"


def test_a_value_that_cannot_be_returned_is_the_callees_error(back: mob.Proxy) -> None:
    with pytest.raises(TypeError, match="cannot send result: a thread lock") as caught:
        back.lock().result(patient(20))
    assert isinstance(caught.value, mob.RemoteError)
    assert caught.value.executed == "yes"


# -- errors ------------------------------------------------------------------------------------------------------------


def test_an_exception_arrives_as_its_built_in_class_with_its_message(back: mob.Proxy) -> None:
    with pytest.raises(ValueError, match="bad thing") as caught:
        back.boom().result(patient(20))
    assert isinstance(caught.value, mob.RemoteError)
    assert (caught.value.type_name, caught.value.remote_args) == ("ValueError", ("bad thing",))
    assert caught.value.executed == "yes"


def test_an_exception_of_ones_own_arrives_as_what_it_derives_from(back: mob.Proxy) -> None:
    with pytest.raises(LookupError, match="nothing there") as caught:
        back.aboom().result(patient(20))
    assert isinstance(caught.value, mob.RemoteError)
    assert caught.value.type_name == "back.OwnError"
    assert caught.value.remote_args == ("nothing there", 42)


def test_the_remote_traceback_is_the_cause(back: mob.Proxy) -> None:
    error = back.boom().exception(patient(20))
    assert error is not None
    text = str(error.__cause__)
    assert 'raise ValueError("bad thing")' in text
    assert "back.py" in text
    assert "serving.py" not in text  # mob's own frames say nothing to the user


def test_an_exception_without_a_text_arrives_all_the_same(back: mob.Proxy) -> None:
    error = back.unprintable().exception(patient(20))
    assert isinstance(error, mob.RemoteError)
    assert error.type_name == "back.Unprintable"


def test_an_argument_of_the_wrong_type_is_named(back: mob.Proxy) -> None:
    error = back.typed("three").exception(patient(20))
    assert isinstance(error, mob.ArgumentError)
    assert isinstance(error, TypeError)
    assert (error.argument, error.executed) == ("count", "no")
    assert "back.typed(count: int): expected int, got str 'three'" in str(error)


def test_a_wrong_type_deep_in_an_argument_is_named_with_its_place(back: mob.Proxy) -> None:
    error = back.typed(3, ["a", 5]).exception(patient(20))
    assert isinstance(error, mob.ArgumentError)
    assert error.argument == "names"
    assert "at [1]" in str(error)


def test_wrong_numbers_and_names_of_arguments_are_told(back: mob.Proxy) -> None:
    for call, text in [
        (back.add(), "is missing the argument 'a'"),
        (back.add(1, 2, 3), "takes 1 to 2 arguments (a, b), but 3 were given"),
        (back.typed(1, nemes=[]), "unknown argument 'nemes'. Did you mean 'names'?"),
    ]:
        error = call.exception(patient(20))
        assert isinstance(error, mob.ArgumentError)
        assert text in str(error)


def test_a_failure_that_nobody_asks_for_is_logged_at_the_caller(app: RunningApp, front: mob.Proxy) -> None:
    front.fire_and_fail().result(patient(20))
    app.wait_for(r"front\.0 \d+ \| back\.boom failed and its result was never read: ValueError: bad thing")


def test_a_failure_that_nobody_asks_for_is_logged_outside_too(
    back: mob.Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "mob"):
        back.boom()
        wait_until(lambda: "back.boom failed and its result" in caplog.text, "the failure is logged")


# -- futures -----------------------------------------------------------------------------------------------------------


def test_a_call_nobody_waits_for_is_made(front: mob.Proxy, back: mob.Proxy) -> None:
    front.tell("fire and forget")
    wait_noted(back, "fire and forget")


def test_gather_brings_values_and_errors(back: mob.Proxy) -> None:
    async def ask() -> list[Any]:
        return [*await asyncio.gather(back.add(1), back.boom(), back.aadd(2), return_exceptions=True)]

    one, error, two = asyncio.run(ask())
    assert (one, two) == (3, 4)
    assert isinstance(error, ValueError)


def test_wait_returns_what_is_done_first(back: mob.Proxy) -> None:
    async def ask() -> None:
        quick, slow = back.add(1), back.hang("wait")
        tasks = [asyncio.create_task(quick), asyncio.create_task(slow)]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert (done, pending) == ({tasks[0]}, {tasks[1]})
        await asyncio.to_thread(wait_noted, back, "wait started")  # before that there is nothing to end
        assert slow.cancel()

    asyncio.run(ask())
    wait_noted(back, "wait ended")


def test_wait_for_cancels_the_callee_when_its_time_is_over(back: mob.Proxy) -> None:
    async def ask() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(back.hang("wait_for"), 0.05)

    asyncio.run(ask())
    wait_noted(back, "wait_for ended")


def test_a_cancelled_task_cancels_the_callee(back: mob.Proxy) -> None:
    async def wait_for_ever() -> None:
        await back.hang("task")

    async def ask() -> None:
        task = asyncio.create_task(wait_for_ever())
        while "task started" not in await back.noted():
            pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())
    wait_noted(back, "task ended")


def test_cancel_reaches_an_async_callee(back: mob.Proxy) -> None:
    call = back.hang("cancel")
    wait_noted(back, "cancel started")
    assert call.cancel()
    assert (call.done(), call.cancelled()) == (True, True)
    with pytest.raises(asyncio.CancelledError):
        call.result()
    assert not call.cancel()
    wait_noted(back, "cancel ended")


def test_calls_cancelled_at_once_leave_nothing_behind(back: mob.Proxy) -> None:
    before = back.in_hand().result(patient(20))
    for n in range(200):
        back.hang(f"at once {n}").cancel()
    wait_until(lambda: back.in_hand().result(patient(20)) <= before, "nothing is left in hand")


def test_a_caller_that_leaves_cancels_what_it_has_asked_for(app: RunningApp, back: mob.Proxy) -> None:
    with mob.connect(app.name) as other:
        other.require("back").hang("left")
        wait_noted(back, "left started")
    wait_noted(back, "left ended")


def test_result_waits_no_longer_than_asked_and_the_call_goes_on(back: mob.Proxy) -> None:
    call = back.hang("patience")
    with pytest.raises(mob.CallTimeout, match=r"did not answer within 0\.05 s; the call goes on"):
        call.result(0.05)
    assert not call.done()
    call.cancel()


def test_a_timeout_ends_the_call_at_both_ends(back: mob.Proxy) -> None:
    error = back.options(timeout=0.1).hang("timeout").exception(patient(20))
    assert isinstance(error, mob.CallTimeout)
    assert error.executed == "yes"  # it had begun
    wait_noted(back, "timeout ended")


# -- options -----------------------------------------------------------------------------------------------------------


def test_a_pid_names_the_worker(app: RunningApp, client: mob.Client) -> None:
    twins = client.require("twins")
    for member in app.ready(client, "twins"):
        view = twins.options(pid=member.pid)
        assert [view.who_are_you().result(patient(20))[3] for _ in range(4)] == [member.pid] * 4


def test_an_unknown_pid_raises_at_once(client: mob.Client) -> None:
    with pytest.raises(mob.UnknownTarget, match="no ready worker of role 'twins' has the pid 1"):
        client.require("twins").options(pid=1).add(1)


def test_an_unknown_option_raises_with_the_nearest_name(back: mob.Proxy) -> None:
    with pytest.raises(TypeError, match=r"no option 'timeuot'\. Did you mean 'timeout'\?"):
        back.options(timeuot=1)  # pyright: ignore[reportCallIssue]


# -- who is who --------------------------------------------------------------------------------------------------------


def test_me_tells_who_one_is(app: RunningApp, client: mob.Client) -> None:
    twins = client.require("twins")
    for index, member in enumerate(app.ready(client, "twins")):
        me = twins.options(pid=member.pid).who_are_you().result(patient(20))
        assert me == [app.name, "twins", index, member.pid, 1]


def test_caller_tells_who_calls(app: RunningApp, client: mob.Client, front: mob.Proxy, back: mob.Proxy) -> None:
    (member,) = app.ready(client, "front")
    assert front.who_do_i_look_like().result(patient(20)) == ["front", 0, member.pid, 1]
    assert back.who_calls().result(patient(20)) == ["", 0, os.getpid(), 0]
    assert back.who_calls_async().result(patient(20)) == ["", 0, os.getpid(), 0]


# -- what is exported, and how it looks --------------------------------------------------------------------------------


def test_only_public_functions_defined_in_the_module_are_exported(client: mob.Client) -> None:
    shown = dir(client.require("front"))
    assert "options" in shown
    assert {"name", "by_result", "by_await", "tell"} <= set(shown)
    exported = set(dir(client.require("back")))
    assert exported & {"Tool", "tool", "OwnError", "join", "LIMIT", "notes", "asyncio", "mob", "_private"} == set()


def test_all_says_which_functions_are_exported(client: mob.Client) -> None:
    listed = client.require("listed")
    assert set(dir(listed)) - {"options"} == {"_hidden", "basename"}
    assert listed._hidden().result(patient(20)) == "listed"
    assert listed.basename("/a/b").result(patient(20)) == "b"
    with pytest.raises(mob.UnknownExport):
        listed.unlisted()


def test_marked_functions_are_the_only_ones_exported(client: mob.Client) -> None:
    marked = client.require("marked")
    assert set(dir(marked)) - {"options"} == {"_bare", "with_options"}
    assert marked._bare().result(patient(20)) == "bare"
    assert marked.with_options().result(patient(20)) == "with options"


def test_an_export_shows_its_signature_and_doc(back: mob.Proxy) -> None:
    assert repr(back.add) == "<back.add(a, b=2)>"
    assert repr(back.typed) == "<back.typed(count: int, names: list[str] = [])>"
    assert back.add.__doc__.startswith("Add b to a.")
    assert back.add.__name__ == "add"


def test_help_shows_the_remote_signature_and_doc(back: mob.Proxy) -> None:
    page = pydoc.plain(pydoc.render_doc(back.add))
    assert "add(a, b=2)" in page
    assert "Add b to a." in page
    assert "A second paragraph." in page


def test_a_proxy_and_a_call_show_what_they_are(client: mob.Client) -> None:
    assert repr(client.require("front")).startswith("<proxy of 'front': name, by_result,")
    assert repr(client.require("never")) == "<proxy of 'never': no worker was ready yet>"
    call = client.require("back").add(1)
    call.result(patient(20))
    assert repr(call) == "<Call back.add done, ok>"
