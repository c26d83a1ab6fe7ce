"""When timers run: by tables of moments, without a clock, a process or a sleep."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from mob.core.decisions import Answer, Tell
from mob.core.timer_state import Instant, TimerState
from mob.core.timer_workers import FIRST_ASKED, AskForRoom, BeginTimerRun, NoTimerRun, ReadyWorker
from mob.core.timers import CORRECTION, LONG, MOST_COUNTED, QUIET, CronTimes, Timers
from mob.wire.messages import TimerInfo

ROLE = "back"
WALL = 1_700_000_000.0
"""The time of day at which each test begins; the machine was booted 1,000 s before."""
HOUR, DAY = 3600.0, 86400.0


class Grid:
    """A cron line that is due at each multiple of a number of seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def after(self, when: float) -> float:
        return math.inf if self.seconds == 0 else (math.floor(when / self.seconds) + 1) * self.seconds


class World:
    """An app with a role whose timers are checked whenever time passes, and whose workers report room."""

    def __init__(self, *timers: TimerInfo, workers: Sequence[int] = (1, 2), luck: float = 0.0) -> None:
        self.now = Instant(WALL, 1000.0, 1000.0)
        self.luck = luck
        self.ready = list(workers)
        self.busy: dict[int, int] = {}
        """The load of workers that report room only when it has ended (`free`)."""
        self.blocked: set[int] = set()
        """Workers that receive nothing, although they seem to be idle."""
        self.asked: list[AskForRoom] = []
        """The requests that were not answered."""
        self.refused: list[NoTimerRun] = []
        self.timers = Timers(lambda: self.luck, self.times_of)
        self.told: list[str] = []
        self.answers: list[Answer] = []
        self.begun: list[BeginTimerRun] = []
        self.began: dict[int, float] = {}
        for uid in workers:
            self.timers.handle_declared(uid, ROLE, timers, self.now)
        self.look()

    @staticmethod
    def times_of(info: TimerInfo) -> CronTimes:
        return Grid(float(info.line))

    def take(self, decisions: Sequence[Any]) -> None:
        self.told += [each.text for each in decisions if isinstance(each, Tell)]
        self.answers += [each for each in decisions if isinstance(each, Answer)]
        self.begun += (runs := [each for each in decisions if isinstance(each, BeginTimerRun)])
        self.began.update({each.number: self.now.boot for each in runs})
        self.refused += [each for each in decisions if isinstance(each, NoTimerRun)]
        self.asked += [each for each in decisions if isinstance(each, AskForRoom)]
        self.answer()

    def answer(self) -> None:
        """Let the workers that were asked and have room report that."""
        while found := [each for each in self.asked if not self.busy.get(each.uid) and each.uid not in self.blocked]:
            self.asked.remove(found[0])
            self.take(self.timers.handle_room(found[0].uid, found[0].name, self.now, self.workers))

    def workers(self, role: str) -> list[ReadyWorker]:
        """Return what the Kingpin sees of the workers."""
        there = self.ready if role == ROLE else ()
        return [ReadyWorker(uid, self.busy.get(uid, 0), self.busy.get(uid, 0)) for uid in there]

    def free(self, uid: int) -> list[tuple[int, str]]:
        """Let a worker become idle; return what begins."""
        before = len(self.begun)
        self.busy.pop(uid, None)
        self.blocked.discard(uid)
        self.answer()
        self.look()
        return [(each.uid, each.name) for each in self.begun[before:]]

    def look(self) -> list[tuple[int, str]]:
        """Return which workers begin to run what."""
        before = len(self.begun)
        self.take(self.timers.handle_wake(self.now, self.workers))
        return [(each.uid, each.name) for each in self.begun[before:]]

    def after(self, seconds: float, set_by: float = 0.0, slept: float = 0.0) -> list[tuple[int, str]]:
        """Let time pass; meanwhile the clock is set by some seconds, or the machine sleeps for some."""
        wall, boot, awake = self.now
        self.now = Instant(wall + seconds + set_by, boot + seconds, awake + seconds - slept)
        return self.look()

    def end(self, number: int = 0, error: str = "") -> None:
        """End the latest run, or the one of that number."""
        run = next(each for each in self.begun if each.number == (number or self.begun[-1].number))
        self.take(self.timers.handle_ran(run.uid, run.number, error, self.now.boot - self.began[run.number], self.now))

    def lose(self, uid: int, why: str = "was killed by SIGKILL") -> None:
        self.ready.remove(uid)
        self.take(self.timers.handle_gone(uid, why, self.now))

    def elsewhere(self, why: str, role: str = ROLE) -> None:
        self.timers.handle_elsewhere(role, why, self.now)

    def wish(self, name: str, role: str = ROLE) -> Answer | None:
        """Ask for a run; return the answer, if there is one at once."""
        before = len(self.answers)
        self.take(self.timers.handle_wish(role, name, (9, 1), self.now, self.workers))
        return self.answers[-1] if len(self.answers) > before else None

    @property
    def row(self) -> Any:
        (row,) = self.timers.rows(self.now)
        return row

    def due_in(self) -> float:
        return self.timers.next_wake(self.now) - self.now.wall


