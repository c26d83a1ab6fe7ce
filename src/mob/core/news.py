"""News: changes among members, roles and machines that were not announced yet, and when they may be.

All listeners get the same news, in one message that is encoded once. What changes again before it was announced is
announced once, in its latest state: a worker that was launched, has booted and is ready between two messages is ready.
With many listeners a message costs time, so the next one has to wait: ten times as long as this one took, or a while
for each listener, whichever is longer. So the work grows with the changes and not with their square, and with few
listeners nothing waits.

There are two lanes. Members that asked for roles hear of changes swiftly. Those that asked for nothing (workers that
only answer calls) hear of them later, because they would be woken for what they do not need.

No clock: `now` is passed in.
"""

from __future__ import annotations

from mob.wire import messages as m

Change = m.MemberIs | m.MemberGone | m.RoleIs | m.NodeIs | m.NodeGone | m.Cut
NewsKey = tuple[str, int | str]

SWIFT, SLOW = LANES = (0, 1)
FOR_EACH = (0.0001, 0.001)
"""Seconds by which a message in each lane delays the next, for each listener."""
SHARE = 10.0
"""Factor: a message delays the next by this many times the time that it took."""
LONGEST = 1.0
"""Maximum seconds of that delay."""


class News:
    """The changes that some listener has not heard of."""

    def __init__(self) -> None:
        self._log: dict[NewsKey, tuple[int, Change]] = {}  # in the order of their numbers
        self._last = 0
        self._told = [0, 0]  # number of the last change that was announced, by lane
        self._due = [0.0, 0.0]

    def __repr__(self) -> str:
        return f"<News, {len(self._log)} changes>"

    def __len__(self) -> int:
        return len(self._log)

    def add(self, change: Change) -> None:
        """Add a change; it replaces an earlier one of the same object."""
        key = _key_of(change)
        self._log.pop(key, None)
        self._last += 1
        self._log[key] = self._last, change

    def has_news(self, lane: int) -> bool:
        """Return True if there is something to announce in a lane."""
        return self._told[lane] < self._last

    def untold(self, lane: int) -> list[Change]:
        """Return what was not announced in a lane, in order."""
        after, found = self._told[lane], list[Change]()
        for number, change in reversed(self._log.values()):
            if number <= after:
                break
            found.append(change)
        found.reverse()
        return found

    def untold_of(self, lane: int, uid: int) -> Change | None:
        """Return what was not announced in a lane about one member."""
        number, change = self._log.get(("member", uid), (0, None))
        return change if number > self._told[lane] else None

    def due(self, lane: int) -> float:
        """Return the time from which on it may be announced."""
        return self._due[lane]

    def handle_told(self, lane: int, listeners: int, began: float, now: float) -> None:
        """Note that everyone in a lane got the news, which took from `began` until now."""
        self._told[lane] = self._last
        self._due[lane] = now + min(LONGEST, max(SHARE * (now - began), listeners * FOR_EACH[lane]))
        known = min(self._told)
        for key in [key for key, (number, _) in self._log.items() if number <= known]:
            del self._log[key]


def _key_of(change: Change) -> NewsKey:
    match change:
        case m.MemberIs(member=member):
            return "member", member.uid
        case m.MemberGone(uid=uid):
            return "member", uid
        case m.RoleIs(role=role):
            return "role", role.name
        case m.NodeIs(node=node):
            return "node", node.number
        case m.NodeGone(number=number):
            return "node", number
        case _:  # m.Cut
            return "cut", 0
