"""sys.exit() in an export ends its call and nothing else; mob.exit() ends the worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

import mob
from tests.patience import PATIENCE
from tests.running import Apps, RunningApp, apps_in, wait_until

PARSING = """
    import argparse
    import asyncio
    import optparse
    import os
    import signal
    import sys

    import click
    import mob

    waiting = {}

    def pid():
        return os.getpid()

    async def wait():
        waiting["event"] = asyncio.Event()
        await waiting["event"].wait()
        return "done"

    async def is_waiting():
        return "event" in waiting

    async def release():
        waiting["event"].set()

    def number(text):
        return int(text)

    def parse(words: list):
        parser = argparse.ArgumentParser(prog="tool")
        parser.add_argument("--count", type=int)
        return parser.parse_args(words).count

    async def parse_in_a_task(words: list):
        return parse(words)

    def parse_the_old_way(words: list):
        parser = optparse.OptionParser(prog="tool")
        return parser.parse_args(words)[1]

    @click.command()
    @click.option("--count", type=int)
    def command(count):
        return count

    def run_click(words: list):
        command(words, prog_name="tool")

    def leave(code=None):
        sys.exit(code)

    async def leave_in_a_task(code=None):
        await asyncio.sleep(0)
        sys.exit(code)

    async def leave_in_a_task_of_its_own(code=None):
        async def inner():
            sys.exit(code)
        await asyncio.create_task(inner())

    async def leave_in_a_group(code=None):
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(100))
            group.create_task(leave_in_a_task(code))

    def leave_while_streaming(code=None):
        yield 1
        sys.exit(code)

    async def leave_while_streaming_async(code=None):
        yield 1
        sys.exit(code)

    def interrupt():
        raise KeyboardInterrupt

    def interrupt_by_a_signal():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.raise_signal(signal.SIGINT)

    async def interrupt_in_a_task():
        raise KeyboardInterrupt

    def leave_for(code):
        sys.exit(code)
    """
ENDING = """
    import asyncio
    import os
    import sys
    import mob

    begun = asyncio.Event()
    again = asyncio.Event()

    def pid():
        return os.getpid()

    async def finish():
        begun.set()
        await again.wait()
        return "finished"

    async def end(status):
        await begun.wait()
        mob.exit(status)
        again.set()
        return "answered"

    def end_by(status):
        mob.exit(status)
        return "answered"

    @mob.on("stop")
    def stop():
        print("the stop handler ran")

    @mob.on("message")
    def hear(message):
        sys.exit(message)
    """
CALLS: dict[str, tuple[list[Any], str]] = {
    "parse": ([["--wrong"]], "sys.exit(2): tool: error: unrecognized arguments: --wrong"),
    "parse_in_a_task": ([["--count", "x"]], "tool: error: argument --count: invalid int value: 'x'"),
    "parse_the_old_way": ([["--wrong"]], "sys.exit(2): tool: error: no such option: --wrong"),
    "run_click": ([["--wrong"]], "No such option"),
    "leave": ([], "sys.exit()"),
    "leave_in_a_task": ([3], "sys.exit(3)"),
    "leave_in_a_task_of_its_own": ([4], "sys.exit(4)"),
    "leave_in_a_group": (["no such file"], "no such file"),
    "interrupt": ([], "KeyboardInterrupt"),
    "interrupt_by_a_signal": ([], "KeyboardInterrupt"),
    "interrupt_in_a_task": ([], "KeyboardInterrupt"),
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("exits")) as apps:
        app = apps.start('.role("one", "./back.py").role("threads", "./back.py", threads=2)', back=PARSING)
        app.wait_ready()
        yield app


@pytest.mark.parametrize("role", ["one", "threads"])
@pytest.mark.parametrize("name", CALLS)
def test_an_exit_fails_its_call_and_no_other(app: RunningApp, role: str, name: str) -> None:
    if (role, name) == ("threads", "interrupt_by_a_signal"):
        pytest.skip("signals are handled by the main thread only")
    back = app.clients[0].require(role)
    before = back.pid().result(PATIENCE)
    other = back.wait()
    assert back.is_waiting().result(PATIENCE)
    arguments, text = CALLS[name]
    error = getattr(back, name)(*arguments).exception(PATIENCE)
    assert isinstance(error, mob.RemoteError)
    assert text in f"{error.type_name}: {error.message}"
    assert error.executed == "yes"
    back.release().result(PATIENCE)
    assert other.result(PATIENCE) == "done"
    assert back.pid().result(PATIENCE) == before


@pytest.mark.parametrize("name", ["leave_while_streaming", "leave_while_streaming_async"])
def test_an_exit_of_a_generator_ends_its_stream(app: RunningApp, name: str) -> None:
    back = app.clients[0].require("one")
    before = back.pid().result(PATIENCE)
    stream = iter(getattr(back, name)(5))
    assert next(stream) == 1
    with pytest.raises(mob.RemoteError, match=r"sys\.exit\(5\)"):
        next(stream)
    assert back.pid().result(PATIENCE) == before


def test_an_exit_of_an_item_or_a_callback_fails_that_alone(app: RunningApp) -> None:
    back = app.clients[0].require("one")
    before = back.pid().result(PATIENCE)
    with pytest.raises(mob.RemoteError, match=r"sys\.exit\(7\)"):
        list(back.leave_for.map([7]))
    assert back.pid().result(PATIENCE) == before


def test_a_worker_ends_in_order_by_mob_exit(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", restart="temporary").role("other", "./back.py")', back=ENDING)
    client = app.wait_ready()
    back = client.require("back")
    other = back.finish()
    assert back.end(7).result(PATIENCE) == "answered"
    assert other.result(PATIENCE) == "finished"
    app.wait_for(r"back\.0 .*exited with status 7; it is not restarted")
    assert "the stop handler ran" in app.output
    with pytest.raises(mob.CallError):
        back.options(wait=0.1).pid().result(PATIENCE)


def test_a_worker_that_ends_by_mob_exit_is_succeeded(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=ENDING)
    back = app.wait_ready().require("back")
    before = back.pid().result(PATIENCE)
    assert back.end_by(0).result(PATIENCE) == "answered"
    wait_until(lambda: back.pid().result(PATIENCE) != before, "its successor answers")
    error = back.end_by(256).exception(PATIENCE)
    assert isinstance(error, ValueError)


def test_an_exit_where_no_call_is_served_ends_the_worker(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=ENDING)
    client = app.wait_ready()
    client.all("back").send(9)
    app.wait_for(r"back\.0 .*exited with status 9")


def test_an_interrupt_from_outside_ends_an_idle_worker(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=ENDING)
    client = app.wait_ready()
    back = client.require("back")
    before = back.pid().result(PATIENCE)
    os.kill(before, signal.SIGINT)

    def answers() -> bool:
        try:
            return back.pid().result(PATIENCE) != before
        except (mob.Lost, mob.Unavailable):  # it was on its way to the worker that ends, or its link was
            return False

    wait_until(answers, "its successor answers")


def test_outside_of_a_mobster_there_is_nothing_to_end() -> None:
    with pytest.raises(mob.NotInMobster):
        mob.exit()
