"""Calls that must end whatever they do, even in code that holds the interpreter and reacts to nothing.

The mobster is stopped (SIGSTOP), and the board shows whether it still runs the call. Only then it is killed; otherwise
it continues. So a request that comes too late kills nothing, and no request hits the following call. A call that did
not begin is revoked on the board and never will. Calls that run too long (`overruns`) are checked in the same way.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from time import monotonic

from mob.core.crew import Crew
from mob.core.decisions import Answer, Decision, Ticket
from mob.core.killing import FOR_A_CALL, Fate, fate_of
from mob.kingpin.processes.fork_client import ForkClient
from mob.kingpin.processes.overruns import CallWatch
from mob.rim import pidfds
from mob.rim.board import Board
from mob.rim.reactor import Reactor
from mob.wire.messages import Overrun

STOP_INTERVAL = 0.0005
"""Seconds between two checks whether a mobster is stopped; most are before the first."""
STOP_TIMEOUT = 2.0
"""Seconds for it to stop, and for a call that is about to run to do so, on a very busy machine."""

LOOK_INTERVAL = 0.001
"""Seconds for which the mobster continues if the call is about to run."""

KillRequest = tuple[int, int, Ticket]
"""A call, by its caller and number, and the request to end it."""


class Kills:
    """The mobsters that are stopped because a call must end. `kill` carries out their deaths."""

    def __init__(
        self,
        reactor: Reactor,
        crew: Crew,
        board: Board,
        fork_client: ForkClient,
        kill: Callable[[int, float, str, Overrun | None], list[Decision]],
        carry_out: Callable[[list[Decision]], None],
    ) -> None:
        self._reactor = reactor
        self._crew = crew
        self._board = board
        self._fork_client = fork_client
        self._kill = kill
        self._carry_out = carry_out
        self._stopped: dict[int, list[KillRequest]] = {}  # by uid
        self._late: set[int] = set()  # stopped mobsters that may have run a call for too long
        self.watch: CallWatch = CallWatch(reactor, crew, board, self._stop_late)
        """Checks for calls that run too long."""

    def __repr__(self) -> str:
        return f"<Kills, {len(self._stopped)} mobsters stopped>"

    def ask(self, uid: int, caller: int, number: int, ticket: Ticket) -> None:
        """End a call, and answer with its `Fate`."""
        process = self._crew.processes.get(uid)
        if process is None or not process.pid or process.killed:
            self._carry_out([Answer(ticket, text=Fate.OVER)])
        elif not self._crew.roles[process.slot.role].plan.pool:
            self._carry_out(
                [Answer(ticket, error=f"role {process.slot.role!r} is not a pool: its calls cannot be killed.")]
            )
        elif uid in self._stopped:
            self._stopped[uid].append((caller, number, ticket))
        else:
            self._stopped[uid] = [(caller, number, ticket)]
            self._stop(uid, monotonic() + STOP_TIMEOUT)

    def _stop_late(self, uid: int) -> None:
        """Stop a mobster to check whether it really runs a call for too long."""
        process = self._crew.processes.get(uid)
        if process is None or not process.pid or process.killed:
            return
        self._late.add(uid)
        if uid not in self._stopped:
            self._stopped[uid] = []
            self._stop(uid, monotonic() + STOP_TIMEOUT)

    def _stop(self, uid: int, until: float) -> None:
        process = self._crew.processes.get(uid)
        if process is not None and process.pid:
            self._fork_client.signal_mobster(process.pid, signal.SIGSTOP)
        self._look(uid, until)

    def _look(self, uid: int, until: float) -> None:
        """Check what runs as soon as the mobster is stopped."""
        process, now = self._crew.processes.get(uid), monotonic()
        if process is None or not process.pid:
            self._answer(uid, text=Fate.OVER)
        elif not pidfds.is_running(process.pid):
            self._decide(uid, process.pid, until, now)
        elif now < until:
            self._reactor.call_at(now + STOP_INTERVAL, partial(self._look, uid, until))
        else:
            self._fork_client.signal_mobster(process.pid, signal.SIGCONT)
            self._answer(uid, error=f"its worker (pid {process.pid}) could not be paused (SIGSTOP).")

    def _decide(self, uid: int, pid: int, until: float, now: float) -> None:
        begun, wanted = self._board.begun, self._stopped.pop(uid)
        fates = [
            fate_of(begun.is_running(uid, *call), begun.may_have_begun(uid, *call), begun.has_ended(uid, *call))
            for *call, _ in wanted
        ]
        late, overrun = self.watch.judge(uid) if uid in self._late else ("", None)
        self._late.discard(uid)
        has_to_die = Fate.KILLED in fates or bool(late)
        is_last = has_to_die or now >= until
        answers: list[Decision] = []
        for (caller, number, ticket), fate in zip(wanted, fates, strict=True):
            if fate is None and not is_last:
                self._stopped.setdefault(uid, []).append((caller, number, ticket))
            else:
                begun.revoke(uid, caller, number)
                answers.append(Answer(ticket, text=fate or Fate.OVER))
        if has_to_die:
            answers += self._kill(uid, now, late or FOR_A_CALL, overrun)
        else:
            self._fork_client.signal_mobster(pid, signal.SIGCONT)
        if uid in self._stopped:
            self._reactor.call_at(now + LOOK_INTERVAL, partial(self._stop, uid, until))
        self._carry_out(answers)

    def _answer(self, uid: int, error: str = "", text: str = "") -> None:
        if uid in self._late:
            self._late.discard(uid)
            self.watch.watch(uid, monotonic() + STOP_TIMEOUT)
        self._carry_out([Answer(ticket, error, text) for _, _, ticket in self._stopped.pop(uid)])
