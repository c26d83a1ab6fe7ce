"""Processes that a mobster started and that left its process group (`start_new_session=True`, daemons).

A signal to the group does not reach them. When their parent ends, they become children of the nearest subreaper, the
fork server, and the kernel no longer knows which mobster started them. So a mobster leaves two traces that its
descendants inherit: an environment variable, and the pipes to which it prints. Only processes with such a trace, and
their descendants, end with the mobster. The others end with the app, when the fork server ends all its descendants.

If the fork server was killed as well, any process may have adopted them. Then the traces of the app count: processes
that called exec have `MOB_DEADMAN` with the number of the deadman pipe, and those that were only forked have an end of
that pipe itself, as each mobster does.

Everything is read from /proc; without it nothing is found. Signals go to the process that was read, never to a later
one with the same number.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Callable, Collection, Iterable, Mapping

from mob.rim import pidfds, processes
from mob.rim.pidfds import Status

MARK = "MOB_MOBSTER"
"""Environment variable with the process id of the mobster."""
APP_MARK = "MOB_DEADMAN"
"""Environment variable that identifies the app by its deadman pipe."""
ROUNDS = 20
"""Number of times to look for processes that were started in the meantime by those being ended."""

Table = dict[int, Status]
"""All processes by their ids, except those that ended."""
Children = dict[int, list[int]]
PipeIdentity = tuple[int, int]
"""Device and inode of a pipe."""


def leave_mark() -> None:
    """Mark processes that this one starts from now on as its own."""
    os.environ[MARK] = str(os.getpid())


def name_of(deadman: int) -> str:
    """Return the value of `MOB_DEADMAN` for an app, given an end of its deadman pipe."""
    return str(os.fstat(deadman).st_ino)


def end_own() -> None:
    """End all descendants of this process that left its group. Those in it end with the group."""
    own = os.getpgrp()
    if processes.has_children():
        _end(lambda table: [pid for pid in below([os.getpid()], table) if table[pid].group != own])


def end_all(but: int = 0) -> None:
    """End all descendants of this process except one."""
    if has_others({but}):
        _end(lambda table: [pid for pid in below([os.getpid()], table) if pid != but])


def has_others(known: Collection[int]) -> bool:
    """Return True if this process has children other than these, including ended ones that were not reaped.

    One short file says so, whereas reading all processes of the machine takes long if there are many. It is exact as
    long as no other thread of this process waits for children meanwhile. Where the kernel has no such file, return
    whether there are children at all.
    """
    children: set[int] = set()
    try:
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", "rb") as file:
                children.update(map(int, file.read().split()))
    except OSError:
        return processes.has_children()
    return not children.issubset(known)


def pipes_of(pid: int) -> set[PipeIdentity]:
    """Return the pipes to which a process prints; no other target of its output is its own."""
    pipes: set[PipeIdentity] = set()
    for standard in (1, 2):
        with contextlib.suppress(OSError):
            told = os.stat(f"/proc/{pid}/fd/{standard}")
            if stat.S_ISFIFO(told.st_mode):
                pipes.add((told.st_dev, told.st_ino))
    return pipes


def end_those_of(
    ended: Mapping[int, Collection[PipeIdentity]], parents: Iterable[int], others: Collection[int]
) -> None:
    """End what mobsters left behind that have ended.

    `ended` has their process ids with the pipes to which they printed, `parents` the possible parents of such
    processes, and `others` known children of those that are alive and not to be ended.
    """

    def find(table: Table) -> list[int]:
        orphans = [pid for pid, status in table.items() if status.parent in adopters and pid not in others]
        return below((), table, [pid for pid in below((), table, orphans) if _is_of(pid, ended)])

    adopters = frozenset(parents)
    _end(find)


def end_traced(
    deadman: int, pipes: Collection[PipeIdentity], groups: Collection[int], session: int, but: str, kingpin: int
) -> None:
    """End what is left of an app, whatever its parent may be now.

    `pipes` are those to which its mobsters printed; `groups` those of its mobsters, in this session. Processes with the
    title `but` are not ended, nor is `kingpin`, because it ends by itself if it is still there.
    """
    own, name = os.fstat(deadman), name_of(deadman)

    def is_traced(pid: int, status: Status) -> bool:
        if status.session == session and status.group in groups:
            return True
        environment = _read(pid, "environ").split(b"\0")
        return f"{APP_MARK}={name}".encode() in environment or any(
            pipe == (own.st_dev, own.st_ino) or (number in (1, 2) and pipe in pipes)
            for number, pipe in _all_pipes_of(pid)
        )

    def find(table: Table) -> list[int]:
        mine = [pid for pid, status in table.items() if pid not in (os.getpid(), kingpin) and is_traced(pid, status)]
        return [pid for pid in below((), table, mine) if not _is_called(pid, but)]

    _end(find)


def end_children(parent: int, title: str) -> None:
    """End the children of a process that have this title."""
    _end(lambda table: [pid for pid, status in table.items() if status.parent == parent and _is_called(pid, title)])


def everything() -> Table:
    """Return all processes that run now."""
    table: Table = {}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/proc"):
            if name.isdecimal() and (status := pidfds.status_of(int(name))) and not status.has_ended:
                table[int(name)] = status
    return table


def below(pids: Iterable[int], table: Table, found: Iterable[int] = ()) -> list[int]:
    """Return all descendants of processes, parents first; processes in `found` count as such."""
    children: Children = {}
    for pid, status in table.items():
        children.setdefault(status.parent, []).append(pid)
    todo = dict.fromkeys([*found, *(child for pid in pids for child in children.get(pid, []))])
    order = list(todo)
    for pid in order:  # grows during the loop
        for child in children.get(pid, []):
            if child not in todo:
                todo[child] = None
                order.append(child)
    return order


def _end(find: Callable[[Table], list[int]]) -> None:
    """End what is found, and look again until nothing is left, because it may have started more in the meantime."""
    for _ in range(ROUNDS):
        table = everything()
        found = find(table)
        if not found:
            return
        for pid in found:
            pidfds.signal_started(pid, table[pid].started, signal.SIGKILL)


def _is_of(pid: int, ended: Mapping[int, Collection[PipeIdentity]]) -> bool:
    """Return True if a process has a trace of one of these mobsters."""
    variables = _read(pid, "environ").split(b"\0")
    if any(b"%s=%d" % (MARK.encode(), mobster) in variables for mobster in ended):
        return True
    return any(pipe in pipes for pipe in pipes_of(pid) for pipes in ended.values())


def _is_called(pid: int, title: str) -> bool:
    return _read(pid, "cmdline").rstrip(b"\0") == title.encode()


def _all_pipes_of(pid: int) -> list[tuple[int, PipeIdentity]]:
    """Return the pipes that a process has, each with its descriptor number."""
    found: list[tuple[int, PipeIdentity]] = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                told = os.stat(f"/proc/{pid}/fd/{name}")
                if stat.S_ISFIFO(told.st_mode):
                    found.append((int(name), (told.st_dev, told.st_ino)))
    return found


def _read(pid: int, name: str) -> bytes:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()
    return b""
