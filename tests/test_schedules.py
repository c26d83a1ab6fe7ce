"""Cron lines: the cases of cronsim's and APScheduler's own tests, both changes of daylight saving, and refused lines.

Each case is a zone, a line, a time, and the next times in turn: each is computed separately, as a Kingpin does.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from mob import schedules
from mob.core.timer_state import Instant
from mob.core.timer_workers import AskForRoom, BeginTimerRun, ReadyWorker
from mob.core.timers import Timers
from mob.schedules import CronSchedule, zone_of
from mob.wire.messages import TimerInfo
from tests.patience import PATIENCE

BERLIN, RIGA = "Europe/Berlin", "Europe/Riga"

CRONSIM = [
    ("UTC", "1 1 L * *", "2020-01-01T00:00", ["2020-01-31T01:01+00:00"]),
    (
        "UTC",
        "1 1 * * 5L",
        "2020-01-01T00:00",
        [f"2020-{day}T01:01+00:00" for day in ("01-31", "02-28", "03-27", "04-24", "05-29", "06-26", "07-31", "08-28")],
    ),
    ("UTC", "1 1 * * 0L", "2020-01-01T00:00", ["2020-01-26T01:01+00:00"]),
    ("UTC", "1 1 * * 7L", "2020-01-01T00:00", ["2020-01-26T01:01+00:00"]),
    ("UTC", "1 1 * * 1#2", "2020-01-01T00:00", ["2020-01-13T01:01+00:00"]),
    # the first Sunday, the first Monday of a month
    ("UTC", "1 1 1-7 * */7", "2020-01-01T00:00", ["2020-01-05T01:01+00:00", "2020-02-02T01:01+00:00"]),
    ("UTC", "1 1 */100,1-7 * MON", "2020-01-01T00:00", ["2020-01-06T01:01+00:00", "2020-02-03T01:01+00:00"]),
    ("UTC", "5/15 * * * *", "2020-01-01T00:00", ["2020-01-01T00:05+00:00", "2020-01-01T00:20+00:00"]),
    ("UTC", "0 0 29 2 *", "2021-01-01T00:00", ["2024-02-29T00:00+00:00", "2028-02-29T00:00+00:00"]),
    # lines whose minute or hour begins with `*` follow real time in both nights
    (RIGA, "0 * * * *", "2021-03-28T01:30", ["2021-03-28T02:00+02:00", "2021-03-28T04:00+03:00"]),
    (
        RIGA,
        "0 * * * *",
        "2021-10-31T01:30",
        ["2021-10-31T02:00+03:00", "2021-10-31T03:00+03:00", "2021-10-31T03:00+02:00", "2021-10-31T04:00+02:00"],
    ),
    (
        RIGA,
        "*/30 * * * *",
        "2021-03-28T02:10",
        ["2021-03-28T02:30+02:00", "2021-03-28T04:00+03:00", "2021-03-28T04:30+03:00"],
    ),
    (
        RIGA,
        "*/30 * * * *",
        "2021-10-31T02:10",
        [
            *("2021-10-31T02:30+03:00", "2021-10-31T03:00+03:00", "2021-10-31T03:30+03:00"),
            *("2021-10-31T03:00+02:00", "2021-10-31T03:30+02:00", "2021-10-31T04:00+02:00"),
        ],
    ),
    (RIGA, "*/15 * * * *", "2021-03-28T02:40", ["2021-03-28T02:45+02:00", "2021-03-28T04:00+03:00"]),
    (RIGA, "0 */2 * * *", "2021-03-28T01:30", ["2021-03-28T02:00+02:00", "2021-03-28T04:00+03:00"]),
    (RIGA, "0 */2 * * *", "2021-10-31T01:30", ["2021-10-31T02:00+03:00", "2021-10-31T04:00+02:00"]),
    (RIGA, "30 */2 * * *", "2021-03-28T01:30", ["2021-03-28T02:30+02:00", "2021-03-28T04:30+03:00"]),
    (
        RIGA,
        "0 */3 * * *",
        "2021-10-31T01:30",
        ["2021-10-31T03:00+03:00", "2021-10-31T03:00+02:00", "2021-10-31T06:00+02:00"],
    ),
    (RIGA, "* * * * *", "2021-03-28T02:58", ["2021-03-28T02:59+02:00", "2021-03-28T04:00+03:00"]),
    (RIGA, "* 1-6 * * *", "2021-03-28T02:58", ["2021-03-28T02:59+02:00", "2021-03-28T04:00+03:00"]),
    (
        RIGA,
        "* * * * *",
        "2021-10-31T03:58",
        ["2021-10-31T03:59+03:00", "2021-10-31T03:00+02:00", "2021-10-31T03:01+02:00"],
    ),
    # all others are due once: at the end of the gap, and at the first of two equal times
    (RIGA, "0 1-5 * * *", "2021-03-28T01:30", ["2021-03-28T02:00+02:00", "2021-03-28T04:00+03:00"]),
    (
        RIGA,
        "0 1,2,3,4,5 * * *",
        "2021-10-31T01:30",
        ["2021-10-31T02:00+03:00", "2021-10-31T03:00+03:00", "2021-10-31T04:00+02:00"],
    ),
    (
        RIGA,
        "30 1,2,3,4,5 * * *",
        "2021-03-28T01:30",
        ["2021-03-28T02:30+02:00", "2021-03-28T04:00+03:00", "2021-03-28T04:30+03:00"],
    ),
    (
        RIGA,
        "0 1,3,5,7,9 * * *",
        "2021-10-31T00:30",
        ["2021-10-31T01:00+03:00", "2021-10-31T03:00+03:00", "2021-10-31T05:00+02:00"],
    ),
    (RIGA, "0 2 * * *", "2021-10-31T01:30", ["2021-10-31T02:00+03:00", "2021-11-01T02:00+02:00"]),
    (
        RIGA,
        "0 3 * * *",
        "2021-03-27T01:30",
        ["2021-03-27T03:00+02:00", "2021-03-28T04:00+03:00", "2021-03-29T03:00+03:00"],
    ),
    (RIGA, "0 3 * * *", "2021-10-31T01:30", ["2021-10-31T03:00+03:00", "2021-11-01T03:00+02:00"]),
    (RIGA, "0 4 * * *", "2021-03-27T05:00", ["2021-03-28T04:00+03:00", "2021-03-29T04:00+03:00"]),
    (RIGA, "15 3 * * *", "2021-03-27T05:00", ["2021-03-28T04:00+03:00", "2021-03-29T03:15+03:00"]),
    (RIGA, "15 3 * * *", "2021-10-30T05:00", ["2021-10-31T03:15+03:00", "2021-11-01T03:15+02:00"]),
]
"""https://github.com/cuu508/cronsim/blob/main/tests/test_cronsim.py"""

