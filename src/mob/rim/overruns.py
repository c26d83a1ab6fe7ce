"""The call of a mobster whose limit ends first (`@mob.export(kill_after=...)`), in memory that outlives the mobster.

Of its running calls with such a limit, a mobster writes here the one whose time ends first. The Kingpin reads it at
that time, even if the code of the application holds the interpreter and lets no thread of the mobster run. When it
decides to kill the mobster, it reports to all members because of which call (`m.MemberGone`; through other Kingpins
also to those on other machines). So the caller of that call gets another error than those whose calls died with it.

The Kingpin must know when to check. The mobster sends the time (`m.WatchCall`), and also writes it here (`announced`),
where a Kingpin finds it that takes over in an upgrade. A call that begins before that time and must end after it needs
no message: the check finds it and plans the next check. So a mobster sends at most one message per `kill_after`
seconds, however many calls it serves, and none while it is idle.

Entries are found by uid, modulo their number, and contain the uid of their owner; a newer mobster takes the entry of an
older one.
"""

from __future__ import annotations

from mob.wire.messages import Overrun

ENTRIES = 512
WORDS = 8  # a cache line
SIZE = ENTRIES * WORDS * 8
OWNER, DEADLINE, CALLER, NUMBER, MARK, LIMIT, ANNOUNCED = range(7)
TICKS = 1_000_000
"""Ticks per second: times are microseconds of the monotonic clock."""


class Overruns:
    """The entries of all mobsters, in shared memory."""

    __slots__ = ("_words",)

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def __repr__(self) -> str:
        return f"<Overruns, {sum(deadline > 0 for deadline in self._words[DEADLINE::WORDS])} calls watched>"

    def put(self, uid: int, call: Overrun | None) -> None:
        """Write which call's limit ends first; None if no call with a limit runs. For the mobster itself."""
        entry = self._entry(uid)
        entry[DEADLINE] = 0  # until the rest is written, because the Kingpin may read at any moment
        if entry[OWNER] != uid:
            entry[ANNOUNCED] = 0
            entry[OWNER] = uid
        if call is not None:
            entry[CALLER], entry[NUMBER] = call.caller, call.number
            entry[MARK], entry[LIMIT] = call.mark, int(call.limit * TICKS)
            entry[DEADLINE] = int(call.deadline * TICKS)

    def announce(self, uid: int, when: float) -> None:
        """Write the time at which the Kingpin was asked to check. For the mobster itself."""
        self._entry(uid)[ANNOUNCED] = int(when * TICKS)

    def announced(self, uid: int) -> float:
        """Return the time at which a mobster expects the Kingpin to check; 0 if it never announced one."""
        entry = self._entry(uid)
        return entry[ANNOUNCED] / TICKS if entry[OWNER] == uid else 0.0

    def first(self, uid: int) -> Overrun | None:
        """Return the call of a mobster whose limit ends first."""
        entry = self._entry(uid)
        if entry[OWNER] != uid or not entry[DEADLINE]:
            return None
        _, deadline, caller, number, mark, limit, *_ = entry
        return Overrun(caller, number, mark, limit / TICKS, deadline / TICKS)

    def _entry(self, uid: int) -> memoryview:
        at = uid % ENTRIES * WORDS
        return self._words[at : at + WORDS]

    def close(self) -> None:
        """Release the memory."""
        self._words.release()
