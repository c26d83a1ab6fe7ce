"""The Kingpin's own upgrade: a new Kingpin, with new code, takes the place of the running one, and nobody notices.

The process stays the same and runs another program (execve): so its pid, its children and what waits in its sockets
stay as well, and no service manager wonders. What the old program knows is written down (`core.snapshot`,
`handover_state`) and read by the new one, which runs the main script again as at the start; where that says `.run()`,
it takes over.

First it is rehearsed: the main script runs in a process of its own up to `.run()`. If it does not get there, nothing
has happened, and its error is told. Then it is waited, for seconds at most, until nothing is half said on any link.

Calls, streams and connections of the app do not pass the Kingpin, so they go on meanwhile. The fork server holds old
code: the new Kingpin replaces it, as after its death. Signals that arrive between the programs are held back.

Nothing that fails here is worse than an upgrade that was not begun. In the old program everything goes on as before.
The new one is on probation until it has taken everything over: if its main script ends or hangs, or something raises, a
third program takes its place, which runs no main script and goes on with the plan that there was (`fall_back`).
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
"""The environment variable that tells a main script that it is run for this: "rehearse:...", or "inherit:pid:fd"."""
REHEARSED = 79
"""The exit status of a rehearsal that got as far as `.run()`."""
REHEARSAL = 60.0
"""Seconds for it; and for the new program, until it gets there."""
QUIET_TIMEOUT = 5.0
"""Seconds in which all links fall quiet."""
STOP_TIMEOUT = 5.0
"""Seconds that a stop which is asked for between two programs waits for the main script."""
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between attempts to take over, if not even the plan that there was can be gone on with."""
AGAIN = """
import os, signal, sys
sys.path[:] = {path!r}
try:
    from mob.kingpin.program import go_on
except Exception as error:
    print(f"mob: the Kingpin cannot go on: {{error}}. Next try in {pause:g} s.", file=sys.stderr, flush=True)
    if signal.sigtimedwait({{signal.SIGTERM, signal.SIGINT}}, {pause}) is not None:
        os._exit(1)
    os.execv(sys.executable, sys.orig_argv)
go_on({why!r}, {attempt})
"""
"""The program that goes on with the plan that there was. It waits for a package that is being replaced."""
_LEFT = os.environ.get(VARIABLE, "")
"""What it says at first; a main script may clear the environment."""
_is_settled = threading.Event()
"""Whether this program has taken everything over."""
POLL_INTERVAL = 0.5
"""Seconds between two looks of a program on probation whether it is to stop."""


class Program(msgspec.Struct, frozen=True):
    """What this process runs: the name of the app, the command that it was started as, and where."""

    app: str
    command: list[str]
    directory: str


class Predecessor(Protocol):
    """The Kingpin that is to give way."""

    @property
    def is_stopping(self) -> bool: ...
    def hush(self, is_late: bool) -> str:
        """Bring to rest what can be; return what is half said or half done all the same, or nothing."""
        ...

    def give(self, ticket: Ticket) -> HandoverState:
        """Return all that the next program needs."""
        ...

    def end_upgrade(self, ticket: Ticket, why: str) -> None:
        """Go on as before: the upgrade has failed."""
        ...


