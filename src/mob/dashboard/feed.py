"""The feed of the viewers: one request to the Kingpin a second, however many viewers there are, and none without any.

Each viewer has a short queue of finished events, the same bytes for all. A viewer whose queue is full is dropped: its
page reconnects by itself and starts over, so the cost of a viewer is bounded. So is the number of lines: the excess of
a burst is left out, and its number is shown. All of this lives on one loop; lines come in on another thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, Protocol

import msgspec

from mob.dashboard import picture
from mob.dashboard.machines import Machines
from mob.errors import MobError
from mob.peer.operating.steering import Steering
from mob.wire import messages as m

PERIOD = 1.0
"""Seconds between two requests."""
BEHIND = 20
"""Maximum number of events that wait for a viewer."""
MOST_VIEWERS = 40
LINES_PERIOD = 0.25
"""Seconds for which lines are collected."""
MOST_LINES = 250
"""Maximum number of lines that are sent at once."""
LAST_LINES = 300
"""Number of lines that a new viewer gets."""
LONGEST = 2000
"""Maximum number of characters of a line that are sent."""
KEPT = 15 * 60.0
"""Seconds of the past that a new viewer gets."""


class Members(Protocol):
    """A peer, as far as its members are concerned."""

    @property
    def roster(self) -> Any:
        """The members."""
        ...


class Viewer:
    """One connected page."""

    def __init__(self) -> None:
        self.events: deque[bytes] = deque()
        self.news: asyncio.Event = asyncio.Event()
        self.is_dropped: bool = False

    def put(self, event: bytes) -> None:
        """Queue an event; drop the viewer if it is too far behind."""
        if len(self.events) >= BEHIND:
            self.is_dropped = True
        else:
            self.events.append(event)
        self.news.set()


class Feed:
    """The collector of measurements and lines, which sends them to all viewers."""

    def __init__(self, steering: Steering, peer: Members, machines: Machines | None = None) -> None:
        self._steering = steering
        self._machines = machines
        self._peer = peer
        self._viewers: set[Viewer] = set()
        self._looking: asyncio.Task[None] | None = None
        self._picture = picture.Picture()
        self._past: m.HistoryIs | None = None
        self._shown: deque[dict[str, Any]] = deque()  # past ticks, as they were sent
        self._lines: deque[list[Any]] = deque(maxlen=LAST_LINES)
        self._new_lines: list[list[Any]] = []
        self._left_out = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self.is_closed: bool = False

    def __repr__(self) -> str:
        return f"<Feed for {len(self._viewers)} viewers>"

    @property
    def is_full(self) -> bool:
        """True if no more viewers are accepted."""
        return len(self._viewers) >= MOST_VIEWERS

    def statistics(self) -> dict[str, int]:
        """Return how much is held."""
        return {
            "viewers": len(self._viewers),
            "looking": int(self._looking is not None),
            "queued": sum(len(viewer.events) for viewer in self._viewers),
            "lines": len(self._lines),
        }

    async def watch(self) -> AsyncGenerator[bytes, None]:
        """Yield the events for a new viewer, until the feed is closed or the viewer is too slow."""
        viewer = Viewer()
        if self._past is not None:
            viewer.put(self._whole())
        self._viewers.add(viewer)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_again_and_again())
        try:
            while not (self.is_closed or viewer.is_dropped):
                await viewer.news.wait()
                viewer.news.clear()
                while viewer.events and not self.is_closed:
                    yield viewer.events.popleft()
        finally:
            self._leave(viewer)

    def _leave(self, viewer: Viewer) -> None:
        self._viewers.discard(viewer)
        if not self._viewers and self._looking is not None:
            self._looking.cancel()

    def close(self) -> None:
        """End all streams, so that the server can exit."""
        self.is_closed = True
        for viewer in self._viewers:
            viewer.news.set()

    def say(self, kind: str, data: Any) -> None:
        """Send an event to all viewers."""
        self._send(event(kind, data))

    # ---------------------------------------------------------------------------------------------- looking

    async def _look_again_and_again(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        here = "" if self._machines is None else self._machines.here
        number = self._steering.follow(
            lambda lines: _from_another_thread(loop, self._take_lines, lines, here), last=LAST_LINES, goes_on=True
        )
        try:
            while True:
                began = loop.time()
                with contextlib.suppress(MobError):  # the Kingpin exited, and this process will too
                    await self._look()
                await asyncio.sleep(max(0.1, PERIOD - (loop.time() - began)))
        finally:
            self._steering.unfollow(number)
            if self._machines is not None:
                self._machines.close()
            self._forget()

    def _forget(self) -> None:
        self._looking = self._past = None
        self._picture = picture.Picture()
        self._shown.clear()
        self._lines.clear()
        self._new_lines.clear()
        if self._viewers and not self.is_closed:  # a viewer came while the last one left
            self._looking = asyncio.create_task(self._look_again_and_again())

    async def _look(self) -> None:
        since = 0.0 if self._past is None else self._past.now
        metrics = (await self._steering.metrics()).metrics
        history: m.HistoryIs = await self._steering.history(since)
        is_first, self._past = self._past is None, history
        machines = self._machines
        if machines is None or not machines.here:
            now = time.time()
            change = self._picture.update(metrics, self._peer.roster, now)
            news = picture.past(history, now)
        else:
            pasts = [(machines.here, history), *await machines.look(self._hear_other, LAST_LINES)]
            now = time.time()
            own = [each for each in self._peer.roster if m.node_of(each.uid) == machines.number]
            change = self._picture.update(metrics, own, now, machines.here, machines.metrics(), machines.cut)
            parts = [picture.past(each, now, name) for name, each in pasts]
            news = {kind: [one for part in parts for one in part[kind]] for kind in ("points", "events")}
            news["events"].sort(key=lambda event: event[0])
        if news["points"] or news["events"] or is_first:
            self._shown.append({"at": now, **news})
        while len(self._shown) > 1 and self._shown[1]["at"] < now - KEPT:
            self._shown.popleft()
        self._send(self._whole() if is_first else event("tick", {**change, **news}))

    def meant(self, shown: int) -> tuple[int, str]:
        """Return the uid for the number that the page uses, and the name of its machine."""
        if self._machines is None or not self._machines.here:
            return shown, ""
        uid, node = self._picture.meant(shown)
        return uid, self._machines.name_of(node)

    def _hear_other(self, name: str, lines: m.Lines) -> None:
        """Take lines of another machine; on the thread of its connection."""
        if self._loop is not None:
            _from_another_thread(self._loop, self._take_lines, lines, name)

    def _whole(self) -> bytes:
        """Return all that a new viewer needs. Waiting lines are sent first: they are among the latest ones, too."""
        self._send_lines()
        return event(
            "whole",
            {
                **self._picture.whole(),
                "points": [point for each in self._shown for point in each["points"]],
                "events": [one for each in self._shown for one in each["events"]],
                "lines": list(self._lines),
            },
        )

    # ------------------------------------------------------------------------------------------------- lines

    def _take_lines(self, lines: m.Lines, node: str) -> None:
        is_first = not self._new_lines
        self._left_out += lines.dropped
        for each in lines.lines:
            if len(each.text) > LONGEST:
                each = msgspec.structs.replace(each, text=f"{each.text[:LONGEST]} ... ({len(each.text):,} characters)")
            shown = picture.line(each, node)
            self._lines.append(shown)
            if len(self._new_lines) < MOST_LINES:
                self._new_lines.append(shown)
            else:
                self._left_out += 1
        if is_first and self._new_lines:
            asyncio.get_running_loop().call_later(LINES_PERIOD, self._send_lines)

    def _send_lines(self) -> None:
        lines, self._new_lines = self._new_lines, []
        left_out, self._left_out = self._left_out, 0
        if self._past is not None and (lines or left_out):  # before the first tick no viewer could miss them
            self._send(event("lines", {"lines": lines, "left_out": left_out}))

    def _send(self, sent: bytes) -> None:
        for viewer in self._viewers:
            viewer.put(sent)


def event(kind: str, data: Any) -> bytes:
    r"""Return an event in the form of server-sent events. JSON has no line breaks, so one line of data is enough.

    >>> event("say", {"text": "hello"})
    b'event: say\ndata: {"text":"hello"}\n\n'
    """
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode(data))


def _from_another_thread(loop: asyncio.AbstractEventLoop, function: Any, *arguments: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop ended, so there are no viewers
        loop.call_soon_threadsafe(function, *arguments)
