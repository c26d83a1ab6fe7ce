"""The Kingpin: reports what happened to its decision core (`core.supervisor`) and carries out what that decides.

It has one loop and one thread, besides the console's writer and the watchdog. Everything that happens arrives in a
`handle_*` method, which asks the supervisor; `carry_out` then acts on the decisions, each kind in one place. The
Kingpin imports no role module and decodes no body, so no bug of the application can reach it.
"""

from __future__ import annotations

import importlib
import math
import os
import random
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

from mob.core import decisions as d, snapshot
from mob.core.decisions import Decision
from mob.core.registry import Registry
from mob.core.supervisor import Supervisor
from mob.errors import GarbageFrame, counted
from mob.kingpin import signals as signaling
from mob.kingpin.cluster.cluster import ClusterNode, ClusterState, draw_number
from mob.kingpin.connections import Connection, Connections, Garbled
from mob.kingpin.desk import Desk
from mob.kingpin.guests import Guests
from mob.kingpin.herald import Herald
from mob.kingpin.listeners import CrashListeners
from mob.kingpin.manager import Manager
from mob.kingpin.measured import Measured
from mob.kingpin.output.console import Console
from mob.kingpin.output.followers import Followers
from mob.kingpin.processes.canaries import Canaries
from mob.kingpin.processes.fork_client import ForkClient
from mob.kingpin.processes.inheritances import Inheritances
from mob.kingpin.processes.kills import Kills
from mob.kingpin.processes.launches import Launches
from mob.kingpin.processes.ports import Ports, where
from mob.kingpin.processes.post_mortems import PostMortems
from mob.kingpin.processes.stacks import StackRequests
from mob.kingpin.processes.starting import Starter
from mob.kingpin.processes.terminal import TerminalLender
from mob.kingpin.requests import RequestHandler, refuse
from mob.kingpin.shortage import ALL, Shortage
from mob.kingpin.signals import Signals
from mob.kingpin.upgrade import upgrade
from mob.kingpin.upgrade.handover_state import HandoverState
from mob.kingpin.upgrade.upgrade import Program, UpgradeAttempt
from mob.kingpin.watchdog import Watchdog
from mob.plan import NAME_TAKEN, QUEUE, Plan, queue_role
from mob.rim import openfiles, places, processes, titles
from mob.rim.board import Board
from mob.rim.link import CLOSED, Descriptor
from mob.rim.reactor import Reactor
from mob.rim.systemd import passed_sockets
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.kingpin.timekeeping import Timekeeper

FORCED = 1
"""Exit status of a Kingpin that was stopped by force."""
FUTILE = 3
"""Number of fork servers in a row that fail to start before the next attempt waits for `FUTILE_PAUSE`."""
FUTILE_PAUSE = 5.0
"""Seconds before the next attempt to start a fork server."""
WAKE_SLACK = 0.1
"""Seconds ahead from which wakes are combined with others."""
TOGETHER = 0.01
"""Seconds within which wakes are combined into one."""


