"""Leases: which machine of a cluster may run a role that has a single process.

A lease is a value in a store that all nodes see, in which a value is replaced only if it is still the one that was
read (compare and set). Its holder writes it again each second. There are two rules, and nodes need no common clock:

* A holder believes in its lease for `LEASE` seconds, counted from the moment *before* it sent the last renewal that
  the store confirmed.
* Another node takes over when it has seen the same revision for `TAKE_OVER` seconds of its own.

Every node sees a revision later than its holder sent it, so the holder no longer believes when that time is over;
`TAKE_OVER - LEASE` is left for clocks that run at different speeds, and for the kill. Replies may be late, lost or old:
they only make a node believe less. A delayed renewal finds another revision and changes nothing. A holder that no
longer needs its lease returns it, and the next one need not wait.

The *token* is the revision at which the lease was taken; it stays as long as the lease is renewed, and each taker gets
a greater one (even if the store lost everything: each node remembers the greatest that it saw). The very first taker
waits as well, because a store without a value may have lost it.

Pure: `now` is passed in, requests and outcomes come out.
"""

from __future__ import annotations

import math
from enum import Enum

import msgspec

from mob.wire import messages as m

RENEW = 1.0
"""Seconds between two renewals, and between two checks of another node's lease."""
LEASE = 5.0
"""Seconds for which a holder believes, from before it sent the last renewal that was confirmed."""
TAKE_OVER = 7.0
"""Seconds for which a contender sees nothing new before it takes over."""
WORTH = 2.0
"""Seconds of a new lease that must be left for it to be used."""
REQUEST_TIMEOUT = 1.5
"""Seconds after which a request is no longer waited for."""


class LeaseWish(Enum):
    """What a role on this node wants of its lease."""

    NONE = "none"  # return it, if this node has it
    TAKE = "take"
    KEEP = "keep"  # it runs, or did until just now: keep the lease if this node has it


class Won(msgspec.Struct, frozen=True):
    """The role may run here, until that time."""

    role: str
    token: int
    until: float
    left: int = 0
    """Token under which the machine before left its data; 0 if it left none."""


class Extended(msgspec.Struct, frozen=True):
    """The role may run for longer. `left`: as the store has it by now."""

    role: str
    until: float
    left: int = 0


class Yielded(msgspec.Struct, frozen=True):
    """The role must no longer run here. `why`: empty if the lease was returned, and nothing runs."""

    role: str
    why: str


class Elsewhere(msgspec.Struct, frozen=True):
    """The holder of the lease, or the reason why there can be none: a text for users."""

    role: str
    note: str


LeaseOutcome = Won | Extended | Yielded | Elsewhere | m.ReadLease | m.WriteLease | m.GiveBack | m.DropLeft
"""A result to carry out: tell the supervisor, or ask the store."""


class LeaseData(msgspec.Struct, frozen=True):
    """A lease that is held, for the Kingpin that follows in this process."""

    token: int
    revision: int
    until: float
    left: int = 0
    is_fetching: bool = False
    """True if its singleton waits for its data, and nothing runs yet."""


