"""Clients that send too much, and those that read too little."""

from __future__ import annotations

from typing import Any

import pytest

from mob.kingpin.connections import Connection
from mob.kingpin.guests import AT_A_TIME, HELLO_LIMIT, UNREAD, Guests
from mob.wire import messages as m
from tests.kingpin.members import LIMIT, Member, Room, turn


class Reception:
    """Guests whose requests are answered with as many bytes as they ask for."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.answered: list[int] = []
        self.guests = Guests(room.reactor, LIMIT, self.answer)

    def answer(self, connection: Connection, message: Any) -> None:
        self.answered.append(message.id)
        connection.link.post(m.Done(message.id, text="x" * message.since))

    def guest(self, uid: int) -> tuple[Member, Connection]:
        member, connection = self.room.client(uid), self.room.connections[uid]
        self.guests.admit(connection)
        return member, connection

    def turn(self) -> None:
        turn(self.room.reactor)


@pytest.fixture
def reception(room: Room) -> Reception:
    return Reception(room)


def questions(*sizes: int) -> list[Any]:
    return [m.WantHistory(number, size) for number, size in enumerate(sizes)]


def test_before_its_hello_a_client_may_say_little(reception: Reception) -> None:
    _, connection = reception.guest(1)
    assert connection.link.limit == HELLO_LIMIT
    assert "1 have not said hello" in repr(reception.guests)
    reception.guests.welcome(connection)
    assert connection.link.limit == LIMIT
    assert connection.greeted
    assert "0 have not said hello" in repr(reception.guests)


def test_a_few_questions_are_answered_at_once_and_many_in_turns(reception: Reception) -> None:
    _, connection = reception.guest(1)
    reception.guests.hear(connection, questions(*[0] * AT_A_TIME))
    assert len(reception.answered) == AT_A_TIME
    assert reception.guests.is_quiet
    reception.answered.clear()
    reception.guests.hear(connection, questions(*[0] * (2 * AT_A_TIME + 1)))
    assert len(reception.answered) == AT_A_TIME
    assert not reception.guests.is_quiet
    reception.turn()
    assert len(reception.answered) == 2 * AT_A_TIME
    reception.turn()
    assert reception.answered == list(range(2 * AT_A_TIME + 1))
    assert reception.guests.is_quiet


def test_one_that_does_not_read_its_answers_is_not_read(reception: Reception) -> None:
    member, connection = reception.guest(1)
    reception.guests.hear(connection, questions(*[100_000] * (AT_A_TIME + 1)))
    assert connection.link.unsent_bytes > UNREAD
    assert len(reception.answered) == AT_A_TIME
    reception.turn()
    assert len(reception.answered) == AT_A_TIME
    heard: list[Any] = []
    while connection.link.unsent_bytes:
        heard += member.heard()
        reception.turn()
    reception.guests.handle_drained(connection)
    connection.link.flush()
    heard += member.heard()
    assert [each.id for each in heard] == reception.answered == list(range(AT_A_TIME + 1))
    assert reception.guests.is_quiet


def test_before_an_upgrade_those_are_shut_out(reception: Reception) -> None:
    _, connection = reception.guest(1)
    other, kept = reception.guest(2)
    reception.guests.hear(connection, questions(*[100_000] * (AT_A_TIME + 1)))
    reception.guests.give_up()
    assert connection.link.is_closed
    assert not kept.link.is_closed
    assert not other.has_ended
    reception.guests.forget(connection)
    assert reception.guests.is_quiet


def test_another_program_waits_for_the_hello_of_those_that_have_said_none(reception: Reception) -> None:
    reception.room.mobster(3, "back.0")
    _, greeted = reception.guest(1)
    reception.guests.welcome(greeted)
    _, silent = reception.guest(2)
    successor = Guests(reception.room.reactor, LIMIT, reception.answer)
    successor.take_over(reception.room.connections.values())
    assert "1 have not said hello" in repr(successor)
    assert silent.link.limit == HELLO_LIMIT
