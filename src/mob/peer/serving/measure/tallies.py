"""What is counted of the calls that are served here: how long they have waited, how long they ran, which have failed.

The counts only grow; the liveness thread tells the Kingpin once a second by how much (`take`). The Kingpin adds up
(`core/registry.py`). Times are kept as counts by range (`core/latency.py`).

**What it costs.** A call that runs beside others (a task, a thread, a stream) is timed by itself, which costs a
microsecond of the ten that it takes anyway. One that the loop runs to its end takes as little as two microseconds in
all; there `inbox.work` looks at the clock after each anyhow. So those of one export that follow each other within
`LAP` are counted together, each with their mean time, and only a long one is taken out of the row: less than a tenth of
a microsecond for each. `make bench` shows the difference (`metrics`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING

from mob.core.latency import RANGES, range_of
from mob.errors import name_of
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.links.contacts import Contacts

LAP = 0.0001
"""Seconds for which calls of one export that follow each other are counted together."""
MOST_TALLIES = 64
"""Exports that one beat tells of; the others wait for the next, for a beat must fit into the socket at once."""
MOST_KINDS = 20
"""Kinds of errors, and names of what was called in vain, that are told apart; what is beyond them is "other"."""


class ExportTally:
    """Of one export, since the start."""

    __slots__ = ("_told", "_told_failed", "failed", "ran", "ran_seconds", "waited", "waited_seconds")

    def __init__(self) -> None:
        self.waited: list[int] = [0] * RANGES
        self.waited_seconds: float = 0.0
        self.ran: list[int] = [0] * RANGES
        self.ran_seconds: float = 0.0
        self.failed: Counter[str] = Counter()
        self._told = (0.0, 0.0, tuple(self.waited), tuple(self.ran))
        self._told_failed: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<ExportTally of {sum(self.ran)} calls>"

    def begin(self, waited: float, count: int = 1) -> None:
        """So many calls have begun to run, after so many seconds each."""
        self.waited[range_of(waited)] += count
        self.waited_seconds += waited * count

    def end(self, ran: float, count: int = 1) -> None:
        """So many calls have ended, having run for so many seconds each."""
        self.ran[range_of(ran)] += count
        self.ran_seconds += ran * count

    def take(self, export: str) -> m.Tally | None:
        """What is new since this was asked last; None if nothing is."""
        waited_seconds, ran_seconds, waited, ran = self._told
        now = (self.waited_seconds, self.ran_seconds, tuple(self.waited), tuple(self.ran))
        failed = self.failed.copy()
        if now == self._told and failed == self._told_failed:
            return None
        tally = m.Tally(
            export,
            _growth(waited, now[2]),
            now[0] - waited_seconds,
            _growth(ran, now[3]),
            now[1] - ran_seconds,
            dict(failed - self._told_failed),
        )
        self._told, self._told_failed = now, failed
        return tally


class Tallies:
    """Of all exports, and of the calls made here that nobody has answered."""

    def __init__(self) -> None:
        self._tallies: dict[str, ExportTally] = {}
        self._unserved: dict[str, dict[str, int]] = {}
        self._heard: dict[int, int] = {}  # messages that have come in by the last beat, by uid
        self._lock = Lock()  # what fails may do so in any thread

    def __repr__(self) -> str:
        return f"<Tallies of {len(self._tallies)} exports>"

    def of(self, export: str) -> ExportTally:
        """The tally of an export, which survives that its function is defined anew."""
        tally = self._tallies.get(export)
        if tally is None:
            tally = self._tallies[export] = ExportTally()
        return tally

    def fail(self, export: str, error: BaseException) -> None:
        """A call is answered with an error."""
        with self._lock:
            failed = self.of(export).failed
            failed[_kind(name_of(error), failed)] += 1

    def fail_more(self, export: str, kind: str, count: int) -> None:
        """So many more calls are answered with an error of that name."""
        with self._lock:
            failed = self.of(export).failed
            failed[_kind(kind, failed)] += count

    def lose(self, label: str, error: BaseException) -> None:
        """A call that was made here has ended without an answer."""
        with self._lock:
            kinds = self._unserved.setdefault(_kind(label, self._unserved), {})
            kind = _kind(name_of(error), kinds)
            kinds[kind] = kinds.get(kind, 0) + 1

    # ----------------------------------------------------------------------------------- on the liveness thread

    def take(self) -> tuple[m.Tally, ...]:
        """What is new since the last beat."""
        tallies: list[m.Tally] = []
        for export, tally in list(self._tallies.items()):
            if len(tallies) < MOST_TALLIES and (new := tally.take(export)) is not None:
                tallies.append(new)
        return tuple(tallies)

    def take_unserved(self) -> dict[str, dict[str, int]]:
        """The calls made here that have ended without an answer since the last beat."""
        with self._lock:
            unserved, self._unserved = self._unserved, {}
        return unserved

    def take_traffic(self, contacts: Contacts) -> dict[int, int]:
        """Messages that have come in since the last beat, by the uid of their sender."""
        before = self._heard
        self._heard = {contact.uid: contact.heard for contact in list(contacts) if contact.heard}
        return {uid: new for uid, count in self._heard.items() if (new := count - before.get(uid, 0)) > 0}


def _growth(before: tuple[int, ...], now: tuple[int, ...]) -> dict[int, int]:
    return {number: now[number] - count for number, count in enumerate(before) if now[number] != count}


def _kind(name: str, known: Mapping[str, object]) -> str:
    return name if name in known or len(known) < MOST_KINDS else "other"
