"""The Kingpin's own upgrade: a new Kingpin, with new code, takes the place of the running one, and nobody notices.

The process stays the same and runs another program (execve): so its pid, its children and what waits in its sockets
stay as well, and no service manager wonders. What the old program knows is written down (`core.snapshot`, `Estate`) and
read by the new one, which runs the main script again as at the start; where that says `.run()`, it takes over.

First it is rehearsed: the main script runs in a process of its own up to `.run()`. If it does not get there, nothing
has happened, and its error is told. Then it is waited, for seconds at most, until nothing is half said on any link.

Calls, streams and connections of the app do not pass the Kingpin, so they go on meanwhile. The fork server holds old
code: the new Kingpin replaces it, as after its death. Signals that arrive between the programs are held back.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, cast

import msgspec

from mob.core import decisions as d, snapshot
from mob.core.decisions import Ticket
from mob.core.lease import LeaseData
from mob.core.registry import Past, Registry
from mob.core.snapshot import Snapshot
from mob.core.states import Mobster
from mob.errors import PlanError, counted
from mob.kingpin.console import Console
from mob.kingpin.desk import Connection
from mob.kingpin.lines import Chunk
from mob.kingpin.writer import Source
from mob.plan import GATEWAY, Plan
from mob.rim import places, processes
from mob.rim.link import Link
from mob.wire import messages as m
from mob.wire.messages import Address, Follow

if TYPE_CHECKING:
    from mob.kingpin.kingpin import Kingpin

VARIABLE = "MOB_UPGRADE"
"""The environment variable that tells a main script that it is run for this: "rehearse:...", or "inherit:pid:fd"."""
REHEARSED = 79
"""The exit status of a rehearsal that got as far as `.run()`."""
REHEARSAL = 60.0
"""Seconds for it."""
PATIENCE = 5.0
"""Seconds in which all links fall quiet."""
HELD_BACK = frozenset(
    {
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGCHLD,
    }
)


class End(msgspec.Struct, frozen=True):
    """The Kingpin's end of what joins it to a mobster or a client."""

    uid: int
    link: int
    beats: int
    """-1 for a client."""
    name: str
    pid: int
    is_client: bool
    greeted: bool


class Pipe(msgspec.Struct, frozen=True):
    """What a mobster prints comes out here."""

    uid: int
    pid: int
    fd: int
    is_error: bool
    role: str
    index: int
    line: bytes
    """Its last line, so far."""


class Printed(msgspec.Struct, frozen=True):
    """What is known of what was printed, besides the pipes."""

    last_lines: dict[int, list[bytes]]
    recent: list[Chunk]
    dropped: int
    lost: list[tuple[Source, int]]
    followers: list[tuple[int, Follow, int]]


class Listener(msgspec.Struct, frozen=True):
    """A shared port; `role` and `nth` if it is a free one."""

    address: Address
    role: str
    nth: int
    fd: int
    users: list[int]


class Estate(msgspec.Struct, frozen=True):
    """All that one program leaves to the next. Descriptors stay open under their numbers."""

    snapshot: Snapshot
    past: Past
    ends: list[End]
    pipes: list[Pipe]
    printed: Printed
    listeners: list[Listener]
    spares: dict[str, str]
    paths: list[str]
    desk: int
    board: int
    fork_server: int
    channel: int
    deadman: tuple[int, int]
    manager: dict[str, str]
    ticket: Ticket
    leases: dict[str, LeaseData] = {}
    """Of singletons; the clock that they run by goes on with the process."""

    def descriptors(self) -> list[int]:
        """Every one that must stay open."""
        ends = [fd for end in self.ends for fd in (end.link, end.beats)]
        others = [*(pipe.fd for pipe in self.pipes), *(listener.fd for listener in self.listeners)]
        return [fd for fd in (*ends, *others, self.desk, self.board, self.channel, *self.deadman) if fd >= 0]


