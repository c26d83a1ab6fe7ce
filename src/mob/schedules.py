"""Cron lines: when one is due, by cronsim, in a time zone.

cronsim reads a line as Debian's cron does, with its rules for daylight saving: a time that is skipped in spring is due
at the end of the gap, and a time that occurs twice in autumn is due once, the first time; lines whose minute or hour
begins with `*` follow real time in both cases. This module adds names for common lines, the machine's own zone, and
errors that say what to do.

It is imported when `mob.cron` is used for the first time, and needs the extra `cron`.
https://github.com/cuu508/cronsim
"""

from __future__ import annotations

import math
from datetime import datetime
from difflib import get_close_matches
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from mob.errors import PlanError, nearest

try:
    from cronsim import CronSim, CronSimError
except ImportError as _error:
    raise PlanError("mob.cron needs the package cronsim: pip install 'mobsters[cron]'") from _error

NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""Names of common lines, as in Debian's crontab(5)."""
LOCAL = "/etc/localtime"
"""File with the rules of the machine's own time zone."""


class CronSchedule:
    """A cron line in a time zone."""

    def __init__(self, line: str, zone: str = "") -> None:
        """Read a line.

        Args:
            line: Five fields (minute, hour, day of the month, month, day of the week), six with seconds in front, or a
                name such as `@daily`.
            zone: A name of the IANA database, such as "Europe/Berlin"; "" is the machine's own.

        Raises:
            ValueError: The line is not valid or never due, or there is no such zone.
        """
        self.line = line
        self.zone = zone
        self._fields = NAMED.get(line.strip().lower(), line)
        self._zone = zone_of(zone)
        if line.strip().startswith("@") and self._fields is line:
            raise ValueError(f"unknown cron line {line!r}. {nearest(line, NAMED)}")
        try:
            due = self.after(datetime(2024, 1, 1, tzinfo=self._zone).timestamp())
        except CronSimError as error:
            raise ValueError(
                f"invalid cron line {line!r}: {_said(error)}. A line has five fields (minute, hour, day of the month, "
                f"month, day of the week), as in '*/5 8-18 * * mon-fri', or six with seconds in front."
            ) from None
        if due == math.inf:
            raise ValueError(f"the cron line {line!r} is never due: no date has that day and month.")

    def __repr__(self) -> str:
        return f"<CronSchedule {self.line}, {self.zone or 'local time'}>"

    def after(self, when: float) -> float:
        """Return the first time after `when` (both in seconds since the epoch); infinity if there is none."""
        for due in CronSim(self._fields, datetime.fromtimestamp(math.floor(when), self._zone)):
            if (stamp := due.timestamp()) > when:  # in the second of two equal hours, cronsim returns the first
                return stamp
        return math.inf


@cache
def zone_of(name: str) -> ZoneInfo:
    """Return a time zone; "" is the machine's own. Raises `ValueError` if there is none with that name."""
    if not name:
        return _own_zone(LOCAL)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        close = get_close_matches(name, sorted(available_timezones()), n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Use a name of the IANA database, such as 'Europe/Berlin'."
        raise ValueError(f"unknown time zone {name!r}. {hint}") from None


def _own_zone(path: str) -> ZoneInfo:
    try:
        with open(path, "rb") as rules:
            return ZoneInfo.from_file(rules, key="local time")
    except OSError:
        return ZoneInfo("UTC")  # as the C library does


def _said(error: CronSimError) -> str:
    text = str(error)
    return text[:1].lower() + text[1:]
