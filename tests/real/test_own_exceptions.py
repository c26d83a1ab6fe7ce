"""Exceptions of the app's own classes arrive as themselves, wherever one process calls another."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, mob_command, wait_until

SHOP = """
    import threading

    class OutOfStock(LookupError):
        def __init__(self, item, *, left=0):
            super().__init__(f"no {item}")
            self.item, self.left, self.lock = item, left, threading.Lock()

    class Refused(Exception):
        pass

    class Several(ExceptionGroup):
        def derive(self, excs): return Several(self.message, excs)
"""
BACK = """
    import asyncio, json, os, subprocess
    import mob, shop

    def sell(item):
        error = shop.OutOfStock(item, left=2)
        error.add_note("ask again tomorrow")
        raise error

    def refuse():
        try:
            {}["key"]
        except KeyError as error:
            raise shop.Refused("refused", 7) from error

    def hides():
        try:
            {}["key"]
        except KeyError:
            raise shop.Refused("hidden") from None

    async def together():
        async with asyncio.TaskGroup() as group:
            group.create_task(fails(shop.OutOfStock("pear")))
            group.create_task(fails(ValueError("v")))

    async def fails(error): raise error
    def several(): raise shop.Several("several", [shop.OutOfStock("apple"), shop.Refused()])

    def streams():
        yield 1
        raise shop.OutOfStock("plum")

    async def astreams():
        yield 1
        raise shop.OutOfStock("plum")

    async def calls_back(f):
        try:
            await f("fig")
        except shop.OutOfStock as error:
            return error.item, error.left, type(error).__name__, isinstance(error, mob.RemoteError)

    async def passes_on(f): return await f()
    def first_only():
        if mob.me().index == 0:
            raise shop.OutOfStock("first")

    def by_index(x):
        if x % 2:
            raise shop.OutOfStock(str(x))
        return x

    def parses(): return json.loads("{")
    def runs(): subprocess.run(["sh", "-c", "echo out; exit 3"], check=True, capture_output=True)
"""
FRONT = """
    import mob, shop

    back, plain = mob.require("back"), mob.require("plain")

    def sells():
        try:
            back.sell("apple").result()
        except shop.OutOfStock as error:
            return error.item, error.left, error.__notes__

    async def asells():
        try:
            await back.sell("apple")
        except shop.OutOfStock as error:
            return error.item, error.left, error.__notes__

    def through():
        try:
            plain.calls().result()
        except shop.OutOfStock as error:
            return error.item, error.left
"""
PLAIN = """
    import sys
    import mob

    back = mob.require("back")

    def calls():
        try:
            back.sell("apple").result()
        except mob.RemoteError as error:
            assert type(error).__name__ == "RemoteError" and "shop" not in sys.modules, error
            raise
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("own")) as apps:
        roles = '.role("back", "./back.py", workers=2).role("front", "./front.py").role("plain", "./plain.py")'
        running = apps.start(roles, shop=SHOP, back=BACK, front=FRONT, plain=PLAIN)
        running.wait_ready()
        yield running


@pytest.fixture(scope="module")
def client(app: RunningApp) -> mob.Client:
    return app.connect()


@pytest.fixture(scope="module")
def back(client: mob.Client) -> Any:
    return client.require("back")


