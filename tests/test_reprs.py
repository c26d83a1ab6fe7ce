"""The `__repr__` of mob's objects, for a log or a debugger: each has one, and none raises."""

from __future__ import annotations

import gc
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from mob import testing
from tests.patience import patient

BACK = """
    import asyncio
    import os
    import mob

    @mob.on("message")
    def handle(obj):
        pass

    async def hold(function):
        await function(1)
        await asyncio.sleep(3000)

    def size(data):
        return len(data)

    def count():
        yield from range(1000)

    def twice(number):
        return 2 * number
    """


def members(app: testing.AppUnderTest) -> list[Any]:
    """Start calls, streams, callbacks and large transfers; return the objects that hold them here."""
    back = app.require("back")
    rows = iter(back.count())
    next(rows)
    doubled = iter(back.twice.map(range(1000), ahead=10))
    assert next(doubled) == 0
    assert back.size(bytes(300_000)).result(patient(20)) == 300_000
    return [rows, doubled, back.hold(print), back, app.all("back"), app.any("back")]


def described(known: list[object]) -> dict[str, str]:
    """Return the `__repr__` of new objects of mob, one of each class that has its own."""
    earlier = set(map(id, known))  # kept, so that no new object gets the id of one
    found: dict[str, str] = {}
    for each in gc.get_objects():
        kind = type(each)
        is_meant = str(kind.__module__).startswith("mob.") and kind.__repr__ is not object.__repr__
        if is_meant and id(each) not in earlier and not isinstance(each, msgspec.Struct | BaseException):
            found.setdefault(f"{kind.__module__}.{kind.__qualname__}", repr(each))
    return found


def test_each_part_of_a_running_app_says_what_it_is(mob_app: Any, tmp_path: Path) -> None:
    (tmp_path / "back.py").write_text(textwrap.dedent(BACK))
    known = gc.get_objects()
    app = mob_app(back=str(tmp_path / "back.py"), one_process=True)
    kept = members(app)
    found = described(known)
    kept[2].cancel()
    kept[0].close()
    kept[1].close()
    assert {"mob.kingpin.desk.Desk", "mob.peer.peer.Peer", "mob.rim.link.Link"} < set(found)
    for name, text in found.items():
        assert text, name
        assert "\n" not in text, name
