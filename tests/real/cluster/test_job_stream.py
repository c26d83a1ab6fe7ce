"""The stream of durable jobs: of two keepers only the latest can write, and it has all that the previous one stored.

Both are in this process; the NATS server is a real one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from mob.cluster.jobs import StreamStore
from mob.core.job_rows import RETURNED, JobChanged, JobEnded, QueueBroken, row_of
from mob.core.jobs import Entry, JobState
from mob.plan import Cluster
from tests.patience import PATIENCE
from tests.real.cluster.machines import Nats

NOW = 1000.0


class Shelf:
    """A store, and its reports."""

    def __init__(self, nats: Nats, name: str) -> None:
        async def find() -> Cluster:
            return Cluster((nats.url,), name)

        self.said: list[str] = []
        self.store = StreamStore(f"fence{os.getpid()}", 60.0, find, self.said.append)

    async def open(self) -> list[Entry]:
        return await asyncio.wait_for(self.store.open(NOW), PATIENCE)

    async def put(self, *ids: str) -> Exception | None:
        return (await answer(lambda done: self.store.put([row_of(entry(id), b"body", 0.0) for id in ids], done)))[0]

    async def end(self, id: str) -> None:
        await answer(lambda done: self.store.write(JobEnded(id, NOW, RETURNED, b"value"), done))

    async def outcome(self, id: str) -> Any:
        value, error = await answer(lambda done: self.store.outcome(id, done))
        assert error is None
        return value


async def answer(ask: Callable[[Callable[..., None]], object]) -> tuple[Any, ...]:
    """Return the answer of the store."""
    answered: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()
    ask(lambda *values: answered.set_result(values))
    return await asyncio.wait_for(answered, PATIENCE)


def entry(id: str) -> Entry:
    return Entry(id, "back", "foo", made=5.0)


def test_a_keeper_that_another_has_followed_writes_nothing_more(own_nats: Nats) -> None:
    async def work() -> None:
        first, second = Shelf(own_nats, "a"), Shelf(own_nats, "b")
        assert await first.open() == []
        assert await first.put("done", "kept", "dead") is None
        await first.end("done")
        dead = entry("dead")
        dead.due, dead.attempts, dead.failures = NOW, 4, 4
        await answer(lambda done: first.store.write(JobChanged.of(dead, 0.0, b"why"), done))
        found = await second.open()
        assert [(each.id, each.state) for each in found] == [("dead", JobState.DEAD), ("kept", JobState.WAITING)]
        assert found[0].attempts == 4
        error = await first.put("late")
        assert isinstance(error, QueueBroken)
        assert str(error) == "another keeper has these jobs now: this one lost its lease."
        ended: list[None] = []
        first.store.write(JobEnded("kept", NOW, RETURNED, b"stale"), lambda: ended.append(None))
        assert isinstance(await first.put("later"), QueueBroken)  # so earlier writes were tried, too
        assert ended == []
        assert await second.put("new") is None
        await second.end("kept")
        assert [await second.outcome(id) for id in ("kept", "done", "late")] == [(RETURNED, b"value")] * 2 + [None]
        assert await second.outcome("dead") == (1, b"why")
        for shelf in (first, second):
            await shelf.store.close()
        third = Shelf(own_nats, "a")
        assert [each.id for each in await third.open()] == ["dead", "new"]
        await third.store.close()

    asyncio.run(work())


def test_a_keeper_that_dies_between_the_two_messages_of_an_end_has_the_job_run_again(own_nats: Nats) -> None:
    async def work() -> None:
        first, second = Shelf(own_nats, "a"), Shelf(own_nats, "b")
        await first.open()
        assert await first.put("job") is None
        assert await first.store._send([first.store._outcome_of(JobEnded("job", NOW, RETURNED, b"first"))]) is None
        stray = ("now.stray", b"\x97\x01\x02\x03\x04\x05\xa4dead\xc4\x00", 0.0)  # of a job that ended
        assert await first.store._send([stray]) is None
        assert await first.outcome("stray") == (1, b"")
        await first.store.close()
        assert [each.id for each in await second.open()] == ["job"]
        await second.end("job")
        assert await second.outcome("job") == (RETURNED, b"value")
        while await second.outcome("stray") is not None:
            await asyncio.sleep(0.01)
        await second.store.close()

    asyncio.run(asyncio.wait_for(work(), PATIENCE))
