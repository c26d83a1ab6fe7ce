"""Readers of streams: what an ended task leaves behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from mob.peer.results.readers import note_task


class Stream:
    """A stream, as far as `readers` knows it."""

    def __init__(self) -> None:
        self.reader: object = None
        self.is_closed = False

    def close(self) -> None:
        """Close it."""
        self.is_closed = True


@pytest.fixture(autouse=True)
def without_gc() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def read(stream: Stream, end: asyncio.Future[None]) -> None:
    note_task(stream)
    await end


async def cancelled(stream: Stream) -> None:
    task = asyncio.create_task(read(stream, asyncio.get_running_loop().create_future()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    await asyncio.sleep(0)  # its callbacks run first


def test_a_task_that_is_cancelled_closes_its_streams() -> None:
    asyncio.run(cancelled(stream := Stream()))
    assert stream.is_closed


def test_a_task_that_has_raised_does_not_keep_its_streams() -> None:
    """Its error keeps its frames, and they keep the stream, so the stream must not keep the task."""

    async def raise_in_a_loop(seen: list[weakref.ref[Stream]]) -> None:
        stream = Stream()
        seen.append(weakref.ref(stream))
        note_task(stream)
        raise ValueError("in the middle of a stream")

    async def main() -> list[weakref.ref[Stream]]:
        seen: list[weakref.ref[Stream]] = []
        task = asyncio.create_task(raise_in_a_loop(seen))
        await asyncio.wait({task})
        assert isinstance(task.exception(), ValueError)
        await asyncio.sleep(0)
        return seen

    (stream,) = asyncio.run(main())
    assert stream() is None
