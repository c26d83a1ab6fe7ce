"""The fork server: forks mobsters in milliseconds, reports their exits, and ends the app if the Kingpin dies.

It has one thread, no loop, and no application code except what was imported before the first fork, so it is always free
to act. Its channel to the Kingpin carries `ForkOrder`s in and `ForkReport`s out. When the channel closes, the Kingpin
is dead: the fork server asks every mobster to stop (SIGTERM), waits for the grace period, kills the remaining groups
and removes the socket files. It is a subreaper: processes that mobsters leave behind become its children and are ended
and reaped here.

`body` is what a forked child runs; the caller passes it in because this file knows nothing of mobsters.
"""

from __future__ import annotations

import array
import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from mob.rim import descendants, openfiles, pidfds, processes
from mob.rim.guardian import GuardianHandle
from mob.rim.pidfds import ProcessHandle
from mob.wire.frames import HEADER, FrameDecoder
from mob.wire.messages import (
    Adopt,
    Exited,
    Fork,
    Forked,
    ForkReport,
    NotForked,
    Relieve,
    Remember,
    decode_order,
    encode,
)

ForkBody = Callable[[Fork, int, int], int]
"""Runs a mobster in a new process, given its order and the control and liveness sockets; returns the exit status."""

LIMIT = 1024 * 1024
SEARCHING = 0.05
"""Maximum share of the time for looking for processes that exited mobsters left behind."""