def every(seconds: float = 60.0, name: str = "tick", **more: Any) -> TimerInfo:
    return TimerInfo(name, every=seconds, **more)


def cron(seconds: float = 60.0, name: str = "tick", **more: Any) -> TimerInfo:
    return TimerInfo(name, line=str(seconds), **more)


# ------------------------------------------------------------------------------------------------------- the ordinary


def test_a_run_begins_when_its_time_has_come_and_the_next_one_an_interval_later() -> None:
    world = World(every())
    assert world.due_in() == 60
    assert world.after(59.9) == []
    assert world.after(0.1) == [(1, "tick")]
    world.end()
    assert world.after(59.9) == []
    assert world.after(0.1) == [(2, "tick")]
    assert world.told == []


def test_a_wake_that_comes_a_moment_early_counts_and_nothing_drifts() -> None:
    world = World(every())
    assert world.after(59.996) == [(1, "tick")]
    world.end()
    assert world.due_in() == pytest.approx(60.004)


def test_a_late_wake_does_not_put_off_the_next_one() -> None:
    world = World(every())
    assert world.after(75) == [(1, "tick")]
    world.end()
    assert world.due_in() == pytest.approx(45)


@pytest.mark.parametrize(("first", "due"), [(None, 60), (0.0, 0), (5.0, 5)])
def test_the_first_run_may_be_at_another_time(first: float | None, due: float) -> None:
    world = World(every(first=first))
    assert world.begun == [] if due else len(world.begun) == 1
    assert world.due_in() == (due or 60)


def test_jitter_puts_each_run_off_by_chance_and_not_those_behind_it() -> None:
    world = World(every(jitter=10.0), luck=0.5)
    assert world.due_in() == 65
    world.luck = 0.1
    assert world.after(65) == [(1, "tick")]
    assert world.due_in() == pytest.approx(56)  # 120 + 1 - 65
    world.end()
    assert world.after(56) == [(2, "tick")]
    assert world.told == []


def test_a_cron_line_goes_by_the_time_of_day() -> None:
    world = World(cron(HOUR))
    assert world.due_in() == HOUR - WALL % HOUR
    assert world.after(world.due_in()) == [(1, "tick")]
    assert world.due_in() == HOUR


@pytest.mark.parametrize(
    ("info", "schedule"),
    [
        (every(0.5), "every 0.5 s"),
        (cron(60), "60"),
        (TimerInfo("tick", line="60", zone="Europe/Berlin"), "60 (Europe/Berlin)"),
        (every(each=True), "every 60 s, in each worker"),
    ],
)
def test_it_says_when_it_runs(info: TimerInfo, schedule: str) -> None:
    row = World(info).row
    assert (row.label, row.schedule) == ("back.tick", schedule)


def test_a_line_that_is_never_due_again_needs_no_wake() -> None:
    world = World(cron(0))
    assert world.due_in() == math.inf
    assert world.row.next == 0
    assert Timers(lambda: 0.0, World.times_of).next_wake(world.now) == math.inf


# --------------------------------------------------------------------------------------------------- choosing a worker


def test_workers_that_are_equally_idle_take_turns() -> None:
    world = World(every(), every(name="tock"), workers=(1, 2, 3))
    assert world.after(60) == [(1, "tick"), (2, "tock")]
    world.end(1)
    world.end(2)
    assert world.after(60) == [(3, "tick"), (1, "tock")]
    world.lose(1)
    world.end(3)
    assert world.after(60) == [(2, "tick"), (3, "tock")]


def test_the_one_with_least_in_hand_is_asked_first_and_alone() -> None:
    world = World(every(), workers=(1, 2, 3))
    world.blocked = {1, 2, 3}
    world.workers = lambda role: [ReadyWorker(1, 1, 1), ReadyWorker(2, 0, 7), ReadyWorker(3, 0, 2)]  # type: ignore[method-assign]
    assert world.after(60) == []
    assert world.asked == [AskForRoom(3, "tick")]
    assert world.row.note == "waits for a free worker of 'back'"
    assert world.due_in() == pytest.approx(FIRST_ASKED)
    assert world.after(FIRST_ASKED / 2) == []
    assert len(world.asked) == 1
    world.after(FIRST_ASKED / 2)
    assert world.asked == [AskForRoom(3, "tick"), AskForRoom(1, "tick"), AskForRoom(2, "tick")]
    assert world.due_in() > 1