class Upgrade:
    """An upgrade that was asked for, from the rehearsal to the end of this program. `OSError` if it cannot begin."""

    def __init__(self, kingpin: Kingpin, ticket: Ticket) -> None:
        self._kingpin = kingpin
        self._ticket = ticket
        self._task: asyncio.Task[None] | None = None
        self._said = places.unnamed_file()
        environment = {**os.environ, VARIABLE: f"rehearse:{kingpin.plan.name}:{snapshot.FORMAT}"}
        said = self._said
        try:
            self._rehearsal: subprocess.Popen[bytes] = subprocess.Popen(
                command(),
                cwd=kingpin.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                process_group=0,
            )
        except OSError:
            said.close()
            raise
        kingpin.reactor.loop.call_later(REHEARSAL, self._give_up_rehearsal)

    def __repr__(self) -> str:
        return f"<Upgrade, rehearsed by pid {self._rehearsal.pid}>"

    def handle_exit(self, pid: int, status: int) -> bool:
        """A child of the Kingpin has ended; whether it was the rehearsal."""
        if pid != self._rehearsal.pid or self._rehearsal.returncode is not None:
            return False
        self._rehearsal.returncode = status  # it was reaped by the Kingpin, not by Popen
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip()
        self._said.close()
        if status == REHEARSED:
            self._kingpin.console.followers.is_held = True  # whoever follows a flood is never quiet
            self._task = self._kingpin.reactor.loop.create_task(self._go_over_when_quiet(monotonic() + PATIENCE))
        else:
            self._fail(f"the new Kingpin does not come up (exit status {status}); this one stays. It said:\n{said}")
        return True

    def _give_up_rehearsal(self) -> None:
        if self._rehearsal.returncode is None:
            self._rehearsal.kill()

    def _fail(self, why: str) -> None:
        self._kingpin.console.followers.is_held = False
        self._kingpin.end_upgrade(self._ticket, why)

    async def _go_over_when_quiet(self, deadline: float) -> None:
        """Go over to the new program as soon as nothing is half said."""
        kingpin = self._kingpin
        while not kingpin.supervisor.stopping and (noise := _noise(kingpin)):
            if monotonic() >= deadline:
                self._fail(f"{noise}, so the upgrade is put off. Try again.")
                return
            await kingpin.reactor.change(deadline)
        if kingpin.supervisor.stopping:
            self._fail("the app is stopping.")
            return
        try:
            self._go_over()
        except OSError as error:
            self._fail(f"the new Kingpin could not be started: {error}.")

    def _go_over(self) -> None:
        kingpin = self._kingpin
        estate = _estate(kingpin, self._ticket)
        with places.unnamed_file() as will:
            will.write(msgspec.msgpack.encode(estate))
            will.flush()
            descriptors = [*estate.descriptors(), will.fileno()]
            environment = {**os.environ, **estate.manager, VARIABLE: f"inherit:{os.getpid()}:{will.fileno()}"}
            before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
            try:
                _set_inheritable(descriptors, True)
                os.chdir(kingpin.directory)
                os.execve(sys.executable, command(), environment)
            finally:  # only if it could not be done
                _set_inheritable(descriptors, False)
                signal.pthread_sigmask(signal.SIG_SETMASK, before)


def command() -> list[str]:
    """What this process was started as."""
    return [sys.executable, *sys.orig_argv[1:]]


def rehearse(plan: Plan) -> None:
    """Ends this process if it is only to be seen whether its main script gets as far as this."""
    kind, _, rest = os.environ.get(VARIABLE, "").partition(":")
    if kind != "rehearse":
        return
    app, _, number = rest.rpartition(":")
    if app != plan.name:
        raise PlanError(f"the running app is {app!r}, and the main script calls it {plan.name!r} now.")
    if number != str(snapshot.FORMAT):
        raise PlanError("this version of mob cannot take over from the one that runs; stop the app and start it anew.")
    raise SystemExit(REHEARSED)


def inherited() -> Estate | None:
    """What the program before this one has left to it, if it was one of mob's."""
    kind, _, rest = os.environ.get(VARIABLE, "").partition(":")
    pid, _, will = rest.partition(":")
    if kind != "inherit" or pid != str(os.getpid()):
        return None
    del os.environ[VARIABLE]
    with open(int(will), "rb") as file:
        file.seek(0)
        estate = msgspec.msgpack.decode(file.read(), type=Estate)
    _set_inheritable(estate.descriptors(), False)
    return estate


