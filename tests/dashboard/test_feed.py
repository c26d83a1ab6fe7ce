"""The feed: one request a second for all viewers, none without viewers, and no viewer that can fill the memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mob.dashboard import feed as feeds
from mob.dashboard.feed import BEHIND, LAST_LINES, LONGEST, MOST_LINES, Feed, Viewer
from mob.dashboard.picture import Picture, changed
from tests.dashboard.crowd import Crowd
from tests.patience import patient


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Request measurements every tenth of a second, so that tests are fast."""
    monkeypatch.setattr(feeds, "PERIOD", 0.1)
    monkeypatch.setattr(feeds, "LINES_PERIOD", 0.02)


def opened(workers: int = 8) -> tuple[Feed, Crowd]:
    crowd = Crowd(workers)
    return Feed(crowd, crowd), crowd  # type: ignore[arg-type]


async def next_of(events: AsyncIterator[bytes], kind: str) -> Any:
    """Return the data of the next event of that kind."""
    while True:
        event = await asyncio.wait_for(anext(events), patient(10))
        head, _, data = event.decode().partition("\ndata: ")
        if head == f"event: {kind}":
            assert data.endswith("\n\n")
            return json.loads(data)


def test_one_who_comes_gets_all_and_then_what_has_changed() -> None:
    async def go() -> None:
        feed, crowd = opened(8)
        events = feed.watch()
        whole = await next_of(events, "whole")
        assert len(whole["mobsters"]["put"]) == 8
        assert set(whole["roles"]["put"]) == set(crowd.roles)
        assert len(whole["points"]) == 180 * 4
        assert [kind for _, kind, _ in whole["events"]] == ["reload"]
        crowd.gone = {3}
        tick = await next_of(events, "tick")
        assert tick["mobsters"]["gone"] == ["3"]
        assert {len(tick["points"])} == {4}
        await events.aclose()

    asyncio.run(go())


def test_all_who_watch_share_one_look() -> None:
    async def go() -> None:
        feed, crowd = opened()
        viewers = [feed.watch() for _ in range(5)]
        await asyncio.gather(*(next_of(each, "whole") for each in viewers))
        before = crowd.looks
        await asyncio.gather(*(next_of(each, "tick") for each in viewers))
        assert crowd.looks - before <= 2
        late = feed.watch()
        whole = await next_of(late, "whole")
        assert len(whole["points"]) >= 180 * 4
        for each in (*viewers, late):
            await each.aclose()

    asyncio.run(go())


def test_nobody_looks_while_nobody_watches() -> None:
    async def go() -> None:
        feed, crowd = opened()
        events = feed.watch()
        await next_of(events, "whole")
        await events.aclose()
        await asyncio.sleep(0)
        looks = crowd.looks
        await asyncio.sleep(0.3)  # there is no event to wait for: the test shows that nothing comes
        assert crowd.looks == looks
        assert crowd.on_lines is None
        assert feed.statistics() == {"viewers": 0, "looking": 0, "queued": 0, "lines": 0}
        again = feed.watch()
        assert len((await next_of(again, "whole"))["points"]) == 180 * 4
        await again.aclose()

    asyncio.run(go())


def test_one_who_comes_while_the_last_one_goes_is_served() -> None:
    async def go() -> None:
        feed, _ = opened()
        first = feed.watch()
        await next_of(first, "whole")
        await first.aclose()
        second = feed.watch()
        assert await next_of(second, "whole")
        assert await next_of(second, "tick")
        await second.aclose()

    asyncio.run(go())


def test_one_who_is_too_slow_is_dropped_and_the_others_are_not() -> None:
    async def go() -> None:
        feed, _ = opened()
        slow, quick = feed.watch(), feed.watch()
        await next_of(slow, "whole")
        await next_of(quick, "whole")
        for number in range(BEHIND * 2):
            feed.say("done", {"number": number})
            assert (await next_of(quick, "done"))["number"] == number
        assert feed.statistics()["queued"] <= BEHIND
        got = [event async for event in slow]
        assert len(got) == BEHIND
        assert feed.statistics()["viewers"] == 1
        await quick.aclose()

    asyncio.run(go())


def test_a_queue_never_grows_beyond_its_bound() -> None:
    async def go() -> None:
        viewer = Viewer()
        for _ in range(1000):
            viewer.put(b"x")
        assert viewer.is_dropped
        assert len(viewer.events) == BEHIND

    asyncio.run(go())


def test_streams_end_when_the_feed_is_closed() -> None:
    async def go() -> None:
        feed, _ = opened()
        events = feed.watch()
        await next_of(events, "whole")
        feed.close()
        assert [event async for event in events] == []

    asyncio.run(go())


def test_lines_are_gathered_and_a_burst_is_cut_and_told() -> None:
    async def go() -> None:
        feed, crowd = opened()
        events = feed.watch()
        await next_of(events, "whole")
        crowd.print("one", "two")
        assert [line[5] for line in (await next_of(events, "lines"))["lines"]] == ["one", "two"]
        crowd.print(*(["x" * 5000] + ["y"] * 9999))
        sent = await next_of(events, "lines")
        assert len(sent["lines"]) == MOST_LINES
        assert sent["left_out"] == 10_000 - MOST_LINES
        assert sent["lines"][0][5] == "x" * LONGEST + " ... (5,000 characters)"
        assert feed.statistics()["lines"] == LAST_LINES
        await events.aclose()

    asyncio.run(go())


def test_no_line_comes_twice_to_one_who_comes_in_between() -> None:
    async def go() -> None:
        feed, crowd = opened()
        first = feed.watch()
        await next_of(first, "whole")
        crowd.print("once")
        await asyncio.sleep(0)
        late = feed.watch()
        assert [line[5] for line in (await next_of(late, "whole"))["lines"]] == ["once"]
        crowd.print("more")
        assert [line[5] for line in (await next_of(late, "lines"))["lines"]] == ["more"]
        await first.aclose()
        await late.aclose()

    asyncio.run(go())


def test_a_tick_holds_only_what_differs() -> None:
    before = {"a": {"n": 1}, "b": {"n": 1}, "c": {"n": 1}}
    assert changed(before, {"b": {"n": 1}, "c": {"n": 2}, "d": {"n": 1}}) == {
        "put": {"c": {"n": 2}, "d": {"n": 1}},
        "gone": ["a"],
    }
    assert changed(before, before) == {"put": {}, "gone": []}


def test_a_mobster_that_does_nothing_is_not_sent_again() -> None:
    async def go() -> None:
        crowd = Crowd(2)
        metrics = (await crowd.metrics()).metrics
        picture = Picture()
        assert len(picture.update(metrics, [], 1000.0)["mobsters"]["put"]) == 2
        assert picture.update(metrics, [], 1001.0)["mobsters"] == {"put": {}, "gone": []}
        assert repr(picture) == "<Picture of 4 roles, 2 mobsters, 0 exports, 0 timers, 0 jobs>"

    asyncio.run(go())
