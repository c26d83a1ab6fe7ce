"""Faults on demand: a mobster is killed, stands still, is slow to hear, or loses the link on which a call has come.

They are real ones: a kill is SIGKILL, a cut link is closed by the callee's end. What the app makes of it is what it
would make of it in earnest.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from mob.errors import CallError, UnknownTarget
from mob.peer.peer import Peer
from mob.testing.injection import STEER
from mob.testing.lines import WAIT_TIMEOUT

if TYPE_CHECKING:
    from mob.testing.app import AppUnderTest

CUT = -1.0
"""In the place of seconds: not late, but never."""
_numbers = itertools.count(1)


class Fault:
    """A fault that lasts until `end`, or until the end of a `with`."""

    def __init__(self, what: str, end: Callable[[], None]) -> None:
        self._what = what
        self._end: Callable[[], None] | None = end

    def __repr__(self) -> str:
        return f"<Fault: {self._what}{'' if self._end else ', over'}>"

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """All is well again; what is held up already comes when its time is over."""
        end, self._end = self._end, None
        if end is not None:
            end()


class Faults:
    """What can go wrong in an app under test, each said with a target: a role, one of its places ("back.0"), or a pid.

    A fault hits those mobsters of the target that are ready at this moment, and not their successors.
    """

    def __init__(self, app: AppUnderTest, peer: Peer, send_signal: Callable[[int, int], None]) -> None:
        self._app = app
        self._peer = peer
        self._send_signal = send_signal

    def __repr__(self) -> str:
        return f"<Faults of {self._app.app!r}>"

    def kill(self, target: str | int) -> list[int]:
        """Ends mobsters at once, as `kill -9` does; returns when the app has noticed. Their process ids.

        >>> app.faults.kill("back.0")                    # doctest: +SKIP
        [4242]
        """
        pids = self._pids(target)
        for pid in pids:
            self._send_signal(pid, signal.SIGKILL)
        self._app.wait_until(lambda: not set(pids) & set(self._app.pids()), f"{target} is gone", WAIT_TIMEOUT)
        return pids

    def stop(self, target: str | int) -> Fault:
        """Has mobsters stand still in the middle of whatever they do (SIGSTOP), until the fault ends. Processes only.

        >>> with app.faults.stop("back.0"): ...          # doctest: +SKIP
        """
        pids = self._pids(target)
        for pid in pids:
            self._send_signal(pid, signal.SIGSTOP)

        def go_on() -> None:
            for pid in pids:
                with suppress(ProcessLookupError):
                    self._send_signal(pid, signal.SIGCONT)

        return Fault(f"{target} stands still", go_on)

    def delay(self, target: str | int, seconds: float, *, export: str = "", count: int | None = None) -> Fault:
        """Has calls and messages arrive so many seconds late. `export`: only calls of that function. `count`: only so
        many at each mobster, then all is well.

        >>> with app.faults.delay("back", 0.5, export="foo"): ...          # doctest: +SKIP
        """
        if not seconds >= 0:
            raise ValueError(f"delay: {seconds!r} is not a number of seconds.")
        return self._set(f"{target} is {seconds:g} s late", target, seconds, export, count)

    def drop(self, target: str | int, *, export: str = "", count: int | None = 1) -> Fault:
        """Breaks the link on which a call comes, before the call begins: its caller cannot know that, and sees `Lost`
        with `executed` "maybe". `count`: so many at each mobster (1), None for all that come until the fault ends.

        >>> with app.faults.drop("back", export="foo"): ...                # doctest: +SKIP
        """
        return self._set(f"links to {target} break", target, CUT, export, count)

    def _set(self, what: str, target: str | int, seconds: float, export: str, count: int | None) -> Fault:
        number = next(_numbers)
        left = -1 if count is None else count
        if export and isinstance(target, str):
            self._check_export(target.partition(".")[0], export)
        pids = self._pids(target)
        for pid in pids:
            self._steer(pid, (number, float(seconds), export, left))

        def end() -> None:
            for pid in pids:
                with suppress(CallError, UnknownTarget):  # it has died, and its faults with it
                    self._steer(pid, (number,))

        return Fault(what, end)

    def _check_export(self, role: str, export: str) -> None:
        """`UnknownExport` for a function that is not there: such a fault would never come."""
        getattr(self._app.require(role), export)

    def _steer(self, pid: int, args: Sequence[object]) -> None:
        contact = self._peer.contacts.of_pid(pid)
        self._peer.calling.call_one(contact, f"a fault of {contact.name}", STEER, args, {}).result(WAIT_TIMEOUT)

    def _pids(self, target: str | int) -> list[int]:
        pids = self._app.pids(target)
        if not pids:
            raise UnknownTarget(
                f"no mobster of {target!r} is ready. There are: {', '.join(self._app.places()) or 'none'}."
            )
        return pids
