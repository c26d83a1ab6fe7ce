"""Signals to a process instead of a number: a process id may belong to a stranger as soon as its process was reaped.

A pidfd (Linux) stays with its process, so a signal through it reaches that process or none. `ProcessHandle` is a pidfd
that was opened while the process was known. If only a number is known, the process is opened first, then checked (its
parent, its start time), and then signaled: if it ends meanwhile, nothing is signaled.

A number is signaled directly only where it cannot belong to another: an own child that was not reaped, or a group whose
leader was not. Systems other than Linux have only numbers, and the checks that are possible there.
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
"""PIDFD_SIGNAL_PROCESS_GROUP: to the whole group that the process led, even if it ended. Linux 6.9 or newer."""
_NOBODY = (ProcessLookupError, PermissionError)


class Status(NamedTuple):
    """The status of a process in /proc."""

    state: str
    parent: int
    group: int
    session: int
    started: int
    """Start time in clock ticks since boot; together with the process id it identifies a process."""

    @property
    def has_ended(self) -> bool:
        """True if it ended and was not reaped."""
        return self.state in ("Z", "X")


def status_of(pid: int) -> Status | None:
    """Return the status of a process; None if there is no such process, or the system does not report it."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
        return Status(fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))
    return None


def is_running(pid: int) -> bool:
    """Return True if a thread of a process runs or is ready to; False where the system does not report it.

    A thread that waits in the kernel executes nothing of its program before it handles a SIGSTOP.
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
        """Open a process.

        Raises:
            ProcessLookupError: There is no such process.
            OSError: No file descriptor is available.
        """
        self.pid: int = pid
        self._fd = _open(pid)

    def __repr__(self) -> str:
        return f"<ProcessHandle {self.pid}>"

    def fileno(self) -> int:
        """Return the descriptor, which becomes readable when the process ends."""
        return self._fd

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)

    def signal(self, signum: int) -> None:
        """Signal the process, unless it ended."""
        with contextlib.suppress(*_NOBODY):
            if not LINUX:
                if not self.has_ended():
                    os.kill(self.pid, signum)
                return
            signal.pidfd_send_signal(self._fd, signum)

    def signal_group(self, signum: int) -> None:
        """Signal the group that the process leads or led.

        On Linux before 6.9, and on other systems, only until the process is reaped, because its number may belong to
        another afterwards.
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
        """Return True if it ended, or ends within that time."""
        poll = select.poll()  # unlike select(), it takes descriptors above 1,023
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


def _open(pid: int) -> int:
    """Return a pidfd; on systems without pidfds, a descriptor that behaves like one for waiting."""
    if sys.platform != "linux":
        queue = select.kqueue()
        queue.control([select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)], 0)
        return os.dup(queue.fileno())
    return os.pidfd_open(pid)


def is_child(pid: int, parents: Collection[int]) -> bool:
    """Return True if there is such a process (which may have ended, if not reaped), and one of these is its parent.

    If that cannot be read (no free descriptor, or no /proc), return whether it leads a group in the session of this
    process, as such a child does.
    """
    status = status_of(pid)
    if status is not None:
        return status.parent in parents
    with contextlib.suppress(*_NOBODY):
        return os.getpgid(pid) == pid and os.getsid(pid) == os.getsid(0)
    return False


def wait_for(pid: int, seconds: float) -> bool:
    """Wait for the end of a child of this process, at most that long; return True if it ended."""
    held: ProcessHandle | None = None
    try:
        held = ProcessHandle(pid)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # no free descriptor: wait without a limit
    if held is not None:
        with contextlib.closing(held):
            if not held.has_ended(seconds):
                return False
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return True


def signal_child(pid: int, parents: Collection[int], signum: int, whole_group: bool = False) -> None:
    """Signal a process, or also its group, if it is still the child of one of these."""
    try:
        held = ProcessHandle(pid)
    except ProcessLookupError:
        return
    except OSError:  # no free descriptor: use the number, right after the check
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
    """Signal a process if it is the one that was started at that time."""
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
