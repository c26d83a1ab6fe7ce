import asyncio
import socket
import threading

import pytest
import uvloop

from mob.rim.reactor import Reactor


class Echo:
    """A link in small: what is read is sent back at the next flush."""

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
