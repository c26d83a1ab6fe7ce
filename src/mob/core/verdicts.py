"""What callers are told of the death of a worker: how it ended, by whom, and where more is to be read.

The end of a link says only that a process is gone. Its exit is known to the Kingpin, which tells all members; the
errors of the calls that were lost with it say it in these words, after the name of the worker.
"""

from __future__ import annotations

from mob.core.crew import Process
from mob.plan import Plan


def verdict_of(plan: Plan, process: Process, why: str, status: int | None) -> str:
    """Return how a worker has ended, in words that follow its name.

    `why`: its exit in words, or why the supervisor has ended it. `status`: the exit itself, negative for a signal, None
    if the process was never born. `plan`: of its app, by whose name (and machine, in a cluster) reports are found.
    """
    if process.why_killed and not process.why_killed.startswith("was killed"):
        why = f"was killed by mob, because it {process.why_killed}"
    elif process.killed and not process.why_killed:
        why = "was killed by mob, because it was asked to end and was still running"
    elif status is not None and status < 0:
        why = f"{why} (signal {-status})"
    if not process.has_crashed:
        return why
    machine = f" --node {plan.cluster.node}" if plan.cluster is not None else ""
    return f"{why}; see `mob crashes {plan.name}{machine}`"
