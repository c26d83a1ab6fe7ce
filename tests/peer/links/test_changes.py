"""Changes of the roster: no waiter misses one, in any thread, and nothing polls."""

from __future__ import annotations

import asyncio
import threading

from mob.peer.links.changes import Changes
from tests.patience import PATIENCE


def test_what_changed_before_the_wait_ends_it_at_once():
    changes = Changes()
    seen = changes.count
    changes.note()
    assert changes.wait(seen, PATIENCE)
    assert not changes.wait(changes.count, 0.0)


def test_threads_ask_once_more_for_each_change():
    changes = Changes()
    asked = threading.Semaphore(0)
    answers: list[int] = []

    def ask() -> None:
        while True:
            seen = changes.count
            answers.append(seen)
            asked.release()
            if seen == 3:
                return
            assert changes.wait(seen, PATIENCE)

    thread = threading.Thread(target=ask)
    thread.start()
    for _ in range(3):
        assert asked.acquire(timeout=PATIENCE)
        changes.note()
    thread.join(PATIENCE)
    assert answers == [0, 1, 2, 3]


def test_a_coroutine_wakes_with_a_change_or_when_its_time_is_over():
    async def both() -> None:
        changes = Changes()
        waiting = asyncio.ensure_future(changes.next(PATIENCE))
        await asyncio.sleep(0)
        changes.note()
        await asyncio.wait_for(waiting, PATIENCE)
        await changes.next(0.001)
        assert not changes._awaiting

    asyncio.run(both())


def test_futures_that_nobody_waits_for_any_more_are_forgotten():
    async def many() -> int:
        changes = Changes()
        for _ in range(100):
            changes.future().cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return len(changes._awaiting)

    assert asyncio.run(many()) == 0


def test_a_listener_may_leave_while_all_are_told():
    changes = Changes()
    told: list[str] = []

    def once() -> None:
        told.append("once")
        changes.listeners.remove(once)

    changes.listeners += [once, lambda: told.append("always")]
    changes.note()
    changes.note()
    assert told == ["once", "always", "always"]
