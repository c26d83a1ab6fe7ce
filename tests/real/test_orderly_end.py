"""What a role has started by itself ends as `asyncio.run` and the interpreter would end it, within the grace period."""

from __future__ import annotations

import signal
from typing import Any

import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, wait_until

POOLS = {
    "processes": "from concurrent.futures import ProcessPoolExecutor\nPOOL = ProcessPoolExecutor(2)",
    "threads": "from concurrent.futures import ThreadPoolExecutor\nPOOL = ThreadPoolExecutor(2)",
}


def killed(app: RunningApp) -> bool:
    return "still running after its grace period" in app.output or "SIGKILL" in app.output


def test_pools_of_a_module_and_threads_end_with_their_worker_and_then_atexit_runs(apps: Apps) -> None:
    thread = """
        import atexit, threading, time
        import mob

        leaving = threading.Event()
        mob.on("stop", leaving.set)
        atexit.register(print, "atexit ran")

        def work():
            leaving.wait()
            print("thread ended")

        threading.Thread(target=work).start()
        """
    square = "\n\ndef square(n):\n    return POOL.submit(pow, n, 2).result()\n"
    roles = "".join(f'.role("{name}", "./{name}.py")' for name in (*POOLS, "thread"))
    modules: dict[str, Any] = {name: code + square for name, code in POOLS.items()}
    app = apps.start(roles, options="grace=3600", thread=thread, **modules)
    client = app.wait_ready()
    assert [client.require(name).square(3).result() for name in POOLS] == [9, 9]
    assert app.stop() == 0
    assert not killed(app)
    app.wait_gone()
    lines = [line.rpartition("| ")[2] for line in app.lines]
    assert lines.index("thread ended") < lines.index("atexit ran")


def test_whatever_a_stop_handler_raises_the_end_goes_on(apps: Apps) -> None:
    """An exit, or the cancellation of a task that it awaits."""
    role = """
        import asyncio, sys
        import mob

        @mob.on("ready")
        async def begin():
            global consumer
            consumer = asyncio.create_task(asyncio.sleep(1_000_000))
            print("the consumer is there")

        @mob.on("stop")
        DEF leave():
            sys.exit(3)

        @mob.on("stop")
        async def end():
            consumer.cancel()
            await consumer

        @mob.on("stop")
        def last():
            print("the last one ran")
        """
    modules: dict[str, Any] = {"plain": role.replace("DEF", "def"), "task": role.replace("DEF", "async def")}
    app = apps.start('.role("plain", "./plain.py").role("task", "./task.py")', options="grace=3600", **modules)
    client = app.wait_ready()
    for name in modules:
        app.wait_for(rf"{name}\.0 .*the consumer is there")
        client.restart(name)
        app.wait_for(rf"{name}\.0 .* stopped as requested; restarting it")
        app.wait_for(rf"{name}\.0 .*a handler of 'stop' ended with CancelledError: <function end")
        app.wait_for(rf"{name}\.0 .*the last one ran")
        app.wait_for(rf"{name}\.0 .*the consumer is there", 2)
    assert app.stop() == 0
    assert not killed(app)
    assert "Traceback" not in app.output


STUBBORN = {
    "threads are still running: endless": (
        "import threading\nthreading.Thread(target=threading.Event().wait, name='endless').start()"
    ),
    "an atexit function has not returned": "import atexit, threading\natexit.register(threading.Event().wait)",
    "they would outlast the grace period (grace): mule (stubborn)": """
        import asyncio
        import mob

        async def stubborn():
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass

        @mob.on("start")
        async def begin():
            begin.task = asyncio.create_task(stubborn(), name="mule")
        """,
}


@pytest.mark.parametrize("what", STUBBORN)
def test_what_does_not_end_is_named_when_the_grace_time_is_over(apps: Apps, what: str) -> None:
    app = apps.start('.role("back", "./back.py")', options="grace=2", back=STUBBORN[what])
    app.wait_ready()
    app.stop()
    assert what in app.output


