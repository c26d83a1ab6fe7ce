"""Which cancelled tasks swallowed the cancellation, and which only take their time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from mob.peer.serving.swallowing import Cancelling
from tests.patience import patient

Release = asyncio.Event
PATIENCE = patient(60.0)


async def deaf(release: Release) -> None:
    while not release.is_set():
        with suppress(asyncio.CancelledError):
            await release.wait()


async def deaf_to_all(release: Release) -> None:
    while not release.is_set():
        try:
            await asyncio.wait_for(release.wait(), patient(1000))
        except BaseException:  # noqa: BLE001  as some code is
            continue


async def deaf_items(release: Release) -> AsyncIterator[int]:
    yield 1
    await deaf(release)
    yield 2


async def reads_deaf(release: Release) -> None:
    async for _ in deaf_items(release):
        pass


async def gathers_deaf(release: Release) -> None:
    while not release.is_set():
        with suppress(asyncio.CancelledError):
            await asyncio.gather(deaf(release), release.wait())


async def groups_deaf(release: Release) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(deaf(release))


async def awaits_deaf(release: Release) -> None:
    await asyncio.create_task(deaf(release))


async def tidy(release: Release) -> None:
    try:
        await asyncio.sleep(1000)
    finally:
        await release.wait()


async def tidy_items(release: Release) -> AsyncIterator[int]:
    yield 1
    await tidy(release)


async def reads_tidy(release: Release) -> None:
    async for _ in tidy_items(release):
        pass


async def gathers_tidy(release: Release) -> None:
    await asyncio.gather(tidy(release), tidy(release))


async def groups_tidy(release: Release) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(tidy(release))
        group.create_task(asyncio.sleep(1000))


async def awaits_tidy(release: Release) -> None:
    await asyncio.create_task(tidy(release))


async def shields(release: Release) -> None:
    inner = asyncio.create_task(release.wait())
    while not inner.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(inner)


Case = Callable[[Release], Awaitable[Any]]


@pytest.mark.parametrize("case", [deaf, deaf_to_all, reads_deaf, gathers_deaf, groups_deaf, awaits_deaf])
def test_what_swallows_its_cancellation_is_left_and_told(case: Case) -> None:
    told: list[str] = []

    async def run() -> None:
        release = asyncio.Event()
        cancelling = Cancelling(asyncio.get_running_loop(), lambda text, who, where: told.append(text % (who, where)))
        task = asyncio.ensure_future(case(release))
        await asyncio.sleep(0.01)
        assert not await cancelling.end([task], PATIENCE)
        assert cancelling.is_left(task)
        assert not task.done()
        assert cancelling.lasting(1e9) == []
        release.set()
        await asyncio.wait({task})

    asyncio.run(run())
    assert any(f"coroutine {case.__qualname__} swallowed its cancellation twice" in each for each in told)
    assert all("test_swallowing.py:" in each for each in told)


@pytest.mark.parametrize("case", [tidy, reads_tidy, gathers_tidy, groups_tidy, awaits_tidy, shields])
def test_what_takes_its_time_is_waited_for(case: Case) -> None:
    told: list[str] = []

    async def run() -> None:
        release = asyncio.Event()
        cancelling = Cancelling(asyncio.get_running_loop(), lambda text, who, where: told.append(text % (who, where)))
        task = asyncio.ensure_future(case(release))
        await asyncio.sleep(0.01)
        assert await cancelling.end([task], 1.5) == {task}  # several looks long
        (who,) = cancelling.lasting(1e9)
        assert f"coroutine {case.__qualname__}" in who[1]
        release.set()
        await asyncio.wait({task})

    asyncio.run(run())
    assert told == []
