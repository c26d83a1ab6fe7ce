"""Leaks of a test: functions, calls and streams at the peers; processes; descriptors of this process.

What is under way gets a moment: finalizers give things back by weak references, so garbage is collected first. Each
leak is reported with its kind, its origin and its holder.
"""

from __future__ import annotations

import functools
import gc
import inspect
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import msgspec
import psutil

from mob.errors import nearest
from mob.peer.peer import Peer
from mob.peer.references.functions import LentIterator
from mob.peer.results.call import Call

KINDS = ("processes", "descriptors", "callbacks", "calls", "streams", "shared memory", "threads")
FAIR = 3.0
"""Seconds to wait for what is under way.

A mobster gives back what it dropped with its next message, or with its heartbeat, once a second.
"""
LEAKS_INTERVAL = 0.01
"""Seconds between two looks."""


class Leak(msgspec.Struct, frozen=True):
    """One thing that a test left behind."""

    kind: str
    """The kind: "processes", "descriptors", "callbacks", "calls", "streams", "shared memory" or "threads"."""
    text: str
    """The thing itself, its origin, and the process that has it."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class Leaked(AssertionError):
    """A test left something behind; `leaks` lists it."""

    def __init__(self, leaks: Sequence[Leak]) -> None:
        self.leaks: tuple[Leak, ...] = tuple(leaks)
        told = "".join(f"\n    {leak}" for leak in leaks)
        super().__init__(
            f'the test left something behind:{told}\nTo allow it, use @pytest.mark.mob_leaks("{leaks[0].kind}").'
        )


def check_kinds(kinds: Sequence[str]) -> frozenset[str]:
    """Return the kinds as a set; raise `ValueError`, with the nearest name, for an unknown one."""
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"mob_leaks: there is no kind {kind!r} of leaks. {nearest(kind, KINDS)}")
    return frozenset(kinds)


def settled(look: Callable[[], list[Leak]], allowed: frozenset[str]) -> list[Leak]:
    """Return the leaks that remain after `FAIR` seconds."""

    def found() -> list[Leak]:
        return [leak for leak in look() if leak.kind not in allowed]

    deadline = monotonic() + FAIR
    leaks = found()
    while leaks and monotonic() < deadline:
        gc.collect()
        sleep(LEAKS_INTERVAL)
        leaks = found()
    return leaks


def at_peer(peer: Peer) -> list[Leak]:
    """Return what a peer has lent, waits for, sends, or reads."""
    peer.context.reactor.call(peer.tidy)
    who = peer.context.name if peer.context.role else "this test"
    references, leaks = peer.references, list[Leak]()
    for function, holders in references.lent_to():
        names = ", ".join(_name_of(peer, uid) for uid in holders) or "no process yet"
        leaks.append(Leak("callbacks", f"{place_of(function)} of {who} is held by {names}"))
    for contact in peer.contacts:
        for call in list(contact.pending.values()):
            kind, state = ("calls", "not answered") if isinstance(call, Call) else ("streams", "not read to its end")
            leaks.append(Leak(kind, f"{call.label} of {who}, {state} by {contact.name}"))
    if peer.serving.streams:
        leaks.append(Leak("streams", f"{len(peer.serving.streams)} streams that {who} sends have not ended"))
    if references.shared:
        leaks.append(Leak("shared memory", f"{references.shared:,} bytes of {who} are in use by other processes"))
    if references.views:
        leaks.append(
            Leak("shared memory", f"{references.views} arrays or buffers of other processes are held by {who}")
        )
    return leaks


def _name_of(peer: Peer, uid: int) -> str:
    contact = peer.contacts.get(uid)
    return contact.name if contact is not None else "a process that has exited"


def place_of(function: Any) -> str:
    """Return the name of a function, with the line in which it begins."""
    if isinstance(function, LentIterator):
        function = function.iterator
    while isinstance(function, functools.partial):
        function = function.func
    plain = inspect.unwrap(getattr(function, "__func__", function))
    code = getattr(plain, "__code__", None) or getattr(plain, "gi_code", None) or getattr(plain, "ag_code", None)
    name = getattr(plain, "__qualname__", None) or repr(plain)
    if code is None:
        return name
    path = Path(code.co_filename)
    here = Path.cwd()
    return f"{name} ({path.relative_to(here) if path.is_relative_to(here) else path}:{code.co_firstlineno})"


def descriptors() -> dict[int, str]:
    """Return the open descriptors of this process with their targets; empty if the system does not list them."""
    found: dict[int, str] = {}
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):  # the one that has just read the list
                found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def new_descriptors(before: dict[int, str]) -> list[Leak]:
    """Return the descriptors that did not exist before."""
    new = sorted(descriptors().items() - before.items())
    return [Leak("descriptors", f"{number}, {_what_is(number, link)}") for number, link in new]


def _what_is(number: int, link: str) -> str:
    if not link.startswith("socket:"):
        return link
    with suppress(OSError), socket.socket(fileno=os.dup(number)) as sock:
        other = ""
        with suppress(OSError):
            other = f" to {sock.getpeername()!r}"
        return f"a socket {sock.family.name} at {sock.getsockname()!r}{other}"
    return link


def processes_with(variable: str, value: str, known: set[int]) -> list[psutil.Process]:
    """Return the processes with this variable in their environment, in any group or session.

    Processes of `known` that do not show their environment are included.
    """
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and _has(process, variable, value, known):
                found.append(process)
    return found


def _has(process: psutil.Process, variable: str, value: str, known: set[int]) -> bool:
    try:
        return process.environ().get(variable) == value
    except (psutil.AccessDenied, OSError):
        return process.pid in known


def told_processes(found: list[psutil.Process]) -> Iterator[Leak]:
    """Yield the leak of each process."""
    for process in found:
        with suppress(psutil.Error):
            line = " ".join(process.cmdline()) or process.name()
            yield Leak("processes", f"pid {process.pid}: {line}")
