"""An app under test: a client of it, with additions for tests."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

from mob.client import Client
from mob.core import coming
from mob.core.roster import is_ready
from mob.core.selector import selector_of
from mob.errors import AppNotRunning, Unavailable
from mob.peer.operating.doors import knock
from mob.testing import leaks
from mob.testing.faults import Faults
from mob.testing.hosts import Host
from mob.testing.leaks import Leak
from mob.testing.lines import WAIT_TIMEOUT
from mob.wire import messages as m

T = TypeVar("T")
STATE_INTERVAL = 0.002
"""Seconds between two looks at a condition that no event announces."""
UNTOLD = 0.1
"""Seconds after which places are checked although the roster has not changed.

The roster does not show places without a process, such as one that waits for a lease.
"""


class NotReady(AssertionError):
    """The app, or one of its roles, did not come up; `why`, and the whole output."""

    def __init__(self, app: str, why: str, printed: str) -> None:
        self.why = why
        super().__init__(f"the app {app!r} did not come up: {why}.\nIts output:\n{printed}")


class AppUnderTest(Client):
    """A running app: a `Client`, with additions for tests.

    >>> app = mob_app("main.py")                              # doctest: +SKIP
    >>> app.require("back").foo(1).result()                   # doctest: +SKIP
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._was_ready = False
        super().__init__(host.name, _reached(host))
        self.faults: Faults = Faults(self, self._peer, host.send_signal)
        """The faults that a test can cause: `kill`, `stop`, `delay`, `drop`."""

    def __repr__(self) -> str:
        mode = "in one process" if self._host.is_one_process else "in processes"
        return f"<AppUnderTest {self.app!r} {mode}{', closed' if self._closed else ''}>"

    @property
    def is_one_process(self) -> bool:
        """True if it runs in the test's own process."""
        return self._host.is_one_process

    @property
    def output(self) -> str:
        """The output so far, each line with the name of the process that printed it."""
        return self._host.lines.text

    def wait_for(self, pattern: str, count: int = 1, patience: float = WAIT_TIMEOUT) -> list[re.Match[str]]:
        r"""Wait until `count` printed lines match a regular expression.

        Args:
            pattern: The regular expression.
            count: Number of lines. Default: 1.
            patience: Seconds to wait. Default: 30.

        Returns:
            The matches.

        Raises:
            AssertionError: Too few lines matched in time; it shows the whole output.

        Example:
            >>> app.wait_for(r"back\.0 .* served (\d+)")[0][1]     # doctest: +SKIP
            '42'
        """
        return self._host.lines.wait_for(pattern, count, patience)

    def wait_until(self, question: Callable[[], T], what: str, patience: float = WAIT_TIMEOUT) -> T:
        """Ask a question every few milliseconds until the answer is true.

        Args:
            question: The function to call.
            what: The condition in words, for the error.
            patience: Seconds to wait. Default: 30.

        Returns:
            The first true answer.

        Raises:
            AssertionError: There was no true answer in time; it shows the whole output.

        Example:
            >>> app.wait_until(lambda: len(app.pids("back")) == 3, "three are there")      # doctest: +SKIP
        """
        deadline = monotonic() + patience
        while not (answer := question()):
            if monotonic() > deadline:
                raise AssertionError(
                    f"after {patience:g} s, still not true: {what}. The output of the app:\n{self.output}"
                )
            sleep(STATE_INTERVAL)
        return answer

    def wait_ready(self, role: str = "", count: int | None = None, patience: float = WAIT_TIMEOUT) -> None:
        """Wait until mobsters are ready.

        Args:
            role: The role. Default: "", all roles.
            count: Number of ready mobsters. Default: None, all that the role has.
            patience: Seconds to wait. Default: 30.

        Raises:
            NotReady: One cannot boot (raised at once, with its error), or the time is over.

        Example:
            >>> app.wait_ready("back", 3)                         # doctest: +SKIP
        """
        deadline = monotonic() + patience
        while True:
            seen = self._changes.count
            if self._is_ready(role, count):
                break
            if why := self._failing(role) or self._host.problem():
                raise self._not_ready(why)
            if monotonic() > deadline:
                raise self._not_ready(f"{role or 'it'} was not ready within {patience:g} s")
            self._changes.wait(seen, UNTOLD)
        self._was_ready = self._was_ready or not role

    def _failing(self, role: str) -> str:
        """Return why a role cannot boot; before the app was ready for the first time, why a worker cannot."""
        return coming.why_failing(self.roles().values(), () if self._was_ready else self._rows() or (), role)

    def _is_ready(self, role: str, count: int | None) -> bool:
        if count is not None:
            return len(self._ready(role)) >= count
        rows = self._rows()
        return rows is not None and coming.is_up(rows, role)

    def _rows(self) -> tuple[m.Row, ...] | None:
        """Return the places; None if the app has ended."""
        with contextlib.suppress(AppNotRunning, Unavailable):
            return self.overview()
        return None

    def _not_ready(self, why: str) -> NotReady:
        return not_ready(self._host, why)

    def give_up(self, why: str) -> NotReady:
        """End an app that does not come up, so that the error shows its whole output."""
        with contextlib.suppress(AppNotRunning):
            super().stop(at_once=True)
        self._host.wait_printed()
        return self._not_ready(why)

    def pids(self, target: str | int = "") -> list[int]:
        """Return the process ids of the ready mobsters.

        Args:
            target: A role, a place ("back.0"), or a pid. Default: "", all.

        Example:
            >>> app.pids("back")                                  # doctest: +SKIP
            [4242, 4243]
        """
        wanted = selector_of(target, self.roles())
        return [member.pid for member in self._ready() if wanted.has(member)]

    def places(self) -> list[str]:
        """Return the names of the ready mobsters: "back.0"."""
        return [f"{member.role}.{member.index}" for member in self._ready()]

    def _ready(self, role: str = "") -> list[m.Member]:
        members = [each for each in self.members() if is_ready(each, role)]
        return sorted(members, key=lambda member: (member.role, member.index))

    def leaks(self, *allowed: str) -> list[Leak]:
        """Return what is lent, unanswered, unread or in use, after a few seconds for what is under way.

        Args:
            *allowed: Kinds of leaks to ignore; see `mob.testing.Leak`.
        """
        return leaks.settled(self._look, leaks.check_kinds(allowed))

    def _look(self) -> list[Leak]:
        peers = [self._peer, *self._host.peers()] if not self._closed else []
        return [leak for peer in peers for leak in leaks.at_peer(peer)]

    def stop(self, *, at_once: bool = False) -> str:
        """Stop the app as SIGTERM does, and wait for its end; with `at_once`, do not wait for what is under way."""
        done = super().stop(at_once=at_once)
        self.wait_stopped(WAIT_TIMEOUT)
        return done

    def end(self, at_once: bool = False) -> list[Leak]:
        """End the app at the end of the test, whatever happened; return what had to be ended by force."""
        with contextlib.suppress(AppNotRunning):
            self.stop(at_once=at_once)
        self.close()
        return self._host.end()


def not_ready(host: Host, why: str) -> NotReady:
    """Return the error of an app that does not come up."""
    return NotReady(host.name, why, host.lines.text)


def _reached(host: Host) -> socket.socket:
    """Return the socket to the Kingpin, as soon as that listens."""
    deadline = monotonic() + WAIT_TIMEOUT
    while True:
        with contextlib.suppress(AppNotRunning):
            return knock(host.name)
        if (why := host.problem()) or monotonic() > deadline:
            raise not_ready(host, why or f"its Kingpin did not listen within {WAIT_TIMEOUT:g} s")
        sleep(STATE_INTERVAL)
