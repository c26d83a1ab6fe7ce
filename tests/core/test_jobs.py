"""The book of jobs: order, keys, attempts, clocks."""

from __future__ import annotations

import pytest

from mob.core.jobs import BACKOFF, DEATHS, LONGEST, Entry, JobBook, JobState, said_of
from mob.wire.messages import AppMetric, AppSample


def entry(id: str, **more: object) -> Entry:
    return Entry(id, **{"role": "back", "target": "foo", **more})  # type: ignore[arg-type]


def book(*entries: Entry, now: float = 100.0) -> JobBook:
    made = JobBook()
    for each in entries:
        made.put(each, now)
    return made


def taken(jobs: JobBook, now: float = 100.0, role: str = "back") -> list[str]:
    found: list[str] = []
    while (each := jobs.take(role, now)) is not None:
        found.append(each.id)
    return found


def test_those_that_are_due_come_by_priority_and_then_by_time() -> None:
    jobs = book(entry("a", due=50), entry("b", due=40), entry("c", due=90, priority=1), entry("d", due=60, priority=-1))
    assert taken(jobs) == ["c", "b", "a", "d"]
    assert taken(jobs, role="front") == []


def test_those_of_one_time_come_in_the_order_in_which_they_came() -> None:
    assert taken(book(*(entry(str(n)) for n in range(20)))) == [str(n) for n in range(20)]


def test_one_is_not_taken_before_its_time() -> None:
    jobs = book(entry("a", due=200), entry("b", due=150), entry("c"))
    assert jobs.counts() == {("back", JobState.WAITING): 1, ("back", JobState.LATER): 2}
    assert taken(jobs) == ["c"]
    assert jobs.next_due(100) == 150
    assert taken(jobs, 150) == ["b"]
    assert jobs.next_due(150) == 200
    assert taken(jobs, 200) == ["a"]
    assert jobs.next_due(200) is None
    assert jobs.counts() == {("back", JobState.RUNNING): 3}


def test_an_urgent_one_overtakes_others_when_its_time_has_come() -> None:
    jobs = book(entry("a"), entry("b"), entry("soon", due=101, priority=5))
    assert taken(jobs, 101) == ["soon", "a", "b"]


def test_what_is_finished_is_left_out_of_every_line() -> None:
    jobs = book(entry("a"), entry("b"), entry("c", due=200), entry("d", due=300))
    for id in ("a", "c"):
        assert jobs.finish(id) is not None
    assert jobs.finish("a") is None
    assert jobs.next_due(100) == 300
    assert taken(jobs) == ["b"]
    jobs.finish("d")
    assert taken(jobs, 400) == []
    assert len(jobs) == 1
    assert jobs.roles() == ["back"]
    assert repr(jobs) == "<JobBook of 1 jobs>"


def test_one_that_is_dropped_in_the_end_is_not_promoted() -> None:
    jobs = book(entry("a", due=150))
    jobs.finish("a")
    assert jobs.take("back", 200) is None
    assert jobs.next_due(200) is None


def test_a_key_is_held_until_its_job_has_ended() -> None:
    jobs = book(entry("a", key="k"), entry("b"))
    assert (jobs.holder("k"), jobs.holder("other"), jobs.holder("")) == ("a", "", "")
    taken(jobs)
    assert jobs.holder("k") == "a"
    jobs.finish("a")
    assert jobs.holder("k") == ""


@pytest.mark.parametrize("moment", ["waits", "later", "runs", "is dead"])
def test_one_that_has_ended_counts_as_running_until_that_is_written(moment: str) -> None:
    jobs = book(entry("a", key="k", is_at=True, due=900.0 if moment == "later" else 0.0))
    if moment in ("runs", "is dead"):
        taken(jobs)
    if moment == "is dead":
        jobs.fail("a", 100, is_final=True)
    jobs.end("a")
    assert jobs.holder("k") == ""
    jobs.shift(10_000, 100)
    assert taken(jobs, 99_999) == []
    assert not jobs.retry("a", 100)
    assert jobs.counts() == {("back", JobState.RUNNING): 1}
    jobs.finish("a")
    assert (jobs.get("a"), jobs.counts(), len(jobs)) == (None, {}, 0)


def test_one_that_fails_is_tried_later_and_later_and_is_dead_in_the_end() -> None:
    jobs = book(entry("a", key="k", retries=3))
    now, pauses = 100.0, list[float]()
    for _ in range(3):
        assert taken(jobs, now) == ["a"]
        due = jobs.fail("a", now)
        assert due is not None
        pauses.append(due - now)
        assert taken(jobs, due - 0.01) == []
        now = due
    assert pauses == [1.0, 5.0, 25.0]
    assert taken(jobs, now) == ["a"]
    assert jobs.fail("a", now) is None
    dead = jobs.get("a")
    assert dead is not None
    assert (dead.state, dead.attempts, dead.failures) == (JobState.DEAD, 4, 4)
    assert jobs.holder("k") == ""
    assert taken(jobs, now + LONGEST) == []


