"""The program of a Kingpin that another process has started, and that ends with it (`rim.tie`).

It takes a plan from there, runs it, and tells what has become of it. There is no main script, so there is no upgrade:
who wants new code in the Kingpin starts the process above again.
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
    """Run an app until it has stopped. `arguments`: the descriptor of the tie, and the process id of the one above."""
    if early.UPGRADE in os.environ:
        raise SystemExit("this app runs inside of another program, and its Kingpin is upgraded with that: restart it.")
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
