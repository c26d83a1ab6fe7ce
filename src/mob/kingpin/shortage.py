"""What the Kingpin could not do because the system lacks something: it is tried again until it can be done.

Out of descriptors, of memory, of processes or of room, for a moment or for long: nothing of that is a reason to give up
what was asked for, to ask again without a pause, or to end. `mob ps` says what waits, and why.

Visitors may use the descriptors up to a reserve, which is for the Kingpin's own work: its launches and links.
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
"""The errors of a system that may have in a moment what it does not have now."""
ALL = frozenset(errno.errorcode)
"""For what is to be tried again whatever is amiss."""
RESERVE = 64
"""Descriptors that are for the Kingpin's own work; a quarter of those that it may have, if that is less."""


class Shortage:
    """What waits, and why."""

    def __init__(self, reactor: Reactor, say: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._say = say
        self._waiting: dict[str, str] = {}  # what -> why not

    def __repr__(self) -> str:
        return f"<Shortage, {len(self._waiting)} things wait>"

    def attempt(self, what: str, function: Callable[[], None], lacking: Container[int | None] = LACKING) -> None:
        """Do it; or, if the system lacks what it takes, do it as soon as that is there. `what` says what it is, as
        "a fork server cannot be started". An `OSError` with a number that is not in `lacking` is raised."""
        try:
            function()
        except OSError as error:
            if error.errno not in lacking:
                raise
            why = shortage(error)
            if what not in self._waiting:
                self._say(f"{what}: {why}. It is tried again every {SHORTAGE_PAUSE:g} s.")
            self._waiting[what] = why
            self._reactor.call_at(monotonic() + SHORTAGE_PAUSE, partial(self._try_again, what, function, lacking))
        else:
            self._waiting.pop(what, None)

    def _try_again(self, what: str, function: Callable[[], None], lacking: Container[int | None]) -> None:
        if what in self._waiting:
            self.attempt(what, function, lacking)

    def forget(self) -> None:
        """Give up all that waits."""
        self._waiting.clear()

    def text(self) -> str:
        """Return what waits, in one line; nothing if nothing does."""
        return "; ".join(f"{what}: {why}" for what, why in self._waiting.items())


def is_reserved(descriptor: int) -> bool:
    """Return whether a descriptor of that number is one of the last, which are not for visitors."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and descriptor >= limit - min(RESERVE, limit // 4)
