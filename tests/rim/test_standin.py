"""Reading while plain code blocks the loop's thread: only if something waits elsewhere."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator

import pytest

from mob.rim.reactor import Reactor
from tests.patience import PATIENCE


@pytest.fixture(params=[False, True], ids=["", "debug"])
def reactor(request: pytest.FixtureRequest) -> Iterator[Reactor]:
    loop = asyncio.new_event_loop()
    loop.set_debug(request.param)
    loop.slow_callback_duration = PATIENCE
    reactor = Reactor(loop)
    yield reactor
    loop.close()
    reactor.close()


def run(reactor: Reactor, plain: Callable[[], None]) -> None:
    """Run plain code on the loop, as an export runs."""

    def call() -> None:
        reactor.go_away()
        try:
            plain()
        finally:
            reactor.come_back()
            reactor.loop.stop()

    reactor.loop.call_soon(call)
    reactor.run()


def test_a_function_is_called_while_plain_code_blocks_and_something_waits(reactor: Reactor) -> None:
    called = threading.Event()
    seen: list[object] = []

    def look() -> None:
        seen.append((threading.current_thread().name, reactor.is_stood_in))
        reactor.loop.call_soon(seen.append, "later")
        called.set()

    def plain() -> None:
        reactor.stand_in.begin_to_wait(called)
        reactor.call(look)
        assert called.wait(PATIENCE)
        seen.append("plain")

    run(reactor, plain)
    assert seen[:2] == [("mob-stand-in", True), "plain"]
    assert reactor.owner == reactor.thread
    assert not reactor.is_stood_in
    reactor.waiters.clear()
    run(reactor, lambda: None)
    assert "later" in seen


def test_timers_and_descriptors_are_served(reactor: Reactor) -> None:
    reading, writing = os.pipe()
    read, rung = threading.Event(), threading.Event()
    reactor.watch(reading, lambda: (os.read(reading, 1), read.set())[1])

    def plain() -> None:
        reactor.stand_in.begin_to_wait("both")
        os.write(writing, b"x")
        assert read.wait(PATIENCE)
        reactor.call(lambda: reactor.call_at(0.0, rung.set))  # pyright: ignore[reportArgumentType]
        assert rung.wait(PATIENCE)

    run(reactor, plain)
    reactor.unwatch(reading)
    os.close(reading)
    os.close(writing)


def test_it_is_not_there_while_nothing_waits(reactor: Reactor) -> None:
    run(reactor, lambda: None)
    reactor.stand_in.begin_to_wait("on the loop, which reads itself")
    assert not [thread for thread in threading.enumerate() if thread.name == "mob-stand-in"]
    assert not reactor.stand_in.is_alert


def test_what_says_something_of_the_loops_thread_is_left_to_it(reactor: Reactor) -> None:
    left = threading.Event()
    seen: list[bool] = []

    def beat() -> None:
        if reactor.is_stood_in:
            reactor.stand_in.leave(beat)
            left.set()
        else:
            seen.append(threading.get_ident() == reactor.thread)

    def plain() -> None:
        reactor.stand_in.begin_to_wait("a beat")
        reactor.call(beat)
        assert left.wait(PATIENCE)
        assert not seen

    run(reactor, plain)
    reactor.waiters.clear()
    reactor.drive(lambda: bool(seen))
    assert seen == [True]


def test_a_look_lasts_until_the_thread_is_back(reactor: Reactor) -> None:
    called = threading.Event()

    def plain() -> None:
        reactor.stand_in.look()
        assert reactor.waiters
        reactor.call(called.set)
        assert called.wait(PATIENCE)

    reactor.stand_in.look()
    assert not reactor.waiters  # the loop's thread is not away: there is nothing to look for
    run(reactor, plain)
    assert not reactor.waiters


def test_a_function_that_waits_by_hand_calls_those_behind_it(reactor: Reactor) -> None:
    seen: list[str] = []
    reactor.loop.set_exception_handler(lambda _, context: seen.append(context["message"]))

    def wait() -> None:
        reactor.call(lambda: seen.append("third"))
        reactor.drive(lambda: len(seen) == 2)
        seen.append("first")

    def end() -> None:
        seen.append("last")
        reactor.loop.stop()

    reactor.call(wait)
    reactor.call(lambda: seen.append("second"))
    reactor.call(lambda: reactor.call(end))
    reactor.run()
    assert seen == ["second", "third", "first", "last"]


def test_an_error_does_not_end_it(reactor: Reactor) -> None:
    told: list[str] = []
    called = threading.Event()
    reactor.loop.set_exception_handler(lambda _, context: told.append(context["message"]))

    def fail() -> None:
        raise SystemExit(3)

    def plain() -> None:
        reactor.stand_in.begin_to_wait("something")
        reactor.call(fail)
        reactor.call(called.set)
        assert called.wait(PATIENCE)

    run(reactor, plain)
    assert told == ["the stand-in has failed"]