def test_a_run_goes_to_the_first_worker_that_becomes_free_and_counts_from_then() -> None:
    world = World(every(3.0))
    world.busy = {1: 1, 2: 1}
    assert world.after(3) == []
    assert world.due_in() == 3, "nothing polls"
    world.now = Instant(*(each + 1.2 for each in world.now))
    assert world.free(2) == [(2, "tick")]
    world.now = Instant(*(each + 0.5 for each in world.now))
    world.end()
    assert world.row.seconds == pytest.approx(0.5)
    assert world.row.last == pytest.approx(WALL + 4.2)
    assert world.free(1) == []  # it was asked too
    assert world.refused == [NoTimerRun(1, "tick")]
    assert world.told == []


def test_a_blocked_worker_is_asked_once_however_many_runs_there_are() -> None:
    world = World(every())
    world.busy, world.blocked = {2: 1}, {1}
    world.after(60)
    world.after(1)
    assert world.free(2) == [(2, "tick")]
    for _ in range(5):
        world.end()
        assert world.after(60) == [(2, "tick")]
    assert world.asked == [AskForRoom(1, "tick")]


def test_the_only_worker_has_all_the_time_it_needs() -> None:
    world = World(every(), workers=(1,))
    world.blocked = {1}
    world.after(60)
    assert world.due_in() == LONG  # then the log says that it waits
    assert world.free(1) == [(1, "tick")]
    assert world.due_in() == 60


def test_runs_that_are_due_while_no_worker_is_free_are_missed() -> None:
    world = World(every())
    world.busy = {1: 1, 2: 1}
    assert world.after(60) == world.after(60) == world.after(60) == []
    assert world.free(1) == [(1, "tick")]
    assert world.told[-1] == "timer back.tick: 2 runs missed: no worker of 'back' was free."


@pytest.mark.parametrize(
    ("workers", "busy"), [((1,), "the one worker of 'back' is"), ((1, 2), "all 2 workers of 'back' are")]
)
def test_a_run_that_waits_long_for_a_free_worker_is_told_once_a_minute(workers: Sequence[int], busy: str) -> None:
    world = World(every(3600.0), workers=workers)
    world.busy = dict.fromkeys(workers, 1)
    world.after(3600)
    assert world.due_in() == LONG
    assert world.after(LONG - 1) == []
    assert world.told == []
    world.after(1)
    assert world.told == [f"timer back.tick has waited 10 s for a free worker: {busy} busy."]
    assert world.due_in() == QUIET
    world.after(QUIET)
    assert world.told[1:] == [f"timer back.tick has waited 70 s for a free worker: {busy} busy."]
    assert world.free(1) == [(1, "tick")]
    world.end()
    world.busy = dict.fromkeys(workers, 1)
    world.after(3600)
    assert world.due_in() == LONG  # it counts from the new one
    world.ready = []
    world.after(LONG)
    assert len(world.told) == 2  # there is no worker that could be busy


def test_runs_that_wait_a_little_each_are_not_taken_for_one_that_waits_long() -> None:
    world = World(every(1.0))
    for _ in range(30):
        world.busy = {1: 1, 2: 1}
        world.after(1.0)
        assert len(world.free(1)) == 1
        world.end()
    assert world.told == []


def test_a_run_that_has_waited_too_long_for_a_free_worker_is_skipped() -> None:
    world = World(every(max_late=5.0))
    world.busy = {1: 1, 2: 1}
    world.after(60)
    world.now = Instant(*(each + 6 for each in world.now))
    assert world.free(1) == []
    assert world.told == ["timer back.tick: 1 run missed: it would have begun 6.0 s late (max_late=5)."]
    assert world.refused == [NoTimerRun(1, "tick")]


def test_a_worker_that_ends_or_has_other_code_gets_none() -> None:
    world = World(every())
    world.busy = {1: 1, 2: 1}
    world.after(60)
    world.ready = [2]
    assert world.free(1) == []
    world.timers.handle_declared(2, ROLE, (every(name="tock"),), world.now)
    assert world.free(2) == []
    assert world.refused == [NoTimerRun(1, "tick"), NoTimerRun(2, "tick")]
    assert world.timers.handle_room(77, "tick", world.now, world.workers) == [NoTimerRun(77, "tick")]
    assert world.timers.handle_room(2, "tick", world.now, world.workers) == [NoTimerRun(2, "tick")]


def test_one_that_comes_while_a_run_waits_is_asked_as_well() -> None:
    world = World(every(), workers=(1,))
    world.busy = {1: 1}
    world.after(60)
    world.timers.handle_declared(2, ROLE, (every(),), world.now)
    world.ready = [1, 2]
    assert world.look() == [(2, "tick")]


# -------------------------------------------------------------------------------------------------------- outcomes


