"""Descriptors on a link: each message gets its own, and none gets those of another, whatever is missing."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from mob.rim.link import DESCRIPTORS, Descriptor, Link
from mob.rim.reactor import Reactor
from mob.wire import messages as m
from tests.limits import free_descriptors

LIMIT = 1 << 20


class End:
    """One end of a link that keeps what arrives: the messages, and the number of their descriptors."""

    def __init__(self, sock: socket.socket, reactor: Reactor) -> None:
        self.arrived: list[tuple[tuple[int, ...], int]] = []
        self.closed = ""
        self.link = Link(sock, reactor, m.decode_peer, self.handle, self.handle_closed, LIMIT)

    def handle(self, link: Link, messages: list[Any]) -> None:
        for message in messages:
            if isinstance(message, m.Attached):
                taken = link.take(len(message.numbers))
                self.arrived.append((message.numbers, len(taken)))
                for descriptor in taken:
                    os.close(descriptor)
            elif isinstance(message, m.SharedPool):
                os.close(*link.take(1))
            else:
                self.arrived.append(((), 0))

    def handle_closed(self, link: Link, why: str) -> None:
        self.closed = why


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    reactor = Reactor(asyncio.new_event_loop())
    reactor.claim()
    first, second = (End(sock, reactor) for sock in socket.socketpair())
    yield first, second
    first.link.close()
    second.link.close()
    reactor.loop.close()
    reactor.close()


def attached(*numbers: int) -> tuple[m.Attached, list[int]]:
    return m.Attached(numbers, False), [os.dup(0) for _ in numbers]


def count() -> int:
    return len(os.listdir("/proc/self/fd"))


def read_all(end: End) -> None:
    for _ in range(100):
        end.link.handle_readable()


def test_each_message_gets_its_own(ends: tuple[End, End]) -> None:
    one, other = ends
    before = count()
    numbers = [tuple(range(n)) for n in (1, DESCRIPTORS, 3)]
    for some in numbers:
        one.link.post(m.Farewell())
        one.link.post_with(*attached(*some))
    read_all(other)
    assert [entry for entry in other.arrived if entry[0]] == [(some, len(some)) for some in numbers]
    assert len(other.arrived) == 6
    assert count() == before


def test_one_that_is_shared_is_open_until_the_last_has_let_go(ends: tuple[End, End]) -> None:
    one, other = ends
    left, right = socket.socketpair()
    shared = Descriptor(right.detach())
    for _ in range(2):
        one.link.post_with(m.Attached((1,), False), [shared])
    read_all(other)
    assert other.arrived == [((1,), 1)] * 2
    left.setblocking(False)
    with pytest.raises(BlockingIOError):
        left.recv(1)
    del shared
    assert left.recv(1) == b""
    left.close()


@pytest.mark.parametrize("free", [0, 1, 2])
def test_what_is_missing_is_missing_in_its_own_message(ends: tuple[End, End], free: int) -> None:
    one, other = ends
    before = count()
    one.link.post_with(*attached(1, 2, 3))
    one.link.post_with(*attached(4))
    with free_descriptors(free):
        other.link.handle_readable()
    read_all(other)
    assert other.arrived == [((1, 2, 3), free), ((4,), 1)]
    assert count() == before


def test_what_is_missing_is_missing_in_its_own_message_though_that_comes_in_pieces(ends: tuple[End, End]) -> None:
    one, other = ends
    one.link.post_with(m.Attached(tuple(range(10_000)), False), [os.dup(0), os.dup(0)])
    one.link.post_with(*attached(4))
    with free_descriptors(1):
        data, ancillary, flags, _ = other.link._sock.recvmsg(100, 1000)
        other.link._keep(ancillary, flags)
    assert other.link._frames.feed(data) == []
    read_all(other)
    assert other.arrived == [(tuple(range(10_000)), 1), ((4,), 1)]


def test_more_than_arrived_cannot_be_taken(ends: tuple[End, End]) -> None:
    assert ends[0].link.take(3) == []


def test_what_nobody_has_taken_or_sent_is_closed_with_the_link(ends: tuple[End, End]) -> None:
    one, other = ends
    before = count()
    for _ in range(10):
        one.link.post_with(*attached(1, 2))
    with free_descriptors(1):
        _, ancillary, flags, _ = other.link._sock.recvmsg(5, 1000)
        other.link._keep(ancillary, flags)
    one.link.close()
    one.link.post_with(*attached(3))
    other.link.close()
    assert count() == before - 2


def test_what_waits_for_room_in_the_socket_is_closed_with_the_link(ends: tuple[End, End]) -> None:
    one, _ = ends
    before = count()
    for _ in range(10):
        one.link.post_with(m.Message(b"x" * 500_000), [os.dup(0)])  # type: ignore[arg-type]
    assert count() > before
    one.link.close()
    assert count() == before - 1


def test_what_waits_for_room_in_the_socket_is_counted(ends: tuple[End, End]) -> None:
    one, other = ends
    link = one.link
    assert link.unsent_bytes == 0
    for _ in range(10):
        link.post(m.Cancel(1))
        link.flush()
        link.post(m.Message(b"x" * 500_000))  # type: ignore[arg-type]
        link.flush()
    while link.unsent_bytes:
        assert link.unsent_bytes == sum(len(data) for data, _ in link._backlog)
        read_all(other)
        link.handle_writable()
    assert not link._backlog
    read_all(other)
    assert len(other.arrived) == 20


def test_a_message_that_is_posted_now_is_told_to_be_in_the_kernel_or_not(ends: tuple[End, End]) -> None:
    one, other = ends
    one.link.post(m.Cancel(1))
    assert one.link.post_now(m.Cancel(2))
    count = 2
    while one.link.post_now(m.Cancel(3)):
        count += 1
    assert one.link.unsent_bytes
    while len(other.arrived) < count:  # everything announced has arrived, though nothing more is written
        other.link.handle_readable()
    other.link.close()
    one.link.handle_writable()
    assert not one.link.post_now(m.Cancel(4))
    one.link.close()
    assert not one.link.post_now(m.Cancel(5))


def test_what_the_kernel_does_not_take_any_more_counts_as_unsent(ends: tuple[End, End]) -> None:
    """The other end is closed, and this one has not read that yet: a call that is posted now can go elsewhere."""
    first, second = ends
    arrived, *late = (m.Cancel(number) for number in range(4))
    first.link.post(arrived)
    first.link.flush()
    second.link.handle_readable()
    second.link.close()
    for message in late:
        first.link.post(message)
        first.link.flush()
    assert not first.link.is_closed
    assert first.link.unsent() == late
    first.link.handle_readable()
    assert first.link.is_closed
    assert first.link.unsent() == late


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_who_dies_with_something_of_ours_unread_is_read_to_the_end(new_loop: Callable[[], Any]) -> None:
    """The kernel then reports an error in addition to data, and a loop may call the reader for that only once."""
    reactor = Reactor(new_loop())
    sock, dying = socket.socketpair()
    end = End(sock, reactor)
    end.link.start()
    end.link.post(m.Farewell())
    end.link.flush()
    other = End(dying, reactor)
    other.link.post(m.Farewell())
    other.link.flush()
    dying.close()
    reactor.loop.call_later(5.0, reactor.loop.stop)
    reactor.after_callback = lambda: end.closed and reactor.loop.stop()  # pyright: ignore[reportAttributeAccessIssue]
    reactor.run()
    reactor.loop.close()
    reactor.close()
    assert end.arrived == [((), 0)]
    assert end.closed == "closed"


class Lacking(socket.socket):
    """A socket for whose descriptors the kernel has no room, that many times."""

    times = 2

    def sendmsg(self, *args: Any, **kwargs: Any) -> int:
        if self.times:
            self.times -= 1
            raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))
        return super().sendmsg(*args, **kwargs)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_the_kernel_has_no_room_for_is_sent_after_a_pause(new_loop: Callable[[], Any]) -> None:
    reactor = Reactor(new_loop())
    reactor.claim()
    left, right = socket.socketpair()
    one, other = End(Lacking(fileno=left.detach()), reactor), End(right, reactor)
    one.link.start()
    other.link.start()
    one.link.post_with(*attached(1, 2))
    one.link.post_with(*attached(3))
    assert one.link.unsent_bytes
    while len(other.arrived) < 2:
        reactor.stop()
        reactor.run()
    assert other.arrived == [((1, 2), 2), ((3,), 1)]
    assert one.link.unsent_bytes == 0
    one.link.close()
    other.link.close()
    reactor.loop.close()
    reactor.close()


def test_a_message_that_cannot_be_encoded_is_told_and_left_out(
    ends: tuple[End, End], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = ends
    for message in (m.Farewell(), m.Cancel(object()), m.Farewell()):  # type: ignore[arg-type]
        one.link.post(message)
    one.link.flush()
    read_all(other)
    assert len(other.arrived) == 2
    (told,) = caplog.messages
    assert told.startswith("dropped a message to a link that cannot be encoded: Cancel(")


def test_an_answer_that_cannot_be_encoded_becomes_a_failure(
    ends: tuple[End, End], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = ends
    arrived: list[Any] = []
    other.link._on_messages = lambda link, messages: arrived.extend(messages)
    for message in (m.Ended(1, 0), m.Ended(2, object()), m.Ended(object(), 0), m.Ended(4, 0)):  # type: ignore[arg-type]
        one.link.post(message)
    one.link.flush()
    read_all(other)
    kinds = [(type(each).__name__, each.id) for each in arrived]
    assert kinds == [("Ended", 1), ("Failed", 2), ("Ended", 4)]
    assert len(caplog.messages) == 2


def test_what_the_handler_of_a_frame_raises_is_raised_when_the_others_were_handled(ends: tuple[End, End]) -> None:
    one, other = ends
    handle, seen = other.link._on_messages, []

    def raises_once(link: Link, messages: list[Any]) -> None:
        seen.append(len(messages))
        if len(seen) == 1:
            raise ValueError("no")
        handle(link, messages)

    other.link._on_messages = raises_once
    for _ in range(2):
        one.link.post_encoded(m.encode([m.Farewell()]))
    with pytest.raises(ValueError, match="no"):
        other.link.handle_readable()
    assert seen == [1, 1]
    assert len(other.arrived) == 1
    assert other.closed == "received data could not be handled: ValueError: no"


def test_descriptors_that_no_message_takes_end_the_link(ends: tuple[End, End]) -> None:
    one, other = ends
    before = count()
    for _ in range(5):
        one.link.post_with(m.Farewell(), [os.dup(0) for _ in range(DESCRIPTORS)])
    read_all(other)
    assert "descriptors arrived without messages that take them" in other.closed
    assert count() == before - 1  # that of the link


def test_in_the_child_of_a_fork_a_link_is_closed_to_all_that_is_sent(ends: tuple[End, End]) -> None:
    one, _ = ends
    ended: list[str] = []
    one.link.abandon(lambda: ended.append("ended"))
    one.link.post(m.Farewell())
    one.link.post_lazily(m.Farewell())
    one.link.post_with(m.Farewell(), [])
    one.link.close_after_flush(1)
    assert ended == ["ended"] * 4
