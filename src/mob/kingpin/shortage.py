"""What the Kingpin cannot do because the system lacks a resource; it retries until it can.

When file descriptors, memory, processes or disk space run out, the Kingpin neither drops the request, nor retries
without a pause, nor exits. `mob ps` shows what waits, and why.

Clients may use file descriptors only up to a reserve, which is kept for the Kingpin's own work: its launches and links.
"""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable, Container
from functools import partial
from time import monotonic

from mob.core.revival import SHORTAGE_PAUSE
from mob.rim import link
from mob.rim.processes import shortage
from mob.rim.reactor import Reactor

LACKING = link.LACKING | {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOSPC}
"""System errors that may pass: the resource may be available again in a moment."""
ALL = frozenset(errno.errorcode)
"""All errors, for what must be retried whatever the error is."""
RESERVE = 64
"""File descriptors kept for the Kingpin's own work; at most a quarter of its limit."""


class Shortage:
    """What waits for a resource, and why."""

    def __init__(self, reactor: Reactor, say: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._say = say
        self._waiting: dict[str, str] = {}  # what -> why

    def __repr__(self) -> str:
        return f"<Shortage, {len(self._waiting)} things wait>"

    def attempt(self, what: str, function: Callable[[], None], lacking: Container[int | None] = LACKING) -> None:
        """Call a function; if the system lacks a resource, retry until it works.

        `what` is what fails meanwhile, such as "a fork server cannot be started". An `OSError` whose number is not in
        `lacking` is raised.
        """
        try:
            function()
        except OSError as error:
            if error.errno not in lacking:
                raise
            why = shortage(error)
            if what not in self._waiting:
                self._say(f"{what}: {why}. Retrying every {SHORTAGE_PAUSE:g} s.")
            self._waiting[what] = why
            self._reactor.call_at(monotonic() + SHORTAGE_PAUSE, partial(self._try_again, what, function, lacking))
        else:
            self._waiting.pop(what, None)

    def _try_again(self, what: str, function: Callable[[], None], lacking: Container[int | None]) -> None:
        if what in self._waiting:
            self.attempt(what, function, lacking)

    def forget(self) -> None:
        """Drop everything that waits."""
        self._waiting.clear()

    def text(self) -> str:
        """Return what waits, in one line, or "" if nothing does."""
        return "; ".join(f"{what}: {why}" for what, why in self._waiting.items())


def is_reserved(descriptor: int) -> bool:
    """Return True if this file descriptor is one of the last, which are not for clients."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and descriptor >= limit - min(RESERVE, limit // 4)
