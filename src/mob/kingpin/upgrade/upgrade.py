"""The Kingpin's own upgrade: a Kingpin with new code replaces the running one, without an interruption.

The process stays the same and runs another program (execve): so its pid, its children and the data in its sockets stay,
and a service manager sees no change. The old program writes down its state (`core.snapshot`, `handover_state`). The new
one runs the main script again as at the start, and takes over the state where that calls `.run()`.

The upgrade begins with a rehearsal: the main script runs in a separate process up to `.run()`. If it does not get
there, nothing has changed, and its error is reported. Then the old program waits, for seconds at most, until no message
on any link is partly sent.

Calls, streams and connections of the app do not pass through the Kingpin, so they continue meanwhile. The fork server
holds old code: the new Kingpin replaces it, as after a crash of it. Signals between the programs are held back.

A failure here is never worse than no upgrade. In the old program everything continues as before. The new one is on
probation until it has taken over everything: if its main script ends or hangs, or something raises, a third program
replaces it, which runs no main script and continues with the previous plan (`fall_back`).
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from time import monotonic
from typing import NoReturn, Protocol

import msgspec

from mob.core import snapshot
from mob.core.decisions import Ticket
from mob.core.revival import pause_between
from mob.errors import PlanError
from mob.kingpin.signals import held_back
from mob.kingpin.upgrade import handover_state
from mob.kingpin.upgrade.handover_state import HandoverState
from mob.plan import Plan
from mob.rim import interpreter, places, processes
from mob.rim.processes import start_thread
from mob.rim.reactor import Reactor

VARIABLE = "MOB_UPGRADE"
"""Environment variable by which a main script runs for an upgrade: "rehearse:...", or "inherit:pid:fd"."""
REHEARSED = 79
"""Exit status of a rehearsal that reached `.run()`."""
REHEARSAL = 60.0
"""Maximum seconds of a rehearsal, and of the new program until it reaches `.run()`."""
QUIET_TIMEOUT = 5.0
"""Maximum seconds to wait until no message is partly sent on any link."""
STOP_TIMEOUT = 5.0
"""Seconds that a stop requested between two programs waits for the main script."""
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between attempts to take over, if not even the previous plan can be resumed."""
AGAIN = """
import os, signal, sys
sys.path[:] = {path!r}
try:
    from mob.kingpin.program import go_on
except Exception as error:
    print(f"mob: the Kingpin cannot resume: {{error}}. Next attempt in {pause:g} s.", file=sys.stderr, flush=True)
    if signal.sigtimedwait({{signal.SIGTERM, signal.SIGINT}}, {pause}) is not None:
        os._exit(1)
    os.execv(sys.executable, sys.orig_argv)
go_on({why!r}, {attempt})
"""
"""The program that resumes with the previous plan. It waits for a package that is being replaced."""
_LEFT = os.environ.get(VARIABLE, "")
"""The initial value of the variable; a main script may clear the environment."""
_is_settled = threading.Event()
"""Set when this program has taken over everything."""
POLL_INTERVAL = 0.5
"""Seconds between two checks of a program on probation whether it was asked to stop."""


class Program(msgspec.Struct, frozen=True):
    """What this process runs: the name of the app, the command that started it, and its directory."""

    app: str
    command: list[str]
    directory: str


class Predecessor(Protocol):
    """The Kingpin that is to be replaced."""

    @property
    def is_stopping(self) -> bool:
        """True if the app is stopping."""
        ...

    def hush(self, is_late: bool) -> str:
        """Finish what can be finished; return what is still in progress, or ""."""
        ...

    def give(self, ticket: Ticket) -> HandoverState:
        """Return everything that the next program needs."""
        ...

    def end_upgrade(self, ticket: Ticket, why: str) -> None:
        """Report that the upgrade failed, and resume."""
        ...