TASKS = """
    import asyncio
    import mob

    other = mob.require("other")
    kept = []

    async def for_ever():
        try:
            await asyncio.Event().wait()
        finally:
            print("task ended:", await other.echo("by then the links still stand"))

    async def numbers():
        try:
            while True:
                yield 1
        finally:
            print("generator closed")

    @mob.on("start")
    async def begin():
        kept.append(asyncio.create_task(for_ever()))
        kept.append(numbers())
        await anext(kept[1])

    def pid():
        import os
        return os.getpid()
    """


def test_tasks_and_asynchronous_generators_are_ended(apps: Apps) -> None:
    roles = '.role("other", "./other.py").role("back", "./back.py", needs=["other"])'
    app = apps.start(roles, options="grace=3600", back=TASKS, other="def echo(text):\n    return text\n")
    client = app.wait_ready()
    for count in (1, 2):
        if count == 1:
            client.reload("back")
        else:
            assert app.stop() == 0
        app.wait_for("task ended: by then the links still stand", count)
        app.wait_for("generator closed", count)
    assert not killed(app)


HANDLERS = {
    "signal": "signal.signal(signal.SIGTERM, lambda *_: asked.set())",
    "exits": "signal.signal(signal.SIGTERM, lambda *_: (asked.set(), sys.exit(1)))",
    "raises": "signal.signal(signal.SIGTERM, lambda *_: (asked.set(), 1 / 0))",
    "loop": """
@mob.on("start")
async def begin():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
""",
}


def test_a_handler_of_sigterm_is_called_at_a_stop_and_calls_in_hand_are_finished(apps: Apps) -> None:
    role = """
import asyncio, signal, sys, threading
import mob

asked = threading.Event()
HANDLER

async def work():
    print("work began")
    while not asked.is_set():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    return "done in order"
"""
    roles = "".join(f'.role("{kind}", "./{kind}_.py")' for kind in HANDLERS)
    modules: dict[str, Any] = {f"{kind}_": role.replace("HANDLER", handler) for kind, handler in HANDLERS.items()}
    app = apps.start(roles, options="grace=3600", **modules)
    client = app.wait_ready()
    calls = [client.require(kind).work() for kind in HANDLERS]
    app.wait_for("work began", len(calls))
    app.signal(signal.SIGTERM)
    assert [call.result() for call in calls] == ["done in order"] * len(calls)
    assert app.wait() == 0
    assert {line.partition(".")[0] for line in app.lines if "ZeroDivisionError" in line} == {"raises"}


def test_a_stop_that_lasts_says_for_whom_and_for_what(apps: Apps) -> None:
    role = "import time\n\ndef slow():\n    print('slow began')\n    time.sleep(3600)\n"
    app = apps.start('.role("slow", "./slow.py")', options="grace=3600", slow=role)
    app.wait_ready().require("slow").slow()
    app.wait_for("slow began")
    app.signal(signal.SIGTERM)
    app.wait_for(r"waiting for slow\.0: slow\.slow for \d+ s; press Ctrl-C again to stop at once")
    app.signal(signal.SIGTERM)
    app.wait()
    wait_until(lambda: not app.processes(), "all have ended")


def test_what_waits_when_a_handler_exits_is_known_not_to_have_begun(apps: Apps) -> None:
    """Behind an export that runs one call at a time: the end of the one must not let the next one in."""
    role = """
        import asyncio, sys, mob

        @mob.export(concurrency=1)
        async def hang(n):
            print("begun:", n)
            await asyncio.sleep(1_000_000)

        mob.on("message", sys.exit)
        """
    app = apps.start('.role("back", "./back.py")', options="grace=3600", back=role)
    client = app.wait_ready()
    (worker,) = app.ready(client)
    calls = [client.pid(worker.pid).call.hang(n) for n in range(4)]
    app.wait_for("begun: 0")
    client.any("back").send(3)
    errors = [call.exception(patient(30)) for call in calls]
    assert isinstance(errors[0], mob.Lost)
    assert errors[0].executed == "maybe"
    assert [getattr(error, "executed", "") for error in errors[1:]] == ["no"] * 3
    assert "begun: 1" not in app.output
