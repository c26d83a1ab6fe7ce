"""Requests to the Kingpin: to show something (the table, metrics, where a mobster is blocked), or to control the app.

A request has a number and gets one answer, on the link on which it came. Nothing is decided here: requests to scale,
reload, restart or stop go to the supervisor, and are answered when its decisions are carried out.
"""

from __future__ import annotations

import errno
from time import monotonic
from typing import Protocol

import msgspec

from mob.core.decisions import Decision, Ticket
from mob.core.probing import readiness
from mob.core.supervisor import Supervisor
from mob.kingpin.connections import Connection
from mob.kingpin.measured import Measured
from mob.kingpin.output.followers import Followers
from mob.kingpin.processes.kills import Kills
from mob.kingpin.processes.post_mortems import PostMortems
from mob.kingpin.processes.stacks import StackRequests
from mob.plan import QUEUE
from mob.wire import messages as m


class Doer(Protocol):
    """The part that carries out requests that change the app."""

    def carry_out(self, decisions: list[Decision]) -> None:
        """Carry out decisions in order."""
        ...

    def handle_end_app(self, ticket: Ticket, at_once: bool) -> None:
        """Stop the app."""
        ...

    def handle_upgrade(self, ticket: Ticket) -> None:
        """Upgrade the Kingpin."""
        ...

    def handle_want_queue(self, ticket: Ticket) -> None:
        """Add the role that keeps durable jobs."""
        ...


class RequestHandler:
    """The requests of mobsters and clients. The `doer` carries out those that change the app."""

    def __init__(
        self,
        supervisor: Supervisor,
        measured: Measured,
        followers: Followers,
        post_mortems: PostMortems,
        stacks: StackRequests,
        kills: Kills,
        doer: Doer,
    ) -> None:
        self._supervisor = supervisor
        self._measured = measured
        self._followers = followers
        self._post_mortems = post_mortems
        self._stacks = stacks
        self._kills = kills
        self._doer = doer

    def __repr__(self) -> str:
        return f"<RequestHandler of {self._supervisor}>"

    def handle(self, connection: Connection, message: m.Up) -> None:
        """Handle a request of a mobster or client."""
        uid, now, say = connection.uid, monotonic(), connection.link.post
        supervisor = self._supervisor
        match message:
            case m.Overview(id=number):
                say(m.Rows(number, tuple(self._rows(now))))
            case m.WantMetrics(id=number):
                say(m.MetricsAre(number, self._measured.now()))
            case m.WantReadiness(id=number):
                say(m.ReadinessIs(number, supervisor.stopping, readiness(supervisor.crew)))
            case m.WantHistory(id=number, since=since):
                say(m.HistoryIs(number, *self._measured.since(since)))
            case m.WantCrash(id=number):
                role = supervisor.crew.role_of(uid)
                self._post_mortems.tell_last_report(role, lambda report: say(m.CrashIs(number, report)))
            case m.WantCrashes(id=number, number=count):
                self._post_mortems.tell_latest(count, lambda reports: say(m.CrashesAre(number, reports)))
            case m.WantStacks(id=number, uid=whose):
                self._stacks.ask(whose, (uid, number))
            case m.Follow():
                self._follow(connection, message)
            case m.Unfollow(id=number):
                self._followers.unfollow(uid, number)
            case m.Scale(id=number, role=role, count=count, relative=relative):
                own = supervisor.crew.role_of(uid)
                role = role or own
                by_role = own == role and relative
                self._doer.carry_out(supervisor.handle_scale(role, count, (uid, number), now, relative, by_role))
            case m.Reload(id=number, roles=roles):
                self._doer.carry_out(supervisor.handle_reload(list(roles), (uid, number), now))
            case m.Restart(id=number, roles=roles, pid=pid):
                self._doer.carry_out(supervisor.handle_restart(list(roles), pid, (uid, number), now))
            case m.KillCall(id=number, uid=whose, number=call):
                self._kills.ask(whose, uid, call, (uid, number))
            case m.EndApp(id=number, at_once=at_once):
                self._doer.handle_end_app((uid, number), at_once)
            case m.RunTimer(id=number, role=role):
                say(m.Done(number, error=f"role {role!r} has no timers. Declare one with @mob.every or @mob.cron."))
            case m.WantQueue(id=number):
                self._doer.handle_want_queue((uid, number))
            case m.Upgrade(id=number):
                self._doer.handle_upgrade((uid, number))
            case _:
                pass  # from a process that exited, or from a client, which has no role to be ready for

    def _rows(self, now: float) -> list[m.Row]:
        """Return the table of `mob ps`; the row of the role that keeps jobs says how many there are."""
        rows, keeper = self._supervisor.rows(now), self._supervisor.crew.roles.get(QUEUE)
        if keeper is None or not keeper.plan.keeps_jobs:
            return rows
        text = self._measured.jobs()
        return [msgspec.structs.replace(row, note=row.note or text) if row.role == QUEUE else row for row in rows]

    def _follow(self, connection: Connection, follow: m.Follow) -> None:
        is_there = any(each.pid == follow.pid for each in self._supervisor.processes.values())
        if follow.pid and not is_there:
            follow = msgspec.structs.replace(follow, goes_on=False)  # there will be no more lines
        self._followers.follow(connection.uid, connection.link, follow)


def refuse(connection: Connection, message: m.Up, why: str) -> None:
    """Answer a request that cannot be handled, so that its sender does not wait forever."""
    number, post = getattr(message, "id", None), connection.link.post
    if number is None:
        return
    match message:
        case m.Follow():
            post(m.Lines(number, (), is_end=True))
        case m.Bind():
            post(m.NotBound(number, errno.EINVAL, why))
        case m.WantTerminal():
            post(m.NoTerminal(number, why))
        case m.Unbind():
            post(m.Unbound(number))
        case _:
            post(m.Done(number, error=why))
