"""An app inside of this process's life: a Kingpin of its own as a child process, and a client of it.

The app ends with the client, and with this process, by whatever way that ends (`rim.tie`). Both pools and `App.up` are
made of it. It can be started from any thread, beside a running event loop, and in a mobster of another app.
"""

from __future__ import annotations

import contextlib
import os
import threading
from types import TracebackType

from mob.client import Client
from mob.errors import AppNotRunning, MobError
from mob.peer.operating.doors import knock_at
from mob.plan import Plan
from mob.rim.tie import TiedApp

PROGRAM = "mob.kingpin.tied"
KILL_TIMEOUT = 5.0
"""Seconds that a Kingpin has beyond the app's grace time, to kill and to go."""


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
        super().__init__(plan.name, sock)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop the app in order, as `stop` does, wait until it is gone, and end the connection to it.

        Ctrl-C while it waits stops the app at once. In a forked child it does nothing: the app is the parent's.
        """
        with self._ending:
            if self._closed:
                return
            try:
                if not self._context.is_abandoned:
                    self._tied.end(self._grace + KILL_TIMEOUT)
            finally:
                super().close()

    def end_at_once(self) -> None:
        """Stop the app without waiting for what its mobsters do, and end the connection to it."""
        if not self._closed and not self._context.is_abandoned:
            with contextlib.suppress(MobError, TimeoutError):  # it has ended, or `close` ends what does not answer
                self.stop(at_once=True)
        self.close()

    def _come_back(self) -> None:
        """Another app of that name is none of this."""


def start(plan: Plan) -> Background:
    """Start an app that ends with this process, and return a client of it, whose `close` stops the app.

    It is reached, and its first mobsters are on their way; nobody waits until they are ready. It has this process's
    module path, directory and environment of this moment. `AppRunning` if an app of that name runs already, `PlanError`
    if the plan cannot be run here, `MobError` if the Kingpin does not come up.

    >>> with start(plan) as app: app.require("back").foo(1).result()           # doctest: +SKIP
    """
    tied = TiedApp(PROGRAM, plan)
    try:
        background = Background(plan, tied)
        background.open()
    except BaseException:
        tied.end(plan.grace + KILL_TIMEOUT)
        raise
    return background
