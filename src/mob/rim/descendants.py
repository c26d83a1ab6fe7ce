"""Processes that a mobster has started and that have left its process group (`start_new_session=True`, daemons).

A signal to the group does not reach them. When their parent ends they become children of the nearest subreaper, which
is the fork server, and nothing in the kernel says any more whose they were. So a mobster leaves two traces that its
descendants inherit: a variable of the environment, and the pipes that it prints to. Only a process with such a trace,
and what is below it, is ended with its mobster. The rest ends with the app, when the fork server ends all below it.

Everything is read from /proc: where there is none, nothing is found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Callable, Collection, Iterable, Mapping

MARK = "MOB_MOBSTER"
"""The variable: the process id of the mobster."""
ROUNDS = 20
"""So often what has just been started by what was ended is looked for."""

Children = dict[int, list[int]]
Pipe = tuple[int, int]
"""Its device and its inode."""


def leave_mark() -> None:
    """What this process starts from now on can be told to be its own."""
    os.environ[MARK] = str(os.getpid())


def end_own() -> None:
    """End all descendants of this process that have left its group. Those in it end with the group."""
    if has_children():
        _end(lambda table: [pid for pid in below([os.getpid()], table) if _group_of(pid) != os.getpgrp()])


def end_all() -> None:
    """End all descendants of this process."""
    if has_children():
        _end(lambda table: below([os.getpid()], table))


def pipes_of(pid: int) -> set[Pipe]:
    """The pipes that a process prints to; nothing else that it may print to is its own."""
    pipes: set[Pipe] = set()
    for standard in (1, 2):
        with contextlib.suppress(OSError):
            told = os.stat(f"/proc/{pid}/fd/{standard}")
            if stat.S_ISFIFO(told.st_mode):
                pipes.add((told.st_dev, told.st_ino))
    return pipes


def end_those_of(ended: Mapping[int, Collection[Pipe]], parents: Iterable[int], others: Collection[int]) -> None:
    """End what mobsters have left that have ended.

    `ended`: their process ids, each with the pipes that it printed to. `parents`: whose children such
    processes are now. `others`: children of those that are known, and live.
    """

    def find(table: Children) -> list[int]:
        orphans = [pid for parent in parents for pid in table.get(parent, []) if pid not in others]
        return below((), table, [pid for pid in below((), table, orphans) if _is_of(pid, ended)])

    _end(find)


def has_children() -> bool:
    """Whether this process has any, be they ended and not waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def children() -> Children:
    """The children of each process that has some, by its process id. Those that have ended are left out."""
    table: Children = {}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/proc"):
            if name.isdecimal() and (parent := _parent_of(name)):
                table.setdefault(parent, []).append(int(name))
    return table


def below(pids: Iterable[int], table: Children, found: Iterable[int] = ()) -> list[int]:
    """Return all descendants of processes, parents first; those in `found` count as such."""
    todo = [*found, *(child for pid in pids for child in table.get(pid, []))]
    for pid in todo:  # grows meanwhile
        todo.extend(table.get(pid, []))
    return todo


def _end(find: Callable[[Children], list[int]]) -> None:
    """End what is found, and look again until nothing is left: it may have started something in between."""
    for _ in range(ROUNDS):
        found = find(children())
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _parent_of(name: str) -> int:
    with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
        state, parent = file.read().rpartition(b")")[2].split()[:2]
        return 0 if state in (b"Z", b"X") else int(parent)
    return 0


def _group_of(pid: int) -> int:
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid)
    return os.getpgrp()  # it has ended


def _is_of(pid: int, ended: Mapping[int, Collection[Pipe]]) -> bool:
    """Whether a process shows a trace of one of these mobsters."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        variables = file.read().split(b"\0")
        if any(b"%s=%d" % (MARK.encode(), mobster) in variables for mobster in ended):
            return True
    return any(pipe in pipes for pipe in pipes_of(pid) for pipes in ended.values())
