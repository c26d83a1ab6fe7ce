"""Processes as the kernel sees them: groups, adoption, exits, titles, and the deadman pipe.

The deadman pipe covers the case that Kingpin and fork server are killed at the same moment. Both hold its writing end;
every mobster reopens the reading end with O_ASYNC, with its own process group as owner and SIGKILL as signal. When the
last writer exits, the kernel itself kills the whole group: no code of the mobster has to run, so it also ends one
that is stuck in C code, with its children. (fcntl(2): F_SETOWN with a negative number, F_SETSIG.) Linux only. What a
mobster leaves behind that was killed at the same moment is ended by the guardian (`guardian`).
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import faulthandler
import fcntl
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from mob.plan import RolePlan
from mob.rim import environment

LINUX = sys.platform == "linux"
PAGE = os.sysconf("SC_PAGE_SIZE")
PR_SET_CHILD_SUBREAPER = 36
STACKS = signal.SIGRTMAX - 3 if LINUX else 0  # type: ignore[attr-defined]  # one that no application uses
PF_EXITING = 0x4
"""Flag of a process in /proc that is exiting."""
OWN_SIGNALS = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGXCPU}
)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BY_HEAP = 8 * 1024 * 1024
"""Bytes from which a mobster's allocator takes fresh pages from the system, and returns them."""


def make_deadman() -> tuple[int, int]:
    """Return the two ends of the pipe, reading end first. Neither survives an exec unless it is made inheritable."""
    return os.pipe()


