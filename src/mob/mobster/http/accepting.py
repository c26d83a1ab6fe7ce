"""How an HTTP server accepts connections: no more than its share while other workers of the role have fewer.

The loop watches the listening sockets. When connections wait, this worker takes what it lacks to its share
(`core/balance.py`) in one go. If some are left, they are for the others: the worker stays out of the queue until it has
fewer connections, the others have more, or none waits any longer. If connections still wait after `MOMENT` looks it
takes a few nevertheless, because another worker may be in the middle of a computation; and if the others miss `CHANCES`
such moments it takes all. The board shows the connections of each worker. A process without clients does nothing.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import struct
import sys
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from mob.core.balance import ConnectionLoad, room
from mob.rim import link
from mob.wire.messages import node_of

if TYPE_CHECKING:
    from mob.peer.peer import Peer

TURN_INTERVAL = 0.002
"""Seconds between two looks whether it is this worker's turn again; the others do not report what they accept."""
MOMENT = 6
"""Number of looks for which connections are left to other workers."""
CHANCES = 3
"""Number of such moments that other workers may miss before they are not counted on any longer."""
ACCEPT_RETRY = 0.1
"""Seconds until the next attempt, if the system has no file descriptor or memory for a connection."""
LACKING = link.LACKING | {errno.EMFILE, errno.ENFILE}
KNOWN = 0.1
"""Seconds for which the list of other workers is valid."""
QUEUED = struct.Struct("I")
QUEUED_AT = 24  # offset of the queue's length in the struct tcp_info of a listening socket (tcpi_unacked)

Connect = Callable[[socket.socket], Coroutine[Any, Any, Any]]
"""Makes a transport for a connection."""


