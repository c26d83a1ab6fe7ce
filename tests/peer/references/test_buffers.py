"""Large buffers between members of one process: which ones get the pool, what is read, and when memory is freed."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest
from msgspec import Raw

from mob.core.segments import IDLE
from mob.errors import BadMessage
from mob.wire import messages as m
from mob.wire.binary import Given
from mob.wire.codec import HasLargeBuffer
from mob.wire.sharing import LARGE
from tests.peer.references.members import POOL, Member, Mob

BIG = memoryview(bytes(range(256)) * (LARGE // 256))


def said(mob: Mob) -> list[type]:
    """Return the kinds of messages on their way."""
    return [type(letter.message) for letter in mob.letters]


def test_the_pool_goes_in_front_of_the_first_buffer_and_no_other(mob: Mob, two: Any) -> None:
    sender, receiver = two
    sender.send(BIG, receiver)
    sender.send([1, BIG], receiver)
    assert said(mob) == [m.SharedPool, m.Message, m.Message]
    mob.deliver()
    first, (_, second) = receiver.got
    assert first == second == BIG
    assert first.readonly
    assert mob.sizes() == [{"shared": 2 * LARGE}, {"views": 2}]
    receiver.got.clear()
    part = first[7:9]
    del first
    mob.settle()
    assert mob.sizes() == [{"shared": 2 * LARGE}, {"views": 2}]
    del second, part
    receiver.references.sweep()
    assert [letter.message for letter in mob.letters] == [m.Freed({1: 1, 2: 1})]
    mob.deliver()
    assert mob.sizes() == [{}, {}]


def test_another_link_to_a_member_gets_the_pool_again(mob: Mob, two: Any) -> None:
    sender, receiver = two
    sender.send(BIG, receiver)
    sender.look_up(2).link = "another"
    sender.send(BIG, receiver)
    assert said(mob) == [m.SharedPool, m.Message] * 2


def test_to_itself_a_process_sends_no_pool(mob: Mob) -> None:
    one = mob.join()
    one.send(BIG, one)
    assert said(mob) == [m.Message]
    mob.deliver()
    assert one.got == [BIG]
    one.got.clear()
    one.references.sweep()
    assert one.sizes == {}


def test_a_view_outlives_its_owner_and_no_buffer_is_written_over_while_it_is_looked_at(mob: Mob, two: Any) -> None:
    sender, receiver = two
    sender.send(BIG, receiver)
    for _ in range(3 * POOL // LARGE):
        sender.send(b"y" * LARGE, receiver)
        mob.deliver()
        del receiver.got[1:]
        mob.settle()
    mob.lose(sender)
    assert receiver.got == [BIG]


def lose_descriptor(mob: Mob) -> None:
    """Deliver the pool without its descriptor, as if the receiver had too many open files."""
    letter = mob.letters[0]
    assert isinstance(letter.message, m.SharedPool)
    mob.letters[0] = letter._replace(descriptors=[])
    os.close(letter.descriptors[0])


def test_a_member_without_the_descriptor_asks_again(mob: Mob, two: Any) -> None:
    sender, receiver = two
    sender.send(BIG, receiver)
    lose_descriptor(mob)
    with pytest.raises(BadMessage, match="could not receive its file descriptor"):
        mob.deliver()
    mob.settle()
    assert mob.sizes() == [{}, {}]
    sender.send(BIG, receiver)
    assert said(mob) == [m.SharedPool, m.Message]
    mob.deliver()
    assert receiver.got == [BIG]


def test_a_pool_that_is_shorter_than_it_says_is_told_of_and_not_mapped(
    mob: Mob, two: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sender, receiver = two
    sender.send(BIG, receiver)
    mob.letters[0] = mob.letters[0]._replace(message=m.SharedPool(2 * POOL))
    with caplog.at_level(logging.ERROR, "mob"), pytest.raises(BadMessage):
        mob.deliver()
    assert (
        "the shared memory of member 1 cannot be mapped: it has less than the announced 2,097,152 bytes" in caplog.text
    )


def test_idle_memory_goes_back_to_the_system(mob: Mob) -> None:
    one = mob.join()
    one.encoder.encode(BIG, "args")
    one.references.let_go(one.references.take())
    memory: Any = one.references.buffers._memory
    assert bytes(memory.part(0, LARGE)) == BIG
    for now in (0.0, 1.0, 2 * IDLE):
        one.references.cool(now)
    assert not any(memory.part(0, LARGE))


def test_what_fails_while_it_is_copied_keeps_no_room(mob: Mob) -> None:
    one: Member = mob.join()

    def fill(memory: memoryview) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        one.references.buffers.share(LARGE, fill)
    assert one.sizes == {}
    assert one.references.encoding == {}


# --- passed on --------------------------------------------------------------------------------------------------------


def test_to_pass_a_buffer_on_its_owner_is_told_first(mob: Mob, two: Any) -> None:
    owner, middle = two
    third = mob.join()
    owner.send(BIG, middle)
    mob.deliver()
    middle.send(middle.got[0], third)
    assert [(type(each.message), each.way.uid) for each in mob.letters] == [
        (m.Passed, 1),
        (m.SharedPool, 3),
        (m.Message, 3),
    ]
    middle.got.clear()
    mob.settle()
    assert mob.sizes() == [{"shared": LARGE}, {}, {"views": 1}]
    assert third.got == [BIG]
    third.send(third.got[0][0:LARGE], middle)  # it knows the pool
    assert said(mob) == [m.Passed, m.SharedPool, m.Message]
    mob.settle()
    assert middle.got == [BIG]
    third.got.clear()
    middle.got.clear()
    mob.settle()
    assert mob.sizes() == [{}, {}, {}]


def test_what_goes_back_to_its_owner_needs_no_pool(mob: Mob, two: Any) -> None:
    owner, other = two
    owner.send(BIG, other)
    mob.deliver()
    other.send(other.got.pop(), owner)
    assert mob.letters[0].message == m.Passed({1: 1}, 1)
    assert said(mob) == [m.Passed, m.Message]
    mob.settle()
    assert owner.got == [BIG]
    assert mob.sizes() == [{"shared": LARGE, "views": 1}, {}]
    owner.got.clear()
    mob.settle()
    assert mob.sizes() == [{}, {}]


def test_it_is_copied_where_the_owner_cannot_be_told_at_once(mob: Mob, two: Any) -> None:
    owner, middle = two
    third = mob.join()
    owner.send(BIG, middle)
    mob.deliver()
    middle.look_up(1).unsent_bytes = 1
    middle.send(middle.got[0], third)
    assert said(mob) == [m.SharedPool, m.Message]
    mob.settle()
    assert mob.sizes() == [{"shared": LARGE}, {"views": 1, "shared": LARGE}, {"views": 1}]
    assert third.got == [BIG]


@pytest.mark.parametrize(("room", "views"), [(POOL, [3, 3]), (LARGE, [2, 0])])
def test_it_is_copied_where_what_was_said_to_the_owner_does_not_leave(
    mob: Mob, two: Any, room: int, views: list[int]
) -> None:
    owner, _ = two
    middle, third, fourth = mob.join(shared_memory=room), mob.join(), mob.join()
    owner.send(BIG, middle)
    owner.send(BIG, middle)
    mob.deliver()
    middle.look_up(1).is_full = True
    middle.send([middle.got[0], middle.got[1], middle.got[0][:LARGE], 5], third, fourth)
    assert said(mob).count(m.Passed) == 4  # and back
    mob.settle()
    assert third.got == fourth.got == [[BIG, BIG, BIG, 5]]
    assert [third.references.views, fourth.references.views] == views  # a buffer without room comes in the message
    middle.got.clear()
    mob.settle()
    assert owner.sizes == {}  # no member holds it
    third.got.clear()
    fourth.got.clear()
    mob.settle()
    assert mob.sizes() == [{}, {}, {}, {}, {}]


def test_what_a_dead_owner_has_sent_is_copied_when_it_is_passed_on(mob: Mob, two: Any) -> None:
    owner, middle = two
    third = mob.join()
    owner.send(BIG, middle)
    mob.deliver()
    del mob.members[1], middle.ways[1]
    middle.references.owner_gone(1)
    for _ in range(3):
        middle.send(middle.got[0], third)
        mob.settle()
    assert third.got == [BIG, BIG, BIG]
    assert list(third.references.buffers._mappings) == [2]
    third.got.clear()
    middle.got.clear()
    mob.settle()
    assert middle.sizes == third.sizes == {}
    middle.loop.pass_time()
    assert middle.references.buffers._mappings == {}


def test_what_was_passed_on_before_its_owner_died_can_be_read_after_that(mob: Mob, two: Any) -> None:
    owner, middle = two
    third = mob.join()
    owner.send(BIG, middle)
    mob.deliver()
    middle.send(middle.got[0], third)
    mob.settle()
    third.got.clear()
    mob.settle()
    middle.send(middle.got[0], third)
    assert said(mob) == [m.Passed, m.Message]  # it has the pool
    mob.lose(owner)
    mob.deliver()
    assert third.got == [BIG]
    third.loop.pass_time()
    assert third.got == [BIG]
    third.got.clear()
    third.references.sweep()
    assert third.references.buffers._mappings == {}


def test_what_was_passed_on_is_read_too_late(mob: Mob, two: Any) -> None:
    owner, middle = two
    third = mob.join()
    owner.send(BIG, middle)
    mob.deliver()
    middle.send(middle.got[0], third)
    mob.settle()
    third.got.clear()
    mob.settle()
    middle.send(middle.got[0], third)
    mob.lose(owner)
    third.loop.pass_time()
    assert third.references.buffers._mappings == {}
    with pytest.raises(BadMessage, match=r"of a process that exited, .* Repeat the call"):
        mob.deliver()


def test_an_owner_that_dies_while_a_message_with_its_memory_waits(mob: Mob, two: Any) -> None:
    owner, middle = two
    third = mob.join()
    owner.send(BIG, middle)
    mob.deliver()
    body = middle.encoder.encode(middle.got[0], "message")
    passage = middle.references.take()
    mob.lose(owner)
    way = middle.look_up(3)
    replaced = middle.references.hand_over(passage, way)
    assert replaced
    way.post(m.Message(middle.encoder.replaced(Raw(body), replaced), ""))
    middle.references.let_go(passage)
    del passage, replaced
    mob.settle()
    assert third.got == [BIG]
    third.got.clear()
    middle.got.clear()
    mob.settle()
    assert middle.sizes == third.sizes == {}


# --- given away -------------------------------------------------------------------------------------------------------


def test_what_was_given_away_is_written_where_it_lies(mob: Mob, two: Any) -> None:
    sender, receiver = two
    sender.send([Given(BIG), BIG], receiver)
    mob.deliver()
    mine, shared = receiver.got.pop()
    assert (mine.readonly, shared.readonly) == (False, True)
    assert mine == shared == BIG
    mine[0] = 7
    assert sender.references.buffers._memory.part(0, 1) == b"\7"
    assert mob.sizes() == [{"shared": 2 * LARGE}, {"views": 2}]
    del mine, shared
    mob.settle()
    assert mob.sizes() == [{}, {}]


def test_what_was_given_away_is_copied_when_it_is_passed_on(mob: Mob, two: Any) -> None:
    sender, receiver = two
    sender.send(Given(BIG), receiver)
    mob.deliver()
    mine = receiver.got.pop()
    receiver.send([mine], sender)
    mine[0] = 7
    mob.deliver()
    assert sender.got == [[BIG]]
    assert mob.sizes()[1] == {"shared": LARGE, "views": 1}


def test_what_a_process_gives_to_itself_is_read_only(mob: Mob) -> None:
    one = mob.join()
    one.send(Given(BIG), one)
    mob.deliver()
    assert one.got[0].readonly


def test_given_memory_that_cannot_be_shared_arrives_as_a_bytearray(mob: Mob) -> None:
    sender, receiver = mob.join(0), mob.join(0)
    sender.send(Given(BIG), receiver)
    mob.deliver()
    assert type(receiver.got[0]) is bytearray
    assert receiver.got == [BIG]


@pytest.mark.parametrize("room", [POOL, 0])
def test_what_is_given_away_deep_within_is_found_before_it_is_packed(mob: Mob, room: int) -> None:
    sender, receiver = mob.join(room), mob.join()
    value = [1, {"a": [Given(BIG), Given(memoryview(b"small"))]}]
    with pytest.raises(HasLargeBuffer):
        sender.encoder.codec.pack(value)
    sender.send(value, receiver)
    mob.deliver()
    assert receiver.got == [[1, {"a": [BIG, b"small"]}]]
    assert mob.sizes() == ([{"shared": LARGE}, {"views": 1}] if room else [{}, {}])
