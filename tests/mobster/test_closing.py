"""When a mobster that ends has nobody left to wait for at its shared ports."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest

from mob.mobster.closing import ANSWERING, HALF, LAST, SETTLING, UNSURE, Closing
from mob.rim.listeners import Sharing, Wish
from tests.running import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel is not asked")
NOW = 1000.0
GRACE = 30.0


def _never(wish: Wish) -> None:
    raise AssertionError(f"{wish} was given back")


class Served:
    """A shared port, and connections that have come in there."""

    def __init__(self) -> None:
        self.made = socket.create_server(("127.0.0.1", 0))
        self.sockets: list[socket.socket] = [self.made]
        self.closing = Closing(Sharing(_never_asked, _never, lambda: None))

    def share(self) -> None:
        """It is a shared one."""
        made, own = self.made, socket.socket()
        self.sockets.append(own)
        sharing = Sharing(lambda wish: made.detach(), _never, lambda: None)
        sharing.share(own, made.getsockname())
        self.closing = Closing(sharing)

    def let_in(self) -> tuple[socket.socket, socket.socket]:
        """A client and its connection."""
        client = socket.create_connection(self.made.getsockname())
        pair = client, self.made.accept()[0]
        self.sockets += pair
        return pair

    def looks(self, now: float, finishes_by_itself: bool = False) -> list[bool]:
        """What it says, asked thrice."""
        return [self.closing.is_over(now, finishes_by_itself) for _ in range(3)]


def _never_asked(wish: Wish) -> int:
    raise AssertionError(wish)


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    for sock in made.sockets:
        sock.close()


def test_without_a_shared_port_nothing_is_waited_for(served: Served) -> None:
    served.let_in()
    assert served.closing.is_over(NOW)
    served.closing.begin(NOW, NOW + GRACE)
    assert served.closing.is_over(NOW)


@pytest.mark.parametrize("finishes", [True, False])
def test_it_settles_first_and_looks_twice(served: Served, finishes: bool) -> None:
    served.share()
    served.closing.begin(NOW, NOW + GRACE)
    assert served.looks(NOW + SETTLING / 2, finishes) == [False] * 3
    assert served.looks(NOW + SETTLING, finishes) == [False, True, True]


def test_one_that_was_just_let_in_is_waited_for_unless_the_server_finishes_by_itself(served: Served) -> None:
    served.let_in()
    served.share()
    served.closing.begin(NOW, NOW + GRACE)
    assert served.looks(NOW + SETTLING) == [False] * 3
    assert served.looks(NOW + UNSURE) == [False] * 3
    assert served.looks(NOW + SETTLING, finishes_by_itself=True) == [False, True, True]


def test_what_is_not_answered_is_waited_for_in_any_case_but_not_for_ever(served: Served) -> None:
    client, _ = served.let_in()
    served.share()
    served.closing.begin(NOW, NOW + GRACE)
    client.sendall(b"?")
    wait_until(lambda: served.looks(NOW + SETTLING, finishes_by_itself=True) == [False] * 3, "the question has come")
    assert served.looks(NOW + ANSWERING, finishes_by_itself=True) == [True] * 3
    assert served.looks(NOW + ANSWERING) == [False] * 3
    assert served.looks(NOW + GRACE - LAST) == [True] * 3


def test_one_that_is_never_idle_is_left_between_two_answers_in_the_second_half_of_the_time(served: Served) -> None:
    served.let_in()
    served.share()
    served.closing.begin(NOW, NOW + GRACE)
    assert served.looks(NOW + GRACE * HALF - 1) == [False] * 3
    assert served.looks(NOW + GRACE * HALF) == [False, True, True]


def test_one_that_goes_away_is_not_waited_for(served: Served) -> None:
    client, accepted = served.let_in()
    served.share()
    served.closing.begin(NOW, NOW + GRACE)
    assert not served.closing.is_over(NOW + SETTLING)
    client.close()
    accepted.close()
    assert served.looks(NOW + SETTLING) == [False, True, True]