class Accepting:
    """The listening sockets of one worker."""

    def __init__(self, peer: Peer, connect: Connect) -> None:
        self._peer = peer
        self._context = peer.context
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._socks: list[socket.socket] = []
        self._is_open = False
        self._out: asyncio.TimerHandle | None = None  # the next look at the queue, while it stays out
        self._looks = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._served = 0  # connections of the server
        self._arriving = 0  # connections that the server is about to get
        self._accepted = 0
        self._is_lacking = False
        self._missed = 0  # moments in a row in which the others took nothing
        self._missed_at: dict[int, int] = {}  # number of connections that each had accepted at the last such moment
        self._inactive: dict[int, int] = {}  # workers that are not counted on, and what they had accepted by then
        self._others: list[int] = []
        self._others_until = 0.0

    def __repr__(self) -> str:
        state = "closed" if not self._is_open else "out of the queue" if self._out else "in the queue"
        return f"<Accepting on {len(self._socks)} sockets, {self._mine} connections, {state}>"

    def open(self, socks: list[socket.socket]) -> None:
        """Accept connections from these sockets, which belong to this object now."""
        self._socks = socks
        self._is_open = True
        self._watch()

    def leave(self) -> None:
        """Accept no more connections."""
        if self._is_open:
            self._is_open = False
            self._unwatch()

    def close(self) -> None:
        """Close the sockets, when no client is served any longer."""
        self.leave()
        for sock in self._socks:
            sock.close()
        self._socks = []

    def handle_count(self, served: int) -> None:
        """Note the number of connections of the server."""
        has_fewer = served < self._served
        self._arriving = max(0, self._arriving - max(0, served - self._served))
        self._served = served
        self._tell()
        if has_fewer and self._out is not None and self._room(1):
            self._come_back()

    @property
    def _mine(self) -> int:
        return self._served + self._arriving

    def _tell(self) -> None:
        if (board := self._context.board) is not None:
            board.put_connections(self._context.uid, self._mine, self._accepted)

    # ------------------------------------------------------------------------------------------ the queue

    def _watch(self) -> None:
        for sock in self._socks:
            self._loop.add_reader(sock.fileno(), self._handle_waiting, sock)

    def _unwatch(self) -> None:
        if self._out is not None:
            self._out.cancel()
            self._out = None
        else:
            for sock in self._socks:
                self._loop.remove_reader(sock.fileno())

    def _stay_out(self, seconds: float) -> None:
        self._unwatch()
        self._looks = 0
        self._out = self._loop.call_later(seconds, self._look)

    def _come_back(self) -> None:
        if self._out is not None:
            self._out.cancel()
            self._out = None
        self._watch()

    def _handle_waiting(self, sock: socket.socket) -> None:
        """Accept connections that wait there, or did a moment ago."""
        while waiting := _waiting(sock):
            wanted = self._room(waiting)
            if wanted and self._take(sock, wanted) < wanted:
                return
            if wanted < waiting:
                self._stay_out(TURN_INTERVAL)
                return
            if sock.family != socket.AF_UNIX:
                return  # that was all; for a Unix socket the system does not tell

    def _look(self) -> None:
        """Check whether the others took what was left to them."""
        self._out = None
        self._looks += 1
        left = [sock for sock in self._socks if _waiting(sock)]
        if left and not self._room(1):
            if self._looks < MOMENT:
                self._out = self._loop.call_later(TURN_INTERVAL, self._look)
                return
            for sock in left:
                self._handle_missed_moment(sock)
        if self._out is None and self._is_open:
            self._watch()

    def _handle_missed_moment(self, sock: socket.socket) -> None:
        """Take connections that no other worker took for a moment: more of them each time.

        After several such moments the others are not counted on any longer, until they accept something.
        """
        accepted = {uid: load.accepted for uid, load in self._loads().items()}
        self._missed = self._missed + 1 if accepted == self._missed_at else 1
        self._missed_at = accepted
        self._take(sock, 2 ** (self._missed - 1))
        if self._missed >= CHANCES:
            self._inactive.update(accepted)

    def _take(self, sock: socket.socket, most: int) -> int:
        """Take at most `most` connections; return how many there were."""
        for taken in range(most):
            try:
                descriptor = _accept(sock)
            except BlockingIOError:
                return taken
            except OSError as error:
                if error.errno in LACKING:
                    self._handle_lacking(error)
                    return taken
                continue  # the client has already disconnected
            self._is_lacking = False
            connection = socket.socket(sock.family, sock.type, sock.proto, fileno=descriptor)
            connection.setblocking(False)
            self._accepted += 1
            self._arriving += 1
            task = self._loop.create_task(self._serve(connection))
            self._tasks.add(task)
            task.add_done_callback(self._handle_served)
        self._tell()
        return most

    def _handle_lacking(self, error: OSError) -> None:
        if not self._is_lacking:
            self._context.log.warning("cannot accept connections: %s. Retrying every %g s.", error, ACCEPT_RETRY)
        self._is_lacking = True
        self._stay_out(ACCEPT_RETRY)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            await self._connect(connection)
        except BaseException as error:
            connection.close()
            self._arriving = max(0, self._arriving - 1)
            self._tell()
            if not isinstance(error, OSError):  # else the client disconnected, or the TLS handshake failed
                raise

    def _handle_served(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            about = {"message": "a connection could not be served", "exception": error}
            self._loop.call_exception_handler(about)

    # ------------------------------------------------------------------------------------------ the others

    def _room(self, waiting: int) -> int:
        return room(self._mine, self._loads(), self._inactive, waiting)

    def _loads(self) -> dict[int, ConnectionLoad]:
        """Return the connections of the other workers of the role."""
        board, now = self._context.board, monotonic()
        if board is None:
            return {}
        if now >= self._others_until:
            peer = self._peer
            ready = [each.uid for each in peer.context.roster.ready(peer.context.role)]
            self._others = [
                uid for uid in ready if uid != peer.context.uid and node_of(uid) == node_of(peer.context.uid)
            ]
            self._others_until = now + KNOWN
            self._inactive = {uid: accepted for uid, accepted in self._inactive.items() if uid in self._others}
        return {uid: ConnectionLoad(*board.connections(uid)) for uid in self._others}


def _accept(sock: socket.socket) -> int:
    """Return the descriptor of a connection. This is the inner half of Python's `accept`, whose outer half is mob's."""
    return cast(int, cast(Any, sock)._accept()[0])


def _waiting(sock: socket.socket) -> int:
    """Return the number of connections that wait at a socket; where the system does not tell, 1 for any number."""
    if sys.platform == "linux" and sock.family != socket.AF_UNIX:
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, QUEUED_AT + QUEUED.size)
            return int(QUEUED.unpack_from(info, QUEUED_AT)[0])
        except (OSError, struct.error):
            return 0  # the socket was taken away from this process
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return len(poll.poll(0))
