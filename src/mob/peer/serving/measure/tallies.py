"""Counts of the calls that are served here: how long they waited, how long they ran, and which failed.

The counts only grow; once a second the liveness thread sends the Kingpin the increase (`take`). The Kingpin adds up
(`core/registry.py`). Times are kept as counts by range (`core/latency.py`).

**What it costs.** A call that runs concurrently (a task, a thread, a stream) is timed separately, which costs one
microsecond of the ten that it takes anyway. A call that the loop runs to its end takes as little as two microseconds
in all; there `inbox.work` reads the clock after each one anyway. So consecutive calls of one export within `LAP` are
counted together, each with their mean time, and only a long one is counted separately: less than a tenth of a
microsecond for each. `make bench` shows the difference (`metrics`).
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
"""Seconds during which consecutive calls of one export are counted together."""
MOST_TALLIES = 64
"""Maximum number of exports in one beat, which must fit into the socket at once; the others wait for the next."""
MOST_KINDS = 20
"""Maximum number of kinds of errors, and of names in failed calls, that are counted separately; the rest is "other"."""


class ExportTally:
    """The counts of one export since the start."""

    __slots__ = ("_sent", "_sent_failed", "failed", "ran", "ran_seconds", "waited", "waited_seconds")

    def __init__(self) -> None:
        self.waited: list[int] = [0] * RANGES
        self.waited_seconds: float = 0.0
        self.ran: list[int] = [0] * RANGES
        self.ran_seconds: float = 0.0
        self.failed: Counter[str] = Counter()
        self._sent = (0.0, 0.0, tuple(self.waited), tuple(self.ran))
        self._sent_failed: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<ExportTally of {sum(self.ran)} calls>"

    def begin(self, waited: float, count: int = 1) -> None:
        """Count calls that begin to run, after `waited` seconds each."""
        self.waited[range_of(waited)] += count
        self.waited_seconds += waited * count

    def end(self, ran: float, count: int = 1) -> None:
        """Count calls that ended, after `ran` seconds each."""
        self.ran[range_of(ran)] += count
        self.ran_seconds += ran * count

    def take(self, export: str) -> m.Tally | None:
        """Return what is new since the last time; None for nothing."""
        waited_seconds, ran_seconds, waited, ran = self._sent
        now = (self.waited_seconds, self.ran_seconds, tuple(self.waited), tuple(self.ran))
        failed = self.failed.copy()
        if now == self._sent and failed == self._sent_failed:
            return None
        tally = m.Tally(
            export,
            _growth(waited, now[2]),
            now[0] - waited_seconds,
            _growth(ran, now[3]),
            now[1] - ran_seconds,
            dict(failed - self._sent_failed),
        )
        self._sent, self._sent_failed = now, failed
        return tally


class Tallies:
    """The counts of all exports, and of the calls made here that were never answered."""

    def __init__(self) -> None:
        self._tallies: dict[str, ExportTally] = {}
        self._unserved: dict[str, dict[str, int]] = {}
        self._heard: dict[int, int] = {}  # number of messages received until the last beat, by uid
        self._lock = Lock()  # calls may fail in any thread

    def __repr__(self) -> str:
        return f"<Tallies of {len(self._tallies)} exports>"

    def of(self, export: str) -> ExportTally:
        """Return the tally of an export, which stays when its function is defined again."""
        tally = self._tallies.get(export)
        if tally is None:
            tally = self._tallies[export] = ExportTally()
        return tally

    def fail(self, export: str, error: BaseException) -> None:
        """Count a call that is answered with an error."""
        with self._lock:
            failed = self.of(export).failed
            failed[_kind(name_of(error), failed)] += 1

    def fail_more(self, export: str, kind: str, count: int) -> None:
        """Count more calls that are answered with an error of that name."""
        with self._lock:
            failed = self.of(export).failed
            failed[_kind(kind, failed)] += count

    def lose(self, label: str, error: BaseException) -> None:
        """Count a call that was made here and ended without an answer."""
        with self._lock:
            kinds = self._unserved.setdefault(_kind(label, self._unserved), {})
            kind = _kind(name_of(error), kinds)
            kinds[kind] = kinds.get(kind, 0) + 1

    # ----------------------------------------------------------------------------------- on the liveness thread

    def take(self) -> tuple[m.Tally, ...]:
        """Return what is new since the last beat."""
        tallies: list[m.Tally] = []
        for export, tally in list(self._tallies.items()):
            if len(tallies) < MOST_TALLIES and (new := tally.take(export)) is not None:
                tallies.append(new)
        return tuple(tallies)

    def take_unserved(self) -> dict[str, dict[str, int]]:
        """Return the calls made here that ended without an answer since the last beat."""
        with self._lock:
            unserved, self._unserved = self._unserved, {}
        return unserved

    def take_traffic(self, contacts: Contacts) -> dict[int, int]:
        """Return the number of messages received since the last beat, by the uid of their sender."""
        before = self._heard
        self._heard = {contact.uid: contact.heard for contact in list(contacts) if contact.heard}
        return {uid: new for uid, count in self._heard.items() if (new := count - before.get(uid, 0)) > 0}


def _growth(before: tuple[int, ...], now: tuple[int, ...]) -> dict[int, int]:
    return {number: now[number] - count for number, count in enumerate(before) if now[number] != count}


def _kind(name: str, known: Mapping[str, object]) -> str:
    return name if name in known or len(known) < MOST_KINDS else "other"
