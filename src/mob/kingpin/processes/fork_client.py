"""The Kingpin's hold on its fork server: orders launches, hears reports, replaces it when it dies."""

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
"""Seconds in which a process ends that was killed; one that hangs in the kernel does not."""


class ForkClientState(msgspec.Struct, frozen=True):
    """The fork server as the next program takes it over."""

    pid: int
    channel: int
    """-1 if it has just ended."""
    deadman: tuple[int, int]
    """The two ends of the deadman pipe."""


class ForkClient:
    """The fork server as the Kingpin knows it."""

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
        self._held: list[tuple[m.ForkOrder, Sequence[int]]] = []  # for the next fork server, while there is none
        self._remembered: set[str] = set()
        self._closing = False
        self.is_outdated: bool = False
        """Whether another one is to take its place, for which all orders wait."""
        self.failures: int = 0
        """How many fork servers in a row have ended before they had launched anything."""

    def __repr__(self) -> str:
        return f"<ForkClient, fork server pid {self.pid}>"

    @property
    def pid(self) -> int:
        """The fork server's process id."""
        return self._process.pid if self._process else 0

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is half said on the channel to the fork server."""
        return self._link is None or self._link.is_closed or self._link.is_quiet

    def state(self) -> ForkClientState:
        """Return what the next program needs of it."""
        link = self._link
        return ForkClientState(self.pid, -1 if link is None or link.is_closed else link.fd, self._starter.deadman)

    def take_over(self, state: ForkClientState) -> None:
        """Take the fork server of the program before this one; `kill` and `open` follow, because it holds old code."""
        for descriptor in self._starter.deadman:
            os.close(descriptor)
        self._starter.deadman = state.deadman
        self._process = processes.Child(state.pid) if state.pid else None
        if state.channel >= 0:
            self._listen(socket.socket(fileno=state.channel))

    def open(self) -> None:
        """Start the fork server. `OSError` if the system lacks what it takes."""
        self._process, channel = self._starter.start()
        self.failures += 1  # until it reports something
        self._listen(channel)

    def _listen(self, own: socket.socket) -> None:
        self.is_outdated = False
        self._link = Link(own, self._reactor, m.decode_report, self._handle_reports, self._handle_end, LIMIT)
        self._link.name = "the fork server"
        self._link.start()

    def order(self, order: m.ForkOrder, descriptors: Sequence[int] = ()) -> None:
        """Tell the fork server what to do, or the next one; the descriptors are closed once sent."""
        if self._process is None or self._link is None or self.is_outdated:
            self._held.append((order, descriptors))
        elif descriptors:
            self._link.post_with(order, descriptors)
        else:
            self._link.post(order)

    @property
    def held(self) -> list[int]:
        """The uids of the mobsters that the next fork server is to make."""
        return [order.uid for order, _ in self._held if isinstance(order, m.Fork)]

    def remember(self, paths: Sequence[str]) -> None:
        """Have the last will remove these socket files."""
        for path in paths:
            if path not in self._remembered:
                self._remembered.add(path)
                self.order(m.Remember(path))

    def inform(self, pids: Sequence[int], paths: Sequence[str]) -> None:
        """Tell a fork server that has just been started what the dead one has left, and what has been held for it."""
        self._remembered.clear()
        held, self._held = self._held, []
        for pid in pids:
            self.order(m.Adopt(pid))
        self.order(m.Relieve())
        self.remember(paths)
        for order, descriptors in held:
            self.order(order, descriptors)

    def handle_exit(self, pid: int, status: int) -> bool:
        """Handle the end of a child of the Kingpin; return whether it was the fork server."""
        if pid != self.pid:
            return False
        assert self._process is not None
        self._process.returncode = status  # it was reaped by the Kingpin, not by Popen
        self._process = None
        if self._link is not None:
            self._link.drain()  # what it still reported
            self._link.close()
        if not self._closing:
            self._on_gone(processes.exit_text(status))
        return True

    def end_mobster(self, pid: int) -> None:
        """End a mobster at once, and all that it has started."""
        pidfds.signal_child(pid, self._parents(), signal.SIGKILL, whole_group=True)

    def signal_mobster(self, pid: int, signum: int) -> None:
        """Signal a mobster, and nothing that it has started."""
        pidfds.signal_child(pid, self._parents(), signum)

    def ask_for_stacks(self, pid: int) -> None:
        """Have a mobster write to its stderr where its threads are."""
        if processes.STACKS:
            pidfds.signal_child(pid, self._parents(), processes.STACKS)

    def has_left(self, pid: int) -> bool:
        """Return whether a mobster of a fork server that has ended is there: it is the Kingpin's child now."""
        return pidfds.is_child(pid, self._parents())

    def guard(self, pid: int) -> None:
        """Have another child of the Kingpin, which leads a group, end with the app."""
        self.order(m.Adopt(pid))

    def _parents(self) -> tuple[int, int]:
        """Whose child a mobster is."""
        return os.getpid(), self.pid

    def kill(self) -> None:
        """End the fork server at once, while its mobsters go on; `open` and `inform` follow."""
        if self._process is not None:
            self._process.kill()
            self._await_end(REAP_TIMEOUT)  # what it has reported by then is in the link
            self._process = None
        if self._link is not None:
            self._link.drain()
            self._link.close()

    def _has_seen_to_all(self) -> bool:
        """Wait until the fork server has ended, and its guardian; return whether it did so in time and by itself."""
        assert self._process is not None
        self.wake()
        if self._await_end(self._plan.grace + REAP_TIMEOUT):
            return True
        self._process.kill()
        self._await_end(REAP_TIMEOUT)
        return False

    def _await_end(self, seconds: float) -> bool:
        """Wait for the end of the fork server, so long at most; return whether it has ended."""
        assert self._process is not None
        if not pidfds.wait_for(self._process.pid, seconds):
            return False
        self._process.returncode = 0  # it was not waited for by Popen, which would warn of it
        return True

    def wake(self) -> None:
        """Let a fork server go on that somebody has stopped (SIGSTOP)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the fork server by ending the channel, and wait until it has seen to what is left."""
        self._closing = True
        if self._link is not None:
            self._link.close()
        if self._process is None or not self._has_seen_to_all():
            with contextlib.suppress(OSError):  # no descriptor to be had to look for them
                descendants.end_children(os.getpid(), guardian_title(os.getpid()))
        for descriptor in (*self._starter.deadman, *(each for _, descriptors in self._held for each in descriptors)):
            os.close(descriptor)

    def _handle_reports(self, link: Link, reports: list[m.ForkReport]) -> None:
        self.failures = 0
        for report in reports:
            self._on_report(report)

    def _handle_end(self, link: Link, why: str) -> None:
        """Its exit follows, and tells more."""
