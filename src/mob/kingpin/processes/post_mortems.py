"""Post-mortems: finds out why a mobster died, and keeps a report.

Which export is to blame is read from the board of loads, where each mobster marks what it runs, and from how the
process ended: a kill by another process blames nothing that ran. A thread reads and writes reports because a disk may
be slow.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial

import msgspec

from mob.core import decisions as d
from mob.core.crew import Crew
from mob.rim import processes
from mob.rim.board import Board, mark_of
from mob.rim.crashes import Crash, Crashes, latest, shortened
from mob.rim.errands import Errands

FLUSH_TIMEOUT = 2.0
"""Seconds to write the last reports when the app ends."""


class PostMortems:
    """The deaths of an app's mobsters, and the reports of crashes.

    A separate thread calls `say`, and for each report `tell`, with the whole report and one short enough for a letter.
    """

    node: str = ""
    """Name of this machine in a cluster, otherwise empty."""

    def __init__(
        self,
        app: str,
        crew: Crew,
        board: Board,
        say: Callable[[str], None],
        tell: Callable[[bytes, bytes], None] = lambda whole, short: None,
    ) -> None:
        self._app = app
        self._crew = crew
        self._board = board
        self._say = say
        self._tell = tell
        self._crashes = Crashes(app)
        self._errands = Errands("mob-disk")
        self._oom_kills = processes.count_oom_kills()

    def __repr__(self) -> str:
        return f"<PostMortems with {self._crashes}>"

    def close(self) -> None:
        """Wait for the last reports to be written, for a moment at most."""
        self._errands.close(FLUSH_TIMEOUT)

    def look_into(self, uid: int, status: int) -> tuple[str, str]:
        """Return how a mobster ended, in words, and the export to blame ("" for none)."""
        before, self._oom_kills = self._oom_kills, processes.count_oom_kills()
        is_oom = status == -signal.SIGKILL and self._oom_kills > before
        text = processes.exit_text(status)
        if is_oom:
            text += ", probably because the system was out of memory"
        return text, self._blame(uid, status, is_oom)

    def _blame(self, uid: int, status: int, is_oom: bool) -> str:
        """Return the export that a mobster ran when it died, if it ran exactly one.

        A kill by another process blames no export, except one by the kernel because memory ran out, and one by mob
        because of a hang.
        """
        process = self._crew.processes.get(uid)
        if process is None or not (is_oom or processes.is_own_doing(status) or process.why_killed):
            return ""
        exports = self._crew.roster.roles[process.slot.role].exports or ()
        mark = self._board.running(uid)
        names = [each.name for export in exports for each in (export, *(export.methods or ()))]
        return next((name for name in names if mark and mark == mark_of(name)), "")

    def record(self, record: d.Record, lines: tuple[str, ...]) -> None:
        """Keep the report of a crash, with the last lines that the mobster printed."""
        member = record.member
        crash = Crash(
            at=time.time(),
            app=self._app,
            role=member.role,
            index=member.index,
            pid=member.pid,
            generation=member.generation,
            why=record.why,
            uptime=record.uptime,
            memory=record.memory,
            running=record.running,
            stacks=record.stacks,
            lines=lines,
            returncode=record.status,
            node=self.node,
        )
        self._errands.run(partial(self._keep, crash))

    def _keep(self, crash: Crash) -> None:
        before = self._crashes.problem
        crash = self._crashes.add(crash)
        self._tell(msgspec.json.encode(crash), msgspec.json.encode(shortened(crash)))
        if self._crashes.problem and not before:
            self._say(self._crashes.problem)

    def tell_last_report(self, role: str, tell: Callable[[str], None]) -> None:
        """Pass the report of the last crash of a role to `tell`, or "" if there was none."""
        self._errands.run(lambda: tell("" if (crash := self._crashes.last(role)) is None else crash.text()))

    def tell_latest(self, number: int, tell: Callable[[tuple[bytes, ...]], None]) -> None:
        """Pass the latest reports to `tell`."""
        self._errands.run(lambda: tell(latest(self._app, number)))