class UpgradeAttempt:
    """A requested upgrade, from the rehearsal to the end of this program. Raises `OSError` if it cannot begin."""

    def __init__(self, program: Program, reactor: Reactor, predecessor: Predecessor, ticket: Ticket) -> None:
        self._program = program
        self._reactor = reactor
        self._predecessor = predecessor
        self._ticket = ticket
        self._task: asyncio.Task[None] | None = None
        self._said = places.unnamed_file()
        environment = {**os.environ, VARIABLE: f"rehearse:{program.app}:{snapshot.FORMAT}"}
        try:
            self._rehearsal: subprocess.Popen[bytes] = subprocess.Popen(
                program.command,
                cwd=program.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                process_group=0,
            )
        except BaseException:
            self._said.close()
            raise
        reactor.loop.call_later(REHEARSAL, self.end_rehearsal)

    def __repr__(self) -> str:
        return f"<UpgradeAttempt, rehearsed by pid {self._rehearsal.pid}>"

    @property
    def rehearsal_pid(self) -> int:
        """Process id of the rehearsal until it is reaped, then 0."""
        return self._rehearsal.pid if self._rehearsal.returncode is None else 0

    def handle_exit(self, pid: int, status: int) -> bool:
        """Handle the exit of a child of the Kingpin; return True if it was the rehearsal."""
        if pid != self._rehearsal.pid or self._rehearsal.returncode is not None:
            return False
        self._rehearsal.returncode = status  # reaped by the Kingpin, not by Popen
        try:
            self._handle_rehearsed(status)
        except Exception as error:  # noqa: BLE001  whatever it is, the app keeps running as before
            self._fail(f"{text_of(error)}.")
        return True

    def _handle_rehearsed(self, status: int) -> None:
        with self._said:
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip()
        if status != REHEARSED:
            self._fail(f"the new Kingpin failed to start (exit status {status}); this one stays. Its output:\n{said}")
            return
        self._task = self._reactor.loop.create_task(self._go_over_when_quiet(monotonic() + QUIET_TIMEOUT))

    def end_rehearsal(self) -> None:
        """Kill the rehearsal and everything that it started: its time is over, or the app stops."""
        if self.rehearsal_pid:  # not reaped yet, so the pid is still its own
            processes.kill_group(self.rehearsal_pid)

    def _fail(self, why: str) -> None:
        self._predecessor.end_upgrade(self._ticket, why)

    async def _go_over_when_quiet(self, deadline: float) -> None:
        """Start the new program as soon as no message is partly sent."""
        try:
            while noise := self._go_over_if_quiet(is_late := monotonic() >= deadline):
                if is_late or self._predecessor.is_stopping:
                    self._fail(noise)
                    return
                await self._reactor.change(deadline)
        except Exception as error:  # noqa: BLE001  whatever it is, the app keeps running as before
            self._fail(f"the new Kingpin could not be started: {text_of(error)}.")

    def _go_over_if_quiet(self, is_late: bool) -> str:
        """Start the new program and do not return; if something is still in progress, return what."""
        with held_back():
            if self._predecessor.is_stopping:
                return "the app is stopping."
            # A signal that just came was taken by this program, which did not act on it yet.
            if noise := "a signal just arrived" if self._reactor.has_calls else self._predecessor.hush(is_late):
                return f"{noise}, so the upgrade was cancelled. Try again."
            state = self._predecessor.give(self._ticket)
            will = handover_state.write(state)
            descriptors = [*state.descriptors(), will]
            environment = {**os.environ, **state.manager, VARIABLE: f"inherit:{os.getpid()}:{will}"}
            try:
                handover_state.set_inheritable(descriptors, True)
                os.chdir(self._program.directory)
                os.execve(sys.executable, self._program.command, environment)
            finally:  # only if it could not be done
                handover_state.set_inheritable(descriptors, False)
                os.close(will)


# ------------------------------------------------------------------------------------------- the new program


