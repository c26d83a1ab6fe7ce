"""Requests to the Kingpin: each is answered once, or passed on to the part that handles it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mob.core.decisions import Answer, Decision, Tell, Ticket
from mob.core.registry import Registry
from mob.kingpin.connections import Connection
from mob.kingpin.measured import Measured
from mob.kingpin.output.lines import Origin, OutputChunk
from mob.kingpin.processes.kills import Kills
from mob.kingpin.processes.post_mortems import PostMortems
from mob.kingpin.processes.stacks import StackRequests
from mob.kingpin.requests import RequestHandler, refuse
from mob.kingpin.shortage import Shortage
from mob.rim import crashes
from mob.wire import messages as m
from mob.wire.messages import SocketAddress
from tests.kingpin.members import Member
from tests.kingpin.offices import Office

APP = "requests"


class Asked:
    """Keeps the requests that change the app."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.ends: list[tuple[Ticket, bool]] = []
        self.upgrades: list[Ticket] = []
        self.queues: list[Ticket] = []

    def carry_out(self, decisions: list[Decision]) -> None:
        self.decisions += decisions

    def handle_end_app(self, ticket: Ticket, at_once: bool) -> None:
        self.ends.append((ticket, at_once))

    def handle_upgrade(self, ticket: Ticket) -> None:
        self.upgrades.append(ticket)

    def handle_want_queue(self, ticket: Ticket) -> None:
        self.queues.append(ticket)

    @property
    def answers(self) -> list[Answer]:
        return [each for each in self.decisions if isinstance(each, Answer)]


class Counter:
    """A client that sends requests, and the handler."""

    def __init__(self, office: Office, post_mortems: PostMortems) -> None:
        room, supervisor = office.room, office.world.supervisor
        self.office = office
        self.done = Asked()
        registry = Registry(office.crew, 0.0)
        self.measured = Measured(APP, registry, room.connections, office.console, Shortage(room.reactor, print))
        stacks = StackRequests(
            room.reactor, office.crew, room.connections, office.console, office.fork_client, self.done.carry_out
        )
        self.kills = Kills(
            *(room.reactor, office.crew, office.board, office.fork_client),
            *(supervisor.handle_call_killed, self.done.carry_out),
        )
        self.handler = RequestHandler(
            supervisor, self.measured, office.console.followers, post_mortems, stacks, self.kills, self.done
        )
        self.client: Member = room.client(50)
        self.connection: Connection = room.connections[50]

    def ask(self, message: Any, connection: Connection | None = None) -> list[Any]:
        self.handler.handle(connection or self.connection, message)
        self.office.room.reactor.flush()
        return self.client.heard()


@pytest.fixture
def counter(office: Office, tmp_path: Path) -> Iterator[Counter]:
    crashes.keep_in(APP, tmp_path)
    post_mortems = PostMortems(APP, office.crew, office.board, print)
    counter = Counter(office, post_mortems)
    yield counter
    counter.measured.close()
    post_mortems.close()


def test_the_table_and_the_numbers(counter: Counter) -> None:
    (rows,) = counter.ask(m.Overview(1))
    assert [(row.role, row.index, row.state) for row in rows.rows] == [("back", 0, "ready"), ("back", 1, "ready")]
    (answer,) = counter.ask(m.WantMetrics(2))
    metrics = answer.metrics
    assert (answer.id, metrics.app, metrics.clients, metrics.dropped_lines, metrics.lacks) == (2, APP, 1, 0, "")
    assert [each.role for each in metrics.mobsters] == ["back", "back"]
    assert metrics.memory > 0
    (ready,) = counter.ask(m.WantReadiness(4))
    assert ready == m.ReadinessIs(4, False, (m.RoleReadiness("back", 2, 2, True),))
    (history,) = counter.ask(m.WantHistory(3, since=0.0))
    assert (history.id, history.events) == (3, ())
    assert history.now > 0


