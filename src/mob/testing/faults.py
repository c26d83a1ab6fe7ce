"""Faults on demand: a mobster is killed, is stopped, receives late, or loses the link on which a call arrives.

They are real: a kill is SIGKILL, and the worker's end closes a cut link. The app handles them as in production.
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
"""Used instead of seconds: not late, but never."""
_numbers = itertools.count(1)


class Fault:
    """A fault that lasts until `end`, or until the end of a `with` block."""

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
        """End the fault; what is already delayed still arrives late."""
        end, self._end = self._end, None
        if end is not None:
            end()


class Faults:
    """The faults of an app under test, each for a target: a role, one of its places ("back.0"), or a pid.

    A fault hits the mobsters of the target that are ready at this moment, not their successors.
    """

    def __init__(self, app: AppUnderTest, peer: Peer, send_signal: Callable[[int, int], None]) -> None:
        self._app = app
        self._peer = peer
        self._send_signal = send_signal

    def __repr__(self) -> str:
        return f"<Faults of {self._app.app!r}>"

    def kill(self, target: str | int) -> list[int]:
        """End mobsters at once, as `kill -9` does, and wait until the app has noticed.

        Args:
            target: A role, a place ("back.0"), or a pid.

        Returns:
            Their process ids.

        Raises:
            UnknownTarget: No mobster of the target is ready.

        Example:
            >>> app.faults.kill("back.0")                    # doctest: +SKIP
            [4242]
        """
        pids = self._pids(target)
        for pid in pids:
            self._send_signal(pid, signal.SIGKILL)
        self._app.wait_until(lambda: not set(pids) & set(self._app.pids()), f"{target} has exited", WAIT_TIMEOUT)
        return pids

    def stop(self, target: str | int) -> Fault:
        """Stop mobsters in the middle of whatever they do (SIGSTOP), until the fault ends; only for processes.

        Args:
            target: A role, a place ("back.0"), or a pid.

        Returns:
            The fault, whose `end` lets them go on.

        Example:
            >>> with app.faults.stop("back.0"): ...          # doctest: +SKIP
        """
        pids = self._pids(target)
        for pid in pids:
            self._send_signal(pid, signal.SIGSTOP)

        def go_on() -> None:
            for pid in pids:
                with suppress(ProcessLookupError):
                    self._send_signal(pid, signal.SIGCONT)

        return Fault(f"{target} is stopped", go_on)

    def delay(self, target: str | int, seconds: float, *, export: str = "", count: int | None = None) -> Fault:
        """Delay calls and messages.

        Args:
            target: A role, a place ("back.0"), or a pid.
            seconds: Seconds by which they arrive late.
            export: Only calls of this function. Default: "", all calls and messages.
            count: Number of calls at each mobster after which the fault is over. Default: None, until the fault ends.

        Returns:
            The fault.

        Raises:
            ValueError: `seconds` is not a number of at least 0.
            UnknownExport: The role has no such function.

        Example:
            >>> with app.faults.delay("back", 0.5, export="foo"): ...          # doctest: +SKIP
        """
        if not seconds >= 0:
            raise ValueError(f"delay: {seconds!r} is not a number of seconds.")
        return self._set(f"{target} is {seconds:g} s late", target, seconds, export, count)

    def drop(self, target: str | int, *, export: str = "", count: int | None = 1) -> Fault:
        """Break the link on which a call arrives, before the call begins.

        The caller cannot know that, and sees `Lost` with `executed` "maybe".

        Args:
            target: A role, a place ("back.0"), or a pid.
            export: Only calls of this function. Default: "", all calls and messages.
            count: Number of calls at each mobster after which the fault is over; None: until the fault ends. Default:
                1.

        Returns:
            The fault.

        Raises:
            UnknownExport: The role has no such function.

        Example:
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
                with suppress(CallError, UnknownTarget):  # it died, and its faults with it
                    self._steer(pid, (number,))

        return Fault(what, end)

    def _check_export(self, role: str, export: str) -> None:
        """Raise `UnknownExport` for a function that does not exist, since such a fault would never happen."""
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
