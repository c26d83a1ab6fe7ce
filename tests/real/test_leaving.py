"""Code that swallows its cancellation and never yields or returns delays no reload and no stop, and is named."""

from __future__ import annotations

import signal
import time

import pytest

import mob
from tests.patience import patient
from tests.running import Apps

GRACE = 90
"""Seconds far beyond what the machine may need; a wait of this length fails the test."""
DEAF = """
import asyncio
import mob

ended = []

async def sleep_on():
    while True:
        try:
            await asyncio.sleep(1000)
        except BaseException:
            pass

@mob.export
async def deaf():
    await sleep_on()

@mob.export(timeout=0.2)
async def limited():
    await sleep_on()

@mob.export
async def stream():
    yield 1
    await sleep_on()

@mob.export
async def relayed():
    async for each in stream():
        yield each

@mob.export
async def gathered():
    await asyncio.gather(sleep_on(), sleep_on())

@mob.export
async def queued():
    queue = asyncio.Queue()
    while True:
        try:
            await asyncio.wait_for(queue.get(), 1000)
        except asyncio.CancelledError:
            pass

@mob.export
async def honest():
    try:
        await asyncio.sleep(1000)
    finally:
        for _ in range(20):
            await asyncio.sleep(0.1)
        ended.append("honest")

@mob.export
async def honest_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(honest())
        group.create_task(asyncio.sleep(1000))

@mob.export
async def honest_stream():
    yield 1
    await honest()

@mob.export
async def count_ended():
    return len(ended)
"""
HANDLERS = """
import asyncio
import mob

async def sleep_on():
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass

@mob.on("ready")
async def consume():
    mob.tasks = [asyncio.create_task(sleep_on(), name="a task of its own")]
    while True:
        try:
            await asyncio.sleep(1000)
        except BaseException:
            pass

@mob.on("stop")
async def say():
    print("the stop handler has run")

async def foo():
    return 1
"""
TIDY = """
import asyncio
import mob

@mob.on("ready")
async def consume():
    try:
        await asyncio.sleep(1000)
    finally:
        for _ in range(20):
            await asyncio.sleep(0.1)
        print("consume has tidied up")

@mob.on("ready")
async def in_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(tidy_up())

async def tidy_up():
    try:
        await asyncio.sleep(1000)
    finally:
        for _ in range(20):
            await asyncio.sleep(0.1)
        print("tidy_up has tidied up")
"""
LASTING = """
import asyncio
import mob

@mob.on("ready")
async def consume():
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(1000)
"""
BLOCKING = """
import threading
import mob

@mob.on("ready")
def consume():
    threading.Event().wait()
"""


@pytest.mark.parametrize("name", ["deaf", "gathered", "queued"])
def test_a_coroutine_that_swallows_its_cancellation_is_left_and_named(apps: Apps, name: str) -> None:
    app = apps.start('.role("back", "./back.py")', options=f"grace={GRACE}", back=DEAF)
    client = app.wait_ready()
    call = getattr(client.require("back"), name)()
    assert client.require("back").count_ended().result(patient(20)) == 0  # which comes behind it
    call.cancel()
    begun = time.monotonic()
    app.wait_for(rf"the coroutine {name} swallowed its cancellation twice and goes on \(.*back\.py:\d+\)")
    client.reload("back")
    assert app.stop() == 0
    assert time.monotonic() - begun < GRACE - 10


@pytest.mark.parametrize("name", ["stream", "relayed"])
def test_a_generator_that_yields_no_more_is_left_and_named(apps: Apps, name: str) -> None:
    app = apps.start('.role("back", "./back.py")', options=f"grace={GRACE}", back=DEAF)
    client = app.wait_ready()
    stream = iter(getattr(client.require("back"), name)())
    assert next(stream) == 1
    assert client.require("back").count_ended().result(patient(20)) == 0
    stream.close()  # type: ignore[attr-defined]
    begun = time.monotonic()
    app.wait_for(rf"the generator {name} swallowed its cancellation twice and goes on \(.*back\.py:\d+\)")
    client.reload("back")
    assert app.stop() == 0
    assert time.monotonic() - begun < GRACE - 10


def test_a_call_that_swallows_the_end_of_its_time_ends_for_its_caller(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", concurrency=1)', options=f"grace={GRACE}", back=DEAF)
    client = app.wait_ready()
    back = client.require("back")
    with pytest.raises(mob.CallTimeout):
        back.limited().result(60)
    assert back.count_ended().result(patient(60)) == 0  # its place is free


@pytest.mark.parametrize("name", ["honest", "honest_group"])
def test_a_long_finally_is_no_swallowed_cancellation(apps: Apps, name: str) -> None:
    app = apps.start('.role("back", "./back.py")', options=f"grace={GRACE}", back=DEAF)
    client = app.wait_ready()
    back = client.require("back")
    call = getattr(back, name)()
    stream = iter(back.honest_stream())
    assert next(stream) == 1
    assert back.count_ended().result(patient(20)) == 0
    call.cancel()
    stream.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + patient(60)
    while back.count_ended().result(patient(20)) < 2 and time.monotonic() < deadline:
        pass
    assert back.count_ended().result(patient(20)) == 2
    assert app.stop() == 0
    assert "swallowed" not in app.output


def test_handlers_and_tasks_that_swallow_their_cancellation_are_left_at_a_stop(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', options=f"grace={GRACE}", back=HANDLERS)
    app.wait_ready()
    begun = time.monotonic()
    assert app.stop() == 0
    assert time.monotonic() - begun < GRACE - 10
    app.wait_for(r"the coroutine consume swallowed its cancellation twice and goes on \(.*back\.py:\d+\)")
    app.wait_for(r"the coroutine sleep_on swallowed its cancellation twice and goes on \(.*back\.py:\d+\)")
    app.wait_for("the stop handler has run")


def test_handlers_tidy_up_for_as_long_as_they_need(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', options=f"grace={GRACE}", back=TIDY)
    app.wait_ready()
    assert app.stop() == 0
    app.wait_for("consume has tidied up")
    app.wait_for("tidy_up has tidied up")
    assert "swallowed" not in app.output


@pytest.mark.parametrize(
    ("code", "named"),
    [
        (BLOCKING, r"the handler consume \(.*back\.py:\d+\)"),
        (LASTING, r"the coroutine consume \(.*back\.py:\d+\), cancelled,"),
    ],
    ids=["def", "async def"],
)
def test_a_stop_names_the_handler_that_it_waits_for(apps: Apps, code: str, named: str) -> None:
    app = apps.start('.role("back", "./back.py")', options=f"grace={GRACE}", back=code)
    app.wait_ready()
    app.signal(signal.SIGTERM)
    app.wait_for(rf"waiting for back\.0: {named} for \d+ s")
    app.signal(signal.SIGTERM)
    app.wait()
