"""The report to callers on the death of a worker: how it ended, why, and where to read more.

The end of a link shows only that a process ended. The Kingpin knows how, and tells all members; the errors of the
calls that were lost contain this text, after the name of the worker.
"""

from __future__ import annotations

from mob.core.crew import Process
from mob.plan import Plan


def verdict_of(plan: Plan, process: Process, why: str, status: int | None) -> str:
    """Return how a worker ended, worded to follow its name.

    `why`: its exit in words, or why the supervisor ended it. `status`: the exit itself, negative for a signal, None if
    the process never existed. `plan`: of its app, whose name (and machine, in a cluster) leads to the crash reports.
    """
    if process.why_killed and not process.why_killed.startswith("was killed"):
        why = f"was killed by mob because it {process.why_killed}"
    elif process.killed and not process.why_killed:
        why = "was killed by mob because it was still running after it was asked to stop"
    elif status is not None and status < 0:
        why = f"{why} (signal {-status})"
    if not process.has_crashed:
        return why
    machine = f" --node {plan.cluster.node}" if plan.cluster is not None else ""
    return f"{why}; see `mob crashes {plan.name}{machine}`"
