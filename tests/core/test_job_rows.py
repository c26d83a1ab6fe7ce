"""What is written of a durable job."""

from __future__ import annotations

from mob.core.job_rows import JobChanged, row_of
from mob.core.jobs import Entry, JobState

ENTRY = Entry("7f", "back", "resize", 2, 100.0, True, "a.png", 5, 1.5, 3, 2, 1, 1000.0)


def test_a_new_job_is_written_with_the_time_of_the_clock_on_the_wall() -> None:
    times = (2, 1600.0, True, "a.png", 5, 1.5, 3, 2, 1, 1000.0)
    assert row_of(ENTRY, b"body", 1500.0) == ("7f", "back", "resize", *times, "", b"body", None)


def test_a_change_says_what_it_has_died_of() -> None:
    assert JobChanged.of(ENTRY, 1500.0) == ("7f", (1600.0, True, 3, 2, 1, "", None, "7f"))
    assert JobChanged.of(ENTRY, 1500.0, b"why") == ("7f", (1600.0, True, 3, 2, 1, str(JobState.DEAD), b"why", "7f"))
