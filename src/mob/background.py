"""An app that lives as long as this process: its own Kingpin as a child process, and a client of it.

The app ends with the client, and with this process, however that ends (`rim.tie`). Pools and `App.up` are both built on
it. It can be started from any thread, while an event loop is running, and in a mobster of another app.
"""

from __future__ import annotations

import contextlib
import os
import threading
from time import monotonic
from types import TracebackType

from mob.client import Client
from mob.core import coming
from mob.errors import AppNotRunning, MobError, Unavailable
from mob.peer.operating.doors import knock_at
from mob.plan import Plan
from mob.rim import crashes
from mob.rim.tie import KINGPIN, TiedApp
from mob.wire import messages as m

KILL_TIMEOUT = 5.0
"""Seconds that a Kingpin has beyond the app's grace period, to kill its mobsters and exit."""
UNTOLD = 0.1
"""Seconds after which places are checked even though the roster did not change.

The roster says nothing about places without a process, such as one that waits for a lease.
"""
MOST_REPORTS = 10
"""Maximum number of crash reports that are searched for that of a place."""


class Background(Client):
    """A client of an app that was started here. Closing it (or the end of a `with` block) stops the app."""

    def __init__(self, plan: Plan, app: TiedApp) -> None:
        address = app.wait_listening()
        sock = knock_at(address, os.getuid())
        if sock is None:
            raise AppNotRunning(f"the app {plan.name!r} ended as soon as it was up. Its output says why.")
        self._tied = app
        self._grace = plan.grace
        self._ending = threading.RLock()
        self._has_stopped = False
        super().__init__(plan.name, sock)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            super().close()  # first: it cancels the calls under way, whose results are no longer needed
        self.close()

    def close(self) -> None:
        """Stop the app gracefully, as `stop` does, wait until it ended, and close the connection to it.

        Ctrl-C meanwhile stops the app at once. In a forked child this does nothing: the app is the parent's.
        """
        with self._ending:
            if self._has_stopped:
                return
            self._has_stopped = True
            try:
                if not self._context.is_abandoned:
                    self._tied.end(self._grace + KILL_TIMEOUT)
            finally:
                super().close()

    def wait_up(self, timeout: float) -> None:
        """Wait until everything that should be ready was ready once.

        Raises `MobError` if that fails, or takes longer than `timeout` seconds, with the traceback of the role if there
        is one.
        """
        deadline = monotonic() + timeout
        while True:
            seen = self._changes.count
            rows = self._places()
            if why := coming.why_failing(self.roles().values(), rows):
                raise self._not_up(why)
            if coming.is_up(rows):
                return
            if monotonic() >= deadline:
                late = "; ".join(map(coming.text_of, coming.missing(rows)))
                raise self._not_up(f"not everything was ready within {timeout:g} s (timeout): {late}")
            self._changes.wait(seen, UNTOLD)

    def _places(self) -> tuple[m.Row, ...]:
        try:
            return self.overview()
        except (AppNotRunning, Unavailable):
            self._tied.wait_ended(KILL_TIMEOUT)
            why = coming.why_failing(self.roles().values(), ())
            raise self._not_up(why or f"its Kingpin exited with status {self._tied.status}") from None

    def _not_up(self, why: str) -> MobError:
        return MobError(f"the app {self.app!r} did not come up: {why}{self._traceback(why)}")

    def _traceback(self, why: str) -> str:
        """Return the traceback of the place that could not be started, if it left one."""
        try:
            reports = self.crashes(MOST_REPORTS)
        except MobError:  # its Kingpin exited
            reports = crashes.Crashes(self.app).all()
        mine = [
            each for each in reports if each.at >= self._tied.began and why.startswith(f"{each.role}.{each.index}: ")
        ]
        return f"\n\n{mine[-1].stacks.rstrip()}" if mine and mine[-1].stacks else ""

    def end_at_once(self) -> None:
        """Stop the app without waiting for its mobsters, and close the connection to it."""
        if not self._closed and not self._context.is_abandoned:
            with contextlib.suppress(MobError, TimeoutError):  # it ended, or `close` ends what does not answer
                self.stop(at_once=True)
        self.close()

    def _come_back(self) -> None:
        """Do nothing: another app with that name is a different one."""


def start(plan: Plan, tied: TiedApp | None = None) -> Background:
    """Start an app that ends with this process, and return a client of it, whose `close` stops the app.

    The app can be reached, and its first mobsters are being launched; this does not wait until they are ready. The app
    gets this process's module path, directory and environment as they are now.

    `tied` is the app's Kingpin, if it was started before this file was imported, because the import takes about as
    long. Raises `AppRunning` if an app with that name is already running, `PlanError` if the plan cannot be run here,
    and `MobError` if the Kingpin does not come up.

    >>> with start(plan) as app: app.require("back").foo(1).result()           # doctest: +SKIP
    """
    tied = tied or TiedApp(KINGPIN, plan)
    try:
        background = Background(plan, tied)
        background.open()
    except BaseException:
        tied.end(plan.grace + KILL_TIMEOUT)
        raise
    return background


def up(plan: Plan, tied: TiedApp, timeout: float) -> Background:
    """Start an app, as `start` does, and wait until it is up.

    If it does not come up it is stopped, and `MobError` says why.
    """
    app = start(plan, tied)
    try:
        app.wait_up(timeout)
    except BaseException:
        app.end_at_once()
        raise
    return app
