"""The program of a Kingpin that another process started, and that ends with that process (`rim.tie`).

It receives a plan from its parent, runs it, and reports the outcome. There is no main script, so there is no upgrade:
to get new code in the Kingpin, restart the parent.
"""

from __future__ import annotations

import os
from functools import partial

from mob.errors import MobError
from mob.kingpin import early
from mob.plan import Plan
from mob.rim import processes
from mob.rim.tie import AppUp, Tie


def main(arguments: tuple[int, int]) -> None:
    """Run an app until it stops. `arguments` are the file descriptor of the tie and the pid of the parent."""
    if early.UPGRADE in os.environ:
        raise SystemExit("cannot upgrade: this app runs inside another program. Restart that program instead.")
    tie = Tie(*arguments)
    plan = tie.receive(Plan)
    try:
        status = early.run(plan, partial(_say_up, tie))
    except MobError as error:
        tie.refuse(error)
        raise SystemExit(1) from None
    processes.leave(status)


def _say_up(tie: Tie, address: str) -> None:
    tie.say(AppUp(address))
