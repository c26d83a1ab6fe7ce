"""A plain function finds what any script finds: no running loop, and a process that goes on after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import mob
from tests.patience import PATIENCE
from tests.running import RunningApp, apps_in

BACK = """
    import asyncio

    def double(number):
        return 2 * number

    async def later(number):
        await asyncio.sleep(0)
        return number

    def apply(function, number):
        return function(number).result()
    """
PLAIN = """
    import asyncio
    import signal

    import anyio
    import mob
    import uvloop

    back = mob.require("back")
    seen = {}

    async def five():
        await asyncio.sleep(0)
        return 5

    def running():
        try:
            return type(asyncio.get_running_loop()).__module__
        except RuntimeError:
            return "none"

    async def running_in_a_task():
        return running()

    def run():
        return [asyncio.run(five()) for _ in range(3)]

    def run_for(number):
        return number + asyncio.run(five())

    def run_uvloop():
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return [runner.run(five()), runner.run(five())]

    def run_anyio():
        return anyio.run(five)

    def run_a_loop_by_hand():
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(five())
        finally:
            loop.close()

    def run_until_complete():
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(back.double(1))
        finally:
            loop.close()

    def run_with_signals():
        async def wait_for_one():
            loop, arrived = asyncio.get_running_loop(), asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, arrived.set)
            signal.raise_signal(signal.SIGUSR1)
            await arrived.wait()
            loop.remove_signal_handler(signal.SIGUSR1)
            return "arrived"
        return asyncio.run(wait_for_one())

    def by_callback():
        return back.apply(lambda number: number + asyncio.run(five()), 1).result()

    async def by_callback_of_a_task():
        return back.apply(lambda number: number + asyncio.run(five()), 1).result(), running()

    def rows():
        for _ in range(3):
            yield running(), asyncio.run(five())

    async def task_after_plain():
        return running(), await back.later(1)

    def leave_a_loop_running():
        seen["left"] = asyncio.new_event_loop()
        asyncio._set_running_loop(seen["left"])

    def find_the_loop_that_was_left():
        found = asyncio._get_running_loop() is seen["left"]
        asyncio._set_running_loop(None)
        seen.pop("left").close()
        return found

    @mob.on("start")
    def begin():
        seen["start"] = asyncio.run(five())

    @mob.on("ready")
    def is_ready():
        seen["ready"] = asyncio.run(five())

    @mob.on("message")
    def hear(message):
        seen["message"] = asyncio.run(five())

    @mob.on("stop")
    def end():
        print("stop:", asyncio.run(five()))

    def what_was_seen():
        return seen
    """
RUNS = {
    "run": [5, 5, 5],
    "run_uvloop": [5, 5],
    "run_anyio": 5,
    "run_a_loop_by_hand": 5,
    "by_callback": 6,
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("plain")) as apps:
        app = apps.start(
            """.role("back", "./back.py", workers=2).role("plain", "./plain.py")\\
            .role("threads", "./plain.py", threads=2).role("own", "./plain.py", loop="asyncio")""",
            back=BACK,
            plain=PLAIN,
        )
        app.wait_ready()
        yield app


@pytest.fixture(params=["plain", "threads", "own"])
def plain(app: RunningApp, request: pytest.FixtureRequest) -> mob.Proxy:
    return app.clients[0].require(request.param)


@pytest.mark.parametrize("name", RUNS)
def test_a_plain_export_runs_a_loop_of_its_own(plain: mob.Proxy, name: str) -> None:
    assert getattr(plain, name)().result(PATIENCE) == RUNS[name]


@pytest.mark.parametrize("role", ["plain", "own"])
def test_a_loop_inside_of_an_export_on_the_main_thread_handles_signals(app: RunningApp, role: str) -> None:
    assert app.clients[0].require(role).run_with_signals().result(PATIENCE) == "arrived"


def test_a_loop_that_does_not_run_yet_is_told_how_to_take_a_call(plain: mob.Proxy) -> None:
    with pytest.raises(RuntimeError, match=r"to start a loop for it, use asyncio\.run\(call\)"):
        plain.run_until_complete().result(PATIENCE)


def test_no_loop_is_running_in_a_plain_export_and_one_is_in_a_task(plain: mob.Proxy) -> None:
    assert plain.running().result(PATIENCE) == "none"
    assert plain.running_in_a_task().result(PATIENCE) != "none"
    assert plain.task_after_plain().result(PATIENCE)[1] == 1


def test_items_of_a_map_and_generators_run_loops_of_their_own(plain: mob.Proxy) -> None:
    assert list(plain.run_for.map([1, 2, 3])) == [6, 7, 8]
    assert [list(row) for row in plain.rows()] == [["none", 5]] * 3


def test_a_callback_is_plain_though_a_task_waits_for_it(plain: mob.Proxy) -> None:
    value, where = plain.by_callback_of_a_task().result(PATIENCE)
    assert value == 6
    assert where != "none"


def test_what_plain_code_leaves_running_is_found_by_the_next_and_by_nobody_else(app: RunningApp) -> None:
    plain = app.clients[0].require("plain")
    plain.leave_a_loop_running().result(PATIENCE)
    assert plain.running_in_a_task().result(PATIENCE) == "uvloop"
    assert plain.find_the_loop_that_was_left().result(PATIENCE)
    assert plain.running().result(PATIENCE) == "none"


def test_handlers_are_plain(app: RunningApp, plain: mob.Proxy) -> None:
    for role in ("plain", "threads", "own"):
        app.clients[0].all(role).send("hello")
    seen = plain.what_was_seen().result(PATIENCE)
    assert (seen["start"], seen["ready"], seen["message"]) == (5, 5, 5)


def test_a_role_has_the_loop_that_it_asks_for(app: RunningApp) -> None:
    client = app.clients[0]
    assert client.require("plain").running_in_a_task().result(PATIENCE).startswith("uvloop")
    assert client.require("own").running_in_a_task().result(PATIENCE).startswith("asyncio")


def test_a_stop_handler_is_plain(app: RunningApp) -> None:
    assert app.stop() == 0
    assert app.output.count("stop: 5") == 3
