"""The guardian: a small process that ends what an app leaves behind when all of the app is killed at the same moment.

The kernel kills the mobsters when Kingpin and fork server are dead (the deadman pipe, `processes`). It cannot do so for
the children of a mobster that was killed as well: no process of mob is left that knows them. So each fork server has a
guardian, in a session of its own, under a title that contains neither the app's name nor Python's, so that
`pkill -9 NAME` does not match it. It sleeps until a mobster is forked or exits, or everything ends.

Each mobster reports its process id to it before any code of the application runs, so no child is ever unknown. When a
mobster exits, the guardian kills its group, as the fork server does. When the last writing end of the deadman pipe
closes, it kills all groups, and then everything in /proc that belongs to the app: processes that have the variable
`MOB_DEADMAN` (exec) or the deadman pipe itself (fork), that print to the pipes of a mobster, and their descendants.

The fork server starts another guardian if this one is killed. After the death of its fork server a guardian stays until
the next fork server has a guardian that knows all mobsters (`GuardianHandle.relieve`). Linux only: elsewhere there is
no guardian.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import select
import signal
import struct
import sys
from collections import deque
from collections.abc import Collection, Iterable
from time import monotonic
from typing import NoReturn

import setproctitle

from mob.rim import descendants, pidfds, processes
from mob.rim.pidfds import ProcessHandle

RECORD = struct.Struct("=i")
"""A message on the pipe: a process id."""
MOST_ENDED = 4096
"""Maximum number of exited mobsters whose pipes are remembered."""
JUST = 10.0
"""Seconds for which the group of an exited mobster counts.

Its leader may have been killed a moment before everything else; later the number may belong to another group.
"""
NAMED_TIMEOUT = 5.0
"""Seconds that the fork server waits for the guardian's first steps, which take less than a millisecond."""
IGNORED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2", "SIGALRM")


def title_of(kingpin: int) -> str:
    """Return the title of an app's guardians."""
    return f"guardian of pid {kingpin}"


class GuardianHandle:
    """The fork server's side of its guardian."""

    def __init__(self, deadman: int) -> None:
        self.pid: int = 0
        self._deadman = deadman
        self._kingpin = os.getppid()
        self._title = title_of(self._kingpin)  # the same for all guardians of an app
        self._news = -1  # the writing end of the pipe

    def __repr__(self) -> str:
        return f"<GuardianHandle, guardian pid {self.pid}>"

    def start(self, pids: Iterable[int] = ()) -> None:
        """Start a guardian for this process's group and for these mobsters. If that fails, print the reason."""
        if not pidfds.LINUX:
            return
        self._forget()
        ends: list[int] = []
        try:
            ends += os.pipe()
            ends += os.pipe()
            gc.freeze()  # later collections in the fork server do not touch the shared pages
            fork_server = os.getpid()
            self.pid = os.fork()
        except OSError as error:
            print(f"mob: the guardian cannot be started: {processes.shortage(error)}", file=sys.stderr, flush=True)
            for end in ends:
                os.close(end)
            self._forget()
            return
        news, self._news, named, unnamed = ends
        if not self.pid:
            _become_guardian(news, self._deadman, fork_server, self._title, self._kingpin)
        os.close(news)
        os.close(unnamed)
        os.set_blocking(self._news, False)
        _wait_closed(named)
        os.close(named)
        for pid in pids:
            self.tell(pid)

    def tell(self, pid: int) -> None:
        """Report a mobster to the guardian; called by the mobster itself too, which then closes the pipe."""
        if self._news >= 0:
            with contextlib.suppress(OSError):  # it was killed, and the next one gets all pids; or it is stopped
                os.write(self._news, RECORD.pack(pid))

    def leave(self) -> None:
        """Close this process's copy of the pipe; for a mobster."""
        if self._news >= 0:
            os.close(self._news)
            self._news = -1

    def relieve(self) -> None:
        """End the guardians of earlier fork servers, which are now children of the Kingpin.

        Only if there is a guardian here, to which all mobsters were reported.
        """
        if self.pid:
            descendants.end_children(os.getppid(), self._title)

    def end(self) -> None:
        """End the guardian because nothing is left to guard."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)  # a child that was not reaped
                os.waitpid(self.pid, 0)
        self._forget()

    def _forget(self) -> None:
        self.pid = 0
        self.leave()


def _wait_closed(named: int) -> None:
    """Wait until the guardian has its own title, or exited.

    Until then it has the title of the fork server, and would be killed with it while a mobster already starts
    processes.
    """
    poll = select.poll()
    poll.register(named, 0)  # never written to: it closes when the guardian closes what it does not need
    poll.poll(NAMED_TIMEOUT * 1000)


def _become_guardian(news: int, deadman: int, fork_server: int, title: str, kingpin: int) -> NoReturn:
    """Run the child's side: nothing of the fork server except the two pipes, and no signal but SIGKILL."""
    status = 70
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for name in IGNORED:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        setproctitle.setproctitle(title)
        shared = descendants.pipes_of(os.getpid())
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        _close_all_but(0, 1, 2, news, deadman)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # one descriptor for each mobster
        gc.disable()  # untouched pages stay shared with the fork server
        Guardian(news, deadman, fork_server, title, kingpin, shared).run()
        status = 0
    finally:
        os._exit(status)


