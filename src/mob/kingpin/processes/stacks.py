"""Stacks of a mobster that hangs, while it runs.

Its liveness thread reports them, for threads and tasks. If that thread is blocked as well, because C code holds the
interpreter, a signal makes faulthandler write the stacks to the mobster's stderr.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic

from mob.core import decisions as d
from mob.core.crew import Crew
from mob.core.decisions import Decision
from mob.kingpin.connections import Connection
from mob.kingpin.output.console import Console
from mob.kingpin.processes.fork_client import ForkClient
from mob.rim import processes
from mob.rim.reactor import Reactor

INSPECT_TIMEOUT = 1.0
"""Seconds to wait for the liveness thread, and then for the signal handler."""
FIRST = ("Thread 0x", "Current thread 0x")
"""Beginnings of what faulthandler writes."""


class StackRequests:
    """The requests that are not answered yet."""

    def __init__(
        self,
        reactor: Reactor,
        crew: Crew,
        connections: Mapping[int, Connection],
        console: Console,
        fork_client: ForkClient,
        carry_out: Callable[[list[Decision]], None],
    ) -> None:
        self._reactor = reactor
        self._crew = crew
        self._connections = connections
        self._console = console
        self._fork_client = fork_client
        self._carry_out = carry_out
        self._asked: dict[int, list[d.Ticket]] = {}  # requests by the uid of the mobster whose stacks they ask for

    def __repr__(self) -> str:
        return f"<StackRequests to {len(self._asked)} mobsters>"

    def ask(self, uid: int, ticket: d.Ticket) -> None:
        """Get the stacks of a mobster that keeps running, and answer with them."""
        if uid in self._asked:
            self._asked[uid].append(ticket)
        elif (connection := self._connections.get(uid)) is not None and connection.inspect():
            self._asked[uid] = [ticket]
            self._call_later(self._ask_from_outside, uid)
        else:
            self._carry_out([d.Answer(ticket, error="that mobster no longer exists.")])

    def handle_inspection(self, uid: int, stacks: str) -> None:
        """Answer with what the liveness thread reported."""
        self._answer(uid, text=stacks)

    def handle_exited(self, uid: int) -> None:
        """Answer that a mobster exited."""
        self._answer(uid, error="it exited before it could report its stacks.")

    def _ask_from_outside(self, uid: int) -> None:
        """Send the signal. The stacks arrive on stderr, after what was printed before."""
        process = self._crew.processes.get(uid)
        if uid not in self._asked or process is None:
            return
        if processes.is_stopped(process.pid):  # the signal would stay pending until no one waits for the answer
            hint = f"it is stopped (SIGSTOP, a debugger). `kill -CONT {process.pid}` resumes it."
            self._answer(uid, error=hint)
        else:
            self._console.begin_taking(uid)
            self._fork_client.ask_for_stacks(process.pid)
            self._call_later(self._take_from_console, uid)

    def _take_from_console(self, uid: int) -> None:
        taken = self._console.end_taking(uid)
        begin = next((at for at, line in enumerate(taken) if line.startswith(FIRST)), len(taken))
        if lines := taken[begin:]:
            head = "code in C holds the interpreter; its threads, the most recent call first:"
            self._answer(uid, text="\n".join([head, *lines]))
        else:
            self._answer(uid, error="no answer, not even to a signal: it is blocked in the kernel, or ignores signals.")

    def _answer(self, uid: int, error: str = "", text: str = "") -> None:
        if tickets := self._asked.pop(uid, None):
            self._carry_out([d.Answer(ticket, error, text) for ticket in tickets])

    def inspect(self, uid: int) -> None:
        """Have a mobster that is about to be killed report its stacks."""
        if (connection := self._connections.get(uid)) is not None:
            connection.inspect()
        if (process := self._crew.processes.get(uid)) is not None and process.pid:
            self._call_later(self._inspect_from_outside, uid)

    def _inspect_from_outside(self, uid: int) -> None:
        process = self._crew.processes.get(uid)
        if process is not None and not process.killed:
            self._fork_client.ask_for_stacks(process.pid)

    def _call_later(self, function: Callable[[int], None], uid: int) -> None:
        self._reactor.call_at(monotonic() + INSPECT_TIMEOUT, partial(function, uid))