def test_no_pause_is_longer_than_an_hour() -> None:
    jobs = book(entry("a", retries=10_000, backoff=7.0))
    (failing,) = jobs
    failing.failures = 2000
    taken(jobs)
    assert jobs.fail("a", 100.0) == 100.0 + LONGEST


def test_what_would_fail_in_the_same_way_is_dead_at_once() -> None:
    jobs = book(entry("a", retries=3))
    taken(jobs)
    assert jobs.fail("a", 100.0, is_final=True) is None


def test_workers_that_die_count_by_themselves() -> None:
    jobs = book(entry("a", retries=0))
    now, pauses = 100.0, list[float | None]()
    for _ in range(DEATHS):
        assert taken(jobs, now) == ["a"]
        due = jobs.lose("a", now)
        pauses.append(None if due is None else due - now)
        now = due or now
    assert pauses == [0.0, BACKOFF, 2 * BACKOFF, 3 * BACKOFF, None]


def test_what_was_not_begun_is_given_to_another_at_once_and_has_had_no_attempt() -> None:
    jobs = book(entry("a", priority=-9), entry("b", priority=-10))
    jobs.take("back", 100.0)
    assert jobs.give_back("a", 100.0) == 100.0
    again = jobs.take("back", 100.0)
    assert again is not None
    assert (again.id, again.attempts) == ("a", 1)
    assert jobs.give_back("a", 100.0, pause=2.0) == 102.0
    assert taken(jobs) == ["b"]


def test_a_dead_one_is_tried_again_if_somebody_wants_it() -> None:
    jobs = book(entry("a", key="k", retries=0))
    taken(jobs)
    jobs.fail("a", 100.0)
    assert jobs.retry("a", 100.0)
    assert jobs.holder("k") == "a"
    assert not jobs.retry("no such job", 100.0)
    assert taken(jobs) == ["a"]
    assert not jobs.retry("a", 100.0)  # it runs
    assert jobs.fail("a", 100.0) is None


def test_dead_ones_are_forgotten_so_long_after_their_death_however_old_they_are() -> None:
    jobs = book(entry("a", due=0.0, retries=0), entry("b", due=50.0, retries=0), entry("c", due=1.0))
    assert jobs.take("back", 100.0) is not None
    jobs.fail("a", 100.0)
    assert jobs.take("back", 100.0) is not None
    jobs.fail("c", 200.0, is_final=True)
    assert jobs.forget_dead(100.0) == []
    assert jobs.forget_dead(150.0) == ["a"]
    assert jobs.get("a") is None
    assert jobs.forget_dead(1000.0) == ["c"]
    assert [each.id for each in jobs] == ["b"]


def test_a_dead_one_is_not_tried_while_another_has_its_key() -> None:
    jobs = book(entry("a", key="k", state=JobState.DEAD), entry("b", key="k"), entry("c", state=JobState.DEAD))
    assert jobs.holder("k") == "b"
    assert not jobs.retry("a", 100.0)
    jobs.finish("a")
    assert jobs.holder("k") == "b"
    assert jobs.retry("c", 100.0)


def test_one_that_waits_for_its_time_can_be_tried_now() -> None:
    jobs = book(entry("a", due=1000))
    assert jobs.retry("a", 100.0)
    assert taken(jobs) == ["a"]


@pytest.mark.parametrize(("seconds", "due"), [(30.0, 170.0), (-30.0, 230.0)])
def test_when_the_clock_is_set_only_what_has_a_certain_time_moves(seconds: float, due: float) -> None:
    jobs = book(entry("a", due=200, is_at=True), entry("b", due=500), entry("run", is_at=True, priority=1))
    assert taken(jobs) == ["run"]
    jobs.shift(seconds, 100.0)
    assert jobs.next_due(100.0) == due
    assert taken(jobs, due) == ["a"]
    assert jobs.next_due(due) == 500


def test_a_clock_that_is_set_past_the_time_makes_it_due() -> None:
    jobs = book(entry("a", due=200, is_at=True))
    jobs.shift(3600.0, 100.0)
    assert taken(jobs) == ["a"]


def test_how_many_there_are_is_said_in_a_line() -> None:
    def metric(name: str, *samples: tuple[str, str, str, float]) -> AppMetric:
        made = tuple(AppSample(role, (of, state), value) for role, of, state, value in samples)
        return AppMetric(name, "gauge", "", ("of", "state"), (), made)

    jobs = metric(
        "queue_jobs",
        *(("queue", "back", "dead", 1.0), ("queue", "back", "waiting", 1200.0), ("queue", "front", "waiting", 1.0)),
        *(("queue", "back", "running", 0.0), ("back", "x", "dead", 7.0)),
    )
    assert said_of([metric("orders", ("queue", "x", "dead", 9.0)), jobs]) == "1,201 waiting, 1 dead"
    assert said_of([]) == ""


def test_how_it_is_called() -> None:
    assert entry("a").label == "back.foo"
    assert entry("a", target="").label == "a message to 'back'"
