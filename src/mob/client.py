"""A client: a process that is not part of the app and talks to it, such as a test, a REPL, a notebook or a cron job.

It is a peer like a mobster, with its event loop in a thread of its own; the Kingpin introduces it like any other. A
client of another machine's Kingpin (`at`, or `node=`) is a second such peer, on a link that gateways carry: it shows
and controls what is there, and calls go through the first peer.
"""

from __future__ import annotations

import atexit
import importlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

import uvloop

from mob.core.draining import LINK_FLUSH_TIMEOUT
from mob.core.probing import shortfall
from mob.core.selector import Selector, mobsters_meant, selector_of
from mob.errors import AppNotRunning, MobError
from mob.peer.calls.backlog import Backlog
from mob.peer.calls.durable import JOBS
from mob.peer.calls.proxy import Proxy, Target, proxy_of
from mob.peer.operating.doors import knock, knock_again
from mob.peer.operating.following import Following
from mob.peer.operating.machines import Machine, link_to, machine_of, machines
from mob.peer.operating.steering import Steering, text_of
from mob.peer.peer import Peer
from mob.plan import FRAME_LIMIT, KINGPIN
from mob.rim.addresses import peer_of
from mob.rim.crashes import Crash, read
from mob.rim.reactor import Reactor
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.core.job_rows import JobRow
    from mob.peer.calls.jobs import Job
    from mob.pools.role import RolePool
    from mob.stores.store import Store

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
FAR_PATIENCE = 3.0
"""Seconds in which a Kingpin on another machine has to answer: silent for that long, it counts as gone anyway."""
CONNECT_TIMEOUT = 10.0
"""Seconds in which a running Kingpin has to answer a new client."""

CLOSING_TIME = 1.0
"""Seconds for which closing may wait for links, so that what was sent arrives."""


