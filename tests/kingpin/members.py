"""Members without processes: the other ends of connections, with real sockets, frames and messages."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from mob.core.decisions import Decision
from mob.kingpin.connections import Connection, Connections
from mob.rim.reactor import Reactor
from mob.wire import messages as m
from mob.wire.frames import FrameDecoder, frame

LIMIT = 1 << 20


@contextmanager
def reactor_by_hand() -> Generator[Reactor]:
    """Yield a reactor whose loop does not run by itself: `poll` does all possible I/O, `turn` runs one turn."""
    reactor = Reactor(asyncio.new_event_loop())
    reactor.claim()
    yield reactor
    reactor.loop.close()
    reactor.close()


def turn(reactor: Reactor) -> None:
    """Run one turn of the loop: pending calls, and all possible I/O."""
    reactor.stop()
    reactor.run()


class Member:
    """A member that sends messages to the Kingpin and keeps what it receives."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._frames = FrameDecoder(LIMIT)

    def say(self, *messages: Any) -> None:
        self.sock.sendall(frame(m.encode(list(messages))))

    def heard(self) -> list[Any]:
        """Return what has arrived since the last call."""
        found: list[Any] = []
        while data := self._read():
            for payload in self._frames.feed(data):
                found += m.decode_down(payload)
        return found

    def _read(self) -> bytes:
        try:
            return self.sock.recv(LIMIT)
        except (BlockingIOError, ConnectionResetError):
            return b""

    @property
    def has_ended(self) -> bool:
        """True if the Kingpin closed its end; call `heard` first."""
        try:
            return self.sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False


class Kept:
    """A hearer of connections that keeps all messages, and keeps decisions instead of carrying them out."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []  # by the name of the member
        self.decisions: list[Decision] = []

    def handle_up(self, connection: Connection, messages: list[Any]) -> None:
        self.heard += [(connection.link.name, message) for message in messages]

    def handle_vitals(self, connection: Connection, vitals: list[m.Vital]) -> None:
        self.heard += [(connection.link.name, vital) for vital in vitals]

    def handle_up_closed(self, connection: Connection, why: str) -> None:
        self.heard.append((connection.link.name, why))

    def handle_drained(self, connection: Connection) -> None:
        self.heard.append((connection.link.name, "drained"))

    def carry_out(self, decisions: list[Decision]) -> None:
        self.decisions += decisions


class Room:
    """Connections to the members of a test."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.kept = Kept()
        self.connections = Connections(reactor, LIMIT, self.kept)
        self._members: list[Member] = []

    def mobster(self, uid: int, name: str) -> tuple[Member, Member]:
        """Return the other ends of the control and the liveness link of a new mobster."""
        (control, control_end), (liveness, liveness_end) = socket.socketpair(), socket.socketpair()
        self.connections.open(uid, name, control, liveness)
        return self._member(control_end), self._member(liveness_end)

    def client(self, uid: int) -> Member:
        sock, end = socket.socketpair()
        self.connections.open(uid, f"client {uid}", sock, pid=4242, is_client=True)
        return self._member(end)

    def _member(self, sock: socket.socket) -> Member:
        self._members.append(Member(sock))
        return self._members[-1]

    def close(self) -> None:
        self.connections.close()
        for member in self._members:
            member.sock.close()