def test_the_outcome_is_kept_and_the_timer_goes_on() -> None:
    world = World(every())
    world.after(60)
    assert (world.row.running, world.row.outcome) == (1, "")
    world.after(2.5)
    world.end(error="ValueError: no")
    row = world.row
    assert (row.running, row.outcome, row.error, row.seconds) == (0, "failed", "ValueError: no", 2.5)
    assert row.last == WALL + 60
    world.after(60)
    world.end()
    row = world.row
    assert (row.outcome, row.error, row.runs) == ("ok", "", {"failed": 1, "ok": 1})


def test_that_it_fails_is_told_once_and_that_it_does_not_any_more() -> None:
    world = World(every())
    for error in ("", "ValueError: no", "ValueError: no", "", ""):
        world.after(60)
        world.end(error=error)
    assert world.told == ["timer back.tick failed: ValueError: no", "timer back.tick is ok again."]


def test_a_worker_that_dies_in_a_run_loses_it_and_the_timer_goes_on() -> None:
    world = World(every())
    world.after(60)
    world.lose(1)
    assert world.told == ["timer back.tick: run lost: its worker was killed by SIGKILL."]
    assert (world.row.outcome, world.row.error) == ("lost", "its worker was killed by SIGKILL")
    assert world.after(60) == [(2, "tick")]


def test_what_nobody_has_begun_has_no_end() -> None:
    world = World(every())
    world.after(60)
    number = world.begun[-1].number
    assert world.timers.handle_ran(2, number, "", 0.0, world.now) == []  # another worker's
    assert world.timers.handle_ran(1, number + 1, "", 0.0, world.now) == []
    assert world.timers.handle_gone(77, "has exited", world.now) == []
    assert world.row.running == 1


# ----------------------------------------------------------------------------------------------- one at a time, or not


def test_a_run_that_is_due_while_one_still_runs_is_skipped_told_once_and_then_with_their_number() -> None:
    world = World(every())
    assert world.after(60) == [(1, "tick")]
    assert world.after(60) == []
    assert world.told == ["timer back.tick: run skipped because the previous one is still running, for 60 s."]
    assert world.after(60) == world.after(60) == []
    assert len(world.told) == 1
    world.end()
    assert world.look() == []  # it is not made up for
    assert world.after(60) == [(2, "tick")]
    assert world.told[1:] == ["timer back.tick: 2 runs missed: the previous run had not ended."]
    assert world.row.runs == {"missed": 3, "ok": 1}


@pytest.mark.parametrize(("overlap", "at_once"), [(1, 1), (2, 2), (3, 3), (0, 5)])
def test_so_many_may_run_at_a_time(overlap: int, at_once: int) -> None:
    world = World(every(overlap=overlap))
    for _ in range(5):
        world.after(60)
    assert world.row.running == at_once


def test_each_worker_runs_it_if_it_is_for_each() -> None:
    world = World(every(each=True))
    assert world.after(60) == [(1, "tick"), (2, "tick")]
    world.end(1)
    assert world.row.outcome == ""
    world.end(2)
    assert world.row.outcome == "ok"
    assert world.row.schedule == "every 60 s, in each worker"
    assert world.row.runs == {"ok": 2}


def test_one_that_always_takes_too_long_is_told_once_a_minute_and_no_run_is_left_uncounted() -> None:
    world = World(every(1.0))
    for second in range(300):
        if world.row.running and second % 3 == 0:
            world.end()
        world.after(1.0)
    assert 5 <= len(world.told) <= 7
    told = sum(int(text.split(" runs missed")[0].split()[-1]) for text in world.told if " runs missed" in text)
    untold = world.row.runs["missed"] - told - sum("is skipped" in text for text in world.told)
    assert 0 <= untold <= 60, "they are reported with the next ones"
    assert told >= 100


def test_skipped_runs_are_told_once_at_once_and_then_at_most_once_a_minute() -> None:
    world, told = World(every(3.0)), []
    for second in range(1, 200):
        before = len(world.told)
        if world.row.running and world.now.boot - world.began[world.begun[-1].number] >= 4:
            world.end()
        world.after(1.0)
        told += [second] * (len(world.told) - before)
    assert [text.split(": ")[1].split(",")[0].lstrip("0123456789 ") for text in world.told] == [
        "run skipped because the previous one is still running",
        *["runs missed"] * (len(told) - 1),
    ]
    assert told[0] == 6
    assert all(after - before >= QUIET for before, after in itertools.pairwise(told))
    assert len(told) >= 3


def test_one_that_takes_long_holds_up_no_other_worker() -> None:
    world = World(every(each=True))
    world.after(60)
    world.end(1)
    assert world.after(60) == [(1, "tick")]
    assert world.after(60) == []  # both are busy
    assert "run skipped" in world.told[0]


def test_workers_run_it_beside_itself_if_it_may_overlap() -> None:
    world = World(every(each=True, overlap=0))
    world.after(60)
    assert len(world.after(60)) == 2
    assert world.row.running == 4


