"""An app that runs in this process: its fork server starts first, and the Kingpin is imported meanwhile.

Both are interpreters that import for long, so on two cores a start takes as long as the longer one. Hence this file,
and what it imports, load little.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from mob.imports import import_at_rest
from mob.kingpin.processes.starting import Starter
from mob.plan import Plan

UPGRADE = "MOB_UPGRADE"
"""The variable that says that this process is a Kingpin with new code, which finds a fork server, or its rehearsal."""


def run(plan: Plan, on_listening: Callable[[str], None] | None = None) -> int:
    """Run an app in this process until it has stopped, as `kingpin.program.run` does; return its status."""
    starter = None if os.environ.get(UPGRADE) else Starter(plan).begin()
    try:
        return import_at_rest("mob.kingpin.program").run(plan, starter, on_listening)
    finally:
        if starter is not None:
            starter.cancel()
