"""Calls that could not be served: they are answered whatever is raised in the meantime, or their link is closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from threading import get_ident
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Raw

from mob.peer.serving.ends import ATTEMPTS, Ends
from mob.wire import messages as m

CALL = m.Invoke(7, "foo", Raw(b"\x90"))


class FakeLink:
    def __init__(self) -> None:
        self.closed = ""

    def close(self, why: str) -> None:
        self.closed = why


class FakeReactor:
    """A reactor that calls at once, or at its next turn."""

    def __init__(self) -> None:
        self.thread = get_ident()
        self.driving = 0
        self.due: list[Callable[[], object]] = []
        self.failures = 0

    def call(self, function: Callable[[], object]) -> None:
        if self.failures:
            self.failures -= 1
            raise MemoryError
        self.due.append(function)

    def call_at(self, when: float, function: Callable[[], object]) -> None:
        self.due.append(function)

    def turn(self) -> None:
        due, self.due = self.due, []
        for function in due:
            function()


class FakeGate:
    kept = 1
    handed = 5


class FakeServing:
    """The part of `Serving` that `Ends` uses; forgetting a call fails a given number of times."""

    def __init__(self) -> None:
        self.context = SimpleNamespace(reactor=FakeReactor())
        self.answers = self
        self.failures = 0
        self.failed: list[tuple[int, BaseException]] = []
        self.named: list[int] = []
        self.done: list[int] = []
        self.tasks: dict[Any, Any] = {}
        self.streams: dict[Any, Any] = {}
        self.chunks: dict[Any, Any] = {}
        self.batchers: set[Any] = set()
        self.exports: dict[str, Any] = {}
        self.timed_out: dict[Any, Any] = {}
        self.inbox = self.inviting = self.handlers = self
        self.calls: list[Any] = []
        self.is_idle = True
        self.looks = 0
        self.breaks = False

    def __repr__(self) -> str:
        return "<serving>"

    def forget_call(self, link: FakeLink, call: m.Invoke) -> None:
        if self.failures:
            self.failures -= 1
            raise MemoryError

    def fail(self, link: FakeLink, call: m.Invoke, error: BaseException) -> None:
        self.failed.append((call.id, error))

    def fail_plainly(self, link: FakeLink, call: m.Invoke, error: BaseException) -> None:
        if self.breaks:
            raise MemoryError
        self.named.append(call.id)

    def handle_task_done(self, link: FakeLink, call: m.Invoke, task: Any) -> None:
        self.done.append(call.id)

    def look_after(self) -> bool:
        self.looks += 1
        if self.breaks:
            raise MemoryError
        return False


class Fixture:
    def __init__(self) -> None:
        self.serving: Any = FakeServing()
        self.reactor: FakeReactor = self.serving.context.reactor
        self.link: Any = FakeLink()
        self.ends = Ends(self.serving, self.serving)


@pytest.fixture
def made() -> Fixture:
    return Fixture()


def fails(*args: object) -> None:
    raise KeyboardInterrupt


def test_a_step_that_raises_ends_its_call_with_that(made: Fixture) -> None:
    made.ends.attend(made.link, CALL, lambda *args: None, 1)
    assert made.serving.failed == []
    made.ends.attend(made.link, CALL, fails, 1)
    ((number, error),) = made.serving.failed
    assert number == 7
    assert isinstance(error, KeyboardInterrupt)
    assert repr(made.ends) == "<Ends of <serving>>"


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize("failures", range(ATTEMPTS + 1))
def test_it_is_tried_again_then_the_name_is_sent_and_at_last_the_link_ends(
    made: Fixture, failures: int, breaks: bool
) -> None:
    made.serving.failures, made.serving.breaks = failures, breaks
    made.ends.end_beside(made.link, CALL, ValueError("x"))
    is_failed = failures < ATTEMPTS
    assert [number for number, _ in made.serving.failed] == [7] * is_failed
    assert made.serving.named == [7] * (not is_failed and not breaks)
    assert made.link.closed == ("the call 7 could not be answered" if breaks and not is_failed else "")


@pytest.mark.parametrize("failures", range(ATTEMPTS + 1))
def test_on_another_thread_the_loop_is_asked_to(made: Fixture, failures: int) -> None:
    made.reactor.failures = failures
    thread = threading.Thread(target=made.ends.end_beside, args=(made.link, CALL, ValueError("x")))
    thread.start()
    thread.join()
    assert made.serving.failed == []
    made.reactor.turn()
    assert len(made.serving.failed) == (failures < ATTEMPTS)


def test_a_task_that_is_left_is_answered_once(made: Fixture) -> None:
    task: Any = object()
    made.serving.tasks = {(made.link, 7): task}
    made.ends.leave((made.link, 7), task)
    made.ends.leave((made.link, 7), object())  # type: ignore[arg-type]  another has its number by now
    ((number, error),) = made.serving.failed
    assert (number, made.serving.done) == (7, [7])
    assert isinstance(error, asyncio.CancelledError)


def test_what_has_ended_without_an_answer_is_ended_at_the_second_look(made: Fixture) -> None:
    made.serving.tasks = {(made.link, 1): SimpleNamespace(done=lambda: True)}
    made.serving.streams = {(made.link, 2): SimpleNamespace(is_over=True)}
    made.ends.watch()
    made.ends.watch()
    assert len(made.reactor.due) == 1
    made.reactor.driving = 1
    made.reactor.turn()  # the loop is blocked: nothing is lost
    assert made.serving.looks == 0
    made.reactor.driving = 0
    made.reactor.turn()
    assert (made.serving.done, made.serving.failed) == ([], [])
    made.reactor.turn()
    assert made.serving.done == [1]
    ((number, error),) = made.serving.failed
    assert (number, str(error)) == (2, "the end of a stream was lost")
    made.serving.tasks, made.serving.streams = {}, {}
    made.reactor.turn()
    assert made.reactor.due == []
    assert not made.ends.is_watching


def test_a_look_that_raises_is_not_the_last(made: Fixture) -> None:
    made.serving.breaks = True
    made.ends.watch()
    with pytest.raises(MemoryError):
        made.reactor.turn()
    assert made.ends.is_watching


def test_a_place_that_was_kept_for_nobody_is_given_on(made: Fixture) -> None:
    given: list[Any] = []
    limiter = FakeGate()
    export = SimpleNamespace(limiter=limiter)
    made.serving.exports = {"foo": export}
    made.serving.let_next_in = lambda *args: given.append(args)
    made.ends.look_after()
    assert given == []
    made.ends.look_after()
    assert given == [(export, limiter)]
