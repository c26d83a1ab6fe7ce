"""A whole app in the test's own process: the real Kingpin in a thread, and its mobsters in threads (`lives`).

Mobsters are launched and ended differently. There are no signals, no fork server, no upgrade and no cluster; `preload`,
`nice`, `cpus` and `limits` have no effect; a role's `env` applies to the whole process while the app runs, so an
environment that differs between its workers (`{index}`, `gpus`) is refused if there are several. At the end the process
is restored: the module path, the environment, and the modules that were imported from the app.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import monotonic

from mob.core import decisions as d
from mob.core.placing import placed_at
from mob.errors import PlanError
from mob.kingpin.desk import Desk
from mob.kingpin.kingpin import Kingpin
from mob.kingpin.output.console import Console
from mob.kingpin.output.lines import OutputChunk, as_text
from mob.kingpin.processes.fork_client import ForkClient
from mob.kingpin.processes.overruns import CallWatch
from mob.kingpin.processes.starting import Starter
from mob.mobster import api
from mob.peer.peer import Peer
from mob.plan import Plan, RolePlan
from mob.rim import crashes
from mob.rim.board import Board
from mob.templates import OF_A_PLACE, mentions
from mob.testing import lives
from mob.testing.described import Described, plan_of
from mob.testing.leaks import Leak
from mob.testing.lines import WAIT_TIMEOUT, PrintedLines
from mob.testing.lives import ThreadLife
from mob.wire import messages as m

BLOCKED = 5.0
"""Seconds of an import after which the error says that the module is not made for this."""
CLOSING = 2.0
"""Seconds that a mobster's thread has to end after the app."""


class Printed:
    """The output of the console: the lines that the test reads."""

    why_slow = "the test takes them too slowly"
    is_terminal = False
    is_live = False

    def __init__(self, lines: PrintedLines) -> None:
        self._lines = lines

    def write(self, chunk: OutputChunk) -> int:
        """Keep the lines; none is lost."""
        self._lines.add(as_text(chunk).decode(errors="replace").splitlines())
        return 0

    def reopen(self) -> None:
        """Do nothing: there is no file."""

    def settle(self) -> None:
        """Do nothing: there is no screen."""

    def close(self) -> None:
        """Do nothing: the lines stay readable."""


class ThreadForkClient(ForkClient):
    """Launches mobsters as threads."""

    lives: dict[int, ThreadLife]

    def open(self) -> None:
        """Prepare the table of mobsters; there is no fork server."""
        self.lives = {}

    def order(self, order: m.ForkOrder, descriptors: Sequence[int] = ()) -> None:
        """Launch a mobster as soon as the Kingpin has finished its current step; other orders are for a fork server."""
        if isinstance(order, m.Fork):
            self._reactor.call(partial(self._launch, order, list(descriptors)))

    def _launch(self, order: m.Fork, descriptors: list[int]) -> None:
        if self._closing:
            lives.close_all(descriptors)
            return
        for name, value in order.role.env.items():  # of a role that was added to the app after its start
            os.environ.setdefault(name, value)
        pid = next(lives.PIDS)
        self.lives[pid] = lives.begin(order, descriptors, pid, partial(self._tell_end, order.uid, pid))
        self._on_report(m.Forked(order.uid, pid))

    def _tell_end(self, uid: int, pid: int, status: int) -> None:
        """Report the end of a mobster, on its thread or on the one that ended it."""
        self._reactor.call(partial(self._handle_end_of, uid, pid, status))

    def _handle_end_of(self, uid: int, pid: int, status: int) -> None:
        self._on_report(m.Exited(uid, pid, status))

    def end_mobster(self, pid: int) -> None:
        """End a mobster as a kill does."""
        if (life := self.lives.get(pid)) is not None:
            life.die()

    def kill(self) -> None:
        """Do nothing: there is no fork server."""

    def wake(self) -> None:
        """Do nothing: there is no fork server."""

    def close(self) -> None:
        """Launch no more mobsters."""
        self._closing = True
        super().close()


class ThreadKingpin(Kingpin):
    """The Kingpin, without what belongs to a process."""

    def __init__(self, plan: Plan, lines: PrintedLines) -> None:
        self._lines = lines
        super().__init__(plan, Desk.claim(plan.address), Board.make())
        self.kills.watch = CallWatch(self.reactor, self.supervisor.crew, self.board, self._kill_late)

    def _kill_late(self, uid: int) -> None:
        """Kill the mobster of a call that runs too long, unchecked, because a thread cannot be stopped for a check."""
        why, overrun = self.kills.watch.judge(uid)
        if why:
            self.carry_out(self.supervisor.handle_call_killed(uid, monotonic(), why, overrun))

    def _make_console(self) -> Console:
        return Console(self.reactor, self.plan.logs, self.plan.frame_limit, Printed(self._lines))

    def _make_fork_client(self, starter: Starter | None) -> ThreadForkClient:
        self.threads: ThreadForkClient = ThreadForkClient(
            self.reactor, self.plan, self.handle_report, self.handle_fork_server_gone
        )
        return self.threads

    def _enter_process(self) -> None:
        pass

    def _leave_process(self) -> None:
        pass

    def _replace_fork_server(self) -> None:
        pass

    def handle_upgrade(self, ticket: d.Ticket) -> None:
        """Refuse to upgrade, because the Kingpin runs in the test's program."""
        self.carry_out([d.Answer(ticket, error="an app in one process cannot be upgraded: its Kingpin is no program.")])


