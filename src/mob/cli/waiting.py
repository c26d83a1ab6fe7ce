"""Waits until requested workers are ready, and shows the progress on a terminal.

It asks the Kingpin again after each change of the roster, because in the meantime the role may have failed for good, or
others may scale or reload it. If the role fails, waiting ends at once; the Kingpin keeps trying.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable
from contextlib import nullcontext

from rich.console import Console

from mob.cli.apps import CommandError
from mob.client import Client
from mob.core.printable import plain
from mob.plan import place_name
from mob.wire.messages import Metrics, Row

RolePlace = tuple[str, int]
"""A role and an index."""


class Workers:
    """What is waited for: in each of `places`, or else of the places of `roles`, a ready worker that is not old."""

    def __init__(self, before: Metrics, roles: Collection[str], places: Collection[RolePlace] = ()) -> None:
        self._roles = sorted(roles)
        self._places = set(places)
        self._crashes = {role.name: role.crashes for role in before.roles}
        self._old: set[int] = set()

    def __repr__(self) -> str:
        return f"<Workers of {', '.join(self._roles)}>"

    def replacing(self, before: Metrics) -> Workers:
        """Exclude the workers that exist now."""
        self._old = {each.uid for each in before.mobsters if self._is_meant(each.role, each.index)}
        return self

    def progress(self, now: Metrics) -> dict[str, tuple[int, int]]:
        """Return by role how many are ready, and how many there should be."""
        targets = {role.name: role.target for role in now.roles}
        shown: dict[str, tuple[int, int]] = {}
        for role in self._roles:
            ready = sum(
                each.state == "ready" and each.uid not in self._old and self._is_meant(role, each.index)
                for each in now.mobsters
                if each.role == role
            )
            wanted = sum(place[0] == role for place in self._places) or targets.get(role, 0)
            shown[role] = (ready, wanted)
        return shown

    def problem(self, now: Metrics) -> str:
        """Return why workers do not start, if one failed since; else ""."""
        for role in now.roles:
            if role.name in self._roles and role.failing and role.crashes > self._crashes.get(role.name, 0):
                return role.failing
        return ""

    def outlook(self, rows: Iterable[Row]) -> str:
        """Return the state of the places that have no ready worker, and what happens next."""
        lacking = [row for row in rows if row.role in self._roles and row.state != "ready" and row.index >= 0]
        notes = [f"{place_name(row.role, row.index)} is {row.state}{row.note and ': '}{row.note}." for row in lacking]
        goes_on = not lacking or any(row.state != "failed" for row in lacking)
        notes.append(
            "mob keeps trying; `mob crashes` shows the reports." if goes_on else "`mob crashes` shows the reports."
        )
        return "\n".join(notes)

    def _is_meant(self, role: str, index: int) -> bool:
        return role in self._roles and (not self._places or (role, index) in self._places)


def wait_ready(app: Client, workers: Workers, timeout: float) -> str:
    """Wait until they are ready; return a line that says so. `CommandError` with the reason if they do not start."""
    deadline = time.monotonic() + timeout
    changes = app._changes  # pyright: ignore[reportPrivateUsage]
    console = Console(stderr=True)
    with console.status("") if sys.stderr.isatty() else nullcontext() as status:
        while True:
            seen = changes.count
            now = app.metrics()
            progress = workers.progress(now)
            if all(ready == wanted for ready, wanted in progress.values()):
                return ", ".join(f"{role}: {ready} ready" for role, (ready, _) in progress.items()) + "."
            shown = ", ".join(f"{role}: {ready} of {wanted} ready" for role, (ready, wanted) in progress.items())
            if why := workers.problem(now):
                raise CommandError(f"{shown}. {why}\n{workers.outlook(app.overview())}")
            if time.monotonic() >= deadline:
                raise CommandError(f"after {timeout:g} s (--timeout): {shown}.\n{workers.outlook(app.overview())}")
            if status is not None:
                status.update(plain(shown))
            changes.wait(seen, max(0.0, deadline - time.monotonic()))