APSCHEDULER = [
    (
        BERLIN,
        "0 0 5-6 1-4/3 *",
        "2009-01-01T00:00",
        ["2009-01-05T00:00+01:00", "2009-01-06T00:00+01:00", "2009-04-05T00:00+02:00", "2009-04-06T00:00+02:00"],
    ),
    (
        BERLIN,
        "0 0 5 1-3 *",
        "2010-12-14T00:00",
        ["2011-01-05T00:00+01:00", "2011-02-05T00:00+01:00", "2011-03-05T00:00+01:00", "2012-01-05T00:00+01:00"],
    ),
    (
        BERLIN,
        "0 8-9 * feb-dec *",
        "2009-01-01T00:00",
        ["2009-02-01T08:00+01:00", "2009-02-01T09:00+01:00", "2009-02-02T08:00+01:00"],
    ),
    (BERLIN, "0 0 L 2 *", "2012-02-01T00:00", ["2012-02-29T00:00+01:00"]),
    (
        BERLIN,
        "0 0 * * 0L",
        "2020-01-01T00:00",
        ["2020-01-26T00:00+01:00", "2020-02-23T00:00+01:00", "2020-03-29T00:00+01:00"],
    ),
    (BERLIN, "0 5-6 * * *", "2009-09-25T07:00", ["2009-09-26T05:00+02:00"]),
    (BERLIN, "0 0 30 * *", "2016-02-01T00:00", ["2016-03-30T00:00+02:00", "2016-04-30T00:00+02:00"]),
    (BERLIN, "0 0 * 1 wed#4", "2009-01-01T00:00", ["2009-01-28T00:00+01:00"]),
    (
        BERLIN,
        "0 0 * * fri-sat,sun",
        "2020-01-01T00:00",
        ["2020-01-03T00:00+01:00", "2020-01-04T00:00+01:00", "2020-01-05T00:00+01:00"],
    ),
    (BERLIN, " 0-14   * 14-28   jul       fri", "2020-07-01T00:00", ["2020-07-03T00:00+02:00"]),  # either or both
    (BERLIN, "* * * * 6-7", "2020-05-19T19:53:22", ["2020-05-23T00:00+02:00"]),
    (BERLIN, "* * * * 0-3", "2020-05-21T19:53:22", ["2020-05-24T00:00+02:00"]),
    ("US/Eastern", "0 8 * * *", "2013-03-09T12:00", ["2013-03-10T08:00-04:00"]),
    ("US/Eastern", "0 8 * * *", "2013-11-02T12:00", ["2013-11-03T08:00-05:00"]),
    ("US/Eastern", "*/30 * * * *", "2013-03-10T01:35", ["2013-03-10T03:00-04:00"]),
    ("US/Eastern", "*/30 * * * *", "2013-11-03T01:35", ["2013-11-03T01:00-05:00"]),
    # APScheduler skips a time in the gap; cron, and so mob, runs it at the end of the gap
    ("US/Eastern", "0 2 * * *", "2013-03-09T20:00", ["2013-03-10T03:00-04:00", "2013-03-11T02:00-04:00"]),
    (
        "Australia/Lord_Howe",
        "30 2 * * *",
        "2024-10-05T00:00",
        ["2024-10-05T02:30+10:30", "2024-10-06T02:30+11:00", "2024-10-07T02:30+11:00"],
    ),
    ("America/New_York", "*/5 11 * * *", "2009-09-26T11:16", ["2009-09-26T11:20-04:00"]),
]
"""https://github.com/agronholm/apscheduler/blob/master/tests/triggers/test_cron.py"""