class OneProcess:
    """An app in the test's own process."""

    is_one_process = True

    def __init__(self, wanted: Described) -> None:
        self.name: str = wanted.name
        self.lines: PrintedLines = PrintedLines()
        self._process = _Process()
        try:
            plan = plan_of(wanted)
            if plan.cluster is not None:
                raise PlanError(f"{self.name}: a cluster needs processes. Leave out one_process, or .cluster().")
            self._process.enter(plan)
            self._reports = tempfile.TemporaryDirectory(prefix="mob-crashes-")
            crashes.keep_in(self.name, Path(self._reports.name))
            self.kingpin: ThreadKingpin = ThreadKingpin(plan, self.lines)
        except BaseException:
            self._process.leave()
            raise
        self._thread = threading.Thread(target=self.kingpin.run, name=f"mob-kingpin-{self.name}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<OneProcess of {self.name!r}>"

    @property
    def _lives(self) -> list[ThreadLife]:
        return list(self.kingpin.threads.lives.values())

    def problem(self) -> str:
        """Return the problem if the Kingpin has ended, or if a module blocks."""
        if not self._thread.is_alive():
            return "its Kingpin has ended"
        late = monotonic() - BLOCKED
        blocked = [life for life in self._lives if life.importing and life.born < late and not life.has_ended]
        if blocked:
            life = blocked[0]
            return (
                f"{life.order.role.name}.{life.order.index} is still being imported after {BLOCKED:g} s, at "
                f"{life.standing() or 'an unknown place'}. A module that blocks during its import (a server's "
                f"serve_forever) needs a process of its own: leave out one_process"
            )
        return ""

    def wait_printed(self) -> None:
        """Wait for the end of the Kingpin, which writes until then."""
        self._thread.join(WAIT_TIMEOUT)

    def send_signal(self, pid: int, signum: int) -> None:
        """Kill a mobster; other signals need processes."""
        if signum != signal.SIGKILL:
            raise NotImplementedError("an app in one process has no signals except a kill: leave out one_process.")
        self.kingpin.threads.end_mobster(pid)

    def peers(self) -> Sequence[Peer]:
        """Return the peers of the running mobsters."""
        return [life.peer for life in self._lives if not life.has_ended]

    def end(self) -> list[Leak]:
        """End the Kingpin and the threads; return the threads that are left."""
        self.kingpin.reactor.call(self._stop)
        self._thread.join(WAIT_TIMEOUT)
        for life in self._lives:
            life.thread.join(CLOSING)
        left = [life for life in self._lives if life.thread.is_alive()]
        self._process.leave()
        self._reports.cleanup()
        return [Leak("threads", f"{life.thread.name} still runs, at {life.standing() or '?'}") for life in left]

    def _stop(self) -> None:
        if not self.kingpin.supervisor.stopping:
            self.kingpin.stop()


class _Process:
    """The changes of an app to this process, and the state before."""

    running = 0
    """Number of apps that run in it."""

    def __init__(self) -> None:
        self._path = sys.path[:]
        self._modules = set(sys.modules)
        self._environ = dict(os.environ)
        self._places: tuple[Path, ...] = ()
        self._is_in = False

    def enter(self, plan: Plan) -> None:
        """Set up the process for the app."""
        for role in plan.roles:
            _check_env(role)
        files = [Path(role.module).parent for role in plan.roles if role.module.endswith(".py")]
        self._places = tuple(dict.fromkeys([Path(plan.base), *files]))
        sys.path[:0] = [str(place) for place in self._places if str(place) not in sys.path]
        for role in plan.roles:
            os.environ.update(placed_at(role, 0, role.workers, plan.name, os.uname().nodename).env)
        importlib.invalidate_caches()
        api.find_seat = lives.find_seat
        lives.route_output()
        _Process.running += 1
        self._is_in = True

    def leave(self) -> None:
        """Restore the process."""
        if not self._is_in:
            return
        self._is_in = False
        sys.path[:] = self._path
        for name in os.environ.keys() - self._environ.keys():
            del os.environ[name]
        os.environ.update(self._environ)
        for name in sys.modules.keys() - self._modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and any(Path(file).is_relative_to(place) for place in self._places):
                del sys.modules[name]
        _Process.running -= 1
        if not _Process.running:
            lives.leave_output()


def _check_env(role: RolePlan) -> None:
    """Raise `PlanError` if the workers of a role need environments of their own, because there is one process."""
    what = "gpus" if role.devices else "{index} in env" if mentions(role.env, OF_A_PLACE) else ""
    if what and role.workers > 1:
        raise PlanError(
            f"role {role.name!r}: {what} gives each worker an environment of its own, but in one process all share "
            f"one. Leave out one_process, or run one worker: roles='{role.name}=1'."
        )


def is_any_running() -> bool:
    """Return True if an app runs in this process."""
    return _Process.running > 0
