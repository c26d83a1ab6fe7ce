"""How a process becomes a Kingpin: it starts an app, or takes over from the previous program in this process."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Callable
from time import monotonic
from typing import NoReturn

from mob.core import snapshot
from mob.core.decisions import Decision
from mob.kingpin.desk import Desk
from mob.kingpin.kingpin import Kingpin
from mob.kingpin.output import logfile
from mob.kingpin.processes.starting import Starter
from mob.kingpin.upgrade import handover_state, upgrade
from mob.kingpin.upgrade.handover_state import HandoverState
from mob.plan import Plan
from mob.rim import openfiles, processes
from mob.rim.board import Board
from mob.rim.standard import occupy


def run(plan: Plan, starter: Starter | None = None, on_listening: Callable[[str], None] | None = None) -> int:
    """Run an app in this process until it stops; return its exit status.

    `starter` may have started a fork server for it; its maker cancels it afterwards. `on_listening` is called with the
    address of the desk as soon as clients can connect.

    Raises:
        AppRunning: An app of that name is running.
    """
    occupy()  # the main script may have closed the standard streams
    logfile.check(plan.logs)
    upgrade.rehearse(plan)
    try:
        state = upgrade.inherited()
        if state is None:
            desk = Desk.claim(plan.address)
            if on_listening is not None:
                on_listening(desk.address)
            return Kingpin(plan, desk, Board.make(), starter=starter).run()
        if starter is not None:  # the main script cleared the environment, so it did not know that it is an upgrade
            starter.cancel()
        kingpin, decisions = _take_over(plan, state)
    except BaseException as error:
        if upgrade.is_on_probation():
            upgrade.fall_back(f"the new Kingpin could not take over: {upgrade.text_of(error)}")
        raise
    upgrade.end_probation(state)
    return kingpin.go_on(state, decisions)


def go_on(why: str, attempt: int) -> NoReturn:
    """Resume with the previous plan, after a program that was to take over failed."""
    try:
        openfiles.raise_limit(is_told=False)  # the program that failed may have lowered the limit
        state = upgrade.inherited()
        assert state is not None
        sys.path[:] = state.path
        kingpin, decisions = _take_over(handover_state.plan_of(state), state)
        kingpin.command = state.command
    except BaseException as error:  # noqa: BLE001  whatever it is, it is tried again
        upgrade.fall_back(f"{why}; the old one could not resume: {upgrade.text_of(error)}", attempt)
    upgrade.end_probation(state)
    raise SystemExit(kingpin.go_on(state, decisions, f"{why}; the app keeps running with its previous plan."))


def _take_over(plan: Plan, state: HandoverState) -> tuple[Kingpin, list[Decision]]:
    """Return a Kingpin with everything that the previous program left, and its first decisions."""
    supervisor, decisions = snapshot.restore(plan, state.snapshot, monotonic(), random.random, processes.is_stopped)
    desk, board = Desk(plan.address, socket.socket(fileno=state.desk)), Board(state.board)
    kingpin = Kingpin(plan, desk, board, supervisor)
    kingpin.take_over(state)
    return kingpin, decisions
