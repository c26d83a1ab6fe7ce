"""Private writable memory: a copy of a small buffer, a private mapping of a large one."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from mob.peer.references.private import private
from mob.rim.processes import KEPT_BY_HEAP
from mob.rim.segments import IS_AVAILABLE
from mob.wire.sharing import LARGE
from tests.peer.references.members import Member, Mob

pytestmark = pytest.mark.skipif(not IS_AVAILABLE, reason="no memfd here")


@pytest.fixture
def roomy(mob: Mob) -> tuple[Member, Member]:
    return mob.join(3 * KEPT_BY_HEAP), mob.join(3 * KEPT_BY_HEAP)


def is_mapped(view: memoryview) -> bool:
    return type(view.obj) is not bytearray


@pytest.mark.parametrize(
    "view", [memoryview(b"abc"), memoryview(bytearray(b"abcdef"))[::2].toreadonly(), memoryview(b"")]
)
def test_of_other_memory_it_is_a_copy(view: memoryview) -> None:
    copy = private(view)
    assert not copy.readonly
    assert bytes(copy) == bytes(view)
    assert type(copy.obj) is bytearray


def test_what_is_writable_is_private_already() -> None:
    data = bytearray(3)
    for buffer in (data, memoryview(data)):
        assert private(buffer).obj is data


def test_what_is_not_that_large_is_copied_and_given_back_at_once(mob: Mob, two: Any) -> None:
    sender, receiver = two
    sender.send(memoryview(bytes(LARGE)), receiver)
    mob.deliver()
    copy = private(receiver.got.pop())
    mob.settle()
    assert mob.sizes() == [{}, {}]
    copy[:] = b"x" * LARGE


def test_what_is_large_stays_with_its_owner_as_long_as_the_private_view_of_it(mob: Mob, roomy: Any) -> None:
    sender, receiver = roomy
    sender.send(memoryview(bytes(KEPT_BY_HEAP)), receiver)
    mob.deliver()
    view = private(receiver.got.pop())
    assert is_mapped(view)
    array = np.frombuffer(view, np.uint8)[5:]
    del view
    array[0] = 7
    mob.settle()
    assert mob.sizes() == [{"shared": KEPT_BY_HEAP}, {"views": 1}]
    sender.send(memoryview(b"y" * KEPT_BY_HEAP), receiver)  # elsewhere
    mob.deliver()
    assert array[:2].tolist() == [7, 0]
    receiver.got.clear()
    del array
    mob.settle()
    assert mob.sizes() == [{}, {}]


def test_a_private_view_is_sent_as_it_is_now_and_what_it_was_made_of_as_it_was(mob: Mob, roomy: Any) -> None:
    sender, receiver = roomy
    sender.send(memoryview(bytes(KEPT_BY_HEAP)), receiver)
    mob.deliver()
    original = receiver.got.pop()
    mine = private(original)
    mine[0] = 1
    receiver.send([mine, original], sender)
    assert mob.sizes() == [
        {"shared": KEPT_BY_HEAP},
        {"shared": KEPT_BY_HEAP, "views": 1},
    ]  # one of them is copied, the other is not
    mob.deliver()
    changed, unchanged = sender.got.pop()
    assert (changed[0], unchanged[0]) == (1, 0)
    del mine, original, changed, unchanged
    gc.collect()
    mob.settle()
    assert mob.sizes() == [{}, {}]


def test_when_the_owner_has_gone_a_private_view_stays(mob: Mob, roomy: Any) -> None:
    sender, receiver = roomy
    sender.send(memoryview(b"z" * KEPT_BY_HEAP), receiver)
    mob.deliver()
    mine = private(receiver.got.pop())
    mob.lose(sender)
    receiver.loop.pass_time()
    mine[0] = 1
    assert bytes(mine[:2]) == b"\x01z"
