"""Socket.IO with two workers, as described in docs/http.md."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
import socketio  # type: ignore[import-untyped]

import mob
from tests.patience import patient
from tests.running import apps_in, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "http.md"
ROLE = '.role("rooms", "./rooms.py:app", workers=2, serve="127.0.0.1:0")'


def test_visitors_of_all_workers_hear_what_one_says(tmp_path_factory: pytest.TempPathFactory) -> None:
    found = re.search(r'```python title="rooms.py"\n(.*?)```', PAGE.read_text(), re.DOTALL)
    assert found is not None
    with apps_in(tmp_path_factory.mktemp("rooms")) as apps:
        app = apps.start(ROLE, rooms=found[1])
        app.wait_ready(2)
        (where,) = app.wait_for(r"serving on (http://127\.0\.0\.1:\d+)$")
        assert asyncio.run(talk(where[1], app.clients[0])) == ["hello"] * 6


async def talk(url: str, client: mob.Client) -> list[str]:
    """Return what six clients, of two workers, receive first when one of them speaks."""
    visitors, heard = [], []
    for _ in range(6):
        visitor = socketio.AsyncClient(reconnection=False)
        future = asyncio.get_running_loop().create_future()
        visitor.on("said", future.set_result)
        await visitor.connect(url, transports=["websocket"], wait_timeout=int(patient(30)))
        visitors.append(visitor)
        heard.append(future)
    await asyncio.to_thread(wait_until, lambda: all_are_visited(client), "each worker has visitors")
    await visitors[0].emit("say", "hello")
    said = await asyncio.wait_for(asyncio.gather(*heard), patient(30))
    for visitor in visitors:
        await visitor.disconnect()
    return said


def all_are_visited(client: mob.Client) -> bool:
    return all(sum(each.connections.values()) for each in client.metrics().mobsters)