def command() -> list[str]:
    """Return the command that started this process."""
    return [sys.executable, *sys.orig_argv[1:]]


def rehearse(plan: Plan) -> None:
    """End this process if it is only a rehearsal, which succeeds when its main script gets here."""
    kind, _, rest = os.environ.get(VARIABLE, "").partition(":")
    if kind != "rehearse":
        return
    app, _, number = rest.rpartition(":")
    if app != plan.name:
        raise PlanError(f"the running app is named {app!r}, but the main script names it {plan.name!r} now.")
    if number != str(snapshot.FORMAT):
        raise PlanError("this version of mob cannot take over from the running one; stop the app and start it again.")
    raise SystemExit(REHEARSED)


def _will() -> int:
    """Return the descriptor of the previous program's state; -1 if that was not a program of mob."""
    kind, _, rest = _LEFT.partition(":")
    pid, _, will = rest.partition(":")
    return int(will) if kind == "inherit" and pid == str(os.getpid()) and not _is_settled.is_set() else -1


def is_on_probation() -> bool:
    """Return True if this program is to take over from another, and has not done so yet."""
    return _will() >= 0


def inherited() -> HandoverState | None:
    """Return the state that the previous program left, or None if that was not a program of mob."""
    return handover_state.read(_will()) if is_on_probation() else None


def begin_probation() -> None:
    """Make sure that another program takes over if this one is to inherit a state and fails to."""
    if is_on_probation():
        atexit.register(_handle_end)
        start_thread(_watch, "mob-probation")


def end_probation(state: HandoverState) -> None:
    """Keep what this program took over; a later failure no longer makes another program replace it."""
    will = _will()
    _is_settled.set()
    atexit.unregister(_handle_end)
    os.environ.pop(VARIABLE, None)
    with contextlib.suppress(Exception):
        handover_state.set_inheritable(state.descriptors(), False)
        os.close(will)


def _handle_end() -> None:
    if is_on_probation():  # and this is not the child of a fork
        fall_back("the main script ended before `.run()`")


def _watch() -> None:
    """Give way to another program if the main script takes too long; a requested stop waits a few seconds."""
    deadline = monotonic() + REHEARSAL
    is_asked = False
    while not _is_settled.wait(POLL_INTERVAL):
        if not is_asked and not signal.sigpending().isdisjoint({signal.SIGTERM, signal.SIGINT}):
            is_asked, deadline = True, min(deadline, monotonic() + STOP_TIMEOUT)
        if monotonic() >= deadline:
            late = "before the app was asked to stop" if is_asked else f"within {REHEARSAL:g} s"
            fall_back(f"the main script did not reach `.run()` {late}")


def fall_back(why: str, attempt: int = 0) -> NoReturn:
    """Replace this program with one that runs no main script and continues with the previous plan.

    From the second attempt on there is a pause first, in which SIGTERM and SIGINT end this process; the fork server
    then ends the mobsters, each gracefully.
    """
    while True:
        if attempt:
            pause = pause_between(attempt - 1, SHORTEST_PAUSE, 2.0, LONGEST_PAUSE)
            print(f"mob: the Kingpin cannot resume: {why}. Next attempt in {pause:g} s.", file=sys.stderr, flush=True)
            if signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, pause) is not None:
                os._exit(1)
        attempt += 1
        try:
            state = handover_state.read(_will())
            path = list(dict.fromkeys([*sys.path, *state.path]))  # the main script may have broken its own
            program = AGAIN.format(path=path, why=why, attempt=attempt, pause=SHORTEST_PAUSE)
            environment = {**os.environ, **state.manager, VARIABLE: _LEFT}
            if places.is_blinding():
                os.chdir(os.sep)
            os.execve(sys.executable, [sys.executable, *interpreter.flags(), "-c", program], environment)
        except OSError as error:
            why = text_of(error)


def text_of(error: BaseException) -> str:
    """Return an error in one line."""
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
