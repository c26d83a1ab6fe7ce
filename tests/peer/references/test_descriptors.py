"""Sockets and files between members of one process: how long duplicates are kept, and what did not arrive."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from mob.core.states import CallState
from mob.errors import BadMessage
from mob.wire import messages as m
from tests.peer.references.members import Mob


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def is_open(ours: socket.socket) -> bool:
    """Return False if no process has the other end any more."""
    try:
        return ours.recv(1) != b""
    except BlockingIOError:
        return True


def test_a_socket_arrives_and_its_sender_may_close_it_at_once(mob: Mob, two: Any, pair: Any) -> None:
    ours, theirs = pair
    two[0].send(theirs, two[1])
    theirs.close()
    assert is_open(ours)
    mob.deliver()
    with two[1].got.pop() as arrived:
        arrived.sendall(b"hello")
        assert ours.recv(5) == b"hello"
    assert not is_open(ours)
    assert mob.sizes() == [{}, {}]


def test_what_was_encoded_for_nobody_is_closed(two: Any, pair: Any) -> None:
    ours, theirs = pair
    two[0].encoder.encode(theirs, "args")
    theirs.close()
    assert is_open(ours)
    two[0].references.let_go(two[0].references.take())
    assert not is_open(ours)


class UnderWay:
    """The part of a call that descriptors use."""

    state = CallState.SENT


@pytest.mark.parametrize("may_repeat", [False, True])
def test_those_of_a_call_are_kept_until_they_are_there_or_the_call_has_ended(
    mob: Mob, two: Any, pair: Any, may_repeat: bool
) -> None:
    (sender, receiver), (ours, theirs) = two, pair
    sender.may_repeat = may_repeat
    call: Any = UnderWay()
    sender.encoder.encode(theirs, "args")
    theirs.close()
    passage = sender.references.take()
    sender.references.accompany(call, passage)
    sender.references.hand_over(passage, sender.look_up(2))
    assert [letter.message for letter in mob.letters] == [m.Attached((1,), True)]
    assert sender.sizes == {"descriptors": 1}
    mob.deliver()
    assert receiver.sizes == {"descriptors": 1}
    mob.lose(sender)  # its message does not follow
    assert receiver.sizes == {}
    assert is_open(ours) is may_repeat
    sender.references.let_go(passage)
    assert not is_open(ours)
    assert sender.sizes == {}


def test_what_is_sent_again_on_another_link_takes_the_place_of_the_first(mob: Mob, two: Any, pair: Any) -> None:
    (sender, receiver), (ours, theirs) = two, pair
    sender.encoder.encode(theirs, "args")
    theirs.close()
    passage = sender.references.take()
    for _ in range(2):
        sender.references.hand_over(passage, sender.look_up(2))
    sender.references.let_go(passage)
    mob.deliver()
    assert receiver.sizes == {"descriptors": 1}
    mob.lose(sender)
    assert not is_open(ours)


@pytest.mark.parametrize(
    ("descriptors", "error"),
    [
        ([], "a socket that was sent along was lost: this process has too many open files. The limit is [0-9,]+ "),
        (None, "a socket that was sent along did not arrive here."),
    ],
)
def test_what_is_missing_is_named(mob: Mob, two: Any, pair: Any, descriptors: list[int] | None, error: str) -> None:
    sender, receiver = two
    sender.send(pair[1], receiver)
    attached = mob.letters.popleft()
    for descriptor in attached.descriptors:
        os.close(descriptor)
    if descriptors is not None:
        mob.letters.appendleft(attached._replace(descriptors=descriptors))
    with pytest.raises(BadMessage, match=error):
        mob.deliver()
    assert receiver.sizes == {}


def test_what_is_of_no_use_here_says_so_and_is_closed(mob: Mob, two: Any, pair: Any) -> None:
    two[0].send(pair[1], two[1])
    os.close(mob.letters[0].descriptors[0])
    no_socket = os.open(os.devnull, os.O_RDONLY)
    mob.letters[0] = mob.letters[0]._replace(descriptors=[no_socket])
    with pytest.raises(BadMessage, match="a socket that was sent along cannot be used here: "):
        mob.deliver()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(no_socket)


def test_what_cannot_be_handed_over_is_refused_before_anything_is_duplicated(two: Any, pair: Any) -> None:
    pair[1].close()
    with pytest.raises(BadMessage, match=r"args\[1\]"):
        two[0].encoder.encode([1, pair[1], pair[0]], "args")
    assert two[0].sizes == {}
