"""What is found out about a mobster that hangs or has died, and kept.

Whose fault a death was is read from the board of loads, where each mobster has left the mark of what it ran, and from
how the process has ended: a kill from outside blames nothing that ran. Where a hanging one stands it says itself, by
its liveness thread; should even that stand still, a signal makes faulthandler write it to what the mobster prints.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from mob.core import decisions as d
from mob.rim import processes
from mob.rim.board import mark_of
from mob.rim.crashes import Crash, Crashes, latest
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.kingpin.kingpin import Kingpin

LISTENING = 1.0
"""Seconds in which the liveness thread of a hanging mobster answers, unless that stands still as well."""
FIRST = ("Thread 0x", "Current thread 0x")
"""How what faulthandler writes begins."""


class PostMortems:
    """Looks into deaths."""

    def __init__(self, kingpin: Kingpin) -> None:
        self._kingpin = kingpin
        self._crashes = Crashes(kingpin.plan.name)
        self._oom_kills = processes.count_oom_kills()
        self._asked: dict[int, list[d.Ticket]] = {}  # who wants to know where a mobster stands, by its uid

    def __repr__(self) -> str:
        return f"<PostMortems with {self._crashes}>"

    def look_into(self, uid: int, status: int) -> tuple[str, str]:
        """Return how a mobster has ended, in words, and the export that is to be blamed ("": none)."""
        before, self._oom_kills = self._oom_kills, processes.count_oom_kills()
        is_oom = status == -signal.SIGKILL and self._oom_kills > before
        text = processes.exit_text(status)
        if is_oom:
            text += ", probably because the system was out of memory"
        return text, self._blame(uid, status, is_oom)

    def _blame(self, uid: int, status: int, is_oom: bool) -> str:
        """The export that a mobster ran when it died, if it ran one and no other. Nothing is to be blamed for a kill
        from outside, but for one by the kernel for want of memory, and for one by mob of a mobster that hung."""
        kingpin = self._kingpin
        process = kingpin.supervisor.processes.get(uid)
        if process is None or not (is_oom or processes.is_own_doing(status) or process.why_killed):
            return ""
        exports = kingpin.supervisor.roster.roles[process.slot.role].exports or ()
        mark = kingpin.board.running(uid)
        return next((export.name for export in exports if mark and mark == mark_of(export.name)), "")

    def ask(self, uid: int, ticket: d.Ticket) -> None:
        """Somebody wants to know where a mobster stands, which may be stuck, but is not to die."""
        connection = self._kingpin.connections.get(uid)
        if connection is None or connection.beats is None:
            self._kingpin.carry_out([d.Answer(ticket, error="there is no such mobster any more.")])
            return
        waiting = self._asked.setdefault(uid, [])
        waiting.append(ticket)
        if len(waiting) == 1:
            connection.beats.post(m.Inspect())
            self._kingpin.reactor.loop.call_later(LISTENING, partial(self._ask_from_outside, uid))

    def handle_inspection(self, uid: int, stacks: str) -> None:
        """A mobster has said where it stands."""
        self._answer(uid, d.Answer((0, 0), text=stacks))

    def handle_exited(self, uid: int) -> None:
        """A mobster is gone."""
        self._answer(uid, d.Answer((0, 0), error="it has ended before it could say where it stands."))

    def _ask_from_outside(self, uid: int) -> None:
        """Its liveness thread stands still as well: code in C holds the interpreter. The signal's answer comes on
        stderr, as soon as what was printed before is read."""
        process = self._kingpin.supervisor.processes.get(uid)
        if uid not in self._asked or process is None:
            return
        if processes.is_stopped(process.pid):  # a signal would wait, and be answered when nobody asks any more
            error = f"it is stopped (SIGSTOP, a debugger). `kill -CONT {process.pid}` lets it go on."
            self._answer(uid, d.Answer((0, 0), error=error))
        else:
            self._kingpin.console.begin_taking(uid)
            self._kingpin.fork_client.ask_for_stacks(process.pid)
            self._kingpin.reactor.loop.call_later(LISTENING, partial(self._take_from_console, uid))

    def _take_from_console(self, uid: int) -> None:
        taken = self._kingpin.console.end_taking(uid)
        begin = next((at for at, line in enumerate(taken) if line.startswith(FIRST)), len(taken))
        lines = taken[begin:]
        text = "\n".join(["code in C holds the interpreter; its threads, the most recent call first:", *lines])
        error = "" if lines else "it does not answer, not even to a signal: it waits in the kernel, or takes none."
        self._answer(uid, d.Answer((0, 0), error=error, text=text if lines else ""))

    def _answer(self, uid: int, answer: d.Answer) -> None:
        tickets = self._asked.pop(uid, ())
        self._kingpin.carry_out([msgspec.structs.replace(answer, ticket=ticket) for ticket in tickets])

    def inspect(self, uid: int) -> None:
        """Asks a mobster where it stands."""
        kingpin = self._kingpin
        connection, process = kingpin.connections.get(uid), kingpin.supervisor.processes.get(uid)
        if connection is not None and connection.beats is not None:
            connection.beats.post(m.Inspect())
        if process is not None and process.pid:
            kingpin.reactor.loop.call_later(LISTENING, partial(self._inspect_from_outside, uid))

    def _inspect_from_outside(self, uid: int) -> None:
        process = self._kingpin.supervisor.processes.get(uid)
        if process is not None and not process.killed:
            self._kingpin.fork_client.ask_for_stacks(process.pid)

    def record(self, record: d.Record) -> None:
        """Keeps the report of a crash, with what the mobster has printed last."""
        member = record.member
        crash = Crash(
            at=time.time(),
            app=self._kingpin.plan.name,
            role=member.role,
            index=member.index,
            pid=member.pid,
            generation=member.generation,
            why=record.why,
            uptime=record.uptime,
            memory=record.memory,
            running=record.running,
            stacks=record.stacks,
            lines=self._kingpin.console.take_last_lines(member.uid),
        )
        self._kingpin.errands.run(partial(self._keep, crash))

    def _keep(self, crash: Crash) -> None:
        before = self._crashes.problem
        self._crashes.add(crash)
        if self._crashes.problem and not before:
            self._kingpin.reactor.call(partial(self._kingpin.console.say, self._crashes.problem))

    def tell_last_report(self, role: str, tell: Callable[[str], None]) -> None:
        """Has the report of the last crash of a role told; nothing if there was none."""
        self._kingpin.errands.run(lambda: tell("" if (crash := self._crashes.last(role)) is None else crash.text()))

    def tell_latest(self, number: int, tell: Callable[[tuple[bytes, ...]], None]) -> None:
        """Has the latest reports told."""
        self._kingpin.errands.run(lambda: tell(latest(self._kingpin.plan.name, number)))
