"""Pages are prepared by a thread that exists only while there is something to do."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from mob.peer.references import warming
from mob.peer.references.warming import NICENESS, STEP, Part, Warming
from mob.rim.segments import IS_AVAILABLE, PREFAULT, Memory
from tests.peer.references.members import Member, Mob
from tests.running import wait_until

pytestmark = pytest.mark.skipif(not IS_AVAILABLE, reason="no memfd here")


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "mob-pages"]


def wait_idle() -> None:
    wait_until(lambda: not threads(), "the thread has ended")


@pytest.fixture(autouse=True)
def none_is_left() -> Any:
    yield
    wait_idle()


class Work:
    """Parts to prepare; those that were prepared, and the niceness of the thread."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self.done: list[tuple[int, int]] = []
        self.niceness: list[int] = []

    def next_part(self) -> Part | None:
        self.niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return self.parts.pop(0) if self.parts else None

    def handle_done(self, offset: int, end: int) -> None:
        self.done.append((offset, end))


def test_it_works_off_what_there_is_and_ends() -> None:
    memory = Memory(4 * STEP)
    work = Work([(memory, 0, STEP), (memory, STEP, 2 * STEP)])
    one = Warming(work.next_part, work.handle_done)
    assert repr(one) == "<Warming: nothing to do>"
    one.wake()
    wait_idle()
    assert work.done == [(0, STEP), (STEP, 2 * STEP)]
    assert work.niceness == [NICENESS] * 3
    assert os.getpriority(os.PRIO_PROCESS, 0) < NICENESS
    work.parts.append((memory, 2 * STEP, 3 * STEP))
    one.wake()
    wait_idle()
    assert len(work.done) == 3


def test_what_comes_while_it_works_is_done_by_the_same_thread() -> None:
    memory = Memory(4 * STEP)
    goes_on = threading.Event()
    seen: list[int] = []
    more = [(memory, STEP, 2 * STEP)]

    def next_part() -> Part | None:
        goes_on.wait()
        seen.append(threading.get_ident())
        return more.pop() if more else None

    one = Warming(next_part, lambda offset, end: None)
    one.wake()
    one.wake()
    assert repr(one) == "<Warming: at work>"
    assert len(threads()) == 1
    goes_on.set()
    wait_idle()
    assert len(set(seen)) == 1
    assert len(seen) == 3  # a part, nothing, and nothing again after the second wake


def test_it_ends_when_the_system_has_none_to_spare() -> None:
    memory = Memory(STEP)
    work = Work([(memory, 0, 2**50), (memory, 0, STEP)])
    Warming(work.next_part, work.handle_done).wake()
    wait_idle()
    assert work.done == []
    assert len(work.parts) == 1


def test_without_a_thread_nothing_is_had_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    work = Work([])
    one = Warming(work.next_part, work.handle_done)
    with monkeypatch.context() as patch:
        patch.setattr(warming.threading.Thread, "start", no_more)
        one.wake()
    assert repr(one) == "<Warming: nothing to do>"
    one.wake()
    wait_idle()
    assert work.niceness


def sent(member: Member, size: int) -> None:
    member.encoder.encode(bytes(size), "args")
    member.references.let_go(member.references.take())


def test_small_buffers_need_no_thread(mob: Mob) -> None:
    sent(mob.join(), PREFAULT // 2)
    assert threads() == []


def test_the_pages_of_the_next_buffer_are_there(mob: Mob) -> None:
    if not Memory(PREFAULT).populate(0, PREFAULT):
        pytest.skip("this system cannot have pages there ahead")
    size = STEP + PREFAULT
    one = mob.join(8 * size)
    buffers: Any = one.references.buffers
    sent(one, size)
    wait_idle()
    assert not buffers._written
    assert buffers._pool.warm == 2 * size
    buffers._warming = None  # the thread is no longer needed from now on
    held = [bytes([number]) * size for number in (1, 2)]
    for each in held:
        one.encoder.encode(each, "args")
    one.references.let_go(one.references.take())
    assert [bytes(buffers._memory.part(at * size, size)) for at in (0, 1)] == held


def test_a_pool_that_is_closed_has_nothing_to_do(mob: Mob) -> None:
    one = mob.join(8 * PREFAULT)
    sent(one, PREFAULT)
    buffers: Any = one.references.buffers
    buffers.close()
    buffers._warming.wake()
    wait_idle()
    assert buffers._pool.warm == 0
