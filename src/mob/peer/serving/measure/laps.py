"""Laps: calls of one export that the loop runs to their ends one by one, timed together.

`inbox.work` calls this whenever it turns to another export (or to something else), and whenever `LAP` is over, with a
time that it reads anyway. `tallies.py` explains why.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mob.peer.serving.measure.tallies import LAP

if TYPE_CHECKING:
    from mob.peer.serving.serving import Serving


class Laps:
    """The current lap."""

    __slots__ = ("_arrived", "_began", "_beside", "_serving", "count", "target", "until")

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self.target: str | int = 0
        """The export whose calls are timed; a number if it is not an export."""
        self.count: int = 0
        """Number of its calls in this lap."""
        self.until: float = math.inf
        """The time when the lap must be closed."""
        self._began = 0.0
        self._arrived = 0.0  # when the first call of the lap arrived
        self._beside = 0  # number of all calls so far that did not end at once

    def __repr__(self) -> str:
        return f"<Laps, {self.count} calls of {self.target!r}>"

    def begin(self, now: float) -> None:
        """Begin, because the loop turns to its calls."""
        self.target, self.count, self._began = 0, 0, now
        self.until = now + LAP

    def turn_to(self, target: str | int, now: float, arrived: float) -> None:
        """Close the lap and begin another, because something else comes next."""
        self.close(now, now, self._arrived)
        self.target, self._arrived = target, arrived

    def close(self, before: float, now: float, arrived: float) -> None:
        """Count the calls that ended in this lap, and begin another. A long last call is counted separately.

        `before`: when the last call began; `arrived`: when it arrived.
        """
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