class Kingpin:
    """A running app, as its Kingpin sees it."""

    def __init__(
        self,
        plan: Plan,
        desk: Desk,
        board: Board,
        supervisor: Supervisor | None = None,
        starter: Starter | None = None,
    ) -> None:
        self.plan: Plan = plan
        self.command: list[str] = upgrade.command()
        """The command that started this process, and that an upgrade runs again."""
        self.directory: str = places.here()
        """Working directory at the start, with the symbolic links through which the user reached it."""
        self.board = board
        self._board_end = Descriptor(os.dup(board.descriptor))  # for members; made now because later it could fail
        self.desk = desk
        supervisor = supervisor or Supervisor(plan, random.random, processes.is_stopped)
        self.supervisor: Supervisor = supervisor
        crew = supervisor.crew
        self.registry: Registry = Registry(crew, monotonic())
        reactor = Reactor(uvloop.new_event_loop())
        self.reactor: Reactor = reactor
        console = self._make_console()
        self.console: Console = console
        self.followers: Followers = console.followers
        connections = Connections(reactor, plan.frame_limit, self)
        self.connections: Connections = connections
        fork_client = self._make_fork_client(starter)
        self.fork_client: ForkClient = fork_client
        self.shortage: Shortage = Shortage(reactor, console.say)
        self.ports: Ports = Ports(crew, plan.grace, passed_sockets())
        self.terminal: TerminalLender = TerminalLender(supervisor, console, self.carry_out)
        self.manager: Manager = Manager()
        self.watchdog: Watchdog = Watchdog(reactor, console.say_from_elsewhere)
        self.signals: Signals = Signals(reactor, self._signal_handlers())
        self.guests: Guests = Guests(reactor, plan.frame_limit, self.handle_word)
        self.herald: Herald = Herald(reactor, connections, crew)
        self.listeners: CrashListeners = CrashListeners(connections, self.herald, console.say)
        self.launches: Launches = Launches(plan, crew, self.directory, connections, console, board, fork_client)
        self.canaries: Canaries = Canaries(reactor, crew, self._exited)
        self.post_mortems: PostMortems = PostMortems(plan.name, crew, board, self._say_on_loop, self._handle_crash_kept)
        self.stacks: StackRequests = StackRequests(reactor, crew, connections, console, fork_client, self.carry_out)
        self.kills: Kills = Kills(reactor, crew, board, fork_client, supervisor.handle_call_killed, self.carry_out)
        self.inheritances: Inheritances = Inheritances()
        style = titles.style_of(plan.titles)
        self.measured: Measured = Measured(plan.name, self.registry, connections, console, self.shortage, style)
        self.requests: RequestHandler = RequestHandler(
            supervisor, self.measured, self.followers, self.post_mortems, self.stacks, self.kills, self
        )
        self.cluster: ClusterNode | None = None
        """This machine as a node of a cluster, if the app runs on several machines."""
        self.timekeeper: Timekeeper | None = None
        """The timers of the roles, or None as long as no worker declares one."""
        self.status: int = 0
        self._upgrade: UpgradeAttempt | None = None
        self._wakes: set[float] = set()
        self._forced = False

    def __repr__(self) -> str:
        return f"<Kingpin of {self.plan.name!r}, pid {os.getpid()}, {len(self.connections)} connections>"

    def _make_console(self) -> Console:
        return Console(self.reactor, self.plan.logs, self.plan.frame_limit, is_direct=self.plan.direct)

    def _make_fork_client(self, starter: Starter | None) -> ForkClient:
        return ForkClient(self.reactor, self.plan, self.handle_report, self.handle_fork_server_gone, starter)

    def _signal_handlers(self) -> dict[signal.Signals, Callable[[], None]]:
        return {
            signal.SIGINT: self.stop,
            signal.SIGTERM: self.stop,
            signal.SIGHUP: self.handle_reload_signal,
            signal.SIGTTIN: partial(self.handle_size_signal, +1),
            signal.SIGTTOU: partial(self.handle_size_signal, -1),
            signal.SIGUSR1: self.console.reopen,
            signal.SIGUSR2: partial(self.handle_upgrade, d.NOBODY),
            signal.SIGCHLD: self.handle_children,
        }

    def _say_on_loop(self, text: str) -> None:
        """Log a message; for other threads."""
        self.reactor.call(partial(self.console.say, text))

    def _handle_crash_kept(self, whole: bytes, short: bytes) -> None:
        """Pass a written crash report on to the loop; for other threads."""
        self.reactor.call(partial(self._handle_crashed, whole, short))

    def _handle_crashed(self, whole: bytes, short: bytes) -> None:
        """Send a written crash report to the listeners and to the other machines."""
        self.listeners.tell(whole)
        if self.cluster is not None:
            self.cluster.write(0, m.CrashedHere(short))

    def _enter_process(self) -> None:
        """Set the title, signal handlers and limits of this process."""
        titles.set_title(titles.KINGPIN, self.plan.name, titles.style_of(self.plan.titles))
        processes.become_subreaper()
        openfiles.raise_limit()
        self.signals.install()
        self.reactor.call(self.handle_children)  # the fork server may have exited before SIGCHLD was handled

    def _leave_process(self) -> None:
        self.signals.remove()
        openfiles.give_back_limit()

    def run(self) -> int:
        """Run the app until it stops; return its exit status."""
        self._enter_process()
        self.desk.open(self.reactor, self.handle_client, self.shortage)
        if self.desk.warning:
            self.console.say(self.desk.warning)
        self.fork_client.open()
        if why := openfiles.shortage(sum(role.workers for role in self.plan.roles)):
            self.console.say(why)
        if self.plan.cluster is not None:
            self.supervisor.crew.last_uid = draw_number() << m.NODE_SHIFT
            self.join_cluster()
        self.carry_out(self.supervisor.start(monotonic()))
        return self._work()

    def take_over(self, state: HandoverState) -> None:
        """Take over the state of the previous program in this process; call `go_on` afterwards."""
        self._enter_process()
        self.desk.open(self.reactor, self.handle_client, self.shortage)
        self.connections.take_over(state.connections)
        self.console.take_over(state.console, {uid: each.link for uid, each in self.connections.items()})
        self.ports.take_over(state.ports)
        self.canaries.take_over(state.canaries)
        self.fork_client.take_over(state.fork_client)
        self.registry.take_over(state.past)
        self.inheritances.take_over(state.inheritances)
        self.manager.take_over()
        self.guests.take_over(self.connections.values())
        self.herald.take_over()

    def give(self, ticket: d.Ticket) -> HandoverState:
        """Return everything that the next program needs."""
        return HandoverState(
            snapshot=snapshot.take(self.supervisor),
            past=self.registry.past(),
            connections=self.connections.state(),
            console=self.console.state(),
            ports=self.ports.state(),
            canaries=self.canaries.state(),
            fork_client=self.fork_client.state(),
            desk=self.desk.fileno(),
            board=self.board.descriptor,
            manager=self.manager.environment(),
            inheritances=self.inheritances.state(),
            ticket=ticket,
            cluster=ClusterState() if self.cluster is None else self.cluster.state(),
            timers=b"" if self.timekeeper is None else self.timekeeper.state(),
            plan=msgspec.Raw(msgspec.msgpack.encode(self.plan)),
            command=self.command,
            path=sys.path,
        )

    def go_on(self, state: HandoverState, decisions: list[Decision], failure: str = "") -> int:
        """Resume where the previous program stopped, and return the exit status as `run` does.

        `failure` says why this is not the program that was requested.
        """
        self.reactor.loop.call_soon(self._begin_again, state, decisions, failure)
        signaling.release()
        return self._work()

    def _begin_again(self, state: HandoverState, decisions: list[Decision], failure: str) -> None:
        there, trouble = sum(bool(process.pid) for process in self.supervisor.processes.values()), ""
        try:
            self._rejoin_cluster(state)
            if state.timers:
                self._keep_time(state.timers)
            self.fork_client.kill()  # it holds old code; later launches wait for the next fork server
            self.carry_out(decisions)
            self.handle_children()
            self._replace_fork_server()
            self.kills.watch.take_over(list(self.supervisor.processes))
        except Exception as error:  # noqa: BLE001  whatever it is: there is no other Kingpin, and a client waits
            trouble = f"the new Kingpin took over, but not everything resumed: {upgrade.text_of(error)}."
        if failure:
            self.end_upgrade(state.ticket, failure)
        elif trouble:
            self.carry_out([d.Tell(trouble), d.Answer(state.ticket, error=trouble)])
        else:
            text = f"the new Kingpin took over {counted(there, 'mobster')}."
            self.carry_out([d.Tell(text), d.Answer(state.ticket, text=text)])

    def _work(self) -> int:
        self.manager.feed(self.reactor.loop)
        self.reactor.loop.call_soon(self.watchdog.start)
        try:
            self.reactor.run()
        finally:
            self.watchdog.close()
            self._close()
        return self.status

    def join_cluster(self) -> None:
        """Make this machine a node of the cluster."""
        assert self.plan.cluster is not None
        self.cluster = ClusterNode(self, self.plan.cluster)
        self.cluster.start()
        self.post_mortems.node = self.cluster.membership.name

    def _rejoin_cluster(self, state: HandoverState) -> None:
        """Rejoin the cluster as the node that this machine was before, if it was one."""
        if (self.plan.cluster is not None) != bool(m.node_of(self.supervisor.crew.last_uid)):
            self.console.say("an upgrade cannot add or remove .cluster(...): restart the app for that.")
        elif self.plan.cluster is not None:
            self.join_cluster()
            assert self.cluster is not None
            self.cluster.take_over(state.snapshot.nodes, state.past.began, state.cluster)

    def _close(self) -> None:
        self.desk.close()
        if self.timekeeper is not None:
            self.timekeeper.close()
        self.fork_client.close()
        self.followers.finish()
        self.connections.close()
        self.canaries.close()
        self.ports.close()
        self.measured.close()
        self.post_mortems.close()
        self.board.close()
        self.inheritances.close()
        del self._board_end  # closed with its last reference
        self.console.close()
        self._leave_process()
        self.reactor.loop.close()
        self.reactor.close()

    # ------------------------------------------------------------------------------------- what happens outside

    def handle_reload_signal(self) -> None:
        """Reload all roles (SIGHUP)."""
        self.carry_out(self.supervisor.handle_reload([], d.NOBODY, monotonic()))

    def handle_size_signal(self, change: int) -> None:
        """Add or remove a worker (SIGTTIN, SIGTTOU)."""
        self.carry_out(self.supervisor.handle_size_signal(change, monotonic()))

    def handle_end_app(self, ticket: d.Ticket, at_once: bool) -> None:
        """Stop the app for `mob stop`. A second request does not force the stop unless it says so with `at_once`."""
        self.carry_out([d.Answer(ticket, text="stopping.")])
        self.reactor.flush()
        if at_once or not self.supervisor.stopping:
            self.stop(at_once)

    def stop(self, at_once: bool = False) -> None:
        """Stop the app gracefully (Ctrl-C, SIGTERM), or immediately if `at_once` or already stopping."""
        self._forced = at_once or self.supervisor.stopping
        self.shortage.forget()
        self.fork_client.wake()  # it reports which mobsters exited
        if self._upgrade is not None:
            self._upgrade.end_rehearsal()
        if at_once and not self.supervisor.stopping:
            self.carry_out(self.supervisor.handle_stop(monotonic()))
        self.carry_out(self.supervisor.handle_stop(monotonic()))

    def handle_want_queue(self, ticket: d.Ticket) -> None:
        """Add the role that keeps durable jobs, unless the app has it already."""
        known = self.supervisor.crew.roles.get(QUEUE)
        if known is not None and not known.plan.keeps_jobs:
            self.carry_out([d.Answer(ticket, error=NAME_TAKEN)])
        elif known is not None:
            self.carry_out([d.Answer(ticket)])
        else:
            try:
                role = queue_role(str(places.queue_file(self.plan.address)))
                if self.cluster is not None:
                    places.queue_mark(self.plan.address, make=True)
            except OSError as error:
                why = f"cannot store durable jobs: {error.strerror}. Choose another file: app.queue(path=...)."
                self.carry_out([d.Answer(ticket, error=why)])
                return
            self.plan = msgspec.structs.replace(self.plan, roles=(role, *self.plan.roles))
            self.launches.plan = self.plan
            self.carry_out(self.supervisor.handle_role_added(self.plan, role, ticket, monotonic()))
            if self.cluster is not None and QUEUE in self.supervisor.crew.leases:
                self.cluster.leases.add_role(QUEUE)

    def keep_jobs(self) -> None:
        """Add the role that keeps durable jobs because another machine keeps some."""
        if not self.supervisor.stopping:
            self.handle_want_queue(d.NOBODY)

    def handle_upgrade(self, ticket: d.Ticket) -> None:
        """Begin to replace this Kingpin with one that runs new code (SIGUSR2, `mob upgrade`)."""
        if self._upgrade is not None or self.supervisor.stopping:
            why = "the app is stopping." if self.supervisor.stopping else "an upgrade is already in progress."
            self.carry_out([d.Answer(ticket, error=why)])
            return
        self.console.say("upgrading the Kingpin.")
        try:
            program = Program(self.plan.name, self.command, self.directory)
            self._upgrade = UpgradeAttempt(program, self.reactor, self, ticket)
            self.fork_client.guard(self._upgrade.rehearsal_pid)
        except Exception as error:  # noqa: BLE001  whatever it is, the app keeps running as before
            self.end_upgrade(ticket, f"its rehearsal could not start: {error}.")

    @property
    def is_stopping(self) -> bool:
        """True if the app is stopping."""
        return self.supervisor.stopping

    def hush(self, is_late: bool) -> str:
        """Finish what can be finished before an upgrade; return what is still in progress, or "".

        A launch that the fork server did not report yet is waited for, but not forever: the new Kingpin replaces the
        fork server, which may be stuck.
        """
        self.followers.is_held = True  # a client that follows a flood of lines would never be quiet
        self.herald.hand_over()
        self.reactor.flush()
        if is_late:
            self.guests.give_up()
        elif not self.guests.is_quiet:
            return "requests of a client are still being answered"
        if unrest := self.supervisor.unrest(may_launch=is_late):
            return unrest
        loud = self.connections.loud() if self.fork_client.is_quiet else "the fork server"
        return f"{loud} does not read its messages" if loud else ""

    def end_upgrade(self, ticket: d.Ticket, why: str) -> None:
        """Report that the upgrade failed, and resume."""
        self._upgrade = None
        self.followers.is_held = False
        self.carry_out([d.Tell(f"the upgrade failed: {why}"), d.Answer(ticket, error=why)])

    def handle_children(self) -> None:
        """Reap children that ended: the fork server, mobsters of a dead fork server, and orphans (only reaped)."""
        ended = processes.reap(self._end_group)
        for pid, status in sorted(ended, key=lambda each: each[0] == self.fork_client.pid):  # mobsters first
            if self.fork_client.handle_exit(pid, status):
                continue
            if self._upgrade is not None and self._upgrade.handle_exit(pid, status):
                continue
            for process in list(self.supervisor.processes.values()):
                if process.pid == pid:
                    self.canaries.forget(process.uid)
                    self._exited(process.uid, status)

    def _end_group(self, pid: int) -> None:
        """Kill the process group of a child that ended; it is not reaped yet, so its pid cannot belong to another."""
        is_rehearsal = self._upgrade is not None and self._upgrade.rehearsal_pid == pid
        if is_rehearsal or any(process.pid == pid for process in self.supervisor.processes.values()):
            processes.kill_group(pid)

    def handle_report(self, report: m.ForkReport) -> None:
        """Handle a report of the fork server: the outcome of a launch, or the exit of a mobster."""
        match report:
            case m.Forked(uid=uid, pid=pid):
                if uid not in self.supervisor.processes:  # given up: its time ran out before the fork
                    self.fork_client.end_mobster(pid)
                self.console.begin(uid, pid)
                self.carry_out(self.supervisor.handle_forked(uid, pid))
            case m.NotForked(uid=uid, why=why):
                self._handle_not_launched(uid, f"could not be launched: {why}")
            case m.Exited(uid=uid, status=status):
                if not self.canaries.forget(uid):
                    self._exited(uid, status)

    def handle_fork_server_gone(self, why: str) -> None:
        """Start another fork server; the mobsters keep running.

        If none can be started and no mobster runs, end the app.
        """
        if self.fork_client.failures < FUTILE:
            self.console.say(f"the fork server {why}; starting a new one, its mobsters keep running.")
            self._replace_fork_server()
        elif any(process.pid for process in self.supervisor.processes.values()):
            self.console.say(f"the fork server {why} before it launched anything; next attempt in {FUTILE_PAUSE:g} s.")
            self.reactor.loop.call_later(FUTILE_PAUSE, self._make_up_for_fork_server)
        else:
            self.console.say(f"the fork server {why}, like those before it. Its error is above; the app stops.")
            self.status = FORCED
            self.reactor.loop.stop()

    def _make_up_for_fork_server(self) -> None:
        if not self.fork_client.pid:  # a reload may have started one in the meantime
            self._replace_fork_server()

    def _renew_fork_server(self) -> None:
        """Start a fork server with new code.

        Not if the app is stopping, or if the old one ended by itself and was replaced already.
        """
        if self.fork_client.is_outdated and not self.supervisor.stopping:
            self.fork_client.kill()
            self._replace_fork_server()
        self.carry_out(self.supervisor.handle_fork_server_renewed(monotonic()))

    def _replace_fork_server(self) -> None:
        """Start another fork server. Launches that the last one did not report are lost with it."""
        self.carry_out(self.supervisor.handle_fork_server_gone(monotonic(), self.fork_client.held))
        if not self.supervisor.stopping:
            self.shortage.attempt("a fork server cannot be started", self._open_fork_server, ALL)

    def _open_fork_server(self) -> None:
        """Start a fork server and report the running mobsters to it."""
        self.fork_client.open()
        there = [process for process in self.supervisor.processes.values() if process.pid]
        self.fork_client.inform([process.pid for process in there], self.ports.paths)
        for process in there:
            if not self.fork_client.still_runs(process.pid):  # the last one reaped it and died before it could report
                now = monotonic()
                self.carry_out(self.supervisor.handle_exited(process.uid, "exited together with the fork server", now))

    def handle_client(self, sock: socket.socket, pid: int) -> None:
        """Accept a connection of another process of the same user."""
        uid = self.supervisor.next_uid()
        self.guests.admit(self.connections.open(uid, f"client {uid} (pid {pid})", sock, pid=pid, is_client=True))

    def handle_up_closed(self, connection: Connection, why: str) -> None:
        """Handle the end of a control link.

        For a client this means that it left. The exit of a mobster is reported by the fork server.
        """
        uid, name = connection.uid, connection.link.name
        if connection.is_client:
            self._forget_connection(uid)
            if why != CLOSED:
                self.console.say(f"{name} was disconnected: {why}")
            self.carry_out(self.supervisor.handle_client_left(uid, why))
        elif uid in self.supervisor.processes and why != CLOSED:
            self.console.say(f"{name} sent invalid data on its control link; killing it: {why}")
            self.carry_out([d.Kill(uid)])

    def _forget_connection(self, uid: int) -> None:
        if (connection := self.connections.remove(uid)) is not None:
            self.followers.forget(uid)
            self.guests.forget(connection)
            self.herald.forget(uid)
            connection.close()

    def handle_up(self, connection: Connection, messages: list[Any]) -> None:
        """Handle messages of a mobster or client."""
        if connection.is_client:
            self.guests.hear(connection, messages)
            return
        for message in messages:
            self.handle_word(connection, message)

    def handle_drained(self, connection: Connection) -> None:
        """Resume sending to a member that read everything."""
        self.herald.handle_drained(connection.uid)
        if connection.is_client:
            self.guests.handle_drained(connection)

    def handle_word(self, connection: Connection, message: Any) -> None:
        """Act on a message of a mobster or client.

        Whatever a member requests, it gets an answer, and the others are served.
        """
        if isinstance(message, Garbled):
            self._handle_garbled(connection, message.error)
            return
        try:
            self._act_on(connection, message)
        except Exception:  # noqa: BLE001  a bug of this program must not affect its other users
            kind, name = type(message).__name__, connection.link.name
            self.console.say(f"a request of {name} failed ({kind}):\n{traceback.format_exc()}")
            refuse(
                connection, message, f"the Kingpin failed to handle this request ({kind}); its log has the traceback."
            )

    def _act_on(self, connection: Connection, message: m.Up) -> None:
        uid, now, supervisor = connection.uid, monotonic(), self.supervisor
        if connection.is_client and not connection.greeted and not isinstance(message, m.Hello):
            connection.close()
            return
        match message:
            case m.Hello(protocol=protocol, pid=pid) if connection.is_client:
                self._greet(connection, protocol, pid)
            case m.Ready(pid=pid, exports=exports, complete=complete, hears=hears) if uid in supervisor.processes:
                self.carry_out(supervisor.handle_ready(uid, pid, exports, complete, now, hears))
            case m.BootFailed(report=report, is_unfit=is_unfit):
                self.carry_out(supervisor.handle_boot_failed(uid, report, is_unfit))
            case m.CanariesSent(count=count):
                self.canaries.keep(uid, connection.link.take(count))
            case m.WantRole(role=m.CLIENTS):
                self.herald.tell_of_guests(connection)
            case m.WantRole(role=role):
                self.herald.catch_up(connection)
                self.carry_out(supervisor.handle_want_role(uid, role))
            case m.WantMember(uid=other) if self.cluster is not None and supervisor.crew.is_remote(other):
                self.cluster.introduce(uid, other)
            case m.WantMember(uid=other) if other not in supervisor.roster:
                connection.link.post(m.MemberGone(other, "has exited"))
            case m.WantMember(uid=other, again=again):
                self.carry_out(supervisor.handle_want_member(uid, other, again))
            case m.Parked() if connection.is_client:
                self.carry_out(supervisor.handle_parked(uid, message, now))
            case m.HearCrashes():
                connection.hears_crashes = True
            case m.Draining(by_itself=by_itself):
                self.carry_out(supervisor.handle_draining(uid, now, by_itself))
            case m.HandsOver():
                supervisor.hand_overs.handle_able(uid)
            case m.WantInheritance(id=number):
                self.carry_out(supervisor.hand_overs.handle_wanted((uid, number), now))
            case m.HandedOver(error=error, size=size):
                self._keep_inheritance(uid, [] if error else connection.link.take(1), error, size)
            case m.WatchCall(deadline=deadline) if not connection.is_client:
                self.kills.watch.watch(uid, deadline)
            case m.WantTerminal() if connection.is_client:
                refuse(connection, message, "a client cannot borrow the app's terminal.")
            case m.WantTerminal() | m.ReturnTerminal():
                self.terminal.handle(connection, message)
            case m.Bind():
                what = f"{connection.link.name} cannot listen on {where(message.address)}"
                self.shortage.attempt(what, partial(self._bind, connection, message))
            case m.Unbind(id=number):
                self.ports.give_back(uid, message)
                self.end_unused_ports()
                connection.link.post(m.Unbound(number))
            case m.TimersAre():
                self._keep_time().handle(connection, message)
            case m.TimerRan() | m.RoomForRun() | m.RunTimer() if self.timekeeper is not None:
                self.timekeeper.handle(connection, message)
            case _:
                if self.cluster is None or not self.cluster.handle(connection, message):
                    self.herald.catch_up(connection)
                    self.requests.handle(connection, message)

    def _keep_time(self, left: bytes = b"") -> Timekeeper:
        """Return the timekeeper, which is made at the first call.

        `left` is the state of the timekeeper of the previous Kingpin.
        """
        keeper = self.timekeeper
        if keeper is None:
            timekeeping = importlib.import_module("mob.kingpin.timekeeping")  # only where there are timers
            leases = None if self.cluster is None else self.cluster.leases
            keeper = self.timekeeper = self.measured.timekeeper = timekeeping.Timekeeper(self, leases, left)
        return keeper

    def _handle_garbled(self, connection: Connection, error: GarbageFrame) -> None:
        """Report to a client that its message does not decode, and close its link. Raise for any other link."""
        if not (connection.is_client and connection.greeted):
            raise error
        connection.link.post(m.Refused(f"its Kingpin could not decode a message of this client: {error}"))
        connection.link.flush()
        connection.link.close(str(error))

    def _greet(self, connection: Connection, protocol: int, pid: int) -> None:
        if protocol != m.PROTOCOL:
            connection.link.post(
                m.Refused(f"this app speaks version {m.PROTOCOL} of mob's protocol, the client version {protocol}.")
            )
            connection.link.close_after_flush(0.0)
            return
        self.guests.welcome(connection)
        self.carry_out(self.supervisor.handle_client_joined(connection.uid, connection.pid or pid))

    def _bind(self, connection: Connection, bind: m.Bind) -> None:
        self.ports.handle_bind(connection, bind)
        self.fork_client.remember(self.ports.paths)

    def end_unused_ports(self) -> None:
        """Close the listening sockets that no worker reads or will read."""
        due = self.ports.end_unused(monotonic())
        if due != math.inf:
            self._wake_at(due)

    def handle_vitals(self, connection: Connection, vitals: list[m.Vital]) -> None:
        """Handle reports of a mobster's liveness thread."""
        uid = connection.uid
        for vital in vitals:
            if isinstance(vital, m.Beat):
                now = monotonic()
                if (process := self.supervisor.processes.get(uid)) is not None:
                    self.registry.handle_beat(process, vital, now)
                self.carry_out(self.supervisor.handle_beat(uid, vital, now))
            elif isinstance(vital, m.Counted):
                if (process := self.supervisor.processes.get(uid)) is not None:
                    self.carry_out([d.Tell(text) for text in self.registry.custom.handle(process, vital)])
            else:
                self.stacks.handle_inspection(uid, vital.stacks)
                self.carry_out(self.supervisor.handle_inspection(uid, vital.stacks))

    # --------------------------------------------------------------------------------------------- carrying out

    def carry_out(self, decisions: list[Decision]) -> None:
        """Carry out decisions in order."""
        if decisions:
            if self.cluster is not None:
                decisions = [*decisions, *self.cluster.note(decisions)]
            self.registry.handle_decisions(decisions, monotonic())
            self._do(decisions)
            self.end_unused_ports()
            self.manager.tell(self.supervisor)
            if self.timekeeper is not None:
                self.timekeeper.note(decisions)
            if self.cluster is not None:
                self.cluster.leases.look_soon()

    def _do(self, decisions: list[Decision]) -> None:
        is_urgent = False  # True if callers wait for the announcements that follow
        for decision in decisions:
            if is_urgent and not isinstance(decision, d.Announce):
                is_urgent = False
                self.reactor.flush()
            match decision:
                case d.Launch():
                    self._launch(decision)
                case d.Promote():
                    self.launches.promote(decision)
                    is_urgent = True
                case d.Admit(uid=uid, roles=roles, members=members, nodes=nodes, cut=cut):
                    plan = self.plan
                    if (connection := self.connections.get(uid)) is not None:
                        about = uid, plan.name, plan.grace, plan.frame_limit
                        members = self.herald.known_to(uid, members)
                        welcome = m.Welcome(*about, roles, members, nodes, cut, plan.backlog)
                        connection.link.post_with(welcome, [self._board_end])
                case d.Introduce(first=first, second=second):
                    name_of = self.connections.name_of
                    what = f"{name_of(first)} and {name_of(second)} cannot be linked"
                    self.shortage.attempt(what, partial(self._introduce, first, second))
                case d.Announce(change):
                    if isinstance(change, m.MemberGone):
                        self._forget_connection(change.uid)
                    self.herald.tell(change)
                case d.Write(node=node, words=words):
                    if self.cluster is not None:
                        self.cluster.write(node, words)
                case d.SeekLease():
                    pass  # done by the cluster, after everything else in the same letter
                case d.Retire(uid=uid, grace=grace):
                    if self.cluster is not None and self.supervisor.stopping:
                        self.cluster.handle_asked(uid)
                    self._post(uid, m.Stop(grace, self.supervisor.may_hand_over(uid)), has_to_know=False)
                case d.AskHandOver(uid=uid, seconds=seconds):
                    self._post(uid, m.HandOver(seconds))
                case d.LetGoOn(uid=uid):
                    self._post(uid, m.GoOn())
                case d.Bequeath(ticket=(uid, number), role=role, index=index):
                    self._bequeath(uid, number, role, index)
                case d.DropInheritance(role=role, index=index):
                    self.inheritances.drop(role, index)
                case d.Kill(uid=uid):
                    if (process := self.supervisor.processes.get(uid)) and process.pid:
                        self.fork_client.end_mobster(process.pid)
                case d.DumpStacks(uid=uid):
                    self.stacks.inspect(uid)
                case d.Record():
                    self.post_mortems.record(decision, self.console.take_last_lines(decision.member.uid))
                case d.PassOn(report=report):
                    self.listeners.tell(report)
                case d.HearTimers(words):
                    self._keep_time().hear(words)
                case d.Answer(ticket=(uid, number), error=error, text=text):
                    self._post(uid, m.Done(number, error, text))
                case d.LendTerminal(ticket=(uid, _) as ticket):
                    if (connection := self.connections.get(uid)) is not None:
                        self.terminal.lend(connection, ticket)
                case d.TakeBackTerminal():
                    self.terminal.take_back()
                case d.RenewForkServer():
                    self.fork_client.is_outdated = (
                        True  # renewed afterwards, so that launches decided here are not lost
                    )
                    self.reactor.call(self._renew_fork_server)
                case d.Tell(text=text):
                    self.console.tell(text)
                case d.WakeAt(when=when):
                    self._wake_at(when)
                case d.Finish(status=status):
                    self.status = FORCED if self._forced else status
                    self.herald.flush_all()
                    self.reactor.loop.stop()

    def _wake_at(self, when: float) -> None:
        """Call the supervisor at that time or slightly later, but never earlier, because nothing would wake it again.

        One call serves everything that is due within a hundredth of a second.
        """
        if when > monotonic() + WAKE_SLACK:
            when = math.ceil(when / TOGETHER) * TOGETHER
        if when not in self._wakes:
            self._wakes.add(when)
            self.reactor.call_at(when, partial(self._wake, when))

    def _wake(self, when: float) -> None:
        self._wakes.discard(when)
        self.carry_out(self.supervisor.handle_wake(monotonic()))
        if self.cluster is not None:
            self.carry_out(self.cluster.handle_wake(monotonic()))
        self.end_unused_ports()

    def _exited(self, uid: int, status: int) -> None:
        self.ports.handle_exited(uid)
        self.console.drain(uid)
        if (connection := self.connections.get(uid)) is not None:
            connection.drain()  # its last messages, such as why it could not boot
        process = self.supervisor.processes.get(uid)
        why, blamed = self.post_mortems.look_into(uid, status)
        self.carry_out(self.supervisor.handle_exited(uid, why, monotonic(), status, blamed))
        self.registry.handle_exited(uid)
        if self.cluster is not None:
            self.cluster.handle_gone(uid)
        self.stacks.handle_exited(uid)
        self.kills.watch.forget(uid)
        self.console.take_last_lines(uid)  # dropped: no crash report needs them
        if process is not None:
            self.followers.handle_gone(process.pid)

    def _launch(self, launch: d.Launch) -> None:
        try:
            self.launches.launch(launch, None if self.cluster is None else self.cluster.leases.until(launch.role))
        except OSError as error:
            why = f"could not be launched: {processes.shortage(error)}"
            self.reactor.call(partial(self._handle_not_launched, launch.uid, why))

    def _handle_not_launched(self, uid: int, why: str) -> None:
        self.carry_out(self.supervisor.handle_not_launched(uid, why, monotonic()))
        self.registry.handle_exited(uid)

    def _keep_inheritance(self, uid: int, taken: list[int], error: str, size: int) -> None:
        """Keep what a worker handed over to its successor, or the reason why it could not."""
        process = self.supervisor.processes.get(uid)
        if process is None:
            for descriptor in taken:
                os.close(descriptor)
            return
        if taken:
            self.inheritances.put(process.slot.role, process.slot.index, taken[0], size)
        elif not error:
            error = "the Kingpin has too many open files, see `ulimit -n`"
        self.carry_out(self.supervisor.hand_overs.handle_given(uid, error, size, monotonic()))

    def _bequeath(self, uid: int, number: int, role: str, index: int) -> None:
        connection, found = self.connections.get(uid), self.inheritances.get(role, index)
        if connection is None:
            return
        if found is None:
            connection.link.post(m.Inheritance(number))
        else:
            descriptor, size = found
            connection.link.post_with(m.Inheritance(number, size), [descriptor])

    def _introduce(self, first: int, second: int) -> None:
        if first not in self.connections or second not in self.connections:
            return
        ends = socket.socketpair()
        for end, uid, other in zip(ends, (first, second), (second, first), strict=True):
            self.herald.acquaint(uid, other)
            self.connections[uid].link.post_with(m.Meet(other), [end.detach()])

    def _post(self, uid: int, message: Any, has_to_know: bool = True) -> None:
        """Send a message to one member; with `has_to_know`, after all earlier changes that it did not get yet."""
        if (connection := self.connections.get(uid)) is not None:
            if has_to_know:
                self.herald.catch_up(connection)
            connection.link.post(message)
