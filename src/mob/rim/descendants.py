"""Processes that a mobster has started and that have left its process group (`start_new_session=True`, daemons).

A signal to the group does not reach them. When their parent ends they become children of the nearest subreaper, which
is the fork server, and nothing in the kernel says any more whose they were. So a mobster leaves two traces that its
descendants inherit: a variable of the environment, and the pipes that it prints to. Only a process with such a trace,
and what is below it, is ended with its mobster. The rest ends with the app, when the fork server ends all below it.

Where the fork server was killed as well they are children of whatever process adopts them. Then the traces of the app
count: `MOB_DEADMAN`, with the number of its deadman pipe, in whatever was executed, and in what was only forked that
pipe itself, of which each mobster has an end.

Everything is read from /proc: where there is none, nothing is found. What is signalled is the process that was read of,
and no later one of its number.
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
"""The variable: the process id of the mobster."""
APP_MARK = "MOB_DEADMAN"
"""The variable: which app, by its deadman pipe."""
ROUNDS = 20
"""So often what has just been started by what was ended is looked for."""

Table = dict[int, Status]
"""All processes by their ids. Those that have ended are left out."""
Children = dict[int, list[int]]
PipeIdentity = tuple[int, int]
"""Its device and its inode."""


def leave_mark() -> None:
    """What this process starts from now on can be told to be its own."""
    os.environ[MARK] = str(os.getpid())


def name_of(deadman: int) -> str:
    """Return what the traces of an app call it, given an end of its deadman pipe."""
    return str(os.fstat(deadman).st_ino)


def end_own() -> None:
    """End all descendants of this process that have left its group. Those in it end with the group."""
    own = os.getpgrp()
    if processes.has_children():
        _end(lambda table: [pid for pid in below([os.getpid()], table) if table[pid].group != own])


def end_all(but: int = 0) -> None:
    """End all descendants of this process, except for one."""
    if has_others({but}):
        _end(lambda table: [pid for pid in below([os.getpid()], table) if pid != but])


def has_others(known: Collection[int]) -> bool:
    """Return whether this process has children besides these, be they ended and not waited for.

    One short file says so, while reading of all processes of the machine takes long where there are many. It is exact
    as long as no other thread of this process waits for children meanwhile. Where the kernel has no such file, the
    answer is whether there are children at all.
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
    """The pipes that a process prints to; nothing else that it may print to is its own."""
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
    """End what mobsters have left that have ended.

    `ended`: their process ids, each with the pipes that it printed to. `parents`: whose children such
    processes are now. `others`: children of those that are known, and live.
    """

    def find(table: Table) -> list[int]:
        orphans = [pid for pid, status in table.items() if status.parent in adopters and pid not in others]
        return below((), table, [pid for pid in below((), table, orphans) if _is_of(pid, ended)])

    adopters = frozenset(parents)
    _end(find)


def end_traced(
    deadman: int, pipes: Collection[PipeIdentity], groups: Collection[int], session: int, but: str, kingpin: int
) -> None:
    """End what is left of an app, whose child it may be now.

    `pipes`: what its mobsters printed to. `groups`: those of its mobsters, in this session. `but`: the title of the
    processes that are to be left alone. `kingpin`: it is left alone, too, because it ends in order if it is there.
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
    """Return all that run now."""
    table: Table = {}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/proc"):
            if name.isdecimal() and (status := pidfds.status_of(int(name))) and not status.has_ended:
                table[int(name)] = status
    return table


def below(pids: Iterable[int], table: Table, found: Iterable[int] = ()) -> list[int]:
    """Return all descendants of processes, parents first; those in `found` count as such."""
    children: Children = {}
    for pid, status in table.items():
        children.setdefault(status.parent, []).append(pid)
    todo = dict.fromkeys([*found, *(child for pid in pids for child in children.get(pid, []))])
    order = list(todo)
    for pid in order:  # grows meanwhile
        for child in children.get(pid, []):
            if child not in todo:
                todo[child] = None
                order.append(child)
    return order


def _end(find: Callable[[Table], list[int]]) -> None:
    """End what is found, and look again until nothing is left: it may have started something in between."""
    for _ in range(ROUNDS):
        table = everything()
        found = find(table)
        if not found:
            return
        for pid in found:
            pidfds.signal_started(pid, table[pid].started, signal.SIGKILL)


def _is_of(pid: int, ended: Mapping[int, Collection[PipeIdentity]]) -> bool:
    """Return whether a process shows a trace of one of these mobsters."""
    variables = _read(pid, "environ").split(b"\0")
    if any(b"%s=%d" % (MARK.encode(), mobster) in variables for mobster in ended):
        return True
    return any(pipe in pipes for pipe in pipes_of(pid) for pipes in ended.values())


def _is_called(pid: int, title: str) -> bool:
    return _read(pid, "cmdline").rstrip(b"\0") == title.encode()


def _all_pipes_of(pid: int) -> list[tuple[int, PipeIdentity]]:
    """Return the pipes that a process has, with the number under which it has each."""
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
