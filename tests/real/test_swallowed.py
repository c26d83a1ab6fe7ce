"""Async generators that swallow their cancellation delay neither a reload nor a stop."""

from __future__ import annotations

import time

from tests.patience import patient
from tests.running import Apps

DEAF = """
import asyncio

ended = []

async def deaf():
    number = 0
    try:
        while True:
            number += 1
            try:
                yield number
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                pass
    finally:
        ended.append(number)

async def count_ended():
    return len(ended)
"""


def test_a_generator_that_swallows_its_cancellation_is_closed_and_told(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', options="grace=60", back=DEAF)
    client = app.wait_ready()
    back = client.require("back")
    stream = iter(back.deaf())
    assert [next(stream) for _ in range(3)] == [1, 2, 3]
    stream.close()  # type: ignore[attr-defined]
    app.wait_for(r"the generator deaf \(.*back\.py:\d+\) swallowed its cancellation")
    assert back.count_ended().result(patient(20)) == 1
    stream = iter(back.deaf())
    assert next(stream) == 1
    stream.close()  # type: ignore[attr-defined]
    begun = time.monotonic()
    client.reload("back")
    assert app.stop() == 0
    assert time.monotonic() - begun < 50  # long before the grace period is over
