"""What is asked of the Kingpin: to show something (the table, what is measured, where a mobster stands), or to do
something with the app (scale, reload, restart, stop).

A request has a number, and is answered once, on the link that it came on. Nothing here decides: wishes go to the
supervisor, and are answered when what it has decided is carried out.
"""

from __future__ import annotations

import errno
import os
import time
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from mob.core import decisions as d
from mob.kingpin.desk import Connection
from mob.rim.processes import ResidentMemory
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.kingpin.kingpin import Kingpin


class Requests:
    """Answers them."""

    def __init__(self, kingpin: Kingpin) -> None:
        self._kingpin = kingpin
        self._memory = ResidentMemory()

    def __repr__(self) -> str:
        return f"<Requests to {self._kingpin}>"

    def close(self) -> None:
        """Nobody asks any more."""
        self._memory.close()

    def handle(self, connection: Connection, message: m.Up) -> None:
        """A mobster or a client asks for something."""
        kingpin, uid, now = self._kingpin, connection.uid, monotonic()
        supervisor, say = kingpin.supervisor, connection.link.post
        kingpin.herald.catch_up(connection)
        match message:
            case m.Overview(id=number):
                say(m.Rows(number, tuple(supervisor.rows(now))))
            case m.WantMetrics(id=number):
                say(m.MetricsAre(number, self._metrics(now)))
            case m.WantHistory(id=number, since=since):
                say(m.HistoryIs(number, now, *kingpin.registry.history(since, now)))
            case m.WantCrash(id=number):
                role = kingpin.role_of(connection)
                kingpin.post_mortems.tell_last_report(role, lambda report: say(m.CrashIs(number, report)))
            case m.WantCrashes(id=number, number=count):
                kingpin.post_mortems.tell_latest(count, lambda reports: say(m.CrashesAre(number, reports)))
            case m.WantStacks(id=number, uid=whose):
                kingpin.post_mortems.ask(whose, (uid, number))
            case m.Follow():
                self._follow(connection, message)
            case m.Unfollow(id=number):
                kingpin.console.followers.unfollow(uid, number)
            case m.Scale(id=number, role=role, count=count, relative=relative):
                own = kingpin.role_of(connection)
                role = role or own
                kingpin.carry_out(
                    supervisor.handle_scale(role, count, (uid, number), now, relative, by_role=own == role and relative)
                )
            case m.Reload(id=number, roles=roles):
                kingpin.carry_out(supervisor.handle_reload(list(roles), (uid, number), now))
            case m.Restart(id=number, roles=roles, pid=pid):
                kingpin.carry_out(supervisor.handle_restart(list(roles), pid, (uid, number), now))
            case m.EndApp(id=number, at_once=at_once):
                kingpin.carry_out([d.Answer((uid, number), text="stopping.")])
                kingpin.reactor.flush()
                if at_once or not supervisor.stopping:  # the second one to ask does not mean to force it
                    kingpin.stop(at_once)
            case m.Upgrade(id=number):
                kingpin.handle_upgrade((uid, number))
            case _:
                pass  # of a process that is gone by now, or of a client, which has no role to be ready for

    def refuse(self, connection: Connection, message: m.Up, why: str) -> None:
        """Answer what cannot be done, whatever it was: nobody waits for an answer that does not come."""
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

    def _follow(self, connection: Connection, follow: m.Follow) -> None:
        is_there = any(each.pid == follow.pid for each in self._kingpin.supervisor.processes.values())
        if follow.pid and not is_there:
            follow = msgspec.structs.replace(follow, goes_on=False)  # nothing will come of it
        self._kingpin.console.followers.follow(connection.uid, connection.link, follow)

    def _metrics(self, now: float) -> m.Metrics:
        kingpin = self._kingpin
        registry = kingpin.registry
        return m.Metrics(
            app=kingpin.plan.name,
            kingpin_pid=os.getpid(),
            uptime=registry.uptime(now),
            cpu=time.process_time(),
            memory=self._memory.read(),
            roles=registry.roles(),
            mobsters=registry.mobsters(now),
            exports=registry.exports(),
            clients=sum(each.is_client for each in kingpin.connections.values()),
            dropped_lines=kingpin.console.dropped,
            callers=registry.callers(),
            lacks=kingpin.shortage.text(),
        )
