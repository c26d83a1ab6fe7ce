"""The Kingpin's side of the fork server: orders launches, receives reports, replaces it when it dies."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence

import msgspec

from mob.kingpin.processes.starting import Starter
from mob.plan import Plan
from mob.rim import descendants, pidfds, processes
from mob.rim.guardian import title_of as guardian_title
from mob.rim.link import Link
from mob.rim.reactor import Reactor
from mob.wire import messages as m

LIMIT = 1024 * 1024
REAP_TIMEOUT = 5.0
"""Seconds to wait for a killed process to exit; one that is blocked in the kernel does not."""


class ForkClientState(msgspec.Struct, frozen=True):
    """The fork server as it is handed over to the next program."""

    pid: int
    channel: int
    """Descriptor of the channel; -1 if the fork server just exited."""
    deadman: tuple[int, int]
    """The two ends of the deadman pipe."""


class ForkClient:
    """The fork server as the Kingpin sees it."""

    def __init__(
        self,
        reactor: Reactor,
        plan: Plan,
        on_report: Callable[[m.ForkReport], None],
        on_gone: Callable[[str], None],
        starter: Starter | None = None,
    ) -> None:
        self._reactor = reactor
        self._plan = plan
        self._on_report = on_report
        self._on_gone = on_gone
        self._starter = starter or Starter(plan)
        self._process: subprocess.Popen[bytes] | processes.Child | None = None
        self._link: Link | None = None
        self._held: list[tuple[m.ForkOrder, Sequence[int]]] = []  # orders for the next fork server while there is none
        self._remembered: set[str] = set()
        self._closing = False
        self.is_outdated: bool = False
        """True if this fork server is to be replaced; all orders wait for the next one."""
        self.failures: int = 0
        """Number of fork servers in a row that exited before they launched anything."""

    def __repr__(self) -> str:
        return f"<ForkClient, fork server pid {self.pid}>"

    @property
    def pid(self) -> int:
        """Process id of the fork server."""
        return self._process.pid if self._process else 0

    @property
    def is_quiet(self) -> bool:
        """True if no message to or from the fork server is partly sent."""
        return self._link is None or self._link.is_closed or self._link.is_quiet

    def state(self) -> ForkClientState:
        """Return the state for the next program."""
        link = self._link
        return ForkClientState(self.pid, -1 if link is None or link.is_closed else link.fd, self._starter.deadman)

    def take_over(self, state: ForkClientState) -> None:
        """Take over the previous program's fork server; `kill` and `open` follow because it holds old code."""
        for descriptor in self._starter.deadman:
            os.close(descriptor)
        self._starter.deadman = state.deadman
        self._process = processes.Child(state.pid) if state.pid else None
        if state.channel >= 0:
            self._listen(socket.socket(fileno=state.channel))

    def open(self) -> None:
        """Start the fork server. Raise `OSError` if the system lacks a resource."""
        self._process, channel = self._starter.start()
        self.failures += 1  # reset by its first report
        self._listen(channel)

    def _listen(self, own: socket.socket) -> None:
        self.is_outdated = False
        self._link = Link(own, self._reactor, m.decode_report, self._handle_reports, self._handle_end, LIMIT)
        self._link.name = "the fork server"
        self._link.start()

    def order(self, order: m.ForkOrder, descriptors: Sequence[int] = ()) -> None:
        """Send an order to the fork server, or to the next one; the descriptors are closed once they are sent."""
        if self._process is None or self._link is None or self.is_outdated:
            self._held.append((order, descriptors))
        elif descriptors:
            self._link.post_with(order, descriptors)
        else:
            self._link.post(order)

    @property
    def held(self) -> list[int]:
        """Return the uids of the mobsters that the next fork server will launch."""
        return [order.uid for order, _ in self._held if isinstance(order, m.Fork)]

    def remember(self, paths: Sequence[str]) -> None:
        """Have these socket files removed after the app's end."""
        for path in paths:
            if path not in self._remembered:
                self._remembered.add(path)
                self.order(m.Remember(path))

    def inform(self, pids: Sequence[int], paths: Sequence[str]) -> None:
        """Report the existing mobsters and the held orders to a new fork server."""
        self._remembered.clear()
        held, self._held = self._held, []
        for pid in pids:
            self.order(m.Adopt(pid))
        self.order(m.Relieve())
        self.remember(paths)
        for order, descriptors in held:
            self.order(order, descriptors)

    def handle_exit(self, pid: int, status: int) -> bool:
        """Handle the exit of a child of the Kingpin; return True if it was the fork server."""
        if pid != self.pid:
            return False
        assert self._process is not None
        self._process.returncode = status  # reaped by the Kingpin, not by Popen
        self._process = None
        if self._link is not None:
            self._link.drain()  # its last reports
            self._link.close()
        if not self._closing:
            self._on_gone(processes.exit_text(status))
        return True

    def end_mobster(self, pid: int) -> None:
        """Kill a mobster and everything that it started."""
        pidfds.signal_child(pid, self._parents(), signal.SIGKILL, whole_group=True)

    def signal_mobster(self, pid: int, signum: int) -> None:
        """Signal a mobster, and nothing that it started."""
        pidfds.signal_child(pid, self._parents(), signum)

    def ask_for_stacks(self, pid: int) -> None:
        """Have a mobster write the stacks of its threads to its stderr."""
        if processes.STACKS:
            pidfds.signal_child(pid, self._parents(), processes.STACKS)

    def still_runs(self, pid: int) -> bool:
        """Return whether a mobster of an exited fork server still runs; it is now a child of the Kingpin."""
        return pidfds.is_child(pid, self._parents())

    def guard(self, pid: int) -> None:
        """Have another child of the Kingpin, which leads a process group, end with the app."""
        self.order(m.Adopt(pid))

    def _parents(self) -> tuple[int, int]:
        """Return the possible parents of a mobster: the fork server and the Kingpin."""
        return os.getpid(), self.pid

    def kill(self) -> None:
        """Kill the fork server; its mobsters keep running. `open` and `inform` follow."""
        if self._process is not None:
            self._process.kill()
            self._await_end(REAP_TIMEOUT)  # its reports until then are in the link
            self._process = None
        if self._link is not None:
            self._link.drain()
            self._link.close()

    def _has_seen_to_all(self) -> bool:
        """Wait for the fork server and its guardian to exit; return True if they did so in time and by themselves."""
        assert self._process is not None
        self.wake()
        if self._await_end(self._plan.grace + REAP_TIMEOUT):
            return True
        self._process.kill()
        self._await_end(REAP_TIMEOUT)
        return False

    def _await_end(self, seconds: float) -> bool:
        """Wait at most that long for the fork server to exit; return True if it did."""
        assert self._process is not None
        if not pidfds.wait_for(self._process.pid, seconds):
            return False
        self._process.returncode = 0  # so that Popen does not warn that it was not waited for
        return True

    def wake(self) -> None:
        """Resume a fork server that was stopped with SIGSTOP."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Close the channel so that the fork server ends, and wait until it has cleaned up."""
        self._closing = True
        if self._link is not None:
            self._link.close()
        if self._process is None or not self._has_seen_to_all():
            with contextlib.suppress(OSError):  # no file descriptor is available to look for them
                descendants.end_children(os.getpid(), guardian_title(os.getpid()))
        for descriptor in (*self._starter.deadman, *(each for _, descriptors in self._held for each in descriptors)):
            os.close(descriptor)

    def _handle_reports(self, link: Link, reports: list[m.ForkReport]) -> None:
        self.failures = 0
        for report in reports:
            self._on_report(report)

    def _handle_end(self, link: Link, why: str) -> None:
        """Ignore the end of the channel: the exit follows, and says more."""