def _close_all_but(*kept: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


class Guardian:
    """The main object of the guardian process."""

    def __init__(
        self,
        news: int,
        deadman: int,
        fork_server: int,
        title: str,
        kingpin: int,
        shared: Collection[descendants.PipeIdentity] = (),
    ) -> None:
        """Initialize; `shared` are pipes to which both mobsters and other processes print."""
        self._news = news
        """Reading end of the pipe; -1 when the fork server is dead."""
        self._title = title
        self._kingpin = kingpin
        self._deadman = deadman
        self._session = 0  # session of the app: a process group lies within one session
        self._held: dict[int, ProcessHandle] = {}  # by descriptor
        self._groups: set[int] = set()
        self._shared = frozenset(shared)
        self._pipes: dict[int, set[descendants.PipeIdentity]] = {}  # where only mobsters print, by process id
        self._ended: deque[tuple[float, int, set[descendants.PipeIdentity]]] = deque(
            maxlen=MOST_ENDED
        )  # time, pid, pipes
        os.set_blocking(news, False)
        self._poll = select.epoll()
        self._poll.register(news, select.EPOLLIN)
        self._poll.register(deadman, 0)  # never written to: it closes with the last writer
        self._fork_server = self._hold_parent(fork_server)

    def __repr__(self) -> str:
        return f"<Guardian of {len(self._held)} mobsters>"

    def run(self) -> None:
        """Guard until no process of the app is left."""
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._deadman:
                    self._hear_news()  # the last messages
                    self._end_all()
                    return
                if fd == self._news:
                    self._hear_news()
                else:
                    self._handle_end(fd)

    def _hear_news(self) -> None:
        """Read which mobsters were started, or that the fork server is dead."""
        while self._news >= 0:
            try:
                data = os.read(self._news, 1024 * RECORD.size)  # whole records: such short writes are not split
            except BlockingIOError:
                return
            for (pid,) in RECORD.iter_unpack(data):
                self._guard(pid)
            if not data:
                os.close(self._news)  # which also ends the watch
                self._news = -1

    def _guard(self, pid: int) -> None:
        held = self._hold(pid)
        self._pipes[pid] = descendants.pipes_of(pid) - self._shared
        if held is not None:
            self._held[held.fileno()] = held
            self._poll.register(held.fileno(), select.EPOLLIN)

    def _hold(self, pid: int) -> ProcessHandle | None:
        """Open a process whose group must be ended. Without a descriptor its number must do, for the search."""
        try:
            held = ProcessHandle(pid)
        except ProcessLookupError:
            return None  # it ended, and its group was killed
        except OSError:
            held = None
        self._groups.add(pid)
        status = pidfds.status_of(pid)
        self._session = self._session or (status.session if status else 0)
        return held

    def _hold_parent(self, pid: int) -> ProcessHandle | None:
        """Open the fork server, unless it ended before: another process may have its number by then.

        The parent of this process is then the process that adopted it, which the app must not touch.
        """
        held = self._hold(pid)
        if os.getppid() == pid:
            return held
        self._groups.discard(pid)
        self._session = 0
        if held is not None:
            held.close()
        return None

    def _handle_end(self, fd: int) -> None:
        held = self._held.pop(fd, None)
        if held is not None:
            held.signal_group(signal.SIGKILL)
            self._groups.discard(held.pid)
            self._ended.append((monotonic(), held.pid, self._pipes.pop(held.pid, set())))
            self._poll.unregister(fd)
            held.close()

    def _end_all(self) -> None:
        for held in (*self._held.values(), self._fork_server):
            if held is not None:
                held.signal_group(signal.SIGKILL)
        pipes = set[descendants.PipeIdentity]().union(*self._pipes.values(), *(pipes for _, _, pipes in self._ended))
        just_ended = {pid for at, pid, _ in self._ended if at >= monotonic() - JUST}
        descendants.end_traced(
            self._deadman, pipes, self._groups | just_ended, self._session, self._title, self._kingpin
        )