def test_the_outcome_for_each_names_how_many_have_failed() -> None:
    world = World(every(each=True))
    world.after(60)
    world.end(1, "ValueError: no")
    world.end(2)
    assert (world.row.outcome, world.row.error) == ("failed", "1 of 2 runs: ValueError: no")
    world.after(60)
    world.end(3)
    world.lose(2, "has exited")
    assert (world.row.outcome, world.row.error) == ("lost", "1 of 2 runs: its worker has exited")


# ------------------------------------------------------------------------------------------------------- what is missed


def test_what_is_due_while_no_worker_is_ready_is_run_once_and_the_number_is_told() -> None:
    world = World(every())
    world.ready.clear()
    assert world.after(60) == world.after(60) == world.after(60) == []
    assert world.row.note == "waits for a worker of 'back'"
    assert world.told == []
    world.ready = [2]
    assert world.look() == [(2, "tick")]
    assert world.told == ["timer back.tick: 2 runs missed: no worker of 'back' was ready."]
    world.end()
    assert world.look() == []
    assert world.row.runs == {"missed": 2, "ok": 1}


def test_one_that_is_late_for_want_of_a_worker_is_not_missed() -> None:
    world = World(every())
    world.ready.clear()
    world.after(60)
    world.ready = [1]
    assert world.after(30) == [(1, "tick")]
    assert world.told == []


@pytest.mark.parametrize("make", [every, cron])
def test_a_machine_that_slept_makes_up_for_one_run(make: Any) -> None:
    world = World(make(100.0))
    assert world.after(1000, slept=990) == [(1, "tick")]
    assert world.told == ["timer back.tick: 9 runs missed: the machine was suspended for 16 min."]
    world.end()
    assert world.look() == []
    assert world.due_in() <= 100


def test_a_machine_that_slept_over_no_run_has_missed_none() -> None:
    world = World(every(), cron(HOUR, name="hourly"))
    assert world.after(30, slept=29) == []
    assert world.told == []


def test_a_kingpin_that_was_stopped_says_so() -> None:
    world = World(every())
    assert world.after(200) == [(1, "tick")]
    assert world.told == ["timer back.tick: 2 runs missed: the supervisor was stopped or busy."]


def test_more_than_can_be_counted() -> None:
    world = World(cron(1.0), every(1.0, name="tock"))
    world.after(DAY, slept=DAY - 1)
    assert world.told == [
        f"timer back.tick: more than {MOST_COUNTED:,} runs missed: the machine was suspended for 24 h.",
        "timer back.tock: 86,399 runs missed: the machine was suspended for 24 h.",
    ]
    assert world.due_in() <= 1


@pytest.mark.parametrize(("late", "runs"), [(4.0, 1), (6.0, 0)])
def test_a_run_that_would_begin_too_late_is_skipped(late: float, runs: int) -> None:
    world = World(every(max_late=5.0))
    assert len(world.after(60 + late)) == runs
    told = f"timer back.tick: 1 run missed: it would have begun {late} s late (max_late=5)."
    assert world.told == ([] if runs else [told])
    assert world.look() == []


def test_nothing_is_due_for_workers_that_do_not_know_the_timer() -> None:
    world = World(every())
    world.ready = [7]
    assert world.after(60) == []
    world.timers.handle_declared(7, ROLE, (every(),), world.now)
    assert world.look() == [(7, "tick")]


# ----------------------------------------------------------------------------------------------- a clock that jumps


def test_intervals_know_nothing_of_a_clock_that_is_set() -> None:
    world = World(every())
    assert world.after(30, set_by=DAY) == []
    assert world.after(29, set_by=-2 * DAY) == []
    assert world.after(1) == [(1, "tick")]
    assert world.told == []


def test_a_clock_that_goes_a_little_wrong_was_not_set() -> None:
    world = World(cron(DAY))
    world.after(10, set_by=0.5)
    assert world.told == []


def test_a_clock_that_is_set_forward_makes_up_for_one_run() -> None:
    world = World(cron(600))
    world.now = Instant(600 * 2_900_000.0 + 1, *world.now[1:])
    world = World(cron(600))
    assert world.after(1, set_by=2 * HOUR) == [(1, "tick")]
    assert world.told == [
        "the clock was set forward by 2 h.",
        "timer back.tick: 11 runs missed: the clock was set forward by 2 h.",
    ]


def test_a_clock_that_was_wrong_before_makes_up_for_nothing() -> None:
    world = World(cron(600))
    assert world.after(1, set_by=40 * 365 * DAY) == []
    assert world.told == ["the clock was set forward by 14600 days; runs that were due in between are skipped."]
    assert 0 < world.due_in() <= 600


def test_a_line_that_is_due_each_day_is_not_due_twice_when_the_clock_is_set_back() -> None:
    world = World(cron(DAY))
    assert world.after(world.due_in() + 60) == [(1, "tick")]
    world.end()
    assert world.after(1, set_by=-HOUR) == []
    assert world.told == ["the clock was set back by 60 min."]
    assert world.after(HOUR) == []  # the same time of day again
    assert world.after(world.due_in()) == [(2, "tick")]
    assert world.now.wall % DAY == 0


