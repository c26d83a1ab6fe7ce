"""What all references have in common: a passage, and each way in which a reference ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from mob.peer.references.references import References
from mob.rim.link import DESCRIPTORS
from mob.wire import messages as m
from mob.wire.references import Reference
from mob.wire.sharing import LARGE
from tests.peer.references.members import Member, Mob, Way


def f() -> None: ...


def one_socket() -> socket.socket:
    ours, theirs = socket.socketpair()
    ours.close()
    return theirs


KINDS: dict[str, Callable[[], Any]] = {"function": lambda: f, "buffer": lambda: b"x" * LARGE, "socket": one_socket}


@pytest.fixture(params=KINDS)
def thing(request: pytest.FixtureRequest) -> Any:
    thing = KINDS[request.param]()
    yield thing
    if isinstance(thing, socket.socket):
        thing.close()


@pytest.fixture
def sent(mob: Mob, two: Any, thing: Any) -> tuple[Member, Member]:
    """Two members, one of which has sent the thing to the other, twice in one message."""
    sender, receiver = two
    sender.send([thing, thing], receiver)
    return two


def drop(member: Member) -> None:
    """Drop what arrived."""
    for thing in member.got.pop():
        if isinstance(thing, socket.socket):
            thing.close()
    del thing


# --- the ways of a reference ------------------------------------------------------------------------------------------


def test_read_and_dropped(mob: Mob, sent: Any) -> None:
    mob.deliver()
    drop(sent[1])
    mob.settle()
    assert mob.sizes() == [{}, {}]
    assert not sent[1].references.is_untidy


def test_given_back_unread(mob: Mob, sent: Any) -> None:
    message = mob.letters.pop().message
    mob.deliver()  # the messages before it: the pool, the descriptors
    sent[1].encoder.discard(message)
    mob.settle()
    assert mob.sizes() == [{}, {}]


def test_the_receiver_goes(mob: Mob, sent: Any) -> None:
    mob.deliver()
    mob.lose(sent[1])
    assert sent[0].sizes == {}
    drop(sent[1])


def test_the_sender_goes_before_its_message_has_come(mob: Mob, sent: Any) -> None:
    mob.letters.pop()
    mob.lose(sent[0])
    assert sent[1].sizes == {}


def test_one_that_has_gone_is_sent_nothing_more(mob: Mob, two: Any, thing: Any) -> None:
    mob.lose(two[1])
    two[0].send(thing, two[1])
    assert two[0].sizes == {}


def test_it_is_kept_while_it_may_have_to_be_sent(mob: Mob, two: Any, thing: Any) -> None:
    sender, receiver = two
    sender.encoder.encode([thing], "args")
    passage = sender.references.take()
    assert len(passage) == 1
    sender.references.hand_over(passage, sender.look_up(2))
    mob.deliver()
    mob.lose(receiver)
    assert sum(sender.sizes.values())
    sender.references.let_go(passage)
    assert sender.sizes == {}


def test_it_goes_to_several(mob: Mob, two: Any, thing: Any) -> None:
    third = mob.join()
    two[0].send([thing], two[1], third)
    mob.deliver()
    drop(two[1])
    drop(third)
    mob.settle()
    assert mob.sizes() == [{}, {}, {}]


# --- a passage --------------------------------------------------------------------------------------------------------


def test_each_thread_has_what_it_encodes(two: Any) -> None:
    references: References = two[0].references
    mine, other = Reference(1, 1), Reference(1, 2)
    taken: list[Any] = []

    def encode() -> None:
        references.note(other, f)
        taken.append(references.take())

    references.note(mine, f)
    thread = threading.Thread(target=encode)
    thread.start()
    thread.join()
    assert taken == [[(other, f)]]
    assert references.noted() == [mine]
    assert references.take() == [(mine, f)]
    assert references.take() == ()
    assert references.encoding == {}


def test_some_of_what_was_noted_is_forgotten(two: Any) -> None:
    references: References = two[0].references
    for function in (f, print, len):
        references.functions.lend(function)
    references.forget(1, 2)
    assert references.noted() == [Reference(1, 1), Reference(1, 3)]
    assert [function for function, _ in references.lent_to()] == [f, len]
    references.forget(0)
    assert references.encoding == {}
    assert references.lent_to() == []


def test_what_a_message_needs_goes_in_front_of_it_on_its_link(mob: Mob, two: Any) -> None:
    sender, receiver = two
    opened = one_socket()
    sender.encoder.encode([f, b"x" * LARGE, *[opened] * (DESCRIPTORS + 1)], "args")
    opened.close()
    passage = sender.references.take()
    member, link = sender.look_up(2), Way(sender, receiver)
    sender.references.hand_over(passage, member, link)
    said = [(letter.way, type(letter.message), len(letter.descriptors)) for letter in mob.letters]
    assert said == [(member, m.SharedPool, 1), (link, m.Attached, DESCRIPTORS), (link, m.Attached, 1)]
    sender.references.let_go(passage)


def test_only_functions_are_counted_for_another_machine(mob: Mob, two: Any) -> None:
    sender, _ = two
    sender.encoder.encode((f, b"x" * LARGE), "args")
    far = sender.look_up(2)
    far.is_distant = True
    sender.references.hand_over(passage := sender.references.take(), far)
    sender.references.let_go(passage)
    assert not mob.letters
    assert sender.sizes == {"lent": 1}


def test_closed_it_lets_nothing_cross(mob: Mob, two: Any) -> None:
    sender, receiver = two
    opened = one_socket()
    sender.send([opened, b"x" * LARGE], receiver)
    opened.close()
    mob.letters.pop()
    mob.deliver()
    assert receiver.sizes == {"descriptors": 1}
    for member in two:
        member.references.close()
    assert mob.sizes() == [{}, {}]
    assert len(sender.encoder.encode(b"x" * LARGE, "args")) > LARGE


def test_they_say_how_much_there_is(mob: Mob, two: Any) -> None:
    sender, receiver = two
    sender.send((f, b"x" * LARGE), receiver)
    mob.deliver()
    kinds = (
        ("<Functions 1 lent, 0 held>", "<Buffers <SegmentPool: 1 segments, 65,536 of 1,048,576 bytes>, 0 views>"),
        ("<Functions 0 lent, 1 held>", "<Buffers <SegmentPool: 0 segments, 0 of 1,048,576 bytes>, 1 views>"),
    )
    for member, (functions, buffers) in zip(two, kinds, strict=True):
        assert repr(member.references) == f"<References: {functions}, {buffers}, <Descriptors 0 kept, 0 to be read>>"
    assert repr(sender.encoder).startswith(f"<Encoder of {sender.context.name}, <Codec")
