"""Laps: calls of one export that the loop runs to their ends, one after the other, timed together.

`inbox.work` tells each time it turns to another export (or to something else), and each time `LAP` is over; both with a
time that it has anyway. See `tallies.py` for why.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mob.peer.serving.measure.tallies import LAP

if TYPE_CHECKING:
    from mob.peer.serving.serving import Serving


class Laps:
    """The lap that is under way."""

    __slots__ = ("_arrived", "_began", "_beside", "_serving", "count", "target", "until")

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self.target: str | int = 0
        """The export; a number for what is none."""
        self.count: int = 0
        """Its calls in this lap."""
        self.until: float = math.inf
        """When the lap is to be closed."""
        self._began = 0.0
        self._arrived = 0.0  # when the first of them has arrived
        self._beside = 0  # of all calls so far, those that did not end at once

    def __repr__(self) -> str:
        return f"<Laps, {self.count} calls of {self.target!r}>"

    def begin(self, now: float) -> None:
        """The loop turns to its calls."""
        self.target, self.count, self._began = 0, 0, now
        self.until = now + LAP

    def turn_to(self, target: str | int, now: float, arrived: float) -> None:
        """What comes next is something else."""
        self.close(now, now, self._arrived)
        self.target, self._arrived = target, arrived

    def close(self, before: float, now: float, arrived: float) -> None:
        """Counts what has ended in this lap, and begins another. `before`: when the last call has begun, `arrived`:
        when that one has arrived. If it was a long one it is counted by itself."""
        serving, target, began = self._serving, self.target, self._began
        count = self.count - (serving.begun_beside - self._beside)
        export = serving.exports.get(target) if count > 0 and type(target) is str else None
        if export is not None:
            tally, ended = export.tally, now
            if now - before > LAP / 2:
                serving.learn(export, now - before)
                if tally is not None:
                    tally.begin(before - arrived)
                    tally.end(now - before)
                count, ended = count - 1, before
            if count:
                serving.learn(export, (ended - began) / count)
                if tally is not None:
                    tally.begin((began - self._arrived + max(0.0, before - arrived)) / 2, count)
                    tally.end((ended - began) / count, count)
        self._begin_another(now, arrived)

    def _begin_another(self, now: float, arrived: float) -> None:
        self.count, self._began, self._arrived = 0, now, arrived
        self._beside = self._serving.begun_beside
        self.until = now + LAP
