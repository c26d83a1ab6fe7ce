"""Locks of a store: which claim holds each, which claims wait in which order, and when a holder's time is over.

Strategy. Each request gets a `LockClaim`, which waits, is held, or is over. Each step returns the claims that changed,
so that the worker can notify them. A claim that is held has a fence: a number that is greater than that of each holder
before.

After a store restarted its locks are unknown. So for a while (`grants_from`) no lock is given to a new claim, and
processes that report to hold one are believed (`adopt`). If its worker was replaced in order, the next one knows which
locks are held (`inherit`), and keeps them for their holders for longer.

Limits. No I/O, no clock: `now` is passed in, in seconds that only go forward.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf

KEPT = 30.0
"""Seconds for which a lock is kept for a holder that was handed over, until it reports.

A holder that is alive reports at once, unless it blocks its loop.
"""
WAITING, HELD, OVER = "waiting", "held", "over"
MOVED = -1
"""Sent to those that wait for a lock, instead of a fence, if another worker has the store by now."""


class LockClaim:
    """A process that waits for a lock, or holds it."""

    __slots__ = ("ends", "fence", "is_kept", "name", "state", "ttl", "why")

    def __init__(self, name: str, ttl: float | None) -> None:
        self.name: str = name
        self.ttl: float | None = ttl
        self.state: str = WAITING
        self.fence: int = 0
        self.ends: float = inf
        self.is_kept: bool = False
        """True if its holder has not reported yet."""
        self.why: str = ""
        """The reason why it is over, if its holder did not release it."""

    def __repr__(self) -> str:
        return f"<LockClaim of {self.name!r}, {self.state}>"


class Locks:
    """All locks of a store.

    Args:
        store: name of the store, for errors.
        fence: the number below the first fence.
        grants_from: time from which on locks may be given to new claims.
    """

    def __init__(self, store: str, fence: int, grants_from: float = -inf) -> None:
        self.store: str = store
        self.fence: int = fence
        self.grants_from: float = grants_from
        self.held: dict[str, LockClaim] = {}
        self.waiting: dict[str, OrderedDict[LockClaim, None]] = {}

    def __repr__(self) -> str:
        return f"<Locks: {len(self.held)} held, {len(self.waiting)} waited for>"

    def count_waiting(self) -> int:
        """Return how many claims wait."""
        return sum(map(len, self.waiting.values()))

    def ask(self, name: str, ttl: float | None, now: float) -> LockClaim:
        """Claim a lock: it is held at once if it is free; otherwise it waits behind earlier claims."""
        self._check_ttl(name, ttl)
        claim = LockClaim(name, ttl)
        if name in self.held or name in self.waiting or now < self.grants_from:
            self.waiting.setdefault(name, OrderedDict())[claim] = None
        else:
            self._grant(claim, now)
        return claim

    def adopt(self, name: str, ttl: float | None, fence: int, now: float) -> LockClaim:
        """Claim a lock that a process held before this store started.

        If another claim has it now, or may have had it in between, this one is over.
        """
        self._check_ttl(name, ttl)
        claim = LockClaim(name, ttl)
        kept = self.held.get(name)
        is_known = kept is not None and kept.is_kept and kept.fence == fence
        if not is_known and (kept is not None or now >= self.grants_from or fence > self.fence):
            claim.state, claim.why = OVER, "the store restarted, and the lock was free for others meanwhile"
            return claim
        claim.state, claim.fence = HELD, fence
        claim.ends = inf if ttl is None else now + ttl
        self.held[name] = claim
        return claim

    def inherit(self, name: str, fence: int, until: float) -> None:
        """Keep a lock until that time for its holder at the previous worker."""
        claim = self.held[name] = LockClaim(name, None)
        claim.state, claim.fence, claim.ends, claim.is_kept = HELD, fence, until, True

    def renew(self, name: str, fence: int, ttl: float | None, now: float) -> LockClaim | None:
        """Give a holder that many more seconds from now; return None if that fence no longer holds the lock."""
        self._check_ttl(name, ttl)
        claim = self.held.get(name)
        if claim is None or claim.fence != fence:
            return None
        claim.ttl = ttl
        claim.ends = inf if ttl is None else now + ttl
        if claim.is_kept:  # it has no stream yet that could report its holder's death
            claim.ends = min(claim.ends, now + KEPT)
        return claim

    def release(self, name: str, fence: int, now: float) -> list[LockClaim]:
        """End the claim of a holder; return it and the next one, or nothing if that fence no longer holds the lock."""
        claim = self.held.get(name)
        return [] if claim is None or claim.fence != fence else self.leave(claim, now)

    def leave(self, claim: LockClaim, now: float) -> list[LockClaim]:
        """End a claim, held or waiting; return the claims that changed."""
        if claim.state is OVER:
            return []
        was_held = claim.state is HELD
        claim.state = OVER
        if was_held:
            del self.held[claim.name]
            return [claim, *self._next(claim.name, now)]
        line = self.waiting[claim.name]
        del line[claim]
        if not line:
            del self.waiting[claim.name]
        return [claim]

    def next_due(self) -> float | None:
        """Return when `end_due` has something to do; None if never."""
        ends = min((claim.ends for claim in self.held.values()), default=inf)
        free = any(name not in self.held for name in self.waiting)
        due = min(ends, self.grants_from) if free else ends
        return None if due == inf else due

    def end_due(self, now: float) -> list[LockClaim]:
        """End the claims whose time is over, and give locks to the next ones; return the claims that changed."""
        changed: list[LockClaim] = []
        for claim in [each for each in self.held.values() if each.ends <= now]:
            claim.why = "" if claim.ttl is None else f"its ttl of {claim.ttl:g} s expired"
            changed += self.leave(claim, now)
        for name in [name for name in self.waiting if name not in self.held]:
            changed += self._next(name, now)
        return changed

    def _next(self, name: str, now: float) -> list[LockClaim]:
        line = self.waiting.get(name)
        if line is None or now < self.grants_from:
            return []
        claim, _ = line.popitem(last=False)
        if not line:
            del self.waiting[name]
        self._grant(claim, now)
        return [claim]

    def _grant(self, claim: LockClaim, now: float) -> None:
        self.fence += 1
        claim.state, claim.fence = HELD, self.fence
        claim.ends = inf if claim.ttl is None else now + claim.ttl
        self.held[claim.name] = claim

    def _check_ttl(self, name: str, ttl: float | None) -> None:
        if ttl is not None and not 0 < ttl < inf:
            raise ValueError(f"store {self.store!r}: lock({name!r}, ttl={ttl!r}): not a number of seconds above 0.")
