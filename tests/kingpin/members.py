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
    """A reactor whose loop does not run by itself: `poll` reads and writes what can be, `turn` does all of a turn."""
    reactor = Reactor(asyncio.new_event_loop())
    reactor.claim()
    yield reactor
    reactor.loop.close()
    reactor.close()


def turn(reactor: Reactor) -> None:
    """One turn of the loop: what is to be called is called, what can be read or written is."""
    reactor.stop()
    reactor.run()


class Member:
    """Says things to the Kingpin, and keeps what it hears."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._frames = FrameDecoder(LIMIT)

    def say(self, *messages: Any) -> None:
        self.sock.sendall(frame(m.encode(list(messages))))

    def heard(self) -> list[Any]:
        """What has come since the last time."""
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
        """Whether the Kingpin has closed its end; after `heard`."""
        try:
            return self.sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False


class Kept:
    """A hearer of connections that keeps what it was told, and carries decisions out by keeping them."""

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
    """Connections to members that a test has."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.kept = Kept()
        self.connections = Connections(reactor, LIMIT, self.kept)
        self._members: list[Member] = []

    def mobster(self, uid: int, name: str) -> tuple[Member, Member]:
        """What is at the other ends of the control and the liveness link of a new mobster."""
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