def test_a_line_that_is_due_often_goes_by_the_new_time_at_once() -> None:
    world = World(cron(600))
    assert world.after(world.due_in() + 60) == [(1, "tick")]
    world.end()
    assert world.after(1, set_by=-HOUR) == []
    assert 0 < world.due_in() <= 600
    assert world.after(600) == [(2, "tick")]


def test_a_clock_that_is_set_back_by_far_was_wrong_before() -> None:
    world = World(cron(DAY), every(7 * DAY, name="weekly"))
    world.after(1, set_by=-CORRECTION - 2 * DAY)
    assert 0 < world.due_in() <= DAY


def test_what_is_gone_is_not_reckoned_anew() -> None:
    world = World(cron(DAY), cron(600, name="often"))
    world.after(600)
    world.timers.handle_declared(2, ROLE, (cron(DAY),), world.now)
    assert world.after(1, set_by=-HOUR) == []
    assert world.row.name == "tick"


# --------------------------------------------------------------------------------------------------------- other code


def test_new_code_brings_new_timers_and_takes_away_old_ones() -> None:
    world = World(every(name="old"), every(name="kept"))
    world.after(60)
    world.end(1)
    world.end(2)
    world.after(30)
    world.timers.handle_declared(3, ROLE, (every(name="kept"), every(name="new")), world.now)
    rows = {row.name: row for row in world.timers.rows(world.now)}
    assert sorted(rows) == ["kept", "new"]
    assert rows["kept"].runs == {"ok": 1}
    assert rows["kept"].next == world.now.wall + 30  # as before
    assert rows["new"].next == world.now.wall + 60
    world.ready = [1, 2, 3]
    assert world.after(30) == [(3, "kept")]
    assert world.after(30) == [(3, "new")]  # the others do not know it


def test_another_schedule_begins_anew_and_keeps_what_was() -> None:
    world = World(every())
    world.after(60)
    world.end()
    world.timers.handle_declared(2, ROLE, (every(5.0),), world.now)
    assert (world.row.schedule, world.row.outcome, world.due_in()) == ("every 5 s", "ok", 5)
    world.timers.handle_declared(2, ROLE, (every(5.0, max_late=1.0),), world.now)
    assert world.due_in() == 5
    assert world.after(5) == [(2, "tick")]


def test_code_without_timers_says_nothing_and_takes_them_away() -> None:
    world = World(every())
    world.timers.handle_ready(2, ROLE, world.now)  # it has declared some
    world.timers.handle_ready(3, "front", world.now)  # another role, which never had any
    assert world.row.name == "tick"
    world.timers.handle_ready(3, ROLE, world.now)
    assert world.timers.rows(world.now) == ()
    assert world.after(600) == []
    assert repr(world.timers) == "<Timers: none>"


def test_a_reload_that_fails_brings_the_old_timers_back() -> None:
    world = World(every(name="old"))
    world.timers.handle_declared(3, ROLE, (every(name="new"),), world.now)
    assert world.row.name == "new"
    world.take(world.timers.handle_gone(3, "has failed", world.now))
    assert world.row.name == "old"
    assert world.after(60) == [(1, "old")]


def test_timers_outlive_the_last_worker() -> None:
    world = World(every())
    world.lose(1)
    world.lose(2)
    world.after(60)
    world.timers.handle_declared(3, ROLE, (every(),), world.now)
    world.ready = [3]
    assert world.look() == [(3, "tick")]


def test_a_run_of_a_timer_that_was_taken_away_ends_as_any_other() -> None:
    world = World(every())
    assert world.wish("tick") is None
    world.timers.handle_declared(2, ROLE, (), world.now)
    assert world.timers.rows(world.now) == ()
    assert world.due_in() == math.inf
    world.end()
    assert world.answers == [Answer((9, 1), text="back.tick: ok after 0.0 ms.")]
    assert world.timers.state.timers == []


def test_a_timer_that_comes_back_while_it_still_runs_does_not_run_twice() -> None:
    world = World(every())
    world.after(60)
    world.timers.handle_declared(2, ROLE, (), world.now)
    world.timers.handle_declared(2, ROLE, (every(),), world.now)
    assert world.row.running == 1
    assert world.after(60) == []
    assert "still running" in world.told[0]


# ---------------------------------------------------------------------------------------------------------- run now


def test_a_run_that_somebody_asks_for_answers_when_it_has_ended() -> None:
    world = World(every())
    world.after(20)
    assert world.wish("tick") is None
    assert world.begun[-1].uid == 1
    world.after(1.5)
    world.end()
    assert world.answers == [Answer((9, 1), text="back.tick: ok after 1.5 s.")]
    assert world.due_in() == pytest.approx(38.5)


