"""Messages of a client about its waiting calls: the first after a moment, then one per second, then none."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, cast

from mob.peer.calls.backlog import BACKLOG_DELAY, BACKLOG_INTERVAL, Backlog
from mob.wire.messages import Parked


class Client:
    """The context, routes and control that a backlog uses; the test rings its timers and reads its messages."""

    def __init__(self) -> None:
        self.name = "client (pid 7)"
        self.reactor: Any = self
        self.is_closed = False
        self.calls: dict[str, int] = {}
        self.bytes_of_each = 0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.said: list[Parked] = []

    def call_at(self, when: float, function: Callable[[], None]) -> None:
        self.timers.append((when - monotonic(), function))

    def post(self, message: Parked) -> None:
        self.said.append(message)

    def overdue(self, now: float) -> dict[str, int]:
        return dict(self.calls)

    def size(self, role: str) -> int:
        return self.bytes_of_each * self.calls[role]

    @property
    def waiting(self) -> int:
        return sum(self.calls.values())

    def ring(self) -> float:
        """Ring the one timer; return the largest number of seconds for which it was set."""
        ((seconds, function),) = self.timers
        self.timers.clear()
        function()
        return seconds


def made() -> tuple[Client, Backlog]:
    client = Client()
    return client, Backlog(cast(Any, client), cast(Any, client), cast(Any, client))


def test_what_waits_is_told_after_a_moment_and_then_once_a_second_until_it_does_not() -> None:
    client, backlog = made()
    client.calls, client.bytes_of_each = {"back": 3}, 200
    for _ in range(3):
        backlog.handle_parked()
    assert client.said == []
    assert client.ring() <= BACKLOG_DELAY
    client.calls, client.bytes_of_each = {"back": 1, "front": 1}, 500
    backlog.handle_parked()
    assert BACKLOG_DELAY < client.ring() <= BACKLOG_INTERVAL
    client.ring()
    client.calls = {}
    client.ring()
    assert client.said == [
        Parked({"back": 3}, {"back": 600}),
        Parked({"back": 1, "front": 1}, {"back": 500, "front": 500}),
        Parked({"back": 1, "front": 1}, {"back": 500, "front": 500}),
        Parked(),
    ]
    assert client.timers == [], "no timer runs while nothing waits"


def test_what_waits_for_a_moment_only_is_not_told() -> None:
    client, backlog = made()
    client.calls = {"back": 3}
    backlog.handle_parked()
    client.calls = {}
    client.ring()
    assert (client.said, client.timers) == ([], [])
    client.calls = {"back": 1}
    backlog.handle_parked()
    client.ring()
    assert client.said == [Parked({"back": 1}, {"back": 0})]


def test_nothing_goes_on_when_the_kingpin_has_gone() -> None:
    client, backlog = made()
    client.calls, client.is_closed = {"back": 3}, True
    backlog.handle_parked()
    client.ring()
    assert (client.said, client.timers) == ([], [])
