"""What a role leaves at its end: tasks that raise or do not end, generators that do not close, reasons of exits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mob.mobster import ending
from mob.peer.serving.swallowing import Cancelling
from tests.patience import patient

LOG = logging.getLogger("tests.ending")


async def raises_when_cancelled() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ValueError("in the middle") from None


async def cleans_up(release: asyncio.Event) -> None:
    """Take some time, which does not count as ignoring the cancellation: the task is at another place."""
    try:
        await asyncio.Event().wait()
    finally:
        await release.wait()


async def items(release: asyncio.Event) -> AsyncIterator[int]:
    try:
        yield 1
    finally:
        await release.wait()


def end_with(caplog: pytest.LogCaptureFixture, *coroutines: Any, seconds: float) -> list[dict[str, Any]]:
    """Run these coroutines and end their loop; return what its exception handler received."""
    told: list[dict[str, Any]] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: told.append(context))
        tasks = [asyncio.create_task(each, name=f"task {index}") for index, each in enumerate(coroutines)]
        await asyncio.sleep(0)
        await ending.end_tasks(seconds, LOG, Cancelling(loop, LOG.error))
        for task in tasks:
            if not task.done():
                task.cancel()  # the second time it ends
        await asyncio.gather(*tasks, return_exceptions=True)

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    return told


def test_what_a_task_raises_when_it_is_cancelled_is_told(caplog: pytest.LogCaptureFixture) -> None:
    (context,) = end_with(caplog, raises_when_cancelled(), seconds=patient(60))
    assert context["message"] == "task task 0 (raises_when_cancelled) raised while it was cancelled"
    assert str(context["exception"]) == "in the middle"
    assert caplog.messages == []


def test_tasks_that_take_longer_than_the_grace_time_are_named(caplog: pytest.LogCaptureFixture) -> None:
    assert end_with(caplog, cleans_up(asyncio.Event()), seconds=0.01) == []
    assert caplog.messages == [
        "tasks were cancelled but did not end within the grace period (grace): task 0 (cleans_up)"
    ]


def test_a_generator_that_does_not_close_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        release = asyncio.Event()
        drawn = items(release)
        assert await anext(drawn) == 1
        assert not await ending.close_generators(0.01)
        release.set()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (SystemExit(), 0, ""),
        (SystemExit(3), 3, ""),
        (SystemExit(256 + 3), 3, ""),
        (SystemExit("no licence"), 1, "no licence\n"),
        (KeyboardInterrupt(), 1, ""),
    ],
)
def test_the_status_of_an_exit(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending.status_of(error) == status
    assert capsys.readouterr().err == said