class Client:
    """A connection to a running app, from a process that is not part of it.

    Closing it (or the end of a `with` block) ends the calls under way. All methods may be called from any thread.

    Example:
        >>> with mob.connect("myapp") as app:                # doctest: +SKIP
        ...     app.require("back").foo(1).result()
    """

    def __init__(self, app: str, sock: socket.socket, near: Client | None = None, node: str = "") -> None:
        self.app = app
        self._node = node
        self.kingpin_pid: int = 0 if node else peer_of(sock)[0]
        """Process id of the Kingpin, on its machine."""
        self._near = near
        self._owns_near = False
        self._reactor = Reactor(uvloop.new_event_loop())
        self._peer = Peer(self._reactor, sock, frame_limit=FRAME_LIMIT)
        self._context = self._peer.context
        self._thread = threading.Thread(target=self._reactor.run, name=f"mob-client-{app}", daemon=True)
        self._steering = Steering(self._peer.context, self._peer.control)
        self._changes = self._peer.control.changes
        self._gone = threading.Event()
        self._door = "" if node else sock.getpeername()
        self._user = 0 if node else peer_of(sock)[1]
        self._returning = threading.Lock()
        self._peer.control.on_gone = self._gone.set
        self._peer.control.ending = f"the machine {node!r} of {app!r} ended or is out of reach." if node else ""
        self._caller = self._peer if self._near is None else self._near._caller
        """The peer whose links calls use: a Kingpin elsewhere cannot introduce members to a process here."""
        self._closed = False

    def __repr__(self) -> str:
        on = f" on {self._node!r}" if self._node else ""
        return f"<Client of {self.app!r}{on}{', closed' if self._closed else ''}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def open(self) -> Client:
        """Say hello and wait for the welcome; raise `AppNotRunning` if there is none."""
        peer = self._peer
        self._reactor.claim()
        peer.control.start()
        control = peer.control
        patience = FAR_PATIENCE if self._node else CONNECT_TIMEOUT
        self._reactor.drive(lambda: control.welcomed or control.is_closed, monotonic() + patience)
        if not control.welcomed:
            silent = not control.refused and not control.is_closed
            closed = "it closed the link" if control.is_closed else ""
            who = f"on {self._node!r}" if self._node else f"(pid {self.kingpin_pid})"
            why = control.refused or closed or f"its Kingpin {who} did not answer in {patience:g} s"
            self._reactor.disclaim()
            control.close()
            self._free()
            pid = self.kingpin_pid or None if silent else None
            raise AppNotRunning(f"cannot connect to the app {self.app!r}: {why}", pid)
        peer.parking.when_parked = Backlog(peer.context, peer.contacts.routes, peer.control).handle_parked
        if self._near is None:
            control.come_back = self._come_back
        self._reactor.call(peer.keep_house)
        self._thread.start()
        atexit.register(self.close)  # calls that the script made may still wait for a worker
        return self

    def close(self) -> None:
        """Send what is still queued (for a few seconds at most), then close the connection.

        Calls under way fail with `Unavailable` or `Lost`.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        if self._context.is_abandoned:  # the links, the loop and its thread are the parent's
            return
        self._reactor.call(self._begin_to_close)
        self._thread.join()
        self._free()
        if self._owns_near and self._near is not None:
            self._near.close()

    def _begin_to_close(self) -> None:
        self._closing = self._reactor.loop.create_task(self._close_links())

    async def _close_links(self) -> None:
        """Close the links; first send what waits for links that are still being made."""
        peer, deadline = self._peer, monotonic() + CLOSING_TIME
        while not peer.control.is_closed and monotonic() < deadline:
            if not any(contact._early for contact in peer.contacts):  # pyright: ignore[reportPrivateUsage]
                break
            await self._reactor.change(deadline)
        await peer.hooks.finish(CLOSING_TIME)
        peer.leave()
        peer.control.close(LINK_FLUSH_TIMEOUT)
        peer.context.unheard.clear()  # calls that no one waited for: closing says that they do not matter
        self._reactor.loop.stop()

    def _free(self) -> None:
        if self._context.board is not None:
            board, self._context.board = self._context.board, None
            board.close()
        self._peer.references.close()
        self._reactor.loop.close()
        self._reactor.close()

    # ------------------------------------------------------------------------------------- as in a mobster

    @overload
    def require(self, role: str) -> Proxy: ...
    @overload
    def require(self, role: str, interface: Callable[..., T]) -> T: ...
    def require(self, role: str, interface: Any = None) -> Any:
        """Return the proxy of a role, as `mob.require` does in a mobster.

        Args:
            role: The name of the role.
            interface: A class or Protocol that describes the role's exports. With it the proxy is typed. Default: none.

        Returns:
            The proxy.

        Raises:
            UnknownRole: The app has no such role.

        Example:
            >>> app.require("back").foo(1).result()     # doctest: +SKIP
        """
        return proxy_of(self._open_caller(), role, interface)

    def pool(self, role: str) -> RolePool:
        """Return a pool of the app, to submit functions to it: see `mob.pool`.

        Raises:
            UnknownRole: The app has no such role.

        Example:
            >>> app.pool("crunch").submit(pow, 2, 10).result()     # doctest: +SKIP
        """
        return importlib.import_module("mob.pools.role").pool_of(self._open_caller(), role)

    def store(self, role: str) -> Store:
        """Return a store of the app: see `mob.store`.

        Raises:
            UnknownRole: The app has no such role.

        Example:
            >>> app.store("cache").get("user:1").result()     # doctest: +SKIP
        """
        return importlib.import_module("mob.stores.store").store_of(self._open_caller(), role)

    def job(self, id: str) -> Job[Any]:
        """Return the durable job with that id: see `mob.job`.

        Example:
            >>> app.job(id).result(timeout=60)                     # doctest: +SKIP
        """
        found: Job[Any] = importlib.import_module(JOBS).job_of(self._open_caller(), id)
        return found

    def jobs(self, *, state: str | Sequence[str] = (), role: str = "", most: int = 1000) -> tuple[JobRow, ...]:
        """Return the durable jobs of the app that are not done, oldest first; `app.job(row.id)` is one of them.

        Args:
            state: Only jobs in this state, or in these: "waiting", "later", "running", "dead". Default: all.
            role: Only jobs that this role runs. Default: all.
            most: Maximum number of jobs. Default: 1000.

        Returns:
            The jobs, with the last error of those that are dead; empty if the app has no durable jobs.

        Raises:
            ValueError: There is no such state.
            UnknownRole: The app has no such role.

        Example:
            >>> [row.error for row in app.jobs(state="dead")]     # doctest: +SKIP
            ['ValueError: order 4711 costs nothing']
            >>> for row in app.jobs(state="dead", role="back"): app.job(row.id).retry()      # doctest: +SKIP
        """
        states = [state] if isinstance(state, str) else list(state)
        if role:
            self.require(role)
        found: tuple[JobRow, ...] = importlib.import_module(JOBS).jobs_of(self._open_caller(), states, role, most)
        return found

    def send(self, obj: Any) -> None:
        """Send a message to every ready mobster.

        Raises:
            BadMessage: The object cannot be sent.
            Busy: Some mobsters read too slowly; all others get the message.
        """
        self._open_caller().calling.send_to_all(obj)

    def all(self, role: str) -> Target:
        """Return all ready workers of a role, to send to or call; raise `UnknownRole` if there is no such role."""
        return Target(self._open_caller(), role, "all")

    def any(self, role: str) -> Target:
        """Return any one worker of a role, to send to or call; raise `UnknownRole` if there is no such role."""
        return Target(self._open_caller(), role, "any")

    def pid(self, pid: int | str) -> Target:
        """Return the mobster with that process id on this machine, or with "node:pid" on another machine.

        Using it raises `UnknownTarget` if there is no such mobster.
        """
        return Target(self._open_caller(), "", "pid", pid)

    @overload
    def on(self, event: str) -> Callable[[F], F]: ...
    @overload
    def on(self, event: str, handler: F) -> Callable[[F], F]: ...
    def on(self, event: str, handler: Any = None) -> Any:
        """Register a handler for an event.

        Handlers run in the client's own thread, those of "error" in a separate one.

        Args:
            event: "message", "join", "leave", "crash" or "error".
            handler: The function. Without it, `on` is a decorator.

        Returns:
            A decorator that registers the function below it.

        Raises:
            ValueError: There is no such event.

        Example:
            >>> app.on("leave", lambda member: print(member.pid))     # doctest: +SKIP
        """
        self._context.check_process()
        peer = self._peer if event == "crash" else self._caller  # reported by this client's own Kingpin
        return peer.handlers.add(event, handler)

    # ----------------------------------------------------------------------------------------- the machines

    @property
    def node(self) -> str:
        """Name of the machine that this client shows and controls; "" if the app is not in a cluster."""
        return self._context.roster.node_name(self._context.uid)

    def nodes(self) -> list[Machine]:
        """Return the machines of the cluster, this one first; none if the app runs on one machine only.

        Each has `name`, `number`, `is_here`, `why_not` (why it cannot be reached now, "" if it can) and `places` (the
        number of workers of each role there).

        Example:
            >>> [machine.name for machine in app.nodes()]          # doctest: +SKIP
            ['a', 'b']
        """
        self._check_open()
        return machines(self._peer.context)

    @property
    def cut(self) -> str:
        """Why the other machines cannot be reached now; "" if they can, or if there are none."""
        return self._context.roster.cut

    def at(self, node: str) -> Client:
        """Return a client that shows and controls another machine of the cluster; close it before this one.

        Args:
            node: The name of the machine.

        Returns:
            The client; calls made with it go through this one.

        Raises:
            UnknownTarget: There is no such machine.
            Unavailable: The machine cannot be reached.

        Example:
            >>> with app.at("b") as there: there.reload("back")    # doctest: +SKIP
        """
        self._check_open()
        near = self if self._near is None else self._near
        return open_at(near._peer, self.app, node, near)

    # ------------------------------------------------------------------------------------------- the roster

    def members(self, here: bool = False) -> list[m.Member]:
        """Return all processes of the app: mobsters, and clients, whose role is "".

        Args:
            here: True to return only those of the machine that this client shows. Default: False.

        Returns:
            The members, each with `role`, `index`, `pid`, `state` and `generation`.
        """
        self._check_open()
        if self._peer.contacts.want_role(m.CLIENTS):
            self.overview()  # its answer comes after the clients
        members, own = list(self._context.roster), m.node_of(self._context.uid)
        return [each for each in members if m.node_of(each.uid) == own] if here else members

    def roles(self) -> dict[str, m.RoleInfo]:
        """Return the roles by name: their exports, and why a role fails if it does."""
        return dict(self._context.roster.roles)

    def overview(self) -> tuple[m.Row, ...]:
        """Return the table of `mob ps`: a row for every place of the app.

        Example:
            >>> [row.state for row in app.overview()]   # doctest: +SKIP
        """
        self._check_open()
        return self._steering.overview().result(CONNECT_TIMEOUT).rows

    def metrics(self) -> m.Metrics:
        """Return all measurements: calls and times of all exports since the start, and the current state.

        Example:
            >>> app.metrics().roles[0].ready            # doctest: +SKIP
            4
        """
        self._check_open()
        return self._steering.metrics().result(CONNECT_TIMEOUT).metrics

    def not_ready(self, *roles: str) -> list[str]:
        """Return why the app cannot take work: a sentence for each role that cannot; empty if all can.

        A role can take work when one of its workers is ready. A role that was scaled to 0, or that finished its work,
        need not have one. While the app is stopping, no role is ready. `mob check --ready` uses this.

        Args:
            *roles: The roles to check. Default: all.

        Returns:
            The reasons.

        Raises:
            UnknownRole: There is no such role.

        Example:
            >>> app.not_ready("back")                       # doctest: +SKIP
            ['back: 0 of 2 workers ready (back.0 exited with status 1)']
        """
        self._check_open()
        for role in roles:
            self._context.roster.check_role(role)
        return shortfall(self._steering.readiness().result(CONNECT_TIMEOUT), roles)

    def history(self, since: float = 0.0) -> m.History:
        """Return the past quarter of an hour: a point for each role and five seconds, and the events.

        Args:
            since: Only what is newer than this, in monotonic seconds of this machine: `.now` of the previous answer.
                Default: 0.0, everything.

        Returns:
            The points and events, oldest first, and the current time.
        """
        self._check_open()
        answer = self._steering.history(since).result(CONNECT_TIMEOUT)
        return m.History(answer.now, answer.points, answer.events)

    def crashes(self, last: int = 1) -> list[Crash]:
        """Return the latest `last` crash reports that the machine kept (default 1), oldest first."""
        self._check_open()
        reports = self._steering.crashes(last).result(CONNECT_TIMEOUT).reports
        return [crash for report in reports if (crash := read(report)) is not None]

    def stacks(self, target: str | int) -> dict[int, str]:
        """Return where the threads and tasks of mobsters are, by pid.

        A mobster whose event loop is blocked answers too: its liveness thread does, or the interpreter's signal
        handler. If the stacks of one are not available, its text says why.

        Args:
            target: A role, one of its places ("back.2"), or a pid.

        Returns:
            The stacks of each mobster as text, by pid.

        Raises:
            MobError: There is no such mobster.

        Example:
            >>> print(app.stacks("back")[4242])         # doctest: +SKIP
        """
        self._check_open()
        meant = mobsters_meant(self._context.roster, self._context.uid, target)
        calls = {member.pid: self._steering.stacks(member.uid) for member in meant}
        done = {pid: call.result(CONNECT_TIMEOUT) for pid, call in calls.items()}
        return {pid: each.text or each.error for pid, each in done.items()}

    def logs(self, target: str | int = "", *, last: int = 0, follow: bool = False) -> Iterator[m.Line]:
        """Yield the lines that mobsters print.

        A reader that is too slow misses lines: a line with an empty `role` says how many.

        Args:
            target: A role, one of its places ("back.2"), a pid, or "kingpin". Default: all.
            last: Number of earlier lines to begin with. Default: 0.
            follow: True to continue with new lines until the iterator is closed, or the app or the mobster with that
                pid ends. Default: False.

        Returns:
            An iterator over the lines.

        Raises:
            UnknownRole: There is no such role.

        Example:
            >>> for line in app.logs("back", last=10): print(line.text)        # doctest: +SKIP
        """
        self._check_open()
        selector = selector_of(target, self._context.roster.roles)
        if selector.role not in ("", KINGPIN):
            self._context.roster.check_role(selector.role)
        return self._lines(selector, last, follow)

    def _lines(self, selector: Selector, last: int, follow: bool) -> Iterator[m.Line]:
        following, index = Following(), -1 if selector.index is None else selector.index
        number = self._steering.follow(following.put, selector.role, selector.pid or 0, last, follow, index)
        try:
            yield from following
        finally:
            self._steering.unfollow(number)

    def timers(self) -> tuple[m.TimerMetrics, ...]:
        """Return the timers of the app (`mob.every`, `mob.cron`), with their next runs and the results of the last.

        Example:
            >>> [timer.label for timer in app.timers()]     # doctest: +SKIP
            ['back.report']
        """
        return self.metrics().timers

    def run_timer(self, timer: str, timeout: float | None = None) -> str:
        """Run a timer now; its next scheduled run is not affected.

        Args:
            timer: The role and the name of the timer: "back.report".
            timeout: Seconds to wait for the end of the run, which continues after that. Default: None, no limit.

        Returns:
            The outcome, as text.

        Raises:
            MobError: The run failed or was lost, or it cannot begin: it is already running, or no worker is ready.
            UnknownRole: There is no such role.
            CallTimeout: The run takes longer than `timeout`.

        Example:
            >>> app.run_timer("back.report")                 # doctest: +SKIP
            'back.report: ok after 1.2 s.'
        """
        self._check_open()
        roles = self._context.roster.roles
        role = max((each for each in roles if timer.startswith(f"{each}.")), key=len, default=timer.partition(".")[0])
        self._context.roster.check_role(role)
        return text_of(self._steering.run_timer(role, timer[len(role) + 1 :]).result(timeout))

    def scale(self, role: str, count: int, *, relative: bool = False) -> str:
        """Set the number of workers of a role, and return as soon as the request is accepted.

        New workers are ready a little later.

        Args:
            role: The name of the role.
            count: The number of workers; if `relative`, the number to add, or to remove if negative.
            relative: True if `count` is a change. Default: False.

        Returns:
            What was done, as text.

        Raises:
            UnknownRole: There is no such role.
            MobError: It is not possible, and why.
        """
        self._check_open()
        self._context.roster.check_role(role)
        return text_of(self._steering.scale(role, count, relative).result(CONNECT_TIMEOUT))

    def reload(self, *roles: str, timeout: float | None = None) -> str:
        """Replace the workers of roles with new ones that run new code, without a gap.

        Args:
            *roles: The names of the roles. Default: all.
            timeout: Seconds to wait for the end of the reload, which continues after that. Default: None, no limit.

        Returns:
            What was done, as text.

        Raises:
            UnknownRole: There is no such role.
            MobError: The new workers do not come up: then the old ones stay.
            CallTimeout: The reload takes longer than `timeout`.
        """
        self._check_open()
        for role in roles:
            self._context.roster.check_role(role)
        return text_of(self._steering.reload(roles).result(timeout))

    def restart(self, target: str | int, *more: str) -> str:
        """End workers, all at once, and launch others in their places; return as soon as the request is accepted.

        Each worker finishes its calls first, as in a stop. To run new code without a gap use `reload`.

        Args:
            target: The name of a role, or the pid of a worker.
            *more: The names of more roles.

        Returns:
            What was done, as text.

        Raises:
            UnknownRole: There is no such role.
            MobError: There is no such mobster.
        """
        self._check_open()
        pid = selector_of(target).pid
        roles = (str(target), *more) if pid is None else ()
        for role in roles:
            self._context.roster.check_role(role)
        return text_of(self._steering.restart(roles, pid or 0).result(CONNECT_TIMEOUT))

    def stop(self, *, at_once: bool = False) -> str:
        """Stop the app, as SIGTERM to its Kingpin does; return once the stop has begun.

        `wait_stopped` waits for its end. If the app is already stopping, that continues.

        Args:
            at_once: True to kill everything without waiting. Default: False.

        Returns:
            What was done, as text.
        """
        self._check_open()
        return text_of(self._steering.stop(at_once).result(CONNECT_TIMEOUT))

    def wait_stopped(self, timeout: float | None = None) -> bool:
        """Wait until the app has ended; return False if it did not within `timeout` seconds (None: no limit)."""
        return self._gone.wait(timeout)

    def upgrade(self, timeout: float | None = None) -> str:
        """Replace the Kingpin with one that runs new code, without a gap. The mobsters are not replaced (see `reload`).

        Args:
            timeout: Seconds to wait for the end of the upgrade, which continues after that. Default: None, no limit.

        Returns:
            What was done, as text.

        Raises:
            MobError: The new Kingpin does not come up: then the old one stays.
            CallTimeout: The upgrade takes longer than `timeout`.
        """
        self._check_open()
        return text_of(self._steering.upgrade().result(timeout))

    def statistics(self) -> dict[str, int]:
        """Return the sizes of mob's internal tables in this process, for finding leaks."""
        return self._peer.statistics()

    def _open_caller(self) -> Peer:
        self._check_open()
        return self._caller

    def _check_open(self) -> None:
        self._context.check_process()
        if self._closed:
            raise AppNotRunning(f"this client of {self.app!r} was closed.")
        control = self._peer.control
        if control.is_closed:
            control.come_back()
        if control.is_closed:
            raise AppNotRunning(control.refused or control.ending or f"the app {self.app!r} has ended.")

    def _come_back(self) -> None:
        """Rejoin the app if it was restarted after it ended; do nothing if it was not."""
        peer, is_on_loop = self._peer, threading.get_ident() == self._reactor.thread
        if self._closed or not self._returning.acquire(blocking=not is_on_loop):
            return  # closed, or another thread is rejoining and waits for this one
        try:
            sock = knock_again(self.app, self._door, self._user) if peer.control.is_closed else None
            if sock is None:
                return
            self.kingpin_pid = peer_of(sock)[0]
            self._gone.clear()
            control, deadline = peer.control, monotonic() + CONNECT_TIMEOUT
            if is_on_loop:
                control.rejoin(sock)
                peer.blocking.drive([], lambda: control.welcomed or control.is_closed, deadline)
                return
            has_begun = threading.Event()
            self._reactor.call(partial(self._rejoin, sock, has_begun))
            is_in_time = has_begun.wait(CONNECT_TIMEOUT)
            while is_in_time:
                seen = self._changes.count
                if control.welcomed or control.is_closed:
                    break
                is_in_time = self._changes.wait(seen, max(0.0, deadline - monotonic()))
        finally:
            self._returning.release()

    def _rejoin(self, sock: socket.socket, has_begun: threading.Event) -> None:
        self._peer.control.rejoin(sock)
        has_begun.set()


