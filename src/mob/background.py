"""An app inside of this process's life: a Kingpin of its own as a child process, and a client of it.

The app ends with the client, and with this process, by whatever way that ends (`rim.tie`). Both pools and `App.up` are
made of it. It can be started from any thread, beside a running event loop, and in a mobster of another app.
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
"""Seconds that a Kingpin has beyond the app's grace time, to kill and to go."""
UNTOLD = 0.1
"""Seconds after which places are looked at although the roster has not changed: it tells nothing of places for which
there is no process, such as one that waits for a lease."""
MOST_REPORTS = 10
"""Reports of crashes among which that of a place is looked for."""


class Background(Client):
    """A client of an app that was started here. Closing it (or the end of a `with`) stops the app."""

    def __init__(self, plan: Plan, app: TiedApp) -> None:
        address = app.wait_listening()
        sock = knock_at(address, os.getuid())
        if sock is None:
            raise AppNotRunning(f"the app {plan.name!r} has ended as soon as it was up. It has printed why.")
        self._tied = app
        self._grace = plan.grace
        self._ending = threading.RLock()
        self._has_stopped = False
        super().__init__(plan.name, sock)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            super().close()  # first: it cancels the calls under way, and nobody is there for their results
        self.close()

    def close(self) -> None:
        """Stop the app in order, as `stop` does, wait until it is gone, and end the connection to it.

        Ctrl-C while it waits stops the app at once. In a forked child it does nothing: the app is the parent's.
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
        """Wait until all that should be ready has been. `MobError` if that fails, or takes longer than so many seconds,
        with the traceback of the role if there is one."""
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
                raise self._not_up(f"not all was ready within {timeout:g} s (timeout): {late}")
            self._changes.wait(seen, UNTOLD)

    def _places(self) -> tuple[m.Row, ...]:
        try:
            return self.overview()
        except (AppNotRunning, Unavailable):
            self._tied.wait_ended(KILL_TIMEOUT)
            why = coming.why_failing(self.roles().values(), ())
            raise self._not_up(why or f"its Kingpin has ended with status {self._tied.status}") from None

    def _not_up(self, why: str) -> MobError:
        return MobError(f"the app {self.app!r} did not come up: {why}{self._traceback(why)}")

    def _traceback(self, why: str) -> str:
        """The one of the place that could not be started, if it has left one."""
        try:
            reports = self.crashes(MOST_REPORTS)
        except MobError:  # its Kingpin has ended
            reports = crashes.Crashes(self.app).all()
        mine = [
            each for each in reports if each.at >= self._tied.began and why.startswith(f"{each.role}.{each.index}: ")
        ]
        return f"\n\n{mine[-1].stacks.rstrip()}" if mine and mine[-1].stacks else ""

    def end_at_once(self) -> None:
        """Stop the app without waiting for what its mobsters do, and end the connection to it."""
        if not self._closed and not self._context.is_abandoned:
            with contextlib.suppress(MobError, TimeoutError):  # it has ended, or `close` ends what does not answer
                self.stop(at_once=True)
        self.close()

    def _come_back(self) -> None:
        """Another app of that name is none of this."""


def start(plan: Plan, tied: TiedApp | None = None) -> Background:
    """Start an app that ends with this process, and return a client of it, whose `close` stops the app.

    It is reached, and its first mobsters are on their way; nobody waits until they are ready. It has this process's
    module path, directory and environment of this moment. `AppRunning` if an app of that name runs already, `PlanError`
    if the plan cannot be run here, `MobError` if the Kingpin does not come up. `tied`: its Kingpin, if that was started
    before this file was imported, which takes about as long.

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
    """Start an app, as `start`, and wait until it is up; if it does not come up it is stopped, and `MobError` tells
    why."""
    app = start(plan, tied)
    try:
        app.wait_up(timeout)
    except BaseException:
        app.end_at_once()
        raise
    return app