@pytest.mark.parametrize(
    ("error", "text"),
    [("ValueError: no", "back.tick: failed after 12 s: ValueError: no"), ("", "back.tick: ok after 12 s.")],
)
def test_it_says_how_it_went(error: str, text: str) -> None:
    world = World(every())
    world.wish("tick")
    world.after(12)
    world.end(error=error)
    (answer,) = world.answers
    assert text in (answer.error, answer.text)


def test_a_run_in_each_worker_answers_for_all() -> None:
    world = World(every(each=True))
    world.wish("tick")
    world.end(1)
    assert world.answers == []
    world.lose(2, "has exited")
    (answer,) = world.answers
    assert answer.error == "back.tick: lost after 0.0 ms: 1 of 2 runs: its worker has exited"
    world.ready, world.answers = [1, 2], []
    world.timers.handle_declared(2, ROLE, (every(each=True),), world.now)
    world.wish("tick")
    world.end(3)
    world.end(4)
    assert world.answers == [Answer((9, 1), text="back.tick: ok after 0.0 ms in 2 workers.")]


def test_a_run_that_somebody_asks_for_waits_for_a_free_worker() -> None:
    world = World(every(overlap=1))
    world.busy = {1: 1, 2: 1}
    assert world.wish("tick") is None
    assert world.row.note == "waits for a free worker of 'back'"
    answer = world.wish("tick")
    assert answer is not None
    assert answer.error == "back.tick is already waiting for a free worker (overlap=False)."
    world.after(60)  # it is due meanwhile: that is one run
    assert world.free(2) == [(2, "tick")]
    world.after(1)
    world.end()
    assert world.answers[-1] == Answer((9, 1), text="back.tick: ok after 1.0 s.")
    assert world.free(1) == []
    assert world.told == []


def test_two_that_somebody_asks_for_run_beside_each_other_if_they_may() -> None:
    world = World(every(overlap=3))
    world.busy = {1: 1, 2: 1}
    assert world.wish("tick") is world.wish("tick") is None
    world.after(60)
    assert world.free(1) + world.look() == [(1, "tick")] * 3
    answer = world.wish("tick")
    assert answer is not None
    assert answer.error == "back.tick is already running, for 0.0 ms (overlap=3)."


def test_what_waits_does_not_begin_beside_others_that_are_as_many_as_may_be() -> None:
    world = World(every(overlap=2))
    world.busy = {1: 1, 2: 1}
    world.wish("tick")
    world.wish("tick")
    world.timers.handle_declared(2, ROLE, (every(overlap=1),), world.now)
    world.ready = [2]
    assert world.free(2) == [(2, "tick")]
    assert world.after(61) == []
    assert "still running" in world.told[0]
    world.end()
    assert world.look() == [(2, "tick")]


def test_who_waits_for_a_run_that_cannot_be_any_more_is_told() -> None:
    world = World(every())
    world.busy = {1: 1, 2: 1}
    world.wish("tick")
    world.elsewhere("runs on 'b'")
    world.look()
    world.elsewhere("")
    world.wish("tick")
    world.timers.handle_declared(2, ROLE, (), world.now)
    assert world.timers.state.timers
    world.look()
    assert world.timers.state.timers == []
    assert [each.error for each in world.answers] == [
        "back.tick did not run: this machine no longer runs it: runs on 'b'.",
        "back.tick did not run: 'back' no longer has it.",
    ]


def test_what_cannot_run_now_says_why() -> None:
    world = World(every())

    def error(name: str = "tick", role: str = ROLE) -> str:
        answer = world.wish(name, role)
        assert answer is not None
        assert answer.ticket == (9, 1)
        return answer.error

    assert error("tack") == "'back' has no timer 'tack'. Did you mean 'tick'?"
    assert error("tick", "front") == "'front' has no timer 'tick'. There are none."
    world.after(60)
    world.after(7)
    assert error() == "back.tick is already running, for 7.0 s (overlap=False)."
    world.ready.clear()
    assert error() == "back.tick cannot run: no worker of 'back' is ready."
    world.elsewhere("runs on 'b'")
    assert error() == "back.tick does not run on this machine: runs on 'b'."


# --------------------------------------------------------------------------------------------------- several machines


def test_where_the_lease_is_not_only_those_for_each_worker_run() -> None:
    world = World(every(), every(each=True, name="both"))
    world.elsewhere("runs on 'b'")
    assert world.after(60) == [(1, "both"), (2, "both")]
    tick, both = world.timers.rows(world.now)
    assert (tick.note, tick.is_here, tick.next) == ("runs on 'b'", False, 0)
    assert (both.note, both.is_here) == ("", True)
    assert world.timers.needs_lease(ROLE)
    assert not world.timers.needs_lease("front")
    world.elsewhere("")
    world.end(1)
    world.end(2)
    assert (1, "tick") in world.after(60)
    assert world.timers.is_running(ROLE)
    assert not world.timers.is_running("front")