def connect(app: str, node: str | None = None) -> Client:
    """Connect to a running app on this machine, from a process that is not part of it.

    The app must be one of the same user; root may connect to any. In a cluster, calls reach all machines.

    Args:
        app: The name of the app.
        node: The machine of the cluster that the client shows and controls. Default: this one.

    Returns:
        The client, open.

    Raises:
        AppNotRunning: No app with that name is running (the text lists those that are), or it is another user's.
        UnknownTarget: There is no such machine.
        Unavailable: The machine cannot be reached.

    Example:
        >>> app = mob.connect("myapp")                       # doctest: +SKIP
        >>> app.require("back").foo(1).result()              # doctest: +SKIP
    """
    near = Client(app, knock(app, node)).open()
    if node is None or near.node == node:
        return near
    try:
        client = near.at(node)
    except BaseException:
        near.close()
        raise
    client._owns_near = True  # pyright: ignore[reportPrivateUsage]
    return client


def open_at(peer: Peer, app: str, node: str, near: Client | None = None) -> Client:
    """Return a client of a machine's Kingpin, reached through that peer. Not to be called on the peer's event loop."""
    machine = machine_of(peer.context, app, node)
    if machine.is_here:
        raise MobError(f"{node!r} is this machine: use the client that you have.")
    client = Client(app, link_to(peer.control, app, machine), near, node).open()
    try:
        client.kingpin_pid = client.metrics().kingpin_pid
    except BaseException:
        client.close()
        raise
    return client
