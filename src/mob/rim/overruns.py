"""Which call of a mobster must have ended first (`@mob.export(kill_after=...)`), in memory that outlives the mobster.

A mobster writes here of its running calls that have such a limit the one whose time is over first. The Kingpin reads it
at that time, also if the code of the application holds the interpreter and lets no thread of the mobster run. When it
has decided to kill the mobster it tells all members because of which call (`m.MemberGone`, over other Kingpins also
those on other machines): so the caller of that one is told something else than those whose calls died with it.

The Kingpin has to know when to look. The mobster says it (`m.WatchCall`), and writes the time here (`announced`), where
a Kingpin finds it that takes over in an upgrade. A call that begins before that time and has to end behind it needs no
word of its own: the look finds it, and the next look follows from it. So a mobster sends one message in each
`kill_after` seconds at most, however many calls it serves, and none while it has nothing to do.

Entries are found by uid, modulo their number, and say whose they are; a younger mobster takes that of an older one.
"""

from __future__ import annotations

from mob.wire.messages import Overrun

ENTRIES = 512
WORDS = 8  # a line of the cache
SIZE = ENTRIES * WORDS * 8
OWNER, DEADLINE, CALLER, NUMBER, MARK, LIMIT, ANNOUNCED = range(7)
TICKS = 1_000_000
"""In a second: times are microseconds of the monotonic clock."""


class Overruns:
    """The entries of all mobsters, in shared memory."""

    __slots__ = ("_words",)

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def __repr__(self) -> str:
        return f"<Overruns, {sum(deadline > 0 for deadline in self._words[DEADLINE::WORDS])} calls watched>"

    def put(self, uid: int, call: Overrun | None) -> None:
        """Write, as its mobster, which call must have ended first; None if none runs that has a limit."""
        entry = self._entry(uid)
        entry[DEADLINE] = 0  # until the rest is written: the Kingpin may look at any moment
        if entry[OWNER] != uid:
            entry[ANNOUNCED] = 0
            entry[OWNER] = uid
        if call is not None:
            entry[CALLER], entry[NUMBER] = call.caller, call.number
            entry[MARK], entry[LIMIT] = call.mark, int(call.limit * TICKS)
            entry[DEADLINE] = int(call.deadline * TICKS)

    def announce(self, uid: int, when: float) -> None:
        """Write, as its mobster, that the Kingpin is told to look at that time."""
        self._entry(uid)[ANNOUNCED] = int(when * TICKS)

    def announced(self, uid: int) -> float:
        """Return when a mobster expects the Kingpin to look; 0 if it never said so."""
        entry = self._entry(uid)
        return entry[ANNOUNCED] / TICKS if entry[OWNER] == uid else 0.0

    def first(self, uid: int) -> Overrun | None:
        """Return which call of a mobster must have ended first."""
        entry = self._entry(uid)
        if entry[OWNER] != uid or not entry[DEADLINE]:
            return None
        _, deadline, caller, number, mark, limit, *_ = entry
        return Overrun(caller, number, mark, limit / TICKS, deadline / TICKS)

    def _entry(self, uid: int) -> memoryview:
        at = uid % ENTRIES * WORDS
        return self._words[at : at + WORDS]

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
