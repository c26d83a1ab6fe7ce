"""The Kingpin's side: mob's own supervisor, with a fork server, control links and timers around it.

Its decisions are carried out as `kingpin/kingpin.py` does, in the same order; each of them is shown to the `Oracle`,
which knows what was promised and nothing of how the supervisor comes to it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mob.core import decisions as d, snapshot
from mob.core.decisions import Decision
from mob.core.supervisor import Supervisor
from mob.plan import Plan
from mob.rim.board import Board
from mob.wire import messages as m
from mob.wire.messages import Beat
from tests.simulation.calls import Ledger
from tests.simulation.clock import Clock, claim
from tests.simulation.faults import Faults
from tests.simulation.links import END, Pipe, pair
from tests.simulation.mobster import KILLED, Mobster
from tests.simulation.oracle import Oracle
from tests.simulation.peer import Peer
from tests.simulation.standstill import Standstill, in_turn

EARLY = 0.002
"""How much too early a timer may ring."""


class Kingpin(Standstill):
    """A running app."""

    def __init__(self, clock: Clock, plan: Plan, faults: Faults) -> None:
        super().__init__()
        self.clock = clock
        self.plan = plan
        self.faults = faults
        self.ledger = Ledger()
        self.board = Board.make()
        self.board.let_go()
        self.slowness = 1.0
        """How much longer than usual calls take that run on the loop."""
        self.supervisor = Supervisor(plan, clock.luck)
        self.oracle = Oracle(self.supervisor, clock)
        self.everybody: dict[int, Peer] = {}
        self.mobsters: dict[int, Mobster] = {}
        """Those that are there, or are to come."""
        self.kills = 0
        self.clients: dict[int, Peer] = {}
        self.connections: dict[int, Pipe] = {}
        """What it tells each member."""
        self._acquainted: dict[int, set[int]] = {}
        """Clients, and who knows each: those that it was introduced to."""
        self.is_over = False
        self.stopped_at: float | None = None
        """When a stop was asked for, or has begun by itself."""
        self.upgrades = self.shortages = 0
        """What has happened so far: Kingpins that have taken over, launches that could not be made."""
        self._said: dict[int, list[Any]] = {}
        self._fork_server = 1
        self._has_fork_server = True
        self._is_outdated = False
        """Whether another fork server is to come, for which orders wait."""
        self._unforked: dict[int, Mobster] = {}
        self._held: dict[int, Mobster] = {}
        """Those that the next fork server is to make."""
        self._unreported: list[Mobster] = []
        """Those that have ended while there was no fork server to say so."""
        self._last_pid = 100

    def __str__(self) -> str:
        return "kingpin"

    # ------------------------------------------------------------------------------------------ what happens

    def start(self) -> None:
        """The first launches."""
        self.carry_out(self.supervisor.start(self.clock.now))

    @in_turn
    def handle_readable(self, pipe: Pipe) -> None:
        """A member says something."""
        peer: Peer = pipe.end
        for message in pipe.take():
            self._handle_word(peer, message)

    def _handle_word(self, peer: Peer, message: Any) -> None:
        uid, supervisor, now = peer.uid, self.supervisor, self.clock.now
        if message is END:
            if uid in self.clients:
                del self.clients[uid]
                self.carry_out(supervisor.handle_client_left(uid, "has gone"))
            return
        if uid not in self.connections:
            return
        match message:
            case ("ready", exports):
                if isinstance(peer, Mobster) and uid in supervisor.processes:
                    self.oracle.handle_ready(uid)
                    self.carry_out(supervisor.handle_ready(uid, peer.pid, exports, True, now))
            case ("boot failed", report):
                self.carry_out(supervisor.handle_boot_failed(uid, report))
            case ("want role", role):
                self.carry_out(supervisor.handle_want_role(uid, role))
            case ("want member", other):
                self.carry_out(supervisor.handle_want_member(uid, other))
            case ("want member again", other):
                self.carry_out(supervisor.handle_want_member(uid, other, again=True))
            case ("draining",):
                self.oracle.handle_told(uid)
                self.carry_out(supervisor.handle_draining(uid, now))
            case _:
                raise AssertionError(message)

    @in_turn
    def handle_beat(self, mobster: Mobster, beat: Beat) -> None:
        """A liveness thread says that it is there."""
        if mobster.uid in self.connections:
            self.carry_out(self.supervisor.handle_beat(mobster.uid, beat, self.clock.now))

    @in_turn
    def wake(self) -> None:
        """A timer rings."""
        self.carry_out(self.supervisor.handle_wake(self.clock.now))

    def join(self, is_far: bool = False) -> Peer:
        """A client connects."""
        uid = self.supervisor.next_uid()
        client = self.everybody[uid] = self.clients[uid] = Peer(self, uid, "", 0)
        client.is_far = is_far
        client.is_alive = True
        client.control.end = client
        self.connections[uid] = Pipe(self.clock, client)
        self.carry_out(self.supervisor.handle_client_joined(uid, 50))
        return client

    @in_turn
    def reload(self, roles: list[str]) -> None:
        """Somebody wants new code."""
        self.oracle.handle_reload()
        self.carry_out(self.supervisor.handle_reload(roles, (0, 0), self.clock.now))

    @in_turn
    def scale(self, role: str, count: int) -> None:
        """Somebody wants so many workers."""
        self.carry_out(self.supervisor.handle_scale(role, count, (0, 0), self.clock.now))

    @in_turn
    def stop(self) -> None:
        """Ctrl-C, or SIGTERM."""
        self.oracle.handle_stop()
        self.carry_out(self.supervisor.handle_stop(self.clock.now))
        unborn = [process for process in self.supervisor.processes.values() if not process.pid]
        claim(not unborn, "a stop waits for nobody without a pid", *unborn)

    @in_turn
    def upgrade(self) -> None:
        """A Kingpin with new code takes over: what this one knows, goes through a file. The new one replaces the fork
        server, so what that has not reported is lost."""
        supervisor = self.supervisor
        if self.is_over or supervisor.stopping or supervisor.unrest(may_launch=self.clock.is_lucky(0.5)):
            return  # it is waited for; but for a launch not for ever
        self.upgrades += 1
        written = msgspec.msgpack.encode(snapshot.take(supervisor))
        read = msgspec.msgpack.decode(written, type=snapshot.Snapshot)
        self.supervisor, decisions = snapshot.restore(self.plan, read, self.clock.now, self.clock.luck)
        self.oracle.handle_upgrade(self.supervisor)
        self.replace_fork_server()
        self.carry_out(decisions)

    # -------------------------------------------------------------------------------------------- fork server

    def _order(self, launch: d.Launch) -> None:
        mobster = Mobster(self, launch.uid, self.plan.role(launch.role), launch.index)
        mobster.control.end = mobster
        self.everybody[launch.uid] = self.mobsters[launch.uid] = mobster
        if self._is_short():
            self.clock.after(0.0, self.handle_not_launched, launch.uid)
            return
        self.connections[launch.uid] = mobster.control_in
        if self._has_fork_server and not self._is_outdated:
            self._tell_fork_server(mobster)
        else:
            self._held[launch.uid] = mobster

    def _is_short(self) -> bool:
        return self.faults.is_scarce or self.clock.is_lucky(self.faults.shortages)

    def _tell_fork_server(self, mobster: Mobster) -> None:
        self._unforked[mobster.uid] = mobster
        self.clock.after(self.clock.between(0.001, 0.02), self.fork, mobster, self._fork_server)

    @in_turn
    def handle_not_launched(self, uid: int) -> None:
        """There was no descriptor, no memory or no number for a process."""
        self.shortages += 1
        self.oracle.handle_not_launched(uid)
        self.carry_out(self.supervisor.handle_not_launched(uid, "could not be launched: EMFILE", self.clock.now))

    def fork(self, mobster: Mobster, server: int) -> None:
        """The fork server forks, if the system lets it."""
        if server != self._fork_server:
            return
        if self._is_short():
            self._unforked.pop(mobster.uid, None)
            self.clock.after(self.clock.between(0.0001, 0.03), self.report_not_forked, mobster, server)
            return
        self._last_pid += 1
        mobster.fork(self._last_pid)
        self.clock.after(self.clock.between(0.0001, 0.03), self.report_fork, mobster, server)
        self.may_die(mobster, "before the report of its fork")

    def report_not_forked(self, mobster: Mobster, server: int) -> None:
        """The fork server could not fork."""
        if server == self._fork_server:
            self.handle_not_launched(mobster.uid)

    @in_turn
    def report_fork(self, mobster: Mobster, server: int) -> None:
        """The report of a fork comes in."""
        if server == self._fork_server:
            self._unforked.pop(mobster.uid, None)
            if mobster.uid not in self.supervisor.processes:
                self.kill(mobster)  # it was given up before it was born
            self.carry_out(self.supervisor.handle_forked(mobster.uid, mobster.pid))
            if not mobster.is_alive and mobster.uid in self.supervisor.processes:
                self._report_exit_soon(mobster)

    @in_turn
    def end_fork_server(self, for_long: bool = False) -> None:
        """The fork server dies, and another one comes."""
        if self._has_fork_server:
            self.replace_fork_server(for_long)

    @in_turn
    def renew_fork_server(self) -> None:
        """One with new code comes, unless another one has come meanwhile, or the app stops."""
        if self._is_outdated and not self.supervisor.stopping:
            self.replace_fork_server()
        self.carry_out(self.supervisor.handle_fork_server_renewed(self.clock.now))

    def replace_fork_server(self, for_long: bool = False) -> None:
        """Another one comes, perhaps after a while: what is to be launched meanwhile is held for it."""
        self._fork_server += 1
        self._has_fork_server = False
        lost, self._unforked = self._unforked, {}
        self.oracle.handle_fork_server_gone(held=self._held)
        held = [uid for uid in self._held if uid in self.supervisor.processes]
        self.carry_out(self.supervisor.handle_fork_server_gone(self.clock.now, held=list(self._held)))
        is_kept = self.supervisor.processes.keys() >= set(held) or self.supervisor.stopping
        claim(is_kept, "what is held for the next fork server is not lost", held)
        self._unreported += lost.values()  # known to be there, by their own word
        if for_long or self._is_short():
            self.clock.after(self.clock.between(0.1, 2.0), self.open_fork_server)
        else:
            self.open_fork_server()

    def open_fork_server(self) -> None:
        """It is there, and is told of all that was held for it; there is none any more while the app stops."""
        self._has_fork_server, self._is_outdated = True, False
        held, self._held = {} if self.supervisor.stopping else self._held, {}
        for mobster in held.values():
            self._tell_fork_server(mobster)
        ended, self._unreported = self._unreported, []
        for mobster in ended:
            if mobster.uid in self.supervisor.processes and not mobster.is_alive:
                self._report_exit_soon(mobster)

    def handle_death(self, mobster: Mobster) -> None:
        """A process has ended: the fork server reaps it, and says so after it has said that it was forked."""
        del self.mobsters[mobster.uid]
        self.kills += mobster.status == KILLED
        if not self._has_fork_server:
            self._unreported.append(mobster)
        elif mobster.uid not in self._unforked:
            self._report_exit_soon(mobster)

    def _report_exit_soon(self, mobster: Mobster) -> None:
        delay = self.clock.between(0.0001, 0.004)
        if self.clock.is_lucky(0.05):
            delay = self.clock.between(0.0, 0.5)
        self.clock.after(delay, self.report_exit, mobster)

    @in_turn
    def report_exit(self, mobster: Mobster) -> None:
        """An exit comes in: last words first."""
        for message in mobster.control.take(everything=True):
            self._handle_word(mobster, message)
        status = mobster.status
        why = "was killed by SIGKILL" if status == KILLED else f"exited with status {status}"
        blamed = mobster.running if status == KILLED else ""
        self.oracle.handle_exited(mobster.uid)
        self.carry_out(self.supervisor.handle_exited(mobster.uid, why, self.clock.now, status, blamed))

    def kill(self, mobster: Mobster) -> None:
        """SIGKILL, from wherever."""
        mobster.exit(KILLED)

    def may_die(self, mobster: Mobster, where: str) -> bool:
        """Whether it is killed at this very point."""
        if not self.clock.is_lucky(self.faults.deaths_at_steps):
            return not mobster.is_alive
        self.clock.note(self.kill, mobster, where)
        self.kill(mobster)
        return True

    # ------------------------------------------------------------------------------------------- carrying out

    def carry_out(self, decisions: list[Decision]) -> None:
        """Does what was decided; what is said to members in the course of it goes as one frame each."""
        if not decisions:
            return
        self._carry_out(decisions)
        said, self._said = self._said, {}
        for uid, batch in said.items():
            if (connection := self.connections.get(uid)) is not None:
                connection.post(batch)
        self.oracle.check_roster()
        if self.stopped_at is None and self.supervisor.stopping:
            self.stopped_at = self.clock.now

    def _carry_out(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            self.oracle.see(decision)
            match decision:
                case d.Launch():
                    self._order(decision)
                case d.Promote(uid=uid, index=index):
                    self._say(uid, ("promoted", index))
                    if (connection := self.connections.get(uid)) is not None:
                        connection.post(self._said.pop(uid))
                case d.Admit(uid=uid, roles=roles, members=members):
                    known = tuple(member for member in members if member.role or member.uid == uid)
                    self._say(uid, ("welcome", roles, known))
                case d.Introduce(first=first, second=second):
                    self._introduce(first, second)
                case d.Announce(m.MemberIs(member=member)):
                    if member.role:
                        self._say_all(("member", member))
                    else:
                        self._acquainted[member.uid] = set()
                case d.Announce(m.MemberGone(uid=uid)):
                    self._hang_up(uid)
                    self._say_gone(uid)
                case d.Announce(m.RoleIs(role=role)):
                    self._say_all(("role", role))
                case d.Retire(uid=uid, grace=grace):
                    self._say(uid, ("stop", grace))
                case d.Kill(uid=uid):
                    process = self.supervisor.processes.get(uid)
                    if process is not None and process.pid:
                        self.clock.after(0.0, self.kill, self.everybody[uid])
                case d.DumpStacks(uid=uid):
                    self.clock.after(self.clock.between(0.001, 0.1), self.inspect, self.everybody[uid])
                case d.RenewForkServer():
                    self._is_outdated = True
                    self.clock.after(0.0, self.renew_fork_server)
                case d.WakeAt(when=when):
                    self._wake_at(when)
                case d.Finish():
                    self.is_over = True
                    for uid in list(self.connections):
                        self._hang_up(uid)
                case d.Tell() | d.Answer() | d.Record():
                    pass

    @in_turn
    def inspect(self, mobster: Mobster) -> None:
        """A liveness thread tells where its mobster stands, if it can."""
        if mobster.is_alive and not mobster.is_mute:
            self.carry_out(self.supervisor.handle_inspection(mobster.uid, "stacks"))

    def _wake_at(self, when: float) -> None:
        luck = self.clock.luck()
        if luck < 0.4:
            when -= EARLY * self.clock.luck()
        elif luck < 0.98:
            when += 0.005 * self.clock.luck()
        elif not self.faults.are_over:
            when += self.clock.between(0.1, 1.0)  # the loop stood still, or the wake was lost and made good
        self.clock.at(when, self.wake)

    def _say(self, uid: int, message: Any) -> None:
        if uid in self.connections:
            self._said.setdefault(uid, []).append(message)

    def _say_all(self, message: Any) -> None:
        for uid in self.connections:
            self._said.setdefault(uid, []).append(message)

    def _say_gone(self, uid: int) -> None:
        for knows in self._acquainted.values():
            knows.discard(uid)
        if self.everybody[uid].role:
            self._say_all(("gone", uid))
        else:
            for knowing in sorted(self._acquainted.pop(uid, ())):
                self._say(knowing, ("gone", uid))

    def _acquaint(self, uid: int, other: int) -> None:
        """Tells one of a client that it is about to be linked to."""
        known, member = self._acquainted.get(other), self.supervisor.roster.get(other)
        if known is not None and member is not None and uid not in known and uid != other:
            known.add(uid)
            self._say(uid, ("member", member))

    def _hang_up(self, uid: int) -> None:
        connection = self.connections.pop(uid, None)
        if connection is not None:
            if uid in self._said:
                connection.post(self._said.pop(uid))
            connection.close(flush=True)

    def _introduce(self, first: int, second: int) -> None:
        ends = pair(self.clock, self.everybody[first], self.everybody[second])
        for end, uid, other in zip(ends, (first, second), (second, first), strict=True):
            end.is_late = self.everybody[other].has_left_in_order
            if uid in self.connections:
                self._acquaint(uid, other)
                self._say(uid, ("meet", other, end))
            else:
                end.close()
