"""The program of a Kingpin that a test starts and that ends with the test (`rim.tie`)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec

from mob import app as apps
from mob.app import App
from mob.kingpin import early
from mob.rim import crashes
from mob.rim.tie import Tie
from mob.testing.described import Described, amend


class LaunchOrder(msgspec.Struct, frozen=True):
    """The app that the test starts."""

    app: Described
    reports: str
    """The directory for crash reports."""


def main(arguments: tuple[int, int]) -> None:
    """Run the app until it stops; `arguments` are those of a `Tie`."""
    order = Tie(*arguments).receive(LaunchOrder)
    crashes.keep_in(order.app.name, Path(order.reports))
    if order.app.plan is not None:
        raise SystemExit(early.run(order.app.plan))
    apps.before_run.append(partial(_amend, order.app))
    apps.run_script(order.app.script)


def _amend(wanted: Described, app: App) -> None:
    amend(app, wanted.name, wanted.roles)
