"""The program of a Kingpin that is started by a test: `python -m mob.testing.launched`.

It reads from its standard input what it is to run, one line of JSON. The test keeps the other end open: should the test
die, by whatever way, that end closes, and the app ends in order.
"""

from __future__ import annotations

import os
import signal
import threading
from functools import partial
from pathlib import Path

import msgspec

from mob import app as apps
from mob.app import App
from mob.kingpin import program
from mob.rim import crashes
from mob.testing.described import Described, amend


class LaunchOrder(msgspec.Struct, frozen=True):
    """What the test wants."""

    app: Described
    reports: str
    """The directory for the reports of crashes."""


def main() -> None:
    """Runs the app until it has stopped."""
    pipe = os.fdopen(os.dup(0), "rb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    order = msgspec.json.decode(pipe.readline(), type=LaunchOrder)
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    crashes.keep_in(order.app.name, Path(order.reports))
    if order.app.plan is not None:
        raise SystemExit(program.run(order.app.plan))
    apps.before_run.append(partial(_amend, order.app))
    apps.run_script(order.app.script)


def _amend(wanted: Described, app: App) -> None:
    amend(app, wanted.name, wanted.roles)


def _end_with(pipe: object) -> None:
    """Waits until the test is done with this app, or dead."""
    pipe.read()  # type: ignore[attr-defined]
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