def release_signals() -> None:
    """Lets those through that have arrived between the programs."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)


def _set_inheritable(descriptors: Iterable[int], flag: bool) -> None:
    for descriptor in descriptors:
        os.set_inheritable(descriptor, flag)


def _noise(kingpin: Kingpin) -> str:
    """What is half said or half done at this moment; nothing if all is quiet."""
    kingpin.reactor.flush()
    if kingpin.supervisor.debugging.holder:
        return f"{kingpin.supervisor.debugging.holder} is in the debugger"
    if kingpin.supervisor.rollout.is_reloading:
        return "a reload is under way"
    if any(process.state is Mobster.LAUNCHING for process in kingpin.supervisor.processes.values()):
        return "a mobster is being launched"
    links = [kingpin.nursery.link, *(each.link for each in kingpin.connections.values())]
    links += [each.beats for each in kingpin.connections.values()]
    loud = next((link for link in links if link is not None and not link.is_quiet), None)
    return "" if loud is None else f"{loud.name or 'somebody'} does not read what is said to it"


def _estate(kingpin: Kingpin, ticket: Ticket) -> Estate:
    nursery = kingpin.nursery
    return Estate(
        snapshot=snapshot.take(kingpin.supervisor),
        past=kingpin.registry.past(),
        ends=[
            End(each.uid, each.link.fd, _fd(each.beats), each.link.name, each.pid, each.is_client, each.greeted)
            for each in kingpin.connections.values()
        ],
        pipes=[Pipe(*fields) for fields in kingpin.console.pipes_in_use()],
        printed=_printed(kingpin.console),
        listeners=[Listener(*fields) for fields in kingpin.ports.in_use()],
        spares=kingpin.ports.spares,
        paths=kingpin.ports.paths,
        desk=kingpin.desk.sock.fileno(),
        board=kingpin.board.descriptor,
        fork_server=nursery.pid,
        channel=cast(Link, nursery.link).fd,
        deadman=nursery.deadman,
        manager=kingpin.manager.environment(),
        ticket=ticket,
        leases={} if kingpin.cluster is None else kingpin.cluster.leases.data(),
    )


def _printed(console: Console) -> Printed:
    dropped, lost = console.losses()
    followers = console.followers
    return Printed(console.all_last_lines(), followers.recent.chunks(), dropped, lost, followers.in_use())


def _fd(link: Link | None) -> int:
    return -1 if link is None else link.fd


def take_over(kingpin: Kingpin, estate: Estate) -> None:
    """Goes on where the program before this one has stopped."""
    for end in estate.ends:
        liveness = socket.socket(fileno=end.beats) if end.beats >= 0 else None
        link, beats = kingpin.links(end.uid, end.name, socket.socket(fileno=end.link), liveness)
        connection = Connection(end.uid, link, beats, end.pid, end.is_client)
        connection.greeted = end.greeted
        kingpin.connections[end.uid] = connection
    for pipe in estate.pipes:
        kingpin.console.take_over(*msgspec.structs.astuple(pipe))
    printed = estate.printed
    kingpin.console.remember_last_lines(printed.last_lines)
    kingpin.console.remember(printed.recent, printed.dropped, printed.lost)
    for uid, follow, missed in printed.followers:
        if (follower := kingpin.connections.get(uid)) is not None:
            kingpin.console.followers.take_over(uid, follower.link, follow, missed)
    for listener in estate.listeners:
        kingpin.ports.take_over(listener.address, listener.role, listener.nth, listener.fd, listener.users)
    kingpin.ports.spares.update(estate.spares)
    kingpin.ports.paths += estate.paths
    kingpin.nursery.take_over(estate.fork_server, estate.channel, estate.deadman)
    kingpin.supervisor, decisions = snapshot.restore(
        kingpin.plan, estate.snapshot, monotonic(), random.random, processes.is_stopped
    )
    kingpin.registry = Registry(kingpin.supervisor.crew, monotonic())
    kingpin.registry.take_over(estate.past)
    _rejoin_cluster(kingpin, estate)
    there = [process for process in kingpin.supervisor.processes.values() if process.pid]
    kingpin.manager.take_over()
    kingpin.nursery.kill()
    kingpin.reopen_fork_server(there)
    kingpin.carry_out(decisions)
    text = f"this Kingpin has taken over {counted(len(there), 'mobster')}."
    kingpin.carry_out([d.Tell(text), d.Answer(estate.ticket, text=text)])


def _rejoin_cluster(kingpin: Kingpin, estate: Estate) -> None:
    """This machine goes on as the node that it was, if it was one."""
    number = m.node_of(kingpin.supervisor.crew.last_uid)
    if (kingpin.plan.cluster is not None) != bool(number):
        kingpin.console.say("whether the app runs on several machines cannot be changed by an upgrade: restart it.")
    elif kingpin.plan.cluster is not None:
        kingpin.join_cluster()
        assert kingpin.cluster is not None
        kingpin.cluster.membership.adopt(estate.snapshot.nodes, estate.past.began, monotonic())
        kingpin.cluster.leases.adopt(estate.leases)
        for process in kingpin.supervisor.crew.processes_of(GATEWAY):
            kingpin.cluster.greet(process.uid)
