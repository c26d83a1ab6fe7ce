"""Processes as the kernel sees them: groups, adoption, exits, titles, and the deadman pipe.

The deadman pipe covers the case that Kingpin and fork server are killed at the same moment. Both hold its writing end;
every mobster opens the reading end anew with O_ASYNC, owner: its own process group, signal: SIGKILL. When the last
writer is gone the kernel itself kills the whole group: no code of the mobster has to run, so it also ends one that is
stuck in C, with its children. (fcntl(2): F_SETOWN with a negative number, F_SETSIG.) Linux only. What a mobster leaves
that was killed at that moment too is the guardian's (`guardian`).
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
"""Of a process in /proc: it ends."""
OWN_SIGNALS = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGXCPU}
)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BY_HEAP = 8 * 1024 * 1024
"""Bytes from which the allocator of a mobster takes fresh pages from the system, and gives them back."""


def make_deadman() -> tuple[int, int]:
    """The two ends of the pipe, reading end first. Neither is inherited over an exec unless told to."""
    return os.pipe()


def arm_deadman(reading_end: int) -> None:
    """This process and its group die when the last writing end closes; the descriptor must stay open."""
    if not LINUX:
        return
    own = os.open(f"/proc/self/fd/{reading_end}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(own, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)  # type: ignore[attr-defined]
    fcntl.fcntl(own, fcntl.F_SETFL, fcntl.fcntl(own, fcntl.F_GETFL) | os.O_ASYNC)  # type: ignore[attr-defined]


class ResidentMemory:
    """How much memory this process has, read from a file that stays open: asking needs no descriptor that may lack."""

    def __init__(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC) if LINUX else -1

    def __repr__(self) -> str:
        return f"<ResidentMemory {self.read():,} bytes>"

    def close(self) -> None:
        """Nobody asks any more."""
        if self._statm >= 0:
            os.close(self._statm)
            self._statm = -1

    def read(self) -> int:
        """Bytes; 0 where the system does not tell."""
        return int(os.pread(self._statm, 99, 0).split()[1]) * PAGE if self._statm >= 0 else 0


def keep_heap_warm() -> None:
    """Has the allocator keep freed memory of medium size instead of giving it back to the kernel at once.

    A message of a megabyte is copied through several buffers. With glibc's defaults each is mapped anew, and the page
    faults cost six times as much as all the rest: 4.2 ms there and back against 0.7 ms. (mallopt(3); glibc only.)
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, KEPT_BY_HEAP)
        mallopt(M_TRIM_THRESHOLD, 2 * KEPT_BY_HEAP)


def become_subreaper() -> None:
    """Orphans among the descendants of this process become its children, so it can wait for them."""
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start_thread(function: Callable[[], object], name: str) -> threading.Thread:
    """Starts a daemon thread that takes no signals: all come to the main thread, so none is lost between two programs
    of one process, where other threads have ended and the main thread holds signals back.

    Its end needs a library of the compiler's (glibc loads it at the first `pthread_exit`, and aborts if it cannot, for
    want of a descriptor, say), so that is loaded before.
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
    """Signal the group that a process leads, and the process should it not lead it yet.

    For this process, and for a child of it that was not waited for: the number of another may belong to a stranger by
    now (`pidfds`).
    """
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(pid, signum)


def set_foreground(terminal: int, group: int) -> None:
    """Makes a process group the one that reads from a terminal, and that Ctrl-C is for. `OSError` if it cannot be.

    A process in the background may do so only while SIGTTOU is blocked in the thread that does (tcsetpgrp(3)).
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        os.tcsetpgrp(terminal, group)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def count_oom_kills() -> int:
    """How many processes of this machine the kernel has killed for want of memory since it was started."""
    with contextlib.suppress(OSError, ValueError, StopIteration), open("/proc/vmstat", encoding="ascii") as lines:
        return int(next(line for line in lines if line.startswith("oom_kill ")).split()[1])
    return 0


def is_own_doing(status: int) -> bool:
    """Whether a process that ended like this did so by what it ran itself, and not because somebody has killed it."""
    return status > 0 or -status in OWN_SIGNALS


def enter(directory: str) -> None:
    """Have this process work where a path leads now: a link in it may have been pointed elsewhere since."""
    with contextlib.suppress(OSError):  # it is gone: the directory stays that of the parent
        if directory and os.path.realpath(directory) not in (directory, os.getcwd()):
            os.chdir(directory)


def settle(role: RolePlan) -> None:
    """Gives this process what its role is to have of the system: environment, limits, cores, priority.

    `OSError` or `ValueError`, with a note that names the option, if it cannot be had.
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
        error.add_note(f"role {role.name!r}: {option} cannot be had on this machine, or not by this user.")
        raise


def answer_with_stacks() -> None:
    """From now on this process writes where its threads stand to stderr when it is asked, even if it is stuck in C."""
    if STACKS:
        faulthandler.register(STACKS, all_threads=True)


def leave(status: int) -> NoReturn:
    """End this process as the interpreter would, after `atexit` functions and with all that was printed, but without
    freeing its objects one by one: that takes tens of milliseconds, and somebody waits.
    """
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or nobody reads it any more
            stream.flush()
    os._exit(status)


def is_stopped(pid: int) -> bool:
    """Whether a process was told to stand still (SIGSTOP, Ctrl-Z, a debugger); False where the system does not tell."""
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    return False


class Child:
    """A child process that another program in this process has started; as `subprocess.Popen`, as far as it goes."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def __repr__(self) -> str:
        return f"<Child {self.pid}>"

    def send_signal(self, signum: int) -> None:
        """Signals it, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)


def reap(before: Callable[[int], None]) -> list[tuple[int, int]]:
    """Wait for the children that have ended, and return (pid, exit status as in `os.waitstatus_to_exitcode`) of each.

    `before` is called with the process id of each while that still is its own.
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
    """Return whether this process has any, be they ended and not waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def dying_status(pid: int) -> int | None:
    """Return the exit status of a process that is about to end and was not reaped; None if it is not seen to end."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    code = int(fields[-1])  # of the whole process, as soon as it is told to end
    if code:
        return os.waitstatus_to_exitcode(code)
    return 0 if fields[0] in (b"Z", b"X") or int(fields[6]) & PF_EXITING else None


def exit_text(status: int) -> str:
    """An exit status in words.

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
    """Return what this process could not have, and the limit where it has one."""
    hint = f" (ulimit -n is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,})" if error.errno == errno.EMFILE else ""
    return f"{error.strerror or error}{hint}"