def arm_deadman(reading_end: int) -> None:
    """Have this process and its group die when the last writing end closes; the descriptor must stay open."""
    if not LINUX:
        return
    own = os.open(f"/proc/self/fd/{reading_end}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(own, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)  # type: ignore[attr-defined]
    fcntl.fcntl(own, fcntl.F_SETFL, fcntl.fcntl(own, fcntl.F_GETFL) | os.O_ASYNC)  # type: ignore[attr-defined]


class ResidentMemory:
    """Resident memory of this process, read from a file that stays open: reading needs no free descriptor."""

    def __init__(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC) if LINUX else -1

    def __repr__(self) -> str:
        return f"<ResidentMemory {self.read():,} bytes>"

    def close(self) -> None:
        """Close the file."""
        if self._statm >= 0:
            os.close(self._statm)
            self._statm = -1

    def read(self) -> int:
        """Return bytes; 0 where the system does not report them."""
        return int(os.pread(self._statm, 99, 0).split()[1]) * PAGE if self._statm >= 0 else 0


def keep_heap_warm() -> None:
    """Have the allocator keep freed memory of medium size instead of returning it to the kernel immediately.

    A message of a megabyte is copied through several buffers. With glibc's defaults each is mapped again, and the page
    faults cost six times as much as everything else: 4.2 ms there and back against 0.7 ms. (mallopt(3); glibc only.)
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, KEPT_BY_HEAP)
        mallopt(M_TRIM_THRESHOLD, 2 * KEPT_BY_HEAP)


def become_subreaper() -> None:
    """Make orphans among the descendants of this process its children, so that it can reap them."""
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start_thread(function: Callable[[], object], name: str) -> threading.Thread:
    """Start a daemon thread that takes no signals, so all signals come to the main thread.

    Then none is lost between two programs of one process, when other threads have ended and the main thread blocks
    signals. The end of a thread needs a library of the compiler, which is loaded before: glibc would load it at the
    first `pthread_exit`, and abort if it cannot, for example because there is no free descriptor.
    """
    if LINUX:
        with contextlib.suppress(OSError):  # another C library
            ctypes.CDLL("libgcc_s.so.1")
    thread = threading.Thread(target=function, name=name, daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - OWN_SIGNALS)
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return thread


def kill_group(pid: int, signum: int = signal.SIGKILL) -> None:
    """Signal the group that a process leads, and the process itself if it does not lead it yet.

    Only for this process, and for its children that were not reaped: another number may belong to a stranger by now
    (`pidfds`).
    """
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(pid, signum)


def set_foreground(terminal: int, group: int) -> None:
    """Make a process group the foreground group of a terminal, which reads from it and gets Ctrl-C.

    A process in the background may do so only while SIGTTOU is blocked in the calling thread (tcsetpgrp(3)). Raise
    `OSError` if it fails.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        os.tcsetpgrp(terminal, group)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def count_oom_kills() -> int:
    """Return how many processes of this machine the kernel has killed since boot because memory ran out."""
    with contextlib.suppress(OSError, ValueError, StopIteration), open("/proc/vmstat", encoding="ascii") as lines:
        return int(next(line for line in lines if line.startswith("oom_kill ")).split()[1])
    return 0


def is_own_doing(status: int) -> bool:
    """Return True if a process with this exit status ended because of its own code, not because it was killed."""
    return status > 0 or -status in OWN_SIGNALS


def enter(directory: str) -> None:
    """Set the working directory to where a path leads now: a link in it may have changed since."""
    with contextlib.suppress(OSError):  # it was removed: keep the parent's directory
        if directory and os.path.realpath(directory) not in (directory, os.getcwd()):
            os.chdir(directory)


def settle(role: RolePlan) -> None:
    """Apply the system options of a role to this process: environment, limits, cores, priority.

    Raise `OSError` or `ValueError`, with a note that names the option, if that fails.
    """
    environment.take_over(role.env)
    option = ""
    try:
        for name, limit in role.limits.items():
            option = f"limits={{{name!r}: {limit}}}"
            number: int = getattr(resource, f"RLIMIT_{name.upper()}")
            _, hard = resource.getrlimit(number)
            resource.setrlimit(number, (limit, limit if hard == resource.RLIM_INFINITY else max(limit, hard)))
        if role.cpus and hasattr(os, "sched_setaffinity"):
            option = f"cpus={role.cpus}"
            os.sched_setaffinity(0, role.cpus)
        if role.nice:
            option = f"nice={role.nice}"
            os.nice(role.nice)
    except (OSError, ValueError, AttributeError) as error:
        error.add_note(f"role {role.name!r}: {option} is not possible on this machine, or not for this user.")
        raise


def answer_with_stacks() -> None:
    """Write the stacks of this process to stderr when a signal asks for them, even if it is stuck in C code."""
    if STACKS:
        faulthandler.register(STACKS, all_threads=True)


def leave(status: int) -> NoReturn:
    """End this process as the interpreter would, after `atexit` functions and with all output flushed.

    Its objects are not freed one by one: that takes tens of milliseconds, and a caller waits.
    """
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or without a reader
            stream.flush()
    os._exit(status)


def is_stopped(pid: int) -> bool:
    """Return True if a process is stopped (SIGSTOP, Ctrl-Z, a debugger); False where the system does not report it."""
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    return False


class Child:
    """A child that another program in this process started, with the needed parts of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def __repr__(self) -> str:
        return f"<Child {self.pid}>"

    def send_signal(self, signum: int) -> None:
        """Signal it, unless it ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


def reap(before: Callable[[int], None]) -> list[tuple[int, int]]:
    """Reap the children that ended; return pid and exit status (as in `os.waitstatus_to_exitcode`) of each.

    `before` is called with each process id before it is reaped.
    """
    ended: list[tuple[int, int]] = []
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return ended
            before(found.si_pid)
            pid, status = os.waitpid(found.si_pid, os.WNOHANG)
        except ChildProcessError:
            if not has_children():
                return ended
            continue
        if pid:
            ended.append((pid, os.waitstatus_to_exitcode(status)))


def has_children() -> bool:
    """Return True if this process has children, including ended ones that were not reaped."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def dying_status(pid: int) -> int | None:
    """Return the exit status of a process that is about to end and was not reaped; None if it does not seem to end."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    code = int(fields[-1])  # of the whole process, set as soon as it must end
    if code:
        return os.waitstatus_to_exitcode(code)
    return 0 if fields[0] in (b"Z", b"X") or int(fields[6]) & PF_EXITING else None


def exit_text(status: int) -> str:
    """Return an exit status in words.

    >>> exit_text(0), exit_text(3), exit_text(-9)
    ('ended by itself (exit status 0)', 'exited with status 3', 'was killed by SIGKILL')
    """
    if status == 0:
        return "ended by itself (exit status 0)"
    if status > 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def shortage(error: OSError) -> str:
    """Return what this process could not get, and the limit if it has one."""
    hint = f" (ulimit -n is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,})" if error.errno == errno.EMFILE else ""
    return f"{error.strerror or error}{hint}"
