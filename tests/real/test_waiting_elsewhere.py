"""What waits in another thread, or on another loop, is answered while the thread of mob's loop is in plain code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import mob
from tests.patience import PATIENCE
from tests.running import RunningApp, apps_in, free_port

BACK = """
    import asyncio

    import mob

    def double(number):
        return 2 * number

    def rows(count):
        yield from range(count)

    def apply(function, number):
        return function(number).result()

    def apply_often(function, times):
        return [function(number).result() for number in range(times)]

    def total(numbers):
        return sum(numbers)

    def ask(role, name):
        return getattr(mob.require(role), name)().result()

    async def hang():
        await asyncio.Event().wait()
    """
FRONT = """
    import asyncio
    import concurrent.futures
    import contextvars
    import os
    import socket
    import threading
    import time

    import mob

    back = mob.require("back")
    late = mob.require("late")
    heard = []
    begun = []

    @mob.on("message")
    def hear(message):
        heard.append((message, threading.current_thread() is threading.main_thread()))

    def what_was_heard():
        return heard

    @mob.on("start")
    def start():
        begun.append(in_a_thread(lambda: back.double(1).result()))

    @mob.on("ready")
    def ready():
        begun.append(in_a_thread(lambda: asyncio.run(gather(2))))

    def what_has_begun():
        return begun

    def in_a_thread(function):
        outcome = []

        def run():
            try:
                outcome.append(function())
            except BaseException as error:
                outcome.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(20)
        return outcome[0] if outcome else "hangs"

    def bind():
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            return "bound"

    def shared(port):
        with mob.listen("127.0.0.1", port):
            return "listens"

    async def gather(count):
        return await asyncio.gather(*(back.double(number) for number in range(count)))

    async def gather_late(count):
        return await asyncio.gather(*(late.double(number) for number in range(count)))

    async def result_in_a_coroutine():
        return back.double(3).result() + await back.double(4)

    async def read_rows():
        return [row async for row in back.rows(300)]

    async def read_map():
        return [value async for value in back.double.map(range(50))]

    async def time_out():
        try:
            await asyncio.wait_for(back.hang(), 0.05)
        except TimeoutError:
            return await back.double(5)

    async def by_executor():
        return await asyncio.get_running_loop().run_in_executor(None, lambda: back.double(6).result())

    def poll():
        call = back.double(11)
        while not call.done():
            time.sleep(0.001)
        return call.result()

    def hear_of_the_end():
        done, calls = threading.Event(), []
        call = back.double(6)
        call.add_done_callback(calls.append)
        call.add_done_callback(lambda _: done.set())
        return done.wait(10) and calls[0].result()

    def completed():
        return sorted(call.result() for call in concurrent.futures.as_completed([back.double(n) for n in range(3)]))

    def expire():
        try:
            back.options(timeout=0.1).hang().result()
        except mob.CallTimeout:
            return "timed out"

    def posted_before():
        call = back.double(8)
        return in_a_thread(call.result)

    def deep():
        return in_a_thread(lambda: asyncio.run(gather(3)) + [in_a_thread(lambda: back.double(9).result())])

    WAYS = {
        "result": lambda: back.double(2).result(),
        "a role that nobody has called": lambda: late.double(2).result(),
        "many": lambda: [back.double(number).result() for number in range(200)][-1],
        "wait": lambda: len(mob.wait([back.double(1), back.double(2)]).done),
        "as_completed": lambda: sorted(call.result() for call in mob.as_completed([back.double(1), back.double(2)])),
        "concurrent.futures": completed,
        "stream": lambda: sum(back.rows(300)),
        "map": lambda: list(back.double.map(range(50)))[-1],
        "callback": lambda: back.apply(lambda number: number + 1, 1).result(),
        "callback that calls": lambda: back.apply(lambda number: late.double(number).result(), 1).result(),
        "callback that waits for a thread": lambda: back.apply(
            lambda n: in_a_thread(lambda: late.double(n).result()), 1
        ).result(),
        "callback that runs a loop": lambda: back.apply(lambda n: asyncio.run(gather_late(n)), 3).result(),
        "callback within a callback": lambda: back.apply(lambda n: back.apply(lambda m: m + 1, n).result(), 1).result(),
        "callbacks in order": lambda: (seen := [], back.apply_often(seen.append, 50).result())[0],
        "iterator": lambda: back.total(iter(range(200))).result(),
        "iterator that waits for a thread": lambda: back.total(
            in_a_thread(late.double(n).result) for n in range(3)
        ).result(),
        "poll": poll,
        "done callback": hear_of_the_end,
        "send to all": lambda: (mob.all("back").send(1), mob.send({"x": 1}))[0],
        "scale": lambda: mob.scale(+1),
        "to all": lambda: len(mob.all("back").call.double(1).result()),
        "asyncio.run": lambda: asyncio.run(gather(10)),
        "bind": bind,
        "last_error": lambda: mob.last_error(),
        "deadline": expire,
        "unknown role": lambda: mob.require("nobody"),
        "me": lambda: mob.me().role,
        "send": lambda: mob.any("back").send(1),
    }

    def by_thread(way):
        return in_a_thread(WAYS[way])

    def by_map(way):
        return in_a_thread(WAYS[way])

    def by_generator(ways):
        for way in ways:
            yield in_a_thread(WAYS[way])

    def at_once(way):
        return WAYS[way]()

    async def own():
        return 1

    def plain_own():
        return 1

    async def ask_itself(name):
        return await getattr(mob.require(mob.me().role), name)()

    async def ask_in_a_circle(name):
        return await back.ask(mob.me().role, name)

    async def iterate_over_itself():
        return [row async for row in mob.require(mob.me().role).by_generator(["result"])]

    def wait_in_vain(what, *args):
        try:
            return asyncio.run(globals()[what](*args))
        except mob.Deadlock as error:
            return str(error)

    def look_whether_it_is_cancelled():
        context = contextvars.copy_context()

        def look():
            print("looking", flush=True)
            end = time.monotonic() + 20
            while not (found := mob.cancelled()) and time.monotonic() < end:
                time.sleep(0.001)
            print("cancelled:", found, flush=True)

        return in_a_thread(lambda: context.run(look))

    def by_threads(way, count):
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return [future.result(20) for future in [pool.submit(WAYS[way]) for _ in range(count)]]

    def listen_by_thread(port):
        return in_a_thread(lambda: shared(port))

    def run(name):
        return asyncio.run(globals()[name]())

    async def keep_the_loop():
        begun.append(asyncio.get_running_loop())

    def run_the_loop_of_mob(way):
        # as nest_asyncio does it: plain code runs the very loop that has called it
        outcome = []
        thread = threading.Thread(target=lambda: outcome.append(WAYS[way]()), daemon=True)
        thread.start()
        loop = begun.pop()
        task = loop.create_task(gather(3))
        asyncio._set_running_loop(loop)
        try:
            while not task.done():
                loop._run_once()
        finally:
            asyncio._set_running_loop(None)
        thread.join(20)
        return task.result(), outcome

    def run_many(times):
        return [asyncio.run(gather(2)) for _ in range(times)][-1]

    def call_all_the_same(number):
        inner = in_a_thread(lambda: back.double(number).result())
        return inner, back.double(number).result(), in_a_thread(lambda: back.double(number).result())

    def wait_for_a_thread_and_call():
        started = threading.Event()
        release = threading.Event()

        def run():
            value = back.double(1).result()
            started.set()
            release.wait(20)
            values.append(value + back.double(2).result())

        values = []
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        started.wait(20)
        own = back.double(10).result()
        release.set()
        thread.join(20)
        return own, values

    def send_to_oneself():
        return in_a_thread(lambda: (mob.pid(os.getpid()).send("hello"), back.double(1).result())[1])
    """
WAYS: dict[str, Any] = {
    "result": 4,
    "a role that nobody has called": 4,
    "many": 398,
    "wait": 2,
    "as_completed": [2, 4],
    "concurrent.futures": [0, 2, 4],
    "stream": 44850,
    "map": 98,
    "callback": 2,
    "callback that calls": 2,
    "callback that waits for a thread": 2,
    "callback that runs a loop": [0, 2, 4],
    "callback within a callback": 2,
    "callbacks in order": list(range(50)),
    "iterator": 19900,
    "iterator that waits for a thread": 6,
    "poll": 22,
    "done callback": 12,
    "send to all": None,
    "scale": "MobError",
    "to all": 2,
    "asyncio.run": [0, 2, 4, 6, 8, 10, 12, 14, 16, 18],
    "bind": "bound",
    "last_error": "",
    "deadline": "timed out",
    "unknown role": "UnknownRole",
    "me": None,
    "send": None,
}
RUNS: dict[str, Any] = {
    "result_in_a_coroutine": 14,
    "read_rows": list(range(300)),
    "read_map": [2 * number for number in range(50)],
    "time_out": 10,
    "by_executor": 12,
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("elsewhere")) as apps:
        app = apps.start(
            """.role("back", "./back.py", workers=2).role("late", "./back.py").role("front", "./front.py")\\
            .role("own", "./front.py", loop="asyncio").role("threads", "./front.py", threads=2)""",
            back=BACK,
            front=FRONT,
        )
        app.wait_ready()
        yield app


@pytest.fixture(params=["front", "own", "threads"])
def front(app: RunningApp, request: pytest.FixtureRequest) -> mob.Proxy:
    return app.clients[0].require(request.param)


@pytest.mark.parametrize("way", WAYS)
def test_a_thread_waits_while_an_export_waits_for_it(front: mob.Proxy, way: str) -> None:
    found, wanted = front.by_thread(way).result(PATIENCE), WAYS[way]
    if way == "me":
        assert found in ("front", "own", "threads")
    elif way in ("unknown role", "scale"):
        assert found.startswith(wanted)
    else:
        assert found == wanted


@pytest.mark.parametrize("way", ["result", "stream", "callback", "asyncio.run"])
def test_several_threads_wait_at_once(front: mob.Proxy, way: str) -> None:
    assert front.by_threads(way, 5).result(PATIENCE) == [WAYS[way]] * 5


@pytest.mark.parametrize("way", ["poll", "done callback", "concurrent.futures", "callback that waits for a thread"])
def test_the_export_itself_waits_in_other_ways(front: mob.Proxy, way: str) -> None:
    assert front.at_once(way).result(PATIENCE) == WAYS[way]


def test_items_of_a_map_and_generators_wait_for_threads(front: mob.Proxy) -> None:
    ways = ["result", "stream", "callback", "asyncio.run"]
    assert list(front.by_map.map(ways)) == [WAYS[way] for way in ways]
    assert list(front.by_generator(ways)) == [WAYS[way] for way in ways]


def test_handlers_wait_for_threads(front: mob.Proxy) -> None:
    assert front.what_has_begun().result(PATIENCE) == [2, [0, 2]]


@pytest.mark.parametrize("role", ["front", "own"])
@pytest.mark.parametrize(
    "what",
    [
        ("ask_itself", "own"),
        ("ask_itself", "plain_own"),
        ("ask_in_a_circle", "own"),
        ("ask_in_a_circle", "plain_own"),
        ("iterate_over_itself",),
    ],
)
def test_a_loop_that_waits_for_its_own_thread_is_told(app: RunningApp, role: str, what: tuple[str, ...]) -> None:
    assert "its only thread cannot answer while it waits" in app.clients[0].require(role).wait_in_vain(*what).result(
        PATIENCE
    )


@pytest.mark.parametrize("role", ["front", "own"])
def test_a_thread_sees_that_the_call_was_given_up(app: RunningApp, role: str) -> None:
    call = app.clients[0].require(role).look_whether_it_is_cancelled()
    app.wait_for("looking", count=1 + (role == "own"))
    call.cancel()
    app.wait_for("cancelled: True", count=1 + (role == "own"))


@pytest.mark.parametrize("name", RUNS)
def test_a_loop_within_a_plain_export_waits_for_calls(front: mob.Proxy, name: str) -> None:
    assert front.run(name).result(PATIENCE) == RUNS[name]


def test_loops_one_after_the_other_and_within_threads(front: mob.Proxy) -> None:
    assert front.run_many(20).result(PATIENCE) == [0, 2]
    assert front.deep().result(PATIENCE) == [0, 2, 4, 18]


@pytest.mark.parametrize("way", ["result", "stream", "callback", "bind", "asyncio.run"])
def test_plain_code_runs_the_loop_of_mob_by_hand(app: RunningApp, way: str) -> None:
    own = app.clients[0].require("own")
    own.keep_the_loop().result(PATIENCE)
    assert own.run_the_loop_of_mob(way).result(PATIENCE) == [[0, 2, 4], [WAYS[way]]]


def test_what_was_sent_before_is_answered_in_a_thread(front: mob.Proxy) -> None:
    assert front.posted_before().result(PATIENCE) == 16


def test_the_export_itself_calls_before_and_after(front: mob.Proxy) -> None:
    assert front.call_all_the_same(7).result(PATIENCE) == [14, 14, 14]
    assert front.wait_for_a_thread_and_call().result(PATIENCE) == [20, [6]]


def test_the_export_goes_on_serving_afterwards(front: mob.Proxy) -> None:
    for number in range(20):
        assert front.by_thread("result").result(PATIENCE) == 4
        assert front.what_was_heard().result(PATIENCE) is not None, number


def test_a_shared_port_is_had_by_a_thread(front: mob.Proxy) -> None:
    assert front.listen_by_thread(free_port()).result(PATIENCE) == "listens"


@pytest.mark.parametrize("role", ["front", "own"])
def test_messages_wait_for_the_main_thread(app: RunningApp, role: str) -> None:
    front = app.clients[0].require(role)
    assert front.send_to_oneself().result(PATIENCE) == 2
    heard = front.what_was_heard().result(PATIENCE)
    assert [each for each in heard if each[0] == "hello"] == [["hello", True]]


def test_a_client_is_answered_in_a_thread_that_its_handler_waits_for(app: RunningApp) -> None:
    with mob.connect(app.name) as client:
        back, late = client.require("back"), client.require("late")
        assert back.apply(lambda number: late.double(number).result(), 4).result(PATIENCE) == 8


def test_a_callback_that_raises_harms_no_other_call(app: RunningApp, caplog: pytest.LogCaptureFixture) -> None:
    back = app.clients[0].require("back")

    def fail(call: mob.Call[int]) -> None:
        raise ValueError("in a callback")

    calls = [back.double(number) for number in range(200)]
    for call in calls[::2]:
        call.add_done_callback(fail)
    assert [call.result(PATIENCE) for call in calls] == [2 * number for number in range(200)]


def test_a_stream_of_tiny_calls_and_a_thread_that_waits_do_not_disturb_each_other(app: RunningApp) -> None:
    front, back = app.clients[0].require("front"), app.clients[0].require("back")
    busy = [front.by_thread("many") for _ in range(3)]
    assert [back.double(number).result(PATIENCE) for number in range(500)][-1] == 998
    assert [call.result(PATIENCE) for call in busy] == [398] * 3


def test_nothing_is_left_of_it(app: RunningApp) -> None:
    assert app.stop() == 0
    assert "Traceback" not in app.output
    app.wait_gone()


SPINNING = """
    import threading
    import time

    import mob

    back = mob.require("back")

    def keep_waiting():
        def run():
            while True:
                back.hang().exception()

        threading.Thread(target=run, daemon=True).start()

    def spin():
        while True:
            time.sleep(0.001)

    def double(number):
        return threads(lambda: back.double(number).result())

    def threads(function):
        found = []
        thread = threading.Thread(target=lambda: found.append(function()), daemon=True)
        thread.start()
        thread.join(20)
        return found
    """


def test_a_loop_is_seen_to_be_blocked_though_another_thread_reads_for_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with apps_in(tmp_path_factory.mktemp("blocked")) as apps:
        app = apps.start(
            """.role("back", "./back.py").role("front", "./front.py", hang_timeout=1)""", back=BACK, front=SPINNING
        )
        app.wait_ready()
        front = app.clients[0].require("front")
        front.keep_waiting().result(PATIENCE)
        with pytest.raises(mob.Lost):
            front.spin().result(PATIENCE)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_the_development_mode_of_asyncio_forbids_nothing(tmp_path_factory: pytest.TempPathFactory, loop: str) -> None:
    with apps_in(tmp_path_factory.mktemp("debug")) as apps:
        app = apps.start(
            f""".role("back", "./back.py").role("late", "./back.py").role("front", "./front.py", loop="{loop}")""",
            env={"PYTHONASYNCIODEBUG": "1"},
            back=BACK,
            front=FRONT,
        )
        app.wait_ready()
        front = app.clients[0].require("front")
        for way in ("result", "stream", "map", "callback", "deadline", "bind"):
            assert front.by_thread(way).result(PATIENCE) == WAYS[way]
        assert front.run("read_rows").result(PATIENCE) == RUNS["read_rows"]
        assert app.stop() == 0
        assert "Traceback" not in app.output