@pytest.fixture
def shop(app: RunningApp, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The app's module of exceptions, as this process has imported it."""
    monkeypatch.syspath_prepend(str(app.directory))
    yield importlib.import_module("shop")
    del sys.modules["shop"]


def failed(call: Any) -> Any:
    error = call.exception(patient(20))
    assert isinstance(error, mob.RemoteError)
    assert error.executed == "yes"
    return error


def test_it_is_caught_by_its_class_and_has_its_attributes(back: Any, shop: Any) -> None:
    with pytest.raises(shop.OutOfStock, match="no apple") as caught:
        back.sell("apple").result(patient(20))
    error = caught.value
    assert isinstance(error, mob.RemoteError)
    assert isinstance(error, LookupError)
    assert (error.item, error.left, error.args, error.__notes__) == (  # type: ignore[attr-defined]
        "apple",
        2,
        ("no apple",),
        ["ask again tomorrow"],
    )
    shown = "".join(traceback.format_exception(error))
    assert "raise error" in shown
    assert "back.py" in shown
    assert "shop.OutOfStock: no apple\nask again tomorrow" in shown
    assert "serving.py" not in error.remote_traceback


def test_it_is_caught_by_who_awaits_it(back: Any, shop: Any) -> None:
    async def caught() -> str:
        try:
            await back.sell("pear")
        except shop.OutOfStock as error:
            return error.item
        return ""

    assert asyncio.run(caught()) == "pear"


def test_where_it_is_not_imported_it_is_a_remote_error_and_nothing_is_imported(back: Any) -> None:
    assert "shop" not in sys.modules
    error = failed(back.sell("apple"))
    assert type(error).__name__ == "RemoteError"
    assert LookupError in type(error).__mro__
    assert str(error) == "shop.OutOfStock: no apple"
    assert error.remote_attributes == {"item": "apple", "left": 2}
    assert "shop" not in sys.modules


@pytest.mark.parametrize("name", ["sells", "asells"])
def test_one_worker_catches_it_from_another(client: mob.Client, name: str) -> None:
    assert getattr(client.require("front"), name)().result(patient(20)) == ["apple", 2, ["ask again tomorrow"]]


def test_it_passes_through_a_worker_that_does_not_know_it(client: mob.Client, shop: Any) -> None:
    assert client.require("front").through().result(patient(20)) == ["apple", 2]
    assert failed(client.require("plain").calls()).item == "apple"


def test_causes_and_contexts_arrive(back: Any, shop: Any) -> None:
    error = failed(back.refuse())
    assert isinstance(error, shop.Refused)
    assert error.args == ("refused", 7)
    assert isinstance(error.__cause__, KeyError)
    assert error.__cause__.args[0] == "'key'"
    assert error.__suppress_context__
    assert '{}["key"]' in error.remote_traceback
    assert '{}["key"]' in "".join(traceback.format_exception(error))
    hidden = failed(back.hides())
    assert isinstance(hidden.__context__, KeyError)
    assert hidden.__suppress_context__


def test_groups_arrive_with_their_members(back: Any, shop: Any) -> None:
    caught: list[str] = []
    try:
        back.together().result(patient(20))
    except* shop.OutOfStock as group:
        caught += [each.item for each in group.exceptions]  # type: ignore[attr-defined]
    except* ValueError as group:
        caught += map(str, group.exceptions)
    assert caught == ["pear", "ValueError: v"]
    error = failed(back.several())
    assert isinstance(error, shop.Several)
    assert isinstance(error.split(shop.Refused)[0], shop.Several)


@pytest.mark.parametrize("name", ["streams", "astreams"])
def test_it_ends_a_stream(back: Any, shop: Any, name: str) -> None:
    got: list[int] = []
    with pytest.raises(shop.OutOfStock) as caught:
        got.extend(getattr(back, name)())
    assert (got, caught.value.item) == ([1], "plum")  # type: ignore[attr-defined]


def test_it_comes_back_from_a_callback(back: Any, shop: Any) -> None:
    def sell(item: str) -> None:
        raise shop.OutOfStock(item, left=5)

    assert back.calls_back(sell).result(patient(20)) == ["fig", 5, "OutOfStock", True]


def test_a_class_of_the_caller_alone_comes_back_to_it(back: Any) -> None:
    def fails() -> None:
        raise Mine("mine")

    error = failed(back.passes_on(fails))
    assert isinstance(error, Mine)
    assert error.word == "mine"


class Mine(Exception):
    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word


def test_all_of_a_role_and_a_map_tell_it(client: mob.Client, back: Any, shop: Any) -> None:
    with pytest.raises(mob.PartialFailure, match=r"shop\.OutOfStock: no first") as caught:
        client.all("back").call.first_only().result(patient(20))
    assert [error.item for error in caught.value.errors.values()] == ["first"]  # type: ignore[attr-defined]
    outcomes = list(back.by_index.map(range(6), return_exceptions=True))
    assert [getattr(each, "item", each) for each in outcomes] == [0, "1", 2, "3", 4, "5"]


def test_exceptions_of_the_standard_library_arrive_as_themselves(back: Any) -> None:
    with pytest.raises(json.JSONDecodeError) as bad:
        back.parses().result(patient(20))
    assert (bad.value.doc, bad.value.pos) == ("{", 1)
    error = failed(back.runs())
    assert (error.returncode, error.stdout, error.cmd[0]) == (3, b"out\n", "sh")


def test_the_command_line_and_the_log_say_its_class(app: RunningApp, back: Any, shop: Any, caplog: Any) -> None:
    ran = mob_command(app.directory, "call", "--app", app.name, "back.sell", "apple")
    assert ran.returncode == 1
    assert "the export raised shop.OutOfStock: no apple" in ran.stderr
    assert "In the worker:" in ran.stderr
    with caplog.at_level(logging.WARNING, "mob"):
        back.sell("unheard")
        wait_until(lambda: "shop.OutOfStock: no unheard" in caplog.text, "the log tells of it")


def test_an_attribute_is_no_way_into_another_process(apps: Apps) -> None:
    """A peer names whatever it likes; nothing but an exception is built of it, and of data."""
    app = apps.start(
        '.role("evil", "./evil.py")',
        evil="""
        import sys

        class Popen(Exception):
            pass

        def names(module, name):
            Popen.__module__, Popen.__qualname__ = module, name
            raise Popen(["touch", "touched"])
        """,
    )
    evil = app.wait_ready().require("evil")
    for module, name in [("subprocess", "Popen"), ("os", "system"), ("builtins", "exec"), ("subprocess", "Missing")]:
        error = failed(evil.names(module, name))
        assert type(error).__name__ == "RemoteError"
        assert not (app.directory / "touched").exists()


@pytest.mark.parametrize("hook", ["", "@mob.on('error')"])
@pytest.mark.parametrize("way", ["plain", "task", "stream"])
def test_one_that_cannot_be_looked_at_costs_no_other_call(apps: Apps, hook: str, way: str) -> None:
    app = apps.start(
        '.role("evil", "./evil.py")',
        evil=f"""
        import asyncio, mob

        class Evil(Exception):
            def __getattribute__(self, name): raise RuntimeError(name)

        {hook}
        def hear(error, context): pass

        going = asyncio.Event()
        @mob.export
        async def waits(): await going.wait()
        @mob.export
        async def lets_go(): going.set()
        @mob.export
        def plain(): raise Evil
        @mob.export
        async def task(): raise Evil
        @mob.export
        def stream():
            yield 1
            raise Evil
        """,
    )
    evil = app.wait_ready().require("evil")
    waits = evil.waits()
    call = getattr(evil, way)()
    with pytest.raises(mob.RemoteError, match=r"^evil\.Evil$"):
        list(call) if way == "stream" else call.result(patient(20))
    evil.lets_go().result(patient(20))
    assert waits.result(patient(20)) is None


def test_an_answer_always_comes(apps: Apps) -> None:
    app = apps.start(
        '.role("odd", "./odd.py")',
        odd="""
        import mob

        class Text(str): pass

        def name():
            error = ValueError("x")
            error.__dict__["\\udcff"] = 1
            raise error
        def module(): raise type("Odd", (ValueError,), {"__module__": "m\\ud800"})("x")
        def argument(): raise mob.ArgumentError("x", argument=Text("\\ud800"))
        """,
    )
    odd = app.wait_ready().require("odd")
    for call in (odd.name(), odd.module(), odd.argument()):
        error = call.exception(patient(20))
        assert isinstance(error, mob.CallError)
        assert not isinstance(error, mob.CallTimeout)
        assert "x" in str(error)