class Lease:
    """The lease of one role, as one node knows it."""

    def __init__(self, role: str, node: int, name: str) -> None:
        self.role = role
        self._node = node
        self._name = name
        self.token: int = 0
        """Token of this node's lease; 0 if it has none."""
        self.until: float = 0.0
        """Time until which this node believes in its lease."""
        self.left: int = 0
        """Token under which the data of its singleton is in the cluster, for the next machine; 0 if there is none.

        It is written with each renewal, so that the next holder knows it.
        """
        self._revision = -1  # the latest that was seen; 0: there is no value, -1: none was seen
        self._value = m.LeaseRecord()
        self._seen_at = 0.0  # when that revision was first seen
        self._greatest = 0  # greatest token that was seen
        self._asked: tuple[int, float, bool] | None = None  # the request under way: number, time, is it a write
        self._due = 0.0  # when the store is asked again
        self._note = ""
        self._error = ""

    def __repr__(self) -> str:
        return f"<Lease of {self.role!r}, {f'held with token {self.token}' if self.token else self._note or 'unknown'}>"

    def data(self) -> LeaseData | None:
        """Return what the next Kingpin of this process has to know of it."""
        return LeaseData(self.token, self._revision, self.until, self.left) if self.token else None

    def adopt(self, data: LeaseData) -> None:
        """Take over a lease of the Kingpin before this one, in this process."""
        self.token, self._revision, self.until = data.token, data.revision, data.until
        self._greatest, self.left = data.token, data.left
        self._value = m.LeaseRecord(left=data.left)

    def learn(self, token: int) -> None:
        """Note the token under which a member runs."""
        self._greatest = max(self._greatest, token)

    # ------------------------------------------------------------------------------------------------ asking

    def handle_wake(self, wish: LeaseWish, number: int, now: float) -> list[LeaseOutcome]:
        """Handle the passing of time, or a changed wish. `number`: of the request that may follow."""
        outcomes = self._expire(now)
        if self._asked is not None and now - self._asked[1] >= REQUEST_TIMEOUT:
            self._asked = None
        if self.token and wish is LeaseWish.NONE:
            return [*outcomes, *self._give_back(number)]
        is_wanted = bool(self.token) or wish is LeaseWish.TAKE
        if self._asked is None and now >= self._due and is_wanted:
            outcomes.append(self._ask(number, now))
        return outcomes

    def next_wake(self, wish: LeaseWish) -> float:
        """Return when `handle_wake` has something to do if nothing happens before.

        Infinity if it never has, minus infinity if it has now.
        """
        if self.token and wish is LeaseWish.NONE:
            return -math.inf
        times = [self.until] if self.token else []
        if self._asked is not None:
            times.append(self._asked[1] + REQUEST_TIMEOUT)
        elif self.token or wish is LeaseWish.TAKE:
            times.append(self._due)
        return min(times, default=math.inf)

    def look_again(self) -> None:
        """Ask the store at once: another node returned the lease, or there is something to write."""
        self._due = 0.0
        if not self.token and self._asked is not None and not self._asked[2]:
            self._asked = None

    def _ask(self, number: int, now: float) -> LeaseOutcome:
        self._due = now + RENEW
        is_write = self._revision >= 0 and (bool(self.token) or self._may_take(now))
        self._asked = number, now, is_write
        if not is_write:
            return m.ReadLease(number, self.role)
        token, left = (self.token, self.left) if self.token else (self._greatest + 1, self._value.left)
        value = m.LeaseRecord(self._node, self._name, token, not self.token, left)
        return m.WriteLease(number, self.role, self._revision, value)

    def _may_take(self, now: float) -> bool:
        if self._revision > 0 and self._value.node in (0, self._node):  # returned, or our own that has expired
            return True
        return now - self._seen_at >= TAKE_OVER

    def _give_back(self, number: int) -> list[LeaseOutcome]:
        token, left = self.token, self.left
        self.token, self.until, self.left = 0, 0.0, 0
        self._revision, self._due, self._asked = -1, 0.0, None
        return [Yielded(self.role, ""), m.GiveBack(number, self.role, token, left=left)]

    # ---------------------------------------------------------------------------------------------- answers

    def handle_answer(self, answer: m.LeaseIs, now: float) -> list[LeaseOutcome]:
        """Handle an answer of the store. Ignore one that is no longer waited for."""
        if self._asked is None or self._asked[0] != answer.number:
            return []
        (_, sent, is_write), self._asked = self._asked, None
        outcomes = self._expire(now)
        self._error = answer.error
        if answer.error:
            self._revision = self._revision if self.token or not is_write else -1
            return outcomes + self._noted(answer.error)
        if is_write and answer.is_written:
            return outcomes + self._handle_written(answer, sent, now)
        self._due = now if is_write or self.token else self._due  # it was another revision: see which; or write at once
        if is_write:
            self._revision = -1
            return outcomes
        return outcomes + self._handle_read(answer, now)

    def _handle_written(self, answer: m.LeaseIs, sent: float, now: float) -> list[LeaseOutcome]:
        left = self._value.left
        self._see(answer.revision, answer.value, now)
        until = sent + LEASE
        if self.token:
            self.until = max(self.until, until)
            has_arrived = left and not answer.value.left  # the singleton runs with it, and the store says so by now
            return [
                Extended(self.role, self.until, answer.value.left),
                *([m.DropLeft(self.role, left)] if has_arrived else []),
            ]
        if answer.value.is_new and until - now >= WORTH:
            self.token, self.until = m.token_of(answer.value, answer.revision), until
            self._note, self.left = "", answer.value.left
            return [Won(self.role, self.token, until, self.left)]
        self._due = now  # it took too long; the value is our own, so the lease may be taken again
        return []

    def _handle_read(self, answer: m.LeaseIs, now: float) -> list[LeaseOutcome]:
        self._see(answer.revision, answer.value, now)
        value = answer.value
        if self.token:
            is_own = value.node == self._node and m.token_of(value, answer.revision) == self.token
            if is_own or not answer.revision:
                return []  # a renewal whose answer was lost, or a store that lost everything: written again at once
            return self._lose(f"{value.name!r} took over its lease" if value.node else "its lease was released")
        if self._may_take(now):
            self._due = now
        if not answer.revision:
            return self._noted(f"no machine has held its lease yet; it is taken after {TAKE_OVER:g} s")
        return self._noted(f"runs on {value.name!r}" if value.node else "waits for its lease")

    def _see(self, revision: int, value: m.LeaseRecord, now: float) -> None:
        if revision != self._revision:
            self._seen_at = now
        self._revision, self._value = revision, value
        if value.token:
            self.learn(m.token_of(value, revision))

    def _expire(self, now: float) -> list[LeaseOutcome]:
        if not self.token or now < self.until:
            return []
        why = f": {self._error}" if self._error else ""
        return self._lose(f"its lease could not be renewed for {LEASE:g} s{why}")

    def _lose(self, why: str) -> list[LeaseOutcome]:
        self.token, self.until, self.left = 0, 0.0, 0
        self._note = ""
        return [Yielded(self.role, why)]

    def _noted(self, note: str) -> list[LeaseOutcome]:
        if self.token or note == self._note:
            return []
        self._note = note
        return [Elsewhere(self.role, note)]
