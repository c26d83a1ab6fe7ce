import asyncio
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from time import monotonic
from typing import Any

import pytest
import uvloop

from mob.rim.reactor import Reactor


class Echo:
    """A small link: what is read is sent back at the next flush."""

    def __init__(self, reactor: Reactor, sock: socket.socket, rounds: int) -> None:
        self.reactor, self.sock, self.rounds = reactor, sock, rounds
        self.unsent: list[bytes] = []
        sock.setblocking(False)
        reactor.watch(sock.fileno(), self.handle_readable)

    def handle_readable(self) -> None:
        data = self.sock.recv(100)
        self.rounds -= 1
        if data and self.rounds > 0:
            self.post(data)
        else:
            self.reactor.loop.stop()

    def post(self, data: bytes) -> None:
        self.unsent.append(data)
        self.reactor.flush_soon(self)

    def flush(self) -> None:
        while self.unsent:
            self.sock.send(self.unsent.pop(0))


@pytest.fixture(params=[True, False], ids=["lingers", "sleeps"])
def reactor(request):
    made = Reactor(uvloop.new_event_loop(), lingers=request.param)
    yield made
    made.close()
    made.loop.close()


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def bounce(sock: socket.socket) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # a test may close its end before an answer is sent
        while data := sock.recv(100):
            sock.send(data)


def test_a_long_exchange_comes_to_its_end(reactor, pair):
    ours, theirs = pair
    other = threading.Thread(target=bounce, args=(theirs,))
    other.start()
    echo = Echo(reactor, ours, rounds=3000)
    reactor.loop.call_soon(echo.post, b"x")
    reactor.run()
    assert echo.rounds == 0
    ours.shutdown(socket.SHUT_RDWR)
    other.join()


def test_the_loop_gets_its_turn_however_fast_the_answers_come(reactor, pair):
    ours, theirs = pair
    other = threading.Thread(target=bounce, args=(theirs,))
    other.start()
    echo = Echo(reactor, ours, rounds=20_000)
    turns = []

    async def tick() -> None:
        while True:
            turns.append(echo.rounds)
            await asyncio.sleep(0)

    reactor.loop.call_soon(echo.post, b"x")
    ticking = reactor.loop.create_task(tick())
    reactor.run()
    ticking.cancel()
    assert len(turns) > 10  # at least one for each millisecond of the exchange
    assert echo.rounds == 0
    ours.shutdown(socket.SHUT_RDWR)
    other.join()


def test_drive_reads_and_writes_while_the_loop_stands_still(reactor, pair):
    ours, theirs = pair
    other = threading.Thread(target=bounce, args=(theirs,))
    other.start()
    echo = Echo(reactor, ours, rounds=100)
    held = []

    def block() -> None:
        echo.post(b"x")
        held.append(reactor.drive(lambda: echo.rounds == 0))

    reactor.loop.call_soon(block)
    reactor.run()
    assert held == [True]
    ours.shutdown(socket.SHUT_RDWR)
    other.join()


def count_wakes(reactor: Reactor) -> list[None]:
    """Return a list to which each wake-up of the reactor, by the loop or by hand, is added."""
    wakes: list[None] = []
    reactor.after_callback = lambda: wakes.append(None)
    return wakes


class Again:
    """A timer that sets itself again, that many times, for a moment ahead."""

    def __init__(self, reactor: Reactor, ahead: float, times: int, then=lambda: None) -> None:
        self.reactor, self.ahead, self.left, self.then = reactor, ahead, times, then
        self.early: list[float] = []
        self.set()

    def set(self) -> None:
        when = monotonic() + self.ahead
        self.reactor.call_at(when, lambda: self.handle(when))

    def handle(self, when: float) -> None:
        if monotonic() < when:
            self.early.append(when)
        self.left -= 1
        if self.left > 0:
            self.set()
        else:
            self.then()


@pytest.mark.parametrize("ahead", [-1.0, 0.0, 0.0001, 0.0005, 0.0012, 0.0049])
def test_a_timer_wakes_the_loop_no_more_than_twice_however_short_it_is(reactor, ahead):
    wakes = count_wakes(reactor)
    timer = Again(reactor, ahead, 50, reactor.loop.stop)
    reactor.run()
    assert timer.left == 0
    assert not timer.early
    assert 50 <= len(wakes) <= 101


