"""Signals to a process, not to a number: a process id may belong to a stranger as soon as its process was waited for.

A pidfd (Linux) stays with its process, so what is sent through it reaches that process or nobody. `ProcessHandle` is
one that was opened while the process was known. Where only a number is known, the process is held first, then looked at
(whose child it is, when it was started), and then signalled: whatever ends in between is not signalled at all.

A number is signalled directly only where it cannot be another's: one's own child that was not waited for, or a group
whose leader was not. Elsewhere than on Linux there are numbers only, and the looks that are possible there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
from collections.abc import Collection
from typing import NamedTuple

LINUX = sys.platform == "linux"
PROCESS_GROUP = 4
"""PIDFD_SIGNAL_PROCESS_GROUP: to all of the group that the process led, though it has ended. From Linux 6.9 on."""
_NOBODY = (ProcessLookupError, PermissionError)


class Status(NamedTuple):
    """What /proc says of a process."""

    state: str
    parent: int
    group: int
    session: int
    started: int
    """In clock ticks since the machine was started; with the process id it names a process."""

    @property
    def has_ended(self) -> bool:
        """Return whether it has ended and was not waited for."""
        return self.state in ("Z", "X")


def status_of(pid: int) -> Status | None:
    """Return what the system says of a process; None if there is none, or where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
        return Status(fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))
    return None


def is_running(pid: int) -> bool:
    """Return whether a thread of a process runs, or would if it had a processor. One that waits in the kernel executes
    nothing of its program before it has heard of a SIGSTOP. Where the system does not tell: False.
    """
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/stat", "rb") as file:
                if file.read().rpartition(b")")[2].split()[:1] == [b"R"]:
                    return True
    return False


class ProcessHandle:
    """A process that keeps its identity as long as this is open."""

    __slots__ = ("_fd", "pid")

    def __init__(self, pid: int) -> None:
        """`ProcessLookupError` if there is none, another `OSError` if there is no descriptor for it."""
        self.pid: int = pid
        self._fd = _open(pid)

    def __repr__(self) -> str:
        return f"<ProcessHandle {self.pid}>"

    def fileno(self) -> int:
        """Return the descriptor, which becomes readable when the process ends."""
        return self._fd

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def signal(self, signum: int) -> None:
        """Signal the process, unless it has ended."""
        with contextlib.suppress(*_NOBODY):
            if not LINUX:
                if not self.has_ended():
                    os.kill(self.pid, signum)
                return
            signal.pidfd_send_signal(self._fd, signum)

    def signal_group(self, signum: int) -> None:
        """Signal the group that the process leads, or has led. On a Linux before 6.9, and elsewhere: only as long as
        nobody has waited for the process, because its number may be another's afterwards.
        """
        with contextlib.suppress(*_NOBODY):
            if LINUX:
                try:
                    signal.pidfd_send_signal(self._fd, signum, None, PROCESS_GROUP)
                    return
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
            if not self._was_waited_for():
                os.killpg(self.pid, signum)

    def _was_waited_for(self) -> bool:
        if not LINUX:
            return self.has_ended()
        with open(f"/proc/self/fdinfo/{self._fd}", encoding="ascii") as lines:
            return any(line.split() == ["Pid:", "-1"] for line in lines)

    def has_ended(self, seconds: float = 0.0) -> bool:
        """Return whether it has ended, or does so within that time."""
        poll = select.poll()  # which takes numbers beyond 1,023, as select() does not
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


def _open(pid: int) -> int:
    """A pidfd; where there is none, what is like it as far as waiting goes."""
    if sys.platform != "linux":
        queue = select.kqueue()
        queue.control([select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)], 0)
        return os.dup(queue.fileno())
    return os.pidfd_open(pid)


def is_child(pid: int, parents: Collection[int]) -> bool:
    """Return whether there is such a process, be it ended and not waited for, and one of these has it as a child.

    Where that cannot be read (no descriptor is to be had for it, or there is no /proc): whether it leads a group in the
    session of this process, as such a child does.
    """
    status = status_of(pid)
    if status is not None:
        return status.parent in parents
    with contextlib.suppress(*_NOBODY):
        return os.getpgid(pid) == pid and os.getsid(pid) == os.getsid(0)
    return False


def wait_for(pid: int, seconds: float) -> bool:
    """Wait for the end of a child of this process, so long at most; return whether it has ended."""
    held: ProcessHandle | None = None
    try:
        held = ProcessHandle(pid)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # no descriptor to be had: it is waited for however long it takes
    if held is not None:
        with contextlib.closing(held):
            if not held.has_ended(seconds):
                return False
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return True


def signal_child(pid: int, parents: Collection[int], signum: int, whole_group: bool = False) -> None:
    """Signal a process, or the group that it leads too, if it still is the child of one of these."""
    try:
        held = ProcessHandle(pid)
    except ProcessLookupError:
        return
    except OSError:  # no descriptor to be had: the number, right after the look
        if is_child(pid, parents):
            _signal_number(pid, signum, whole_group)
        return
    try:
        if is_child(pid, parents):
            if whole_group:
                held.signal_group(signum)
            held.signal(signum)
    finally:
        held.close()


def signal_started(pid: int, started: int, signum: int) -> None:
    """Signal a process, if it is the one that was started at that time."""
    held: ProcessHandle | None = None
    try:
        held = ProcessHandle(pid)
    except ProcessLookupError:
        return
    except OSError:
        pass
    status = status_of(pid)
    if status is not None and status.started == started:
        if held is not None:
            held.signal(signum)
        else:
            _signal_number(pid, signum)
    if held is not None:
        held.close()


def _signal_number(pid: int, signum: int, whole_group: bool = False) -> None:
    for send in (os.killpg, os.kill) if whole_group else (os.kill,):
        with contextlib.suppress(*_NOBODY):
            send(pid, signum)
