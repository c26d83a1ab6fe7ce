"""A simulated app: it answers as a Kingpin would, with as many mobsters as a test needs, which print a lot."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from mob.core.roster import Roster
from mob.wire import messages as m


class Crowd:
    """Steering and peer in one. Every request gets other numbers; the seed makes them the same in each run."""

    def __init__(self, workers: int, talkers: int = 6) -> None:
        self.chance = random.Random(5)
        self.workers = workers
        self.talkers = talkers
        self.roster = Roster()
        self.looks = 0
        self.gone: set[int] = set()
        self.on_lines: Callable[[m.Lines], None] | None = None
        self.roles = ("front", "back", "search", "mailer")

    async def metrics(self) -> m.MetricsAre:
        """Return the measurements."""
        self.looks += 1
        mobsters = tuple(self._mobster(uid) for uid in range(1, self.workers + 1) if uid not in self.gone)
        roles = tuple(
            m.RoleMetrics(role, n := sum(each.role == role for each in mobsters), n, n, 0, 0) for role in self.roles
        )
        return m.MetricsAre(1, m.Metrics("crowd", 1, 3600.0, 12.0, 40 << 20, roles, mobsters, (), 0))

    def _mobster(self, uid: int) -> m.MobsterMetrics:
        chance = self.chance
        traffic = {chance.randint(1, self.workers): chance.expovariate(0.002) for _ in range(self.talkers)}
        return m.MobsterMetrics(
            uid,
            self.roles[uid * len(self.roles) // (self.workers + 1)],
            uid,
            10_000 + uid,
            1,
            "booting" if uid % 41 == 0 else "draining" if uid % 67 == 0 else "ready",
            3600.0,
            0,
            self.looks * 100,
            chance.randint(0, 3),
            0,
            1.0,
            chance.random(),
            chance.randint(20, 90) << 20,
            0,
            0.0004,
            5.0 if uid % 97 == 0 else 0.0,
            {},
            traffic,
        )

    async def history(self, since: float) -> m.HistoryIs:
        """Return a quarter of an hour at first, then what is new."""
        now = time.monotonic()
        steps = range(180, 0, -1) if not since else range(1, 2)
        points = tuple(
            m.Point(
                now - 5.0 * step,
                5.0,
                role,
                self.chance.randint(500, 900),
                self.chance.randint(0, 9) * (step % 60 < 8),
                self.chance.randint(0, 30),
                self.chance.randint(0, 80),
                0.002 + self.chance.random() / 1000,
                0.01 + self.chance.random() / 50,
            )
            for step in steps
            for role in self.roles
        )
        events = () if since else (m.Event(now - 300, "reload", "reloading front, back."),)
        return m.HistoryIs(1, now, points, events)

    def follow(self, on_lines: Callable[[m.Lines], None], **_: Any) -> int:
        """Register a receiver of lines, which come when the test prints them."""
        self.on_lines = on_lines
        return 1

    def unfollow(self, number: int) -> None:
        """Stop sending lines."""
        self.on_lines = None

    def print(self, *texts: str) -> None:
        """Let the first mobster print."""
        assert self.on_lines is not None
        self.on_lines(m.Lines(1, tuple(m.Line(time.time(), "front", 0, 10_001, False, text) for text in texts)))