def test_nothing_wakes_for_what_another_machine_runs() -> None:
    world = World(every())
    world.elsewhere("runs on 'b'")
    assert world.due_in() == math.inf
    world.elsewhere("")
    world.elsewhere("")  # said again
    assert world.due_in() == 60


def test_what_waits_for_a_worker_is_dropped_with_the_lease() -> None:
    world = World(every())
    world.ready.clear()
    world.after(60)
    world.elsewhere("runs on 'b'", "front")
    assert world.row.note == "waits for a worker of 'back'"
    world.elsewhere("runs on 'b'")
    world.elsewhere("")
    world.ready = [1]
    assert world.look() == []


@pytest.mark.parametrize("make", [every, cron])
def test_a_machine_that_takes_over_goes_on_where_the_other_has_stopped(make: Any) -> None:
    here, there = World(make(600.0)), World(make(600.0))
    there.elsewhere("runs on 'a'")
    first = here.due_in()
    assert len(here.after(first)) == 1
    told = here.timers.times_of_role(ROLE, here.now)
    assert told == {"tick": here.now.wall + 600}
    there.timers.handle_heard(ROLE, told)
    there.after(first + 605)  # the other died, and for a while no machine had its lease
    assert there.row.next == here.now.wall + 600
    assert there.begun == []
    there.elsewhere("")
    assert there.look() == [(1, "tick")]
    assert there.due_in() == pytest.approx(595)
    assert there.told == []


def test_what_waits_for_a_worker_there_is_run_here() -> None:
    here, there = World(every(600.0)), World(every(600.0))
    here.ready.clear()
    here.after(660)
    there.elsewhere("runs on 'a'")
    there.timers.handle_heard(ROLE, here.timers.times_of_role(ROLE, here.now))
    there.after(660)
    there.elsewhere("")
    assert there.look() == [(1, "tick")]
    assert there.due_in() == pytest.approx(540)


@pytest.mark.parametrize(("mine", "told"), [(cron(600.0), 3.5), (every(600.0), 601.0)])
def test_another_schedule_there_counts_for_nothing_here(mine: TimerInfo, told: float) -> None:
    world = World(mine)
    due = world.due_in()
    world.elsewhere("runs on 'a'")
    world.timers.handle_heard(ROLE, {"tick": world.now.wall + told})
    world.elsewhere("")
    assert world.due_in() == due


@pytest.mark.parametrize(("gone_by", "runs"), [(610.0, 1), (640.0, 0)])
def test_who_has_heard_nothing_makes_up_for_a_moment_only(gone_by: float, runs: int) -> None:
    world = World(every(600.0))
    world.elsewhere("no machine has held its lease yet")
    world.after(gone_by)
    world.elsewhere("")
    assert len(world.look()) == runs
    assert world.due_in() == pytest.approx(1200 - gone_by)


def test_what_is_heard_is_of_no_use_where_they_run() -> None:
    world = World(every(600.0), cron(0, name="never"), every(name="both", each=True))
    world.timers.handle_heard(ROLE, {"tick": world.now.wall + 5})
    assert world.timers.state.heard == {}
    world.timers.handle_heard("front", {"tick": world.now.wall + 5})  # no worker of it was ready here yet
    assert world.timers.state.heard == {"front": {"tick": world.now.wall + 5}}
    assert world.timers.times_of_role(ROLE, world.now) == {"tick": world.now.wall + 600}


def test_what_is_gone_does_not_come_back_with_the_lease() -> None:
    world = World(every())
    world.wish("tick")
    world.timers.handle_declared(2, ROLE, (), world.now)
    world.elsewhere("runs on 'a'")
    world.after(600)
    world.elsewhere("")
    assert world.due_in() == math.inf


def test_only_timers_for_each_need_no_lease() -> None:
    world = World(every(each=True))
    world.after(60)
    assert not world.timers.needs_lease(ROLE)
    assert not world.timers.is_running(ROLE)


# ------------------------------------------------------------------------------------------------- another Kingpin


def test_the_next_kingpin_goes_on_where_this_one_has_stopped() -> None:
    world = World(every(), cron(HOUR, name="hourly"))
    world.after(60)
    world.after(30)
    written = msgspec.msgpack.encode(world.timers.state)
    rows = world.timers.rows(world.now)
    world.timers = Timers(lambda: 0.0, World.times_of, msgspec.msgpack.decode(written, type=TimerState))
    assert world.timers.rows(world.now) == rows
    world.end()
    assert world.timers.rows(world.now)[0].outcome == "ok"
    assert world.after(30) == [(1, "tick")]
    assert world.begun[-1].number == 2
    assert world.after(world.due_in()) == [(1, "tick")] or world.told
    assert repr(world.timers) == "<Timers: back.tick, back.hourly>"
