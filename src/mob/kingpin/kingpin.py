"""The Kingpin: carries out what its mind (`core.supervisor`) decides, and tells it what happened.

One loop, one thread (besides the console's writer). Everything that happens arrives in a `handle_*` method: it asks
the supervisor and carries the decisions out; `_carry_out` is the one place for each of them. The Kingpin imports no
role module and opens no body, so no bug of the application can reach it.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import setproctitle
import uvloop

from mob.core import decisions as d
from mob.core.decisions import Decision
from mob.core.supervisor import Supervisor
from mob.kingpin.console import Console
from mob.kingpin.desk import Connection, Desk
from mob.kingpin.nursery import Nursery
from mob.kingpin.ports import REFUSALS, Ports
from mob.plan import Plan
from mob.rim import processes
from mob.rim.board import Board, mark_of
from mob.rim.crashes import Crash, Crashes
from mob.rim.link import CLOSED, Link
from mob.rim.reactor import Reactor
from mob.rim.systemd import ServiceManager, passed_sockets
from mob.wire import messages as m

FORCED = 1
"""The exit status of a Kingpin that had to be stopped by force."""
FUTILE = 3
"""After so many fork servers in a row that could not even start, another is not tried at once."""
FUTILE_PAUSE = 5.0
NOBODY = (0, 0)
"""Who asked, if it was a signal."""
LISTENING = 1.0
"""Seconds in which the liveness thread of a hanging mobster answers, unless that stands still as well."""
VITALS = 4 * 1024 * 1024
"""Bytes of the longest word of a liveness thread: the stacks of everything."""


class Kingpin:
    """A running app, seen from its Kingpin."""

    def __init__(self, plan: Plan, desk: Desk) -> None:
        self.plan = plan
        self.supervisor = Supervisor(plan, random.random)
        self.reactor = Reactor(uvloop.new_event_loop())
        self.console = Console(self.reactor)
        self.ports = Ports(passed_sockets())
        self.crashes = Crashes(plan.name)
        self.manager = ServiceManager()
        self.board = Board.make()
        self.desk = desk
        self.nursery = Nursery(self.reactor, plan, self.handle_report, self.handle_fork_server_gone)
        self.connections: dict[int, Connection] = {}
        self.status = 0
        self._forced = False
        self._told_manager = ""
        self._oom_kills = processes.count_oom_kills()
        self._has_terminal = sys.stdin is not None and sys.stdin.isatty()

    def __repr__(self) -> str:
        return f"<Kingpin of {self.plan.name!r}, pid {os.getpid()}, {len(self.connections)} connections>"

    def run(self) -> int:
        """Launches the app and returns its exit status when it has stopped."""
        setproctitle.setproctitle(f"{self.plan.name} (kingpin)")
        processes.become_subreaper()
        loop = self.reactor.loop
        for signum, handler in self._signals().items():
            loop.add_signal_handler(signum, handler)
        signal.signal(
            signal.SIGCHLD, lambda signum, frame: self.reactor.call(self.handle_children)
        )  # uvloop takes none
        self.nursery.open()
        self.desk.open(self.reactor, self.handle_client, self.plan.frame_limit)
        self._carry_out(self.supervisor.start(monotonic()))
        self._feed_watchdog()
        try:
            self.reactor.run()
        finally:
            self._close()
        return self.status

    def _close(self) -> None:
        self.desk.close()
        self.nursery.close()
        for connection in list(self.connections.values()):
            connection.close()
        self.ports.close()
        self.board.close()
        self.console.close()
        loop = self.reactor.loop
        for signum in self._signals():
            loop.remove_signal_handler(signum)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        loop.close()
        self.reactor.close()

    # ------------------------------------------------------------------------------------- what happens outside

    def _signals(self) -> dict[signal.Signals, Callable[[], None]]:
        """What each signal is for; gunicorn's meanings."""
        return {
            signal.SIGINT: self.handle_stop_signal,
            signal.SIGTERM: self.handle_stop_signal,
            signal.SIGHUP: self.handle_hangup,
            signal.SIGTTIN: partial(self.handle_size_signal, +1),
            signal.SIGTTOU: partial(self.handle_size_signal, -1),
        }

    def handle_stop_signal(self) -> None:
        """Ctrl-C or SIGTERM: the first asks, the second forces."""
        self._forced = self.supervisor.stopping
        self.nursery.wake()  # it tells who has ended
        self._carry_out(self.supervisor.handle_stop(monotonic()))

    def handle_hangup(self) -> None:
        """SIGHUP: a reload. If it comes because the terminal of this app was closed: a stop."""
        if self._has_terminal and not _has_terminal_still():
            self.handle_stop_signal()
        else:
            self._carry_out(self.supervisor.handle_reload([], NOBODY, monotonic()))

    def handle_size_signal(self, change: int) -> None:
        """SIGTTIN, SIGTTOU: a worker more or less in each role that may grow; in the only role, if there is but one."""
        roles = [role.name for role in self.plan.roles if role.max_workers is not None]
        roles = roles or [role.name for role in self.plan.roles if len(self.plan.roles) == 1]
        if not roles:
            self.console.say("no role has max_workers, so none is made larger or smaller by a signal.")
        for role in roles:
            self._carry_out(self.supervisor.handle_scale(role, change, NOBODY, monotonic(), relative=True))

    def _feed_watchdog(self) -> None:
        if self.manager.watchdog is not None:
            self.manager.alive()
            self.reactor.loop.call_later(self.manager.watchdog, self._feed_watchdog)

    def handle_children(self) -> None:
        """Children have ended: the fork server, mobsters of a dead one, or orphans, which are only reaped."""
        for pid, status in sorted(processes.reap(), key=lambda ended: ended[0] == self.nursery.pid):  # mobsters first
            if self.nursery.handle_exit(pid, status):
                continue
            for process in list(self.supervisor.processes.values()):
                if process.pid == pid:
                    processes.kill_group(pid)
                    self._exited(process.uid, status)

    def handle_report(self, report: m.Report) -> None:
        """The fork server says what became of a launch, or that a mobster has ended."""
        match report:
            case m.Forked(uid=uid, pid=pid):
                self.console.begin(uid, pid)
                self._carry_out(self.supervisor.handle_forked(uid, pid))
            case m.Exited(uid=uid, status=status):
                self._exited(uid, status)

    def handle_fork_server_gone(self, why: str) -> None:
        """Its mobsters go on; a new one takes over. Where none can even start, and nothing runs, the app ends."""
        if self.nursery.failures < FUTILE:
            self.console.say(f"the fork server {why}; its mobsters go on, a new one starts.")
            self._replace_fork_server()
        elif any(process.pid for process in self.supervisor.processes.values()):
            self.console.say(f"the fork server {why} before it had launched anything; next try in {FUTILE_PAUSE} s.")
            self.reactor.loop.call_later(FUTILE_PAUSE, self._replace_fork_server)
        else:
            self.console.say(f"the fork server {why}, as those before it. Its error is above; the app ends.")
            self.status = FORCED
            self.reactor.loop.stop()

    def _replace_fork_server(self) -> None:
        pids = {process.uid: process.pid for process in self.supervisor.processes.values() if process.pid}
        self.nursery.reopen(list(pids.values()), self.ports.paths)
        self._carry_out(self.supervisor.handle_fork_server_gone(monotonic()))
        for uid, pid in pids.items():
            if not processes.is_there(pid):  # the fork server has reaped it, and died before it could say so
                self._carry_out(self.supervisor.handle_exited(uid, "ended with the fork server", monotonic()))

    def handle_client(self, sock: socket.socket, pid: int) -> None:
        """A process of the same user has connected from outside."""
        uid = self.supervisor.next_uid()
        link = Link(sock, self.reactor, m.decode_up, self.handle_up, self.handle_up_closed, self.plan.frame_limit)
        link.name = f"client {uid} (pid {pid})"
        self.connections[uid] = Connection(uid, link, pid=pid, is_client=True)
        link.start()

    def handle_up_closed(self, link: Link, why: str) -> None:
        """A control link has ended. A mobster's exit is reported by the fork server; a client is gone by this."""
        connection = self._connection_of(link)
        if connection is not None and connection.is_client:
            del self.connections[connection.uid]
            if why != CLOSED:
                self.console.say(f"{link.name} was shut out: {why}")
            self._carry_out(self.supervisor.handle_client_left(connection.uid, why))
        elif connection is not None and connection.uid in self.supervisor.processes and why != CLOSED:
            self.console.say(f"{link.name} spoke garbage to its Kingpin and is killed: {why}")
            self._carry_out([d.Kill(connection.uid)])

    def handle_up(self, link: Link, messages: list[m.Up]) -> None:
        """A mobster or client says something."""
        connection = self._connection_of(link)
        if connection is None:
            return
        for message in messages:
            self._handle_word(connection, message)

    def _handle_word(self, connection: Connection, message: m.Up) -> None:
        uid, now, supervisor = connection.uid, monotonic(), self.supervisor
        if connection.is_client and not connection.greeted and not isinstance(message, m.Hello):
            connection.close()
            return
        match message:
            case m.Hello(protocol=protocol, pid=pid):
                self._greet(connection, protocol, pid)
            case m.Ready(pid=pid, exports=exports, complete=complete) if uid in supervisor.processes:
                self._carry_out(supervisor.handle_ready(uid, pid, exports, complete, now))
            case m.BootFailed(report=report):
                self._carry_out(supervisor.handle_boot_failed(uid, report))
            case m.WantRole(role=role):
                self._carry_out(supervisor.handle_want_role(uid, role))
            case m.WantMember(uid=other, again=again):
                self._carry_out(supervisor.handle_want_member(uid, other, again))
            case m.Draining():
                self._carry_out(supervisor.handle_draining(uid, now))
            case m.Bind():
                self._bind(connection, message)
            case m.Unbind(id=number):
                self.ports.give_back(self._role_of(connection), uid, message)
                connection.link.post(m.Unbound(number))
            case m.Overview(id=number):
                connection.link.post(m.Rows(number, tuple(supervisor.rows(now))))
            case m.Scale(id=number, role=role, count=count, relative=relative):
                own = supervisor.processes[uid].slot.role if uid in supervisor.processes else ""
                role = role or own
                self._carry_out(
                    supervisor.handle_scale(role, count, (uid, number), now, relative, by_role=own == role and relative)
                )
            case m.Reload(id=number, roles=roles):
                self._carry_out(supervisor.handle_reload(list(roles), (uid, number), now))
            case m.WantCrash(id=number):
                crash = self.crashes.last(self._role_of(connection))
                connection.link.post(m.CrashIs(number, crash.text() if crash is not None else ""))
            case m.Ready():
                pass  # of a process that is gone by now, or of a client, which has no role to be ready for

    def _greet(self, connection: Connection, protocol: int, pid: int) -> None:
        if protocol != m.PROTOCOL:
            connection.link.post(
                m.Refused(f"this app speaks version {m.PROTOCOL} of mob's protocol, the client version {protocol}.")
            )
            connection.link.close_after_flush(0.0)
            return
        connection.greeted = True
        self._carry_out(self.supervisor.handle_client_joined(connection.uid, connection.pid or pid))

    def _bind(self, connection: Connection, bind: m.Bind) -> None:
        try:
            listener = self.ports.listener(self._role_of(connection), connection.uid, bind)
        except REFUSALS as error:
            number = getattr(error, "errno", None) or errno.EINVAL
            connection.link.post(m.NotBound(bind.id, number, self.ports.explain(bind.address, error)))
        else:
            if self.ports.paths:
                self.nursery.remember(self.ports.paths)
            connection.link.post_with(m.Bound(bind.id), [os.dup(listener.fileno())])

    def handle_vitals(self, link: Link, vitals: list[m.Vital]) -> None:
        """A mobster's liveness thread reports."""
        uid = int(link.name)
        for vital in vitals:
            if isinstance(vital, m.Beat):
                self._carry_out(self.supervisor.handle_beat(uid, vital, monotonic()))
            else:
                self._carry_out(self.supervisor.handle_inspection(uid, vital.stacks))

    def _tell_manager(self) -> None:
        """The service manager hears what the app is about, when that has changed: a reload, the stop, and that it is
        ready, which it is for the first time when every role has a ready worker."""
        roster, state = self.supervisor.roster, self._told_manager
        if self.supervisor.stopping:
            state = "stopping"
        elif self.supervisor.rollout.is_reloading:
            state = "reloading"
        elif state == "reloading" or (not state and all(roster.ready(role.name) for role in self.plan.roles)):
            state = "ready"
        if state == self._told_manager:
            return
        self._told_manager = state
        match state:
            case "stopping":
                self.manager.stopping()
            case "reloading":
                self.manager.reloading()
            case _:
                self.manager.ready(f"{len(roster.ready())} mobsters are ready")

    # --------------------------------------------------------------------------------------------- carrying out

    def _carry_out(self, decisions: list[Decision]) -> None:
        if decisions:
            self._do(decisions)
            self._tell_manager()

    def _do(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case d.Launch():
                    self._launch(decision)
                case d.Welcome(uid=uid, roles=roles, members=members):
                    plan = self.plan
                    if (connection := self.connections.get(uid)) is not None:
                        welcome = m.Welcome(uid, plan.name, plan.grace, plan.frame_limit, roles, members)
                        connection.link.post_with(welcome, [os.dup(self.board.descriptor)])
                case d.Introduce(first=first, second=second):
                    self._introduce(first, second)
                case d.Announce(member=member):
                    self._announce(m.MemberIs(member))
                case d.AnnounceGone(uid=uid, why=why):
                    if (gone := self.connections.pop(uid, None)) is not None:
                        gone.close()
                    self._announce(m.MemberGone(uid, why))
                case d.AnnounceRole(role=role):
                    self._announce(m.RoleIs(role))
                case d.Ask(uid=uid, grace=grace):
                    self._post(uid, m.Stop(grace))
                case d.Kill(uid=uid):
                    if (process := self.supervisor.processes.get(uid)) and process.pid:
                        processes.kill_group(process.pid)
                case d.Inspect(uid=uid):
                    self._inspect(uid)
                case d.Record():
                    self._record(decision)
                case d.Answer(ticket=ticket, error=error, text=text):
                    self._answer(ticket, error, text)
                case d.RenewForkServer():
                    self.nursery.kill()
                    self._replace_fork_server()
                    self._carry_out(self.supervisor.handle_fork_server_renewed(monotonic()))
                case d.Tell(text=text):
                    self.console.say(text)
                case d.WakeAt(when=when):
                    self.reactor.loop.call_later(max(0.0, when - monotonic()) + 0.001, self._wake)
                case d.Finish(status=status):
                    self.status = FORCED if self._forced else status
                    self.reactor.loop.stop()

    def _answer(self, ticket: d.Ticket, error: str, text: str) -> None:
        """Who has asked by a signal reads the terminal."""
        uid, number = ticket
        if ticket != NOBODY:
            self._post(uid, m.Done(number, error, text))
        elif error and not self.supervisor.stopping:
            self.console.say(error)

    def _wake(self) -> None:
        self._carry_out(self.supervisor.handle_wake(monotonic()))

    def _exited(self, uid: int, status: int) -> None:
        self.ports.restore()
        if (connection := self.connections.get(uid)) is not None:
            connection.link.drain()  # its last words: why it could not boot, say
            if connection.beats is not None:
                connection.beats.drain()
        why, blamed = processes.exit_text(status), self._blamed(uid, status)
        self._carry_out(self.supervisor.handle_exited(uid, why, monotonic(), status, blamed))
        self.console.take_last_lines(uid)  # nobody has asked for them

    def _blamed(self, uid: int, status: int) -> str:
        """The export that a mobster ran when it died, if it ran one and no other. Nothing is to be blamed for a kill
        from outside, but for one by the kernel for want of memory, and for one by mob of a mobster that hung."""
        process = self.supervisor.processes.get(uid)
        before, self._oom_kills = self._oom_kills, processes.count_oom_kills()
        is_oom = status == -signal.SIGKILL and self._oom_kills > before
        if not (is_oom or processes.is_own_doing(status) or (process is not None and process.why_killed)):
            return ""
        exports = self.supervisor.roster.roles[process.slot.role].exports or () if process is not None else ()
        mark = self.board.running(uid)
        return next((export.name for export in exports if mark and mark == mark_of(export.name)), "")

    def _inspect(self, uid: int) -> None:
        """Asks the liveness thread; should even that stand still, faulthandler answers, in what it prints."""
        connection, process = self.connections.get(uid), self.supervisor.processes.get(uid)
        if connection is not None and connection.beats is not None:
            connection.beats.post(m.Inspect())
        if process is not None and process.pid:
            self.reactor.loop.call_later(LISTENING, self._inspect_from_outside, uid)

    def _inspect_from_outside(self, uid: int) -> None:
        process = self.supervisor.processes.get(uid)
        if process is not None and not process.killed:
            processes.ask_for_stacks(process.pid)

    def _record(self, record: d.Record) -> None:
        member = record.member
        crash = Crash(
            at=time.time(),
            app=self.plan.name,
            role=member.role,
            index=member.index,
            pid=member.pid,
            generation=member.generation,
            why=record.why,
            uptime=record.uptime,
            memory=record.memory,
            running=record.running,
            stacks=record.stacks,
            lines=self.console.take_last_lines(member.uid),
        )
        before = self.crashes.problem
        self.crashes.add(crash)
        if self.crashes.problem and not before:
            self.console.say(self.crashes.problem)

    def _launch(self, launch: d.Launch) -> None:
        plan, role = self.plan, self.plan.role(launch.role)
        name = f"{launch.role}.{launch.index}"
        control, control_end = socket.socketpair()
        liveness, liveness_end = socket.socketpair()
        link = Link(control, self.reactor, m.decode_up, self.handle_up, self.handle_up_closed, plan.frame_limit, name)
        beats = Link(liveness, self.reactor, m.decode_vital, self.handle_vitals, _ignore_end, VITALS, str(launch.uid))
        self.connections[launch.uid] = Connection(launch.uid, link, beats)
        out, err = self.console.pipes(launch.uid, launch.role, launch.index)
        order = m.Fork(
            uid=launch.uid,
            index=launch.index,
            generation=launch.generation,
            app=plan.name,
            base=plan.base,
            role=role,
            grace=plan.grace,
            frame_limit=plan.frame_limit,
            color=self.console.color,
        )
        self.nursery.order(order, [control_end.detach(), liveness_end.detach(), out, err])
        link.start()
        beats.start()

    def _introduce(self, first: int, second: int) -> None:
        ends = socket.socketpair()
        for end, uid, other in zip(ends, (first, second), (second, first), strict=True):
            if (connection := self.connections.get(uid)) is not None:
                connection.link.post_with(m.Meet(other), [end.detach()])
            else:
                end.close()

    def _announce(self, message: Any) -> None:
        for connection in self.connections.values():
            if connection.hears_all:
                connection.link.post(message)

    def _post(self, uid: int, message: Any) -> None:
        if (connection := self.connections.get(uid)) is not None:
            connection.link.post(message)

    def _role_of(self, connection: Connection) -> str:
        process = self.supervisor.processes.get(connection.uid)
        return process.slot.role if process else ""

    def _connection_of(self, link: Link) -> Connection | None:
        return next((c for c in self.connections.values() if c.link is link), None)


def _has_terminal_still() -> bool:
    """Whether the terminal that this process was started at is still there."""
    try:
        os.tcgetpgrp(sys.stdin.fileno())
    except OSError:
        return False
    return True


def _ignore_end(link: Link, why: str) -> None:
    """The end of a liveness socket says nothing that the exit does not say better."""


def run(plan: Plan) -> int:
    """Runs an app in this process until it has stopped; its exit status. `AppRunning` if one of that name runs."""
    desk = Desk.claim(plan.name)
    return Kingpin(plan, desk).run()
