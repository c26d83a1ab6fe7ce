"""Patched modules: their functions ask for the terminal."""

from __future__ import annotations

import asyncio
from types import FrameType, ModuleType
from typing import Any

from mob.mobster.debugger import asking


class Stops:
    """A hook that records where it is called."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str | None]] = []

    def stop(self, frame: FrameType, what: str, header: str | None = None) -> None:
        self.seen.append((frame.f_code.co_name, what, header))


def test_a_breakpoint_that_is_awaited_stops_where_it_is_awaited() -> None:
    async def set_trace_async(*, header: str | None = None, commands: Any = None) -> None:
        raise AssertionError("this is pdb's own")

    async def export() -> None:
        await module.set_trace_async(header="look here", commands=["p x"])

    module: Any = ModuleType("pdb")
    module.set_trace_async = set_trace_async
    stops: Any = Stops()
    try:
        asking._Finder(object(), stops).change(module)  # type: ignore[arg-type]
        asyncio.run(export())
    finally:
        asking.remove()
    assert stops.seen == [("export", "pdb.set_trace_async()", "look here")]
