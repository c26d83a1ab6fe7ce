"""What a mobster that ends still waits for, until when, in which order; and the stages in the documentation."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mob.core import draining
from mob.core.draining import (
    ANSWERED,
    ANSWERING,
    CONNECTIONS_INTERVAL,
    EVENTS,
    EXIT_SECONDS,
    FAREWELL_TIME,
    HALF,
    HEEDING,
    LEAST,
    LIFESPAN,
    ORDERLY_END,
    SETTLING,
    SILENT,
    UNSURE,
    VISITOR_LOOK,
    Act,
    DrainProgress,
    DrainStage,
    Over,
    Use,
    Visitors,
    VisitorStep,
    WaitUntil,
)

NOW = 1000.0
GRACE = 30.0
END = NOW + GRACE - ORDERLY_END
ENDINGS = Path(__file__).resolve().parents[2] / "docs" / "internals" / "endings.md"


@dataclass
class Scene:
    """A mobster that has nothing to do, and is alone."""

    is_importing: bool = False
    finishes_by_itself: bool = False
    is_exit_asked: bool = False
    awaits_answers: bool = False
    in_hand: int = 0
    has_heard_farewells: bool = True
    has_requests: bool = False
    connections: list[Use] = field(default_factory=list)
    looks: int = 0

    def uses(self) -> Iterable[Use]:
        self.looks += 1
        return iter(self.connections)


def at(stage: DrainStage, scene: Scene, grace: float = GRACE, has_ports: bool = False) -> DrainProgress:
    """Return the progress of an end that has come to a stage, and has not asked yet what that waits for."""
    made = DrainProgress(scene, NOW, grace, has_ports)
    while made._stages[0] is not stage:
        made._stages.popleft()
    return made


def name_of(decision: WaitUntil | Act | Over) -> str:
    return decision.stage if isinstance(decision, Act) else type(decision).__name__.lower()


@pytest.mark.parametrize(
    ("left", "roles", "share"),
    [(GRACE, 1, GRACE), (GRACE, 3, GRACE - 2 * GRACE * draining.RESERVE), (2.0, 4, 0.5), (0.0, 2, 0.0)],
)
def test_how_the_roles_of_a_stop_share_the_grace_time(left: float, roles: int, share: float) -> None:
    assert draining.share(left, GRACE, roles) == pytest.approx(share)


# --- the stages -------------------------------------------------------------------------------------------------------


def test_one_that_has_nothing_to_wait_for_goes_through_the_stages_in_their_order() -> None:
    made = DrainProgress(Scene(), NOW, GRACE)
    assert repr(made) == "<DrainProgress, module>"
    done = [name_of(made.decide(NOW)) for _ in range(10)]
    assert done == [
        *("signal", "requests", "drain", "standing", "stop", "tasks", "errors", "links"),
        *("over", "over"),
    ]
    assert repr(made) == "<DrainProgress, over>"


def test_a_module_that_blocks_is_woken_first() -> None:
    made = DrainProgress(Scene(is_importing=True), NOW, GRACE)
    assert [name_of(made.decide(NOW)) for _ in range(2)] == ["module", "signal"]


@pytest.mark.parametrize(
    ("stage", "waiting", "until", "after"),
    [
        (
            DrainStage.MODULE,
            {"is_importing": True, "connections": [Use.OPEN]},
            NOW + SETTLING + CONNECTIONS_INTERVAL,
            "module",
        ),
        (DrainStage.ANSWERS, {"awaits_answers": True}, END, "requests"),
        (DrainStage.CALLS, {"in_hand": 1}, math.inf, "requests"),
        (DrainStage.REQUESTS, {"has_requests": True}, math.inf, "requests"),
        (DrainStage.PORTS, {"connections": [Use.OPEN]}, NOW + SETTLING + CONNECTIONS_INTERVAL, "drain"),
    ],
)
def test_each_stage_waits_for_what_it_is_for(
    stage: DrainStage, waiting: dict[str, object], until: float, after: str
) -> None:
    now, calm = NOW + SETTLING, Scene(is_importing="is_importing" in waiting)
    made = at(stage, scene := Scene(**waiting), has_ports="connections" in waiting)  # type: ignore[arg-type]
    assert made.decide(now) == made.decide(now) == WaitUntil(until)
    vars(scene).update(vars(calm))
    while isinstance(decision := made.decide(now), WaitUntil):
        assert now < decision.until <= now + CONNECTIONS_INTERVAL
        now = decision.until
    assert name_of(decision) == after


@pytest.mark.parametrize(
    ("stage", "waiting"),
    [
        (DrainStage.ANSWERS, {"awaits_answers": True}),
        (DrainStage.CALLS, {"in_hand": 1, "has_heard_farewells": False}),
        (DrainStage.PORTS, {"connections": [Use.UNANSWERED]}),
    ],
)
def test_an_exit_of_a_handler_waits_for_no_calls_and_no_strangers(
    stage: DrainStage, waiting: dict[str, object]
) -> None:
    made = at(stage, Scene(is_exit_asked=True, **waiting), has_ports=True)  # type: ignore[arg-type]
    assert isinstance(made.decide(NOW), Act)


@pytest.mark.parametrize(
    ("stage", "left", "is_exit_asked", "seconds"),
    [
        (DrainStage.STOP, 20.0, False, 20.0 - ORDERLY_END),
        (DrainStage.STOP, ORDERLY_END, False, LEAST),
        (DrainStage.TASKS, 0.0, True, LEAST),
        (DrainStage.REQUESTS, 20.0, False, 20.0 - ORDERLY_END),
        (DrainStage.REQUESTS, 0.0, False, LIFESPAN),
        (DrainStage.DRAIN, 20.0, False, 20.0 - ORDERLY_END),
        (DrainStage.DRAIN, 20.0, True, 0.0),
    ],
)
def test_a_stage_has_what_is_left_of_the_grace_time(
    stage: DrainStage, left: float, is_exit_asked: bool, seconds: float
) -> None:
    decision = at(stage, Scene(is_exit_asked=is_exit_asked)).decide(NOW + GRACE - left)
    assert decision == Act(stage, pytest.approx(seconds))  # pyright: ignore[reportArgumentType]


def test_requests_are_broken_off_so_early_that_their_application_can_end() -> None:
    assert DrainProgress(Scene(), NOW, GRACE).requests_until == END - LIFESPAN


@pytest.mark.parametrize(
    ("left", "is_exit_asked", "seconds"),
    [(20.0, False, 20.0 - ORDERLY_END / 2), (0.0, False, LEAST), (20.0, True, EXIT_SECONDS)],
)
def test_threads_have_what_is_left_when_all_else_is_over(left: float, is_exit_asked: bool, seconds: float) -> None:
    made = DrainProgress(Scene(is_exit_asked=is_exit_asked), NOW, GRACE)
    assert made.seconds_at_exit(NOW + GRACE - left) == pytest.approx(seconds)


# --- answers, calls, farewells ----------------------------------------------------------------------------------------


def test_a_handler_has_a_moment_for_what_it_does_with_the_answer() -> None:
    made = at(DrainStage.ANSWERS, scene := Scene(awaits_answers=True))
    assert made.decide(NOW) == WaitUntil(END)
    scene.awaits_answers = False
    assert made.decide(NOW + 1) == made.decide(NOW + 1 + ANSWERED / 2) == WaitUntil(NOW + 1 + ANSWERED)
    assert name_of(made.decide(NOW + 1 + ANSWERED)) == "requests"


def test_answers_are_not_waited_for_when_the_time_is_over() -> None:
    made = at(DrainStage.ANSWERS, Scene(awaits_answers=True))
    assert made.decide(NOW) == WaitUntil(END)
    assert made.decide(END) == WaitUntil(END + ANSWERED)
    assert name_of(made.decide(END + ANSWERED)) == "requests"


def test_farewells_are_waited_for_a_second_and_calls_as_long_as_they_last() -> None:
    made = at(DrainStage.ANSWERS, scene := Scene(has_heard_farewells=False))
    # counted from here, however long the import lasted
    assert made.decide(NOW + 5) == WaitUntil(NOW + 5 + FAREWELL_TIME)
    scene.in_hand = 2
    assert made.decide(NOW + 5.5) == made.decide(NOW + 10 * GRACE) == WaitUntil(math.inf)
    scene.in_hand = 0
    assert name_of(made.decide(NOW + 5 + FAREWELL_TIME)) == "requests"


def test_who_has_heard_all_farewells_waits_no_longer() -> None:
    made = at(DrainStage.ANSWERS, scene := Scene(has_heard_farewells=False))
    assert made.decide(NOW) == WaitUntil(NOW + FAREWELL_TIME)
    scene.has_heard_farewells = True
    assert name_of(made.decide(NOW)) == "requests"


# --- connections at shared ports --------------------------------------------------------------------------------------


def looks(stage: DrainStage, now: float, *uses: Use, finishes: bool = False, grace: float = GRACE) -> list[bool]:
    """Return if the stage is over, after one check and after another."""
    scene = Scene(stage is DrainStage.MODULE, finishes_by_itself=finishes, connections=list(uses))
    made, over = at(stage, scene, grace, has_ports=True), list[bool]()
    for _ in range(2):
        decision = made.decide(now)
        over.append(isinstance(decision, Act))
        now = decision.until if isinstance(decision, WaitUntil) else now
    return over


@pytest.mark.parametrize("stage", [DrainStage.MODULE, DrainStage.PORTS])
def test_two_looks_must_find_nobody(stage: DrainStage) -> None:
    assert looks(stage, NOW + SETTLING) == [False, True]
    made = at(stage, scene := Scene(stage is DrainStage.MODULE), has_ports=True)
    assert made.decide(NOW) == WaitUntil(NOW + SETTLING)
    assert scene.looks == 0  # a client that was just accepted has not sent its request yet
    assert (
        made.decide(NOW + SETTLING)
        == made.decide(NOW + SETTLING + CONNECTIONS_INTERVAL / 2)
        == WaitUntil(NOW + SETTLING + CONNECTIONS_INTERVAL)
    )
    assert scene.looks == 1
    scene.connections = [Use.UNANSWERED]
    assert made.decide(NOW + SETTLING + CONNECTIONS_INTERVAL) == WaitUntil(NOW + SETTLING + 2 * CONNECTIONS_INTERVAL)
    scene.connections = []
    assert isinstance(made.decide(NOW + SETTLING + 2 * CONNECTIONS_INTERVAL), WaitUntil)  # counted from the beginning
    assert isinstance(made.decide(NOW + SETTLING + 3 * CONNECTIONS_INTERVAL), Act)


def test_without_shared_ports_nobody_looks() -> None:
    made = at(DrainStage.PORTS, scene := Scene(connections=[Use.UNANSWERED]))
    assert name_of(made.decide(NOW)) == "drain"
    assert not scene.looks


@pytest.mark.parametrize(
    ("use", "before"),
    [
        (Use.UNANSWERED, GRACE - ORDERLY_END),
        (Use.PATIENT, GRACE - ORDERLY_END),
        (Use.UNSURE, UNSURE),
        (Use.OPEN, GRACE * HALF),
        (Use.IDLE, 0.0),
    ],
)
def test_a_server_that_does_not_finish_has_its_connections_waited_for(use: Use, before: float) -> None:
    for stage in (DrainStage.MODULE, DrainStage.PORTS):
        if before:
            assert looks(stage, NOW + before - 1, Use.IDLE, use) == [False, False]
        late = max(NOW + before, NOW + SETTLING)
        assert looks(stage, late, Use.IDLE, use)[1]


@pytest.mark.parametrize("use", list(Use))
def test_a_server_that_finishes_by_itself_needs_to_have_read_what_it_was_asked(use: Use) -> None:
    is_waited_for = use is Use.UNANSWERED
    assert looks(DrainStage.MODULE, NOW + ANSWERING / 2, use, finishes=True) == [False, not is_waited_for]
    assert looks(DrainStage.MODULE, NOW + ANSWERING, use, finishes=True) == [True, True]
    assert looks(DrainStage.MODULE, NOW + SETTLING, use, finishes=True, grace=ORDERLY_END)[0]


# --- visitors of a server of mob's ------------------------------------------------------------------------------------


@dataclass
class Answer:
    """An answer of unknown length."""

    has_events: bool = False
    told_at: float | None = None
    is_broken_off: bool = False


def visitors(stream_grace: float | None = None) -> Visitors:
    made = Visitors(stream_grace)
    assert not made.has_begun
    assert repr(made) == "<Visitors, not ending>"
    made.begin(NOW)
    assert made.has_begun
    assert repr(made) == "<Visitors>"
    assert made.settled_at == NOW + SETTLING
    return made


@pytest.mark.parametrize(
    ("stream_grace", "has_events", "due"),
    [(None, True, NOW + EVENTS), (None, False, math.inf), (5.0, True, NOW + 5), (5.0, False, NOW + 5)],
)
def test_when_an_application_is_told_to_end_its_answer(
    stream_grace: float | None, has_events: bool, due: float
) -> None:
    made, answer = visitors(stream_grace), Answer(has_events)
    assert made.decide_answer(NOW, answer) == WaitUntil(due)
    assert made.decide_answer(due, answer) is VisitorStep.TELL


def test_who_does_not_heed_is_broken_off_and_who_swallows_that_is_given_up() -> None:
    made, answer = visitors(), Answer(True, told_at=NOW + 1)
    assert made.decide_answer(NOW + 1, answer) == WaitUntil(NOW + 1 + HEEDING)
    assert made.decide_answer(NOW + 1 + HEEDING, answer) is VisitorStep.BREAK_OFF
    answer.is_broken_off = True
    assert made.decide_answer(NOW + 1 + HEEDING, answer) == WaitUntil(NOW + 1 + 2 * HEEDING)
    assert made.decide_answer(NOW + 1 + 2 * HEEDING, answer) is VisitorStep.GIVE_UP


@pytest.mark.parametrize(
    ("since", "now", "has_sent", "is_unanswered", "decision"),
    [
        (0.0, 0.0, False, False, WaitUntil(NOW + SILENT)),
        (0.0, SILENT, False, False, VisitorStep.CLOSE),
        (0.0, SILENT, True, False, WaitUntil(NOW + SILENT + VISITOR_LOOK)),
        (0.0, SILENT + SETTLING, True, False, VisitorStep.CLOSE),  # it is not read, for whatever reason
        (0.0, SILENT, False, True, WaitUntil(NOW + SILENT + VISITOR_LOOK)),
        (0.0, ANSWERING, False, True, VisitorStep.CLOSE),  # it may get no answer
        (8.0, 8.2, False, False, WaitUntil(NOW + 8.0 + SILENT)),  # its last answer was a long one
        (8.0, 8.0 + SILENT, True, True, WaitUntil(NOW + 8.0 + SILENT + VISITOR_LOOK)),
        (8.0, 8.0 + SILENT + SETTLING, True, True, VisitorStep.CLOSE),
    ],
)
def test_when_a_silent_connection_is_closed(
    since: float, now: float, has_sent: bool, is_unanswered: bool, decision: WaitUntil | VisitorStep
) -> None:
    found = visitors().decide_silent(NOW + now, NOW + since, lambda: has_sent, lambda: is_unanswered)
    assert found == decision


# --- the documentation ------------------------------------------------------------------------------------------------


def test_the_documentation_has_all_stages_in_their_order() -> None:
    section = ENDINGS.read_text("utf-8").partition("## How a mobster ends")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| \*\*(\w+)\*\* \|", section, re.MULTILINE)
    assert rows == [*DrainStage, "threads"]


def test_the_documentation_names_the_times_with_their_values() -> None:
    section = ENDINGS.read_text("utf-8").partition("## How a mobster ends")[2].partition("\n## ")[0]
    said = re.findall(r"`([A-Z_]+)` ([\d.]+)", section)
    assert said == [(name, f"{getattr(draining, name):g}") for name, _ in said]
    assert {name for name, _ in said} == {name for name in vars(draining) if name.isupper() and name != "WAITING"}
