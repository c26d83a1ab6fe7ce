"""Connections: found by uid and by link, and handed over to the next program."""

from __future__ import annotations

import os

import msgspec

from mob.kingpin.connections import Connections, ConnectionState, Garbled
from mob.wire import messages as m
from mob.wire.frames import frame
from tests.kingpin.members import LIMIT, Kept, Room


def test_what_is_read_comes_with_the_connection_of_its_link(room: Room) -> None:
    control, liveness = room.mobster(1, "back.0")
    other, _ = room.mobster(2, "back.1")
    control.say(m.Draining(), m.WantRole("front"))
    liveness.say(m.Beat(calls=7))
    other.say(m.Draining())
    room.reactor.poll()
    assert sorted(room.kept.heard, key=str) == sorted(
        [
            ("back.0", m.Draining()),
            ("back.0", m.WantRole("front")),
            ("back.0", m.Beat(calls=7)),
            ("back.1", m.Draining()),
        ],
        key=str,
    )
    assert repr(room.connections[1].link).startswith("<Link back.0,")
    assert (room.connections.name_of(2), room.connections.name_of(3)) == ("back.1", "member 3")


def test_a_frame_that_does_not_decode_stands_for_its_messages(room: Room) -> None:
    client = room.client(5)
    client.sock.sendall(frame(b"\xc1"))
    room.reactor.poll()
    ((name, message),) = room.kept.heard
    assert name == "client 5"
    assert isinstance(message, Garbled)


def test_the_end_of_a_control_link_is_told_and_that_of_a_liveness_link_is_not(room: Room) -> None:
    control, liveness = room.mobster(1, "back.0")
    liveness.sock.close()
    room.reactor.poll()
    assert room.kept.heard == []
    control.sock.close()
    room.reactor.poll()
    assert room.kept.heard == [("back.0", "closed")]
    assert 1 in room.connections, "its exit is still to come"


def test_nothing_is_heard_of_a_connection_that_was_removed(room: Room) -> None:
    control, liveness = room.mobster(1, "back.0")
    connection = room.connections.remove(1)
    assert connection is not None
    control.say(m.Draining())
    liveness.say(m.Beat())
    room.reactor.poll()
    connection.close()
    assert room.kept.heard == []
    assert list(room.connections) == []
    assert room.connections.remove(1) is None
    assert control.has_ended
    assert liveness.has_ended


def test_clients_are_counted(room: Room) -> None:
    room.mobster(1, "back.0")
    room.client(2)
    room.client(3)
    assert (len(room.connections), room.connections.clients) == (3, 2)
    assert [each.hears_all for each in room.connections.values()] == [True, False, False]


def test_what_is_half_said_is_loud_and_what_a_client_does_not_read_is_not(room: Room) -> None:
    control, liveness = room.mobster(1, "back.0")
    room.client(2)
    assert room.connections.loud() == ""
    liveness.sock.sendall(frame(m.encode([m.Beat()]))[:5])
    room.reactor.poll()
    assert room.connections.loud() == "back.0"
    liveness.sock.sendall(frame(m.encode([m.Beat()]))[5:])
    control.sock.sendall(b"\0")
    room.reactor.poll()
    assert room.connections.loud() == "back.0"
    control.sock.close()
    room.reactor.poll()
    assert room.connections.loud() == ""
    fill(room, 2)
    assert room.connections.loud() == ""


def fill(room: Room, uid: int) -> int:
    """Send a member more than its socket takes; return the number of messages."""
    link, count = room.connections[uid].link, 0
    while not link.unsent_bytes:
        link.post(m.Refused("x" * 10_000))
        link.flush()
        count += 1
    return count


def test_another_program_goes_on_with_them(room: Room) -> None:
    mobster, liveness = room.mobster(1, "back.0")
    client = room.client(2)
    gone, _ = room.mobster(3, "back.1")
    room.connections[2].greeted = True
    gone.sock.close()
    room.reactor.poll()
    count = fill(room, 2)
    left = msgspec.msgpack.decode(msgspec.msgpack.encode(room.connections.state()), type=list[ConnectionState])
    assert [each.uid for each in left] == [1, 2], "the end of the third is noticed as usual"
    copies = [  # as after an execve, under other numbers because this is one process
        msgspec.structs.replace(each, link=os.dup(each.link), beats=os.dup(each.beats) if each.beats >= 0 else -1)
        for each in left
    ]
    room.connections.close()
    kept = Kept()
    successor = Connections(room.reactor, LIMIT, kept)
    successor.take_over(copies)
    assert [(each.uid, each.pid, each.is_client, each.greeted) for each in successor.values()] == [
        (1, 0, False, False),
        (2, 4242, True, True),
    ]
    successor[2].link.post(m.Stop(1.0))
    heard: list[m.Down] = []
    while not heard or not isinstance(heard[-1], m.Stop):
        heard += client.heard()
        room.reactor.poll()
    assert heard == [m.Refused("x" * 10_000)] * count + [m.Stop(1.0)], "unsent bytes come first"
    mobster.say(m.Draining())
    liveness.say(m.Beat())
    room.reactor.poll()
    assert ("back.0", m.Draining()) in kept.heard
    assert ("back.0", m.Beat()) in kept.heard
    successor.close()
    assert mobster.has_ended