class ForkServer:
    """The state of the fork server."""

    def __init__(
        self, channel: socket.socket, deadman: tuple[int, int], guard: GuardianHandle, grace: float, body: ForkBody
    ) -> None:
        self.channel = channel
        self.deadman = deadman
        self.guard = guard
        self.grace = grace
        self.body = body
        self.frames: FrameDecoder = FrameDecoder(LIMIT)
        self.descriptors: list[int] = []
        self.mobsters: dict[int, int] = {}  # pid -> uid
        self.adopted: dict[
            int, ProcessHandle
        ] = {}  # mobsters forked by a predecessor, so not children of this process, by pid
        self.own_pipes: set[descendants.PipeIdentity] = descendants.pipes_of(os.getpid())
        self.pipes: dict[int, set[descendants.PipeIdentity]] = {}  # where only mobsters print, by pid
        self.ended: dict[
            int, set[descendants.PipeIdentity]
        ] = {}  # of exited mobsters whose descendants must end, by pid
        self.search_at: float = 0.0
        self.has_orphans_at_kingpin: bool = False
        """True if processes left behind may be children of the Kingpin, as those of adopted mobsters are."""
        self.paths: list[str] = []
        self.interrupt: Any = signal.default_int_handler
        """What SIGINT does in a mobster: nothing, if it was ignored when the app started."""
        self.wake_r: int
        self.wake_w: int
        self.wake_r, self.wake_w = os.pipe()

    def __repr__(self) -> str:
        return f"<ForkServer of {len(self.mobsters)} mobsters>"

    def serve(self) -> None:
        """Work until the Kingpin is dead, then end everything else."""
        os.set_blocking(self.wake_w, False)
        os.set_blocking(self.wake_r, False)
        signal.set_wakeup_fd(self.wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _only_wake)
        self.interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends only when the Kingpin does
        processes.become_subreaper()
        gc.collect()
        gc.freeze()
        while True:
            for fd in self._wait(self.channel.fileno(), seconds=self._time_to_search()):
                if fd == self.wake_r:
                    self._reap()
                elif fd == self.channel.fileno() and not self._read():
                    self._carry_out_the_last_will()
                    return
            self._forget_adopted()
            self._search()

    def _wait(self, *others: int, seconds: float | None = None) -> list[int]:
        """Return the readable descriptors among those of the children, of adopted mobsters, and the others given."""
        poll = select.poll()
        for fd in (self.wake_r, *(held.fileno() for held in self.adopted.values()), *others):
            poll.register(fd, select.POLLIN)
        return [fd for fd, _ in poll.poll(None if seconds is None else seconds * 1000)]

    # ---------------------------------------------------------------------------------------------- orders

    def _read(self) -> bool:
        """Carry out orders; return False when the Kingpin is dead."""
        try:
            data, ancillary, _, _ = self.channel.recvmsg(65536, socket.CMSG_SPACE(64))
        except ConnectionError:
            return False
        for _, _, raw in ancillary:
            descriptors = array.array("i")
            descriptors.frombytes(raw)
            self.descriptors.extend(descriptors)
        if not data:
            return False
        for payload in self.frames.feed(data):
            for order in decode_order(payload):
                self._carry_out(order)
        return True

    def _carry_out(self, order: Any) -> None:
        match order:
            case Fork():
                descriptors, self.descriptors = self.descriptors[:4], self.descriptors[4:]
                self._fork(order, descriptors)
            case Adopt(pid=pid):
                self._adopt(pid)
            case Remember(path=path):
                self.paths.append(path)
            case Relieve():
                self.guard.relieve()
            case _:
                raise AssertionError(f"{order!r} is not an order")

    def _fork(self, order: Fork, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:  # no more processes, or no memory
            self._report(NotForked(order.uid, f"fork: {error.strerror}"))
        else:
            if pid == 0:
                self._become_mobster(order, descriptors)
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)  # in parent and child, so it does not matter which runs first
            self.mobsters[pid] = order.uid
            pipes = {(told.st_dev, told.st_ino) for told in map(os.fstat, descriptors[2:])}
            self.pipes[pid] = pipes - self.own_pipes
            self._report(Forked(order.uid, pid))
        for descriptor in descriptors:
            os.close(descriptor)

    def _become_mobster(self, order: Fork, descriptors: list[int]) -> NoReturn:
        """Run the child's side: own group, own streams, nothing of the fork server, then the body."""
        status = 70
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for signum in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(signum, signal.SIG_DFL)
            signal.signal(signal.SIGINT, self.interrupt)
            processes.arm_deadman(self.deadman[0])
            self.channel.close()
            for descriptor in (*self.deadman, self.wake_r, self.wake_w):
                os.close(descriptor)
            for held in self.adopted.values():
                held.close()
            control, liveness, out, err = descriptors
            null = os.open(os.devnull, os.O_RDONLY)
            for descriptor, standard in ((null, 0), (out, 1), (err, 2)):
                os.dup2(descriptor, standard)
                os.close(descriptor)
            self.guard.tell(os.getpid())
            self.guard.leave()
            os.set_inheritable(control, False)
            os.set_inheritable(liveness, False)
            processes.enter(order.directory)
            openfiles.give_back_limit()
            processes.settle(order.role)
            descendants.leave_mark()
            status = self.body(order, control, liveness)
        except BaseException:  # noqa: BLE001  the last frame of this process: shown, and turned into the exit status
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(status)

    def _report(self, report: ForkReport) -> None:
        payload = encode([report])
        with contextlib.suppress(ConnectionError):  # the Kingpin is dead: the next read shows it
            self.channel.sendall(HEADER.pack(len(payload)) + payload)

    # ----------------------------------------------------------------------------------------------- exits

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_r, 4096)
        for pid, status in processes.reap(self._end_group):
            uid = self.mobsters.pop(pid, None)
            if uid is not None:
                self.ended[pid] = self.pipes.pop(pid, set())
                self._report(Exited(uid, pid, status))
            elif pid == self.guard.pid:
                self.guard.start((*self.mobsters, *self.adopted))

    def _end_group(self, pid: int) -> None:
        """Kill the process group of a child that ended; it is not reaped yet, so its pid cannot belong to another."""
        if pid in self.mobsters:
            processes.kill_group(pid)

    def _adopt(self, pid: int) -> None:
        """Watch a child of the Kingpin through a descriptor, so that no later process can be mistaken for it.

        If it has ended by now, the Kingpin killed its group before its number became free.
        """
        try:
            held = ProcessHandle(pid)
        except ProcessLookupError:
            self.ended[pid] = set()
            self.has_orphans_at_kingpin = True
            return
        if not pidfds.is_child(pid, (os.getppid(),)):
            held.close()
            return
        self.adopted[pid] = held
        self.pipes[pid] = descendants.pipes_of(pid) - self.own_pipes
        self.guard.tell(pid)

    def _forget_adopted(self) -> None:
        for pid, held in list(self.adopted.items()):
            if held.has_ended():
                held.signal_group(signal.SIGKILL)
                held.close()
                del self.adopted[pid]
                self.ended[pid] = self.pipes.pop(pid, set())
                self.has_orphans_at_kingpin = True

    def _time_to_search(self) -> float | None:
        return max(0.0, self.search_at - time.monotonic()) if self.ended else None

    def _search(self) -> None:
        """End what exited mobsters left outside their groups, if there is anything.

        Such processes are children of this process; those of adopted mobsters are children of the Kingpin, which is
        also a subreaper.
        """
        now = time.monotonic()
        if not self.ended or now < self.search_at:
            return
        ended, self.ended = self.ended, {}
        mobsters = {*self.mobsters, *self.adopted}
        if self.has_orphans_at_kingpin or descendants.has_others({*mobsters, self.guard.pid}):
            descendants.end_those_of(ended, (os.getpid(), os.getppid()), {*mobsters, os.getpid()})
            self.has_orphans_at_kingpin = False
        self.search_at = now + (time.monotonic() - now) / SEARCHING

    def _carry_out_the_last_will(self) -> None:
        deadline = time.monotonic() + self.grace
        for pid in self.mobsters:  # children that were not reaped
            processes.kill_group(pid, signal.SIGCONT)  # so that a stopped one can handle SIGTERM
            os.kill(pid, signal.SIGTERM)
        for held in self.adopted.values():
            held.signal_group(signal.SIGCONT)
            held.signal(signal.SIGTERM)
        while self.mobsters or self.adopted:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._wait(seconds=left)
            self._reap()
            self._forget_adopted()
        for pid in self.mobsters:
            processes.kill_group(pid)
        for held in self.adopted.values():
            held.signal_group(signal.SIGKILL)
            held.signal(signal.SIGKILL)
        for pid in (*self.mobsters, *self.adopted):
            self.ended[pid] = self.pipes.get(pid, set())
        self.has_orphans_at_kingpin = self.has_orphans_at_kingpin or bool(self.adopted)
        self.search_at = 0.0
        self._search()
        descendants.end_all(but=self.guard.pid)
        self.guard.end()
        for path in self.paths:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _only_wake(signum: int, frame: object) -> None:
    """Do nothing: the wake-up descriptor does all there is to do."""