class UpgradeAttempt:
    """An upgrade that was asked for, from the rehearsal to the end of this program. `OSError` if it cannot begin."""

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
        """The process id of the rehearsal until that was waited for, else 0."""
        return self._rehearsal.pid if self._rehearsal.returncode is None else 0

    def handle_exit(self, pid: int, status: int) -> bool:
        """Handle the end of a child of the Kingpin; return whether it was the rehearsal."""
        if pid != self._rehearsal.pid or self._rehearsal.returncode is not None:
            return False
        self._rehearsal.returncode = status  # it was reaped by the Kingpin, not by Popen
        try:
            self._handle_rehearsed(status)
        except Exception as error:  # noqa: BLE001  whatever it is, the app goes on as it is
            self._fail(f"{text_of(error)}.")
        return True

    def _handle_rehearsed(self, status: int) -> None:
        with self._said:
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip()
        if status != REHEARSED:
            self._fail(f"the new Kingpin does not come up (exit status {status}); this one stays. It said:\n{said}")
            return
        self._task = self._reactor.loop.create_task(self._go_over_when_quiet(monotonic() + QUIET_TIMEOUT))

    def end_rehearsal(self) -> None:
        """End the rehearsal at once, with all that it has started: its time is over, or the app stops."""
        if self.rehearsal_pid:  # nobody has waited for it, so the number is its own
            processes.kill_group(self.rehearsal_pid)

    def _fail(self, why: str) -> None:
        self._predecessor.end_upgrade(self._ticket, why)

    async def _go_over_when_quiet(self, deadline: float) -> None:
        """Go over to the new program as soon as nothing is half said."""
        try:
            while noise := self._go_over_if_quiet(is_late := monotonic() >= deadline):
                if is_late or self._predecessor.is_stopping:
                    self._fail(noise)
                    return
                await self._reactor.change(deadline)
        except Exception as error:  # noqa: BLE001  whatever it is, the app goes on as it is
            self._fail(f"the new Kingpin could not be started: {text_of(error)}.")

    def _go_over_if_quiet(self, is_late: bool) -> str:
        """Go over, and do not return; if something is half said or half done, return what."""
        with held_back():
            if self._predecessor.is_stopping:
                return "the app is stopping."
            # A signal that has just come was taken by this program, which has not acted on it yet.
            if noise := "a signal has just come" if self._reactor.has_calls else self._predecessor.hush(is_late):
                return f"{noise}, so the upgrade is put off. Try again."
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
    """Return what this process was started as."""
    return [sys.executable, *sys.orig_argv[1:]]


def rehearse(plan: Plan) -> None:
    """End this process if it is only to be seen whether its main script gets as far as this."""
    kind, _, rest = os.environ.get(VARIABLE, "").partition(":")
    if kind != "rehearse":
        return
    app, _, number = rest.rpartition(":")
    if app != plan.name:
        raise PlanError(f"the running app is {app!r}, and the main script calls it {plan.name!r} now.")
    if number != str(snapshot.FORMAT):
        raise PlanError("this version of mob cannot take over from the one that runs; stop the app and start it anew.")
    raise SystemExit(REHEARSED)


def _will() -> int:
    """Return the descriptor of what the program before this one has left to it; -1 if that was none of mob's."""
    kind, _, rest = _LEFT.partition(":")
    pid, _, will = rest.partition(":")
    return int(will) if kind == "inherit" and pid == str(os.getpid()) and not _is_settled.is_set() else -1


def is_on_probation() -> bool:
    """Return whether this program is to take over from another, and has not done so yet."""
    return _will() >= 0


def inherited() -> HandoverState | None:
    """Return what the program before this one has left to it, if it was one of mob's."""
    return handover_state.read(_will()) if is_on_probation() else None


def begin_probation() -> None:
    """See to it that another program takes over if this one is to inherit something and does not get there."""
    if is_on_probation():
        atexit.register(_handle_end)
        start_thread(_watch, "mob-probation")


def end_probation(state: HandoverState) -> None:
    """Keep what this program has taken over; nothing that fails from now on is a reason to give way to another."""
    will = _will()
    _is_settled.set()
    atexit.unregister(_handle_end)
    os.environ.pop(VARIABLE, None)
    with contextlib.suppress(Exception):
        handover_state.set_inheritable(state.descriptors(), False)
        os.close(will)


def _handle_end() -> None:
    if is_on_probation():  # and this is not the child of a fork
        fall_back("its main script has ended before `.run()`")


def _watch() -> None:
    """Give way to another program if the main script takes too long; a stop that is asked for waits a few seconds."""
    deadline = monotonic() + REHEARSAL
    is_asked = False
    while not _is_settled.wait(POLL_INTERVAL):
        if not is_asked and not signal.sigpending().isdisjoint({signal.SIGTERM, signal.SIGINT}):
            is_asked, deadline = True, min(deadline, monotonic() + STOP_TIMEOUT)
        if monotonic() >= deadline:
            late = "the app is to stop" if is_asked else f"{REHEARSAL:g} s are over"
            fall_back(f"its main script has not got to `.run()`, and {late}")


def fall_back(why: str, attempt: int = 0) -> NoReturn:
    """Have a program that runs no main script take over in the place of this one, with the plan that there was.

    From the second attempt on there is a pause before it, in which SIGTERM and SIGINT end this process; the fork server
    ends the mobsters then, each in order.
    """
    while True:
        if attempt:
            pause = pause_between(attempt - 1, SHORTEST_PAUSE, 2.0, LONGEST_PAUSE)
            print(f"mob: the Kingpin cannot go on: {why}. Next try in {pause:g} s.", file=sys.stderr, flush=True)
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
    """Return what has happened, in a line."""
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