@pytest.mark.parametrize("ahead", [-1.0, 0.0, 0.0001, 0.0005, 0.0012])
def test_a_timer_wakes_a_thread_that_drives_by_hand_no_more_than_twice(reactor, ahead):
    wakes = count_wakes(reactor)
    timer = Again(reactor, ahead, 50)
    assert reactor.drive(lambda: timer.left == 0)
    assert not timer.early
    assert 49 <= len(wakes) <= 101


def test_a_timer_that_sets_itself_for_the_past_lets_others_run(reactor):
    order: list[str] = []

    def again() -> None:
        order.append("again")
        reactor.call_at(monotonic() - 1, again)

    def end() -> None:
        order.append("end")
        reactor.loop.stop()

    reactor.call_at(monotonic() - 1, again)
    reactor.call_at(monotonic(), end)
    reactor.run()
    assert "end" in order


def test_rounds_by_hand_leave_one_timer_behind_in_the_loop_however_many_they_are(reactor, pair):
    ours, theirs = pair
    rounds = 500
    echo = Echo(reactor, ours, rounds + 1)
    reactor.call_at(monotonic() + 0.05, reactor.loop.stop)
    other = threading.Thread(target=bounce, args=(theirs,))
    other.start()
    echo.post(b"x")
    assert reactor.drive(lambda: echo.rounds <= 1)
    wakes = count_wakes(reactor)
    reactor.run()
    assert len(wakes) <= 5  # one or two for the timer, and the last read; not one for each round
    ours.close()
    other.join()


def test_timers_after_one_that_raises_still_run(reactor):
    seen: list[Any] = []
    reactor.on_exit = seen.append
    reactor.call_at(monotonic(), lambda: exec("raise SystemExit(3)"))
    reactor.call_at(monotonic(), reactor.loop.stop)
    reactor.run()
    assert [error.code for error in seen] == [3]


def test_a_timer_may_be_set_for_never(reactor):
    reactor.call_at(float("inf"), lambda: None)
    reactor.call_at(monotonic(), reactor.loop.stop)
    reactor.run()


def test_a_cancelled_timer_does_not_run_and_is_not_kept(reactor):
    seen: list[str] = []
    numbers = [reactor.call_at(monotonic() + 600, lambda: seen.append("late")) for _ in range(5000)]
    cancelled = reactor.call_at(monotonic(), lambda: seen.append("cancelled"))
    reactor.cancel(cancelled)
    for number in numbers[1:]:
        reactor.cancel(number)
    assert len(reactor._timers) < 200
    reactor.call_at(monotonic() + 0.01, reactor.loop.stop)
    reactor.run()
    assert seen == []


def test_cancelling_a_timer_that_has_run_changes_nothing(reactor):
    number = reactor.call_at(monotonic(), lambda: reactor.cancel(number))
    reactor.call_at(monotonic() + 0.01, reactor.loop.stop)
    reactor.run()
    reactor.cancel(number)
    assert not reactor._timers
    assert not reactor._timed


def run(reactor: Reactor, coroutine: Coroutine[Any, Any, None]) -> None:
    """Run the reactor until a coroutine ends."""
    task = reactor.loop.create_task(coroutine)
    task.add_done_callback(lambda _: reactor.loop.stop())
    reactor.run()
    task.result()


def test_a_coroutine_sees_each_change_and_looks_at_no_other_time(reactor, pair):
    ours, theirs = pair
    read: list[bytes] = []
    looks: list[int] = []
    ours.setblocking(False)

    async def wait_for_three() -> None:
        while len(read) < 3:
            looks.append(len(read))
            theirs.send(b"x")
            await reactor.change()

    reactor.watch(ours.fileno(), lambda: read.append(ours.recv(100)))
    run(reactor, wait_for_three())
    assert looks == [0, 1, 2]


def test_a_change_is_also_a_timer_or_a_note_or_the_deadline(reactor):
    happened: list[str] = []

    async def wait() -> None:
        reactor.call_at(monotonic() + 0.001, lambda: happened.append("timer"))
        while not happened:  # the loop may have come a moment early
            await reactor.change()
        reactor.loop.call_soon(reactor.note)
        await reactor.change()
        await reactor.change(monotonic() + 0.001)
        await reactor.change(monotonic() - 1)

    run(reactor, wait())