DAYLIGHT_SAVING = [
    # 29 March 2026: after 01:59 comes 03:00
    (BERLIN, "30 2 * * *", "2026-03-28T12:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
    (BERLIN, "0,30 2 * * *", "2026-03-28T12:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]),
    (BERLIN, "0 3 * * *", "2026-03-28T12:00", ["2026-03-29T03:00+02:00", "2026-03-30T03:00+02:00"]),
    (BERLIN, "*/20 2-3 * * *", "2026-03-29T01:50", ["2026-03-29T03:00+02:00", "2026-03-29T03:20+02:00"]),
    (BERLIN, "0 */2 * * *", "2026-03-29T00:30", ["2026-03-29T04:00+02:00"]),
    # 25 October 2026: after 02:59 comes 02:00
    (BERLIN, "30 2 * * *", "2026-10-24T12:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
    (BERLIN, "0 3 * * *", "2026-10-24T12:00", ["2026-10-25T03:00+01:00", "2026-10-26T03:00+01:00"]),
    (
        BERLIN,
        "0 * * * *",
        "2026-10-25T01:30",
        ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"],
    ),
    (
        BERLIN,
        "*/30 2 * * *",
        "2026-10-25T01:30",
        ["2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00", "2026-10-25T02:30+01:00"],
    ),
    (BERLIN, "*/5 8-18 * * mon-fri", "2026-10-23T18:52", ["2026-10-23T18:55+02:00", "2026-10-26T08:00+01:00"]),
    (BERLIN, "@daily", "2026-10-24T12:00", ["2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00"]),
    (BERLIN, "*/20 * * * * *", "2026-10-25T01:59:30", ["2026-10-25T01:59:40+02:00", "2026-10-25T02:00:00+02:00"]),
]
CASES = [*CRONSIM, *APSCHEDULER, *DAYLIGHT_SAVING]


def stamp(text: str, zone: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(("zone", "line", "start", "expected"), CASES, ids=lambda each: str(each)[:30])
def test_a_line_is_due(zone: str, line: str, start: str, expected: list[str]) -> None:
    schedule, when = CronSchedule(line, zone), stamp(start, zone)
    for each in expected:
        when = schedule.after(when)
        shown = datetime.fromtimestamp(when, ZoneInfo(zone)).isoformat()
        assert shown == datetime.fromisoformat(each).isoformat()


def test_a_time_in_the_second_of_two_equal_hours_is_not_followed_by_one_before_it() -> None:
    schedule = CronSchedule("30 2 * * *", BERLIN)
    when = datetime(2026, 10, 25, 2, 10, tzinfo=ZoneInfo(BERLIN), fold=1).timestamp()
    assert schedule.after(when) == stamp("2026-10-26T02:30", BERLIN)


@pytest.mark.parametrize("line", ["30 2 * * *", "0 * * * *", "*/7 * * * *", "15,45 1-3 * * *", "0 3 * * sun"])
def test_time_only_goes_forward(line: str) -> None:
    schedule = CronSchedule(line, BERLIN)
    for start in ("2026-03-28T22:00", "2026-10-24T22:00"):
        when = stamp(start, BERLIN)
        for step in range(0, 30 * 3600, 97):
            due = schedule.after(when + step)
            assert due > when + step
            assert schedule.after(due - 0.5) <= due


@pytest.mark.parametrize(
    ("line", "runs"),
    [("30 2 * * *", (1, 1)), ("0 * * * *", (23, 25)), ("*/30 2 * * *", (0, 4)), ("0 3 * * *", (1, 1))],
)
@pytest.mark.parametrize(("day", "hours", "nth"), [("2026-03-29", 23, 0), ("2026-10-25", 25, 1)])
def test_a_timer_runs_so_often_on_a_day_of_change(
    line: str, runs: tuple[int, int], day: str, hours: int, nth: int
) -> None:
    """A Kingpin that wakes when it is due, through a day that has 23 or 25 hours."""
    info = TimerInfo("report", line=line, zone=BERLIN)
    start = stamp(f"{day}T00:00", BERLIN) - 1
    timers = Timers(lambda: 0.0, lambda info: CronSchedule(info.line, info.zone))
    now = Instant(start, 0.0, 0.0)
    timers.handle_declared(1, "back", (info,), now)
    begun = 0
    while (due := timers.next_wake(now)) < start + 1 + hours * 3600:
        now = Instant(due, due - start, due - start)
        for asked in timers.handle_wake(now, lambda role: (ReadyWorker(1),)):
            assert isinstance(asked, AskForRoom)
            (run,) = timers.handle_room(1, asked.name, now, lambda role: (ReadyWorker(1),))
            assert isinstance(run, BeginTimerRun)
            begun += 1
            timers.handle_ran(1, run.number, "", 0.0, now)
    assert begun == runs[nth]


@pytest.mark.parametrize(
    ("line", "zone", "text"),
    [
        ("* * * *", "", "invalid cron line '* * * *': wrong number of fields. A line has five fields (minute, hour, "),
        ("*", "", "wrong number of fields"),
        ("61 * * * *", "", "bad minute"),
        ("*/0 * * * *", "", "bad minute"),
        ("1-1_0 * * * *", "", "bad minute"),
        ("0 0-24 * * *", "", "bad hour"),
        ("* * 5-1 * *", "", "bad day-of-month"),
        ("* * 0-3 * *", "", "bad day-of-month"),
        ("* * * fab *", "", "bad month"),
        ("* * * jan-fab *", "", "bad month"),
        ("* * * * web", "", "bad day-of-week"),
        ("* * * * 0-8", "", "bad day-of-week"),
        ("* * * * 1#6", "", "bad day-of-week"),
        ("* * 30 2 *", "", "bad day-of-month"),
        ("1 1 */100 * MON#4", "", "the cron line '1 1 */100 * MON#4' is never due"),
        ("@dayly", "", "unknown cron line '@dayly'. Did you mean '@daily'?"),
        ("* * * * *", "Europe/Berln", "unknown time zone 'Europe/Berln'. Did you mean 'Europe/Berlin'?"),
        ("* * * * *", "here", "unknown time zone 'here'. Use a name of the IANA database, such as 'Europe/Berlin'."),
        ("* * * * *", "../../etc/passwd", "unknown time zone '../../etc/passwd'"),
    ],
)
def test_what_is_wrong_is_said(line: str, zone: str, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        CronSchedule(line, zone)


def test_without_a_zone_it_is_the_machines_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    schedule = CronSchedule("0 3 * * *")
    assert repr(schedule) == "<CronSchedule 0 3 * * *, local time>"
    assert datetime.fromtimestamp(schedule.after(0), zone_of("")).hour == 3
    nowhere = str(tmp_path_factory.mktemp("zone") / "localtime")
    assert schedules._own_zone(nowhere) == ZoneInfo("UTC")  # pyright: ignore[reportPrivateUsage]


def test_after_the_last_time_there_is_none() -> None:
    schedule = CronSchedule("0 0 29 2 *", "UTC")
    assert schedule.after(stamp("2096-03-01T00:00", "UTC")) == stamp("2104-02-29T00:00", "UTC")  # 2100 has none
    schedule._fields = "1 1 */100 * MON#4"  # pyright: ignore[reportPrivateUsage]
    assert schedule.after(0) == math.inf


def test_without_the_extra_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['cronsim'] = None\nimport mob\nmob.cron('* * * * *')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert "PlanError: mob.cron needs the package cronsim: pip install 'mobsters[cron]'" in done.stderr
