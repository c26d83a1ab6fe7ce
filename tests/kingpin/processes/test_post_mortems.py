"""Which export a death is blamed on, and the reports of crashes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import msgspec
import pytest

from mob.core import decisions as d
from mob.core.states import MobsterState
from mob.kingpin.processes.post_mortems import PostMortems
from mob.rim import crashes
from mob.rim.board import mark_of
from mob.wire import messages as m
from tests.kingpin.offices import Office

APP = "post-mortems"


@pytest.fixture
def said() -> Queue[str]:
    return Queue()


@pytest.fixture
def post_mortems(office: Office, said: Queue[str], tmp_path: Path) -> Iterator[PostMortems]:
    crashes.keep_in(APP, tmp_path)
    post_mortems = PostMortems(APP, office.crew, office.board, said.put)
    yield post_mortems
    post_mortems.close()


DEATHS = {
    "a crash in foo": (-signal.SIGSEGV, "foo", "", "foo"),
    "an exit in foo": (1, "foo", "", "foo"),
    "a kill by another process": (-signal.SIGKILL, "foo", "", ""),
    "a kill by mob, because it hung": (-signal.SIGKILL, "foo", "no heartbeat for 5 s", "foo"),
    "a crash while nothing ran, or several": (-signal.SIGSEGV, "", "", ""),
    "a crash in what the role does not export": (-signal.SIGSEGV, "bar", "", ""),
}


@pytest.mark.parametrize("death", DEATHS)
def test_who_is_to_blame(post_mortems: PostMortems, office: Office, death: str) -> None:
    status, running, why_killed, blamed = DEATHS[death]
    office.board.mark(office.uid, mark_of(running) if running else 0)
    office.crew.processes[office.uid].why_killed = why_killed
    assert post_mortems.look_into(office.uid, status)[1] == blamed


def test_nothing_is_blamed_for_the_end_of_one_that_is_not_known(post_mortems: PostMortems) -> None:
    assert post_mortems.look_into(99, -signal.SIGSEGV) == ("was killed by SIGSEGV", "")


def record(why: str, pid: int = 101) -> d.Record:
    return d.Record(m.Member(1, pid, "back", 0, 1, MobsterState.READY), why, 12.0, 1000, (), "")


def test_reports_are_kept_and_told(post_mortems: PostMortems) -> None:
    told: Queue[str] = Queue()
    latest: Queue[tuple[bytes, ...]] = Queue()
    post_mortems.tell_last_report("back", told.put)
    assert told.get() == ""
    post_mortems.record(record("was killed by SIGSEGV"), ("the last line",))
    post_mortems.record(record("was killed by SIGABRT", 102), ())
    post_mortems.tell_last_report("back", told.put)
    assert "was killed by SIGABRT" in told.get()
    post_mortems.tell_latest(5, latest.put)
    reports = [msgspec.json.decode(each) for each in latest.get()]
    assert sorted((each["why"], each["lines"]) for each in reports) == [
        ("was killed by SIGABRT", []),
        ("was killed by SIGSEGV", ["the last line"]),
    ]


def test_a_disk_that_takes_no_report_is_told_of_once(
    post_mortems: PostMortems, said: Queue[str], tmp_path: Path
) -> None:
    crashes.keep_in(APP, tmp_path / "file" / "below")
    (tmp_path / "file").touch()
    told: Queue[str] = Queue()
    for _ in range(3):
        post_mortems.record(record("was killed by SIGSEGV"), ())
    post_mortems.tell_last_report("back", told.put)
    assert "was killed by SIGSEGV" in told.get(), "it is still known"
    assert said.qsize() == 1
