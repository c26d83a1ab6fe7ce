"""A store's worker takes over from its predecessor."""

from __future__ import annotations

import asyncio
from time import monotonic

from mob.stores.locks import HELD, WAITING
from mob.stores.server import Contents, StoreServer
from mob.stores.settings import StoreSettings


def started(given: Contents | None, is_first: bool = False) -> StoreServer:
    server = StoreServer("cache", StoreSettings(), is_first, lambda _: None)
    server.begin(given)
    return server


async def handed_over(server: StoreServer) -> Contents:
    """Return the last part, as the successor gets it; then the successor has the place."""
    stream = server.hand_over()
    async for part in stream:
        if not part[0]:
            server.end()
            return part
    raise AssertionError("it ended without a last part")


def test_free_locks_are_given_at_once_after_a_reload_and_held_ones_are_kept() -> None:
    async def scene() -> None:
        first = started(None, is_first=True)
        held = first.locks.ask("held", None, monotonic())
        second = started(await handed_over(first))
        assert second.locks.ask("free", None, monotonic()).state == HELD
        assert second.locks.ask("held", None, monotonic()).state == WAITING
        assert second.locks.adopt("held", None, held.fence, monotonic()).state == HELD
        await second.close()

    asyncio.run(scene())


def test_after_a_crash_nobody_new_gets_a_lock_until_holders_have_told_also_if_it_is_reloaded_then() -> None:
    async def scene() -> None:
        after_crash = started(None)
        holder, free = (after_crash.locks.ask("free", None, monotonic()), after_crash.locks.grants_from)
        assert holder.state == WAITING
        second = started(await handed_over(after_crash))
        assert monotonic() >= free
        assert second.locks.ask("free", None, monotonic()).state == HELD
        await second.close()

    asyncio.run(scene())
