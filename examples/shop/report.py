"""What happens at night, and what happens when a process crashes."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import books

import mob

ZONE = "Europe/Berlin"

books.prepare()


@mob.cron("15 0 * * *", zone=ZONE)
def nightly() -> None:
    """Write the report of the previous day."""
    day = str((datetime.now(ZoneInfo(ZONE)) - timedelta(days=1)).date())
    total = books.totals(day)
    report = f"{day}: {total['orders']} orders, {total['cents'] / 100:.2f} euros\n"
    (books.DATA / f"report-{day}.txt").write_text(report)


@mob.on("crash")
def note(crash: mob.Crash) -> None:
    """Append a line for each process that crashed."""
    with (books.DATA / "crashes.txt").open("a") as file:
        print(f"{crash.role}.{crash.index} {crash.why}", file=file)
