"""A process from outside that talks to a running app: a test, a REPL, a notebook, a cron job.

It is a peer like a mobster, with its loop in a thread of its own; the Kingpin introduces it like any other.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar, overload

import uvloop

from mob.errors import AppNotRunning, MobError, nearest
from mob.mobster.call import Call
from mob.mobster.calling import DEFAULTS
from mob.mobster.interface import Interface
from mob.mobster.peer import Peer
from mob.mobster.proxy import Proxy, Target
from mob.plan import FRAME_LIMIT
from mob.rim.addresses import address_of, peer_of, running_apps
from mob.rim.reactor import Reactor
from mob.wire import messages as m

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
PATIENCE = 10.0
"""Seconds in which a running Kingpin has to answer a new client."""

FAREWELL_TIME = 1.0
"""Seconds that closing may wait for links, so that what was said arrives."""
QUIET_CHECK = 0.005
"""Seconds between two looks at whether it has been said."""


class Client:
    """A connection to a running app. Closing it (or the end of a `with`) ends what is under way.

    >>> with mob.connect("myapp") as app:                # doctest: +SKIP
    ...     app.require("back").foo(1).result()
    """

    def __init__(self, app: str, sock: socket.socket) -> None:
        self.app = app
        self.kingpin_pid = peer_of(sock)[0]
        """The Kingpin's process id."""
        self._reactor = Reactor(uvloop.new_event_loop())
        self._peer = Peer(self._reactor, sock, frame_limit=FRAME_LIMIT)
        self._thread = threading.Thread(target=self._reactor.run, name=f"mob-client-{app}", daemon=True)
        self._changed = threading.Condition()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Client of {self.app!r}{', closed' if self._closed else ''}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def open(self) -> Client:
        """Says hello and waits for the welcome; `AppNotRunning` if there is none."""
        peer = self._peer
        self._reactor.thread = threading.get_ident()
        peer.control.start()
        peer.control.post(m.Hello(m.PROTOCOL, os.getpid()))
        control = peer.control
        self._reactor.drive(lambda: control.welcomed or control.is_closed, monotonic() + PATIENCE)
        if not control.welcomed:
            why = control.refused or ("it closed the link" if control.is_closed else f"no answer within {PATIENCE} s")
            self._reactor.thread = 0
            control.close()
            self._free()
            raise AppNotRunning(f"the app {self.app!r} did not let this client in: {why}")
        self._reactor.call(peer.keep_house)
        self._thread.start()
        return self

    def close(self) -> None:
        """Ends the connection, when what was sent has left. Calls under way fail as `Unavailable` or `Lost`."""
        if self._closed:
            return
        self._closed = True
        self._reactor.call(partial(self._close_links, monotonic() + FAREWELL_TIME))
        self._thread.join()
        self._free()

    def _close_links(self, deadline: float) -> None:
        """What was said to members whose links are still to come is said first."""
        peer = self._peer
        has_more = any(contact._early for contact in peer.contacts)  # pyright: ignore[reportPrivateUsage]
        if has_more and not peer.control.is_closed and monotonic() < deadline:
            self._reactor.call_at(monotonic() + QUIET_CHECK, partial(self._close_links, deadline))
            return
        peer.tidy()
        for link in peer.contacts.links():
            link.close_after_flush(1.0)
        peer.control.close(1.0)
        peer.unheard.clear()  # calls that were sent and not waited for: closing is how one says that it does not matter
        self._reactor.loop.stop()

    def _free(self) -> None:
        if self._peer.board is not None:
            self._peer.board.close()
        self._peer.descriptors.close()
        self._peer.buffers.close()
        self._reactor.loop.close()
        self._reactor.close()

    # ------------------------------------------------------------------------------------- as in a mobster

    @overload
    def require(self, role: str) -> Proxy: ...
    @overload
    def require(self, role: str, interface: Callable[..., T]) -> T: ...
    def require(self, role: str, interface: Any = None) -> Any:
        """The proxy of a role, as `mob.require` gives it to a mobster; typed, if there is an `interface`."""
        self._check_open()
        self._peer.roster.check_role(role)
        return Proxy(self._peer, role, DEFAULTS, None if interface is None else Interface(self._peer, interface))

    def send(self, obj: Any) -> None:
        """Sends a message to every ready mobster."""
        self._check_open()
        self._peer.contacts.want_role("*")
        self._peer.calling.send(self._peer.contacts.ready(), obj)

    def all(self, role: str) -> Target:
        """All ready workers of a role."""
        self._check_open()
        self._peer.roster.check_role(role)
        return Target(self._peer, role, "all")

    def any(self, role: str) -> Target:
        """Any one worker of a role."""
        self._check_open()
        self._peer.roster.check_role(role)
        return Target(self._peer, role, "any")

    def pid(self, pid: int) -> Target:
        """The mobster with that process id."""
        self._check_open()
        return Target(self._peer, "", "pid", pid)

    @overload
    def on(self, event: str) -> Callable[[F], F]: ...
    @overload
    def on(self, event: str, handler: F) -> Callable[[F], F]: ...
    def on(self, event: str, handler: Any = None) -> Any:
        """Registers a handler (`message`, `join`, `leave`); it runs in the client's own thread."""
        return self._peer.handlers.add(event, handler)

    # ------------------------------------------------------------------------------------------- the roster

    def members(self) -> list[m.Member]:
        """All processes of the app: mobsters (`role`, `index`, `pid`, `state`, `generation`) and clients (role "")."""
        self._check_open()
        return list(self._peer.roster)

    def roles(self) -> dict[str, m.RoleInfo]:
        """What is known of the roles: exports, and why one fails if it does."""
        return dict(self._peer.roster.roles)

    def overview(self) -> tuple[m.Row, ...]:
        """The table of `mob ps`: a row for every place of the app."""
        self._check_open()
        rows: tuple[m.Row, ...] = self._peer.control.request("overview", m.Overview).result(PATIENCE)
        return rows

    def scale(self, role: str, count: int, *, relative: bool = False) -> str:
        """Gives a role so many workers (`relative`: so many more, or less); what was done.

        Returns when that is decided; new workers are ready a little later. `MobError` tells why it cannot be.
        """
        self._check_open()
        self._peer.roster.check_role(role)
        return _done(
            self._peer.control.request("scale", lambda number: m.Scale(number, role, count, relative)), PATIENCE
        )

    def reload(self, *roles: str, timeout: float | None = None) -> str:
        """Replaces the workers of these roles (none: of all) by new ones with new code; what was done, when it is.

        `MobError` if the new ones do not come up: then the old ones stay. `CallTimeout` after `timeout` seconds; the
        reload goes on.
        """
        self._check_open()
        for role in roles:
            self._peer.roster.check_role(role)
        return _done(self._peer.control.request("reload", lambda number: m.Reload(number, roles)), timeout)

    def upgrade(self, timeout: float | None = None) -> str:
        """Replaces the Kingpin by one with new code, without a gap; what was done, when it is.

        `MobError` if the new one does not come up: then the old one stays. The mobsters go on as they are (`reload`).
        """
        self._check_open()
        return _done(self._peer.control.request("upgrade", m.Upgrade), timeout)

    def statistics(self) -> dict[str, int]:
        """The sizes of this process's tables."""
        return self._peer.statistics()

    def _check_open(self) -> None:
        if self._closed:
            raise AppNotRunning(f"this client of {self.app!r} was closed.")
        if self._peer.control.is_closed:
            raise AppNotRunning(f"the app {self.app!r} has ended.")


def _done(request: Call[m.Done], timeout: float | None) -> str:
    done = request.result(timeout)
    if done.error:
        raise MobError(done.error)
    return done.text


def connect(app: str) -> Client:
    """Connects to a running app of this user on this machine, from outside.

    `AppNotRunning` if no app of that name runs, with the names of those that do.

    >>> app = mob.connect("myapp")                       # doctest: +SKIP
    >>> app.require("back").foo(1).result()              # doctest: +SKIP
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(address_of(app))
    except OSError as error:
        sock.close()
        others: list[str] = []
        with contextlib.suppress(OSError):
            others = running_apps()
        raise AppNotRunning(f"no app named {app!r} is running here. {nearest(app, others)}") from error
    return Client(app, sock).open()
