"""An app that runs in this process: starts its fork server first, and imports the Kingpin in the meantime.

Both are interpreters with long imports, so on two cores a start takes as long as the longer one. Therefore this file
and what it imports load little.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from mob.imports import import_at_rest
from mob.kingpin.processes.starting import Starter
from mob.plan import Plan

UPGRADE = "MOB_UPGRADE"
"""Environment variable of a Kingpin with new code, which already has a fork server, and of its rehearsal."""


def run(plan: Plan, on_listening: Callable[[str], None] | None = None) -> int:
    """Run an app in this process until it stops, as `kingpin.program.run` does; return its exit status."""
    starter = None if os.environ.get(UPGRADE) else Starter(plan).begin()
    try:
        return import_at_rest("mob.kingpin.program").run(plan, starter, on_listening)
    finally:
        if starter is not None:
            starter.cancel()