def test_lines_are_followed_until_it_is_enough(counter: Counter) -> None:
    followers = counter.office.console.followers

    def print_line(text: bytes) -> list[Any]:
        followers.handle_chunk(OutputChunk(1.0, Origin("back", 0, 101, False, 36), text, 1))
        return counter.client.heard()

    print_line(b"before\n")
    (lines,) = counter.ask(m.Follow(1, "back", last=10, goes_on=True))
    assert ([line.text for line in lines.lines], lines.is_end) == (["before"], False)
    (lines,) = print_line(b"then\n")
    assert [line.text for line in lines.lines] == ["then"]
    counter.ask(m.Unfollow(1))
    assert print_line(b"later\n") == []
    pid = next(iter(counter.office.crew.processes.values())).pid
    assert counter.ask(m.Follow(2, pid=pid, last=0, goes_on=True)) == []
    (lines,) = counter.ask(m.Follow(3, pid=999, last=0, goes_on=True))
    assert lines.is_end, "a process that does not exist prints nothing"


WISHES = {
    "scale": (m.Scale(7, "back", 3), "back: 3 workers wanted, 2 ready."),
    "scale by so many": (m.Scale(7, "back", -1, relative=True), "back: 1 worker."),
    "scale a role that is none": (m.Scale(7, "front", 3), "there is no role 'front'."),
    "reload of a role that is none": (m.Reload(7, ("front",)), "there is no role 'front'."),
    "restart of a process that is none": (m.Restart(7, (), 999), "no worker has pid 999; `mob ps` lists them."),
}


@pytest.mark.parametrize("wish", WISHES)
def test_what_is_to_be_done_goes_to_the_supervisor_with_the_number_of_the_request(counter: Counter, wish: str) -> None:
    message, text = WISHES[wish]
    assert counter.ask(message) == [], "it is answered when it is carried out"
    (answer,) = counter.done.answers
    assert answer.ticket == (50, 7)
    assert (answer.error or answer.text) == text


def test_a_mobster_that_scales_means_its_own_role(counter: Counter) -> None:
    connection = counter.office.room.connections[counter.office.uid]
    counter.ask(m.Scale(7, "", 1, relative=True), connection)
    assert counter.done.answers == [
        Answer((counter.office.uid, 7), error="'back' cannot have 3 workers (workers=2, max_workers=None).")
    ]
    assert not any(isinstance(each, Tell) for each in counter.done.decisions)


def test_the_end_and_the_upgrade_of_the_app(counter: Counter) -> None:
    counter.ask(m.EndApp(7, at_once=True))
    counter.ask(m.Upgrade(8))
    assert (counter.done.ends, counter.done.upgrades) == ([((50, 7), True)], [(50, 8)])


def test_a_call_of_a_process_that_is_gone_is_over(counter: Counter) -> None:
    counter.ask(m.KillCall(7, 999, 3))
    assert counter.done.answers == [Answer((50, 7), text="over")]


def test_a_call_of_a_role_that_is_no_pool_is_not_killed(counter: Counter) -> None:
    counter.office.crew.processes[counter.office.uid].pid = os.getpid()
    counter.ask(m.KillCall(7, counter.office.uid, 3))
    assert counter.done.answers == [Answer((50, 7), error="role 'back' is not a pool: its calls cannot be killed.")]


def test_what_is_not_for_it_is_dropped(counter: Counter) -> None:
    assert counter.ask(m.Ready(1, (), True)) == []
    assert counter.done.decisions == []


REFUSALS = {
    "lines": (m.Follow(7), m.Lines(7, (), is_end=True)),
    "a port": (m.Bind(7, SocketAddress(2, "::1", (80,)), v6only=False, nth=0), m.NotBound(7, 22, "no")),
    "the terminal": (m.WantTerminal(7, "foo.py:3"), m.NoTerminal(7, "no")),
    "to give a port back": (m.Unbind(7, SocketAddress(2, "::1", (80,)), nth=0), m.Unbound(7)),
    "anything else that has a number": (m.Overview(7), m.Done(7, error="no")),
}


@pytest.mark.parametrize("wanted", REFUSALS)
def test_what_cannot_be_done_is_answered_all_the_same(counter: Counter, wanted: str) -> None:
    message, answer = REFUSALS[wanted]
    refuse(counter.connection, message, "no")
    refuse(counter.connection, m.Draining(), "no")
    counter.connection.link.flush()
    assert counter.client.heard() == [answer]
