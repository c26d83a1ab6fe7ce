"""Formats durations, sizes and states for all commands. Pure."""

from __future__ import annotations

from datetime import datetime

STATE_STYLES = {
    "ready": "green",
    "booting": "yellow",
    "launching": "yellow",
    "draining": "cyan",
    "spare": "blue",
    "failing": "red",
    "failed": "red",
}
"""Color of each state."""


def duration(seconds: float) -> str:
    """Return a duration, short and readable: `8s`, `3m 05s`, `2h 10m`, `4d 6h`.

    >>> [duration(s) for s in (8.4, 185, 7800, 367200)]
    ['8s', '3m 05s', '2h 10m', '4d 6h']
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def size(count: float) -> str:
    """Return a number of bytes, short and readable.

    >>> [size(n) for n in (0, 900, 250_000, 34_000_000, 5_600_000_000)]
    ['0 B', '900 B', '244 KB', '32 MB', '5.2 GB']
    """
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GB"


def moment(when: float, now: float) -> str:
    """Return a time as this machine's clock shows it, with the date if it is not today; "-" for 0.

    The zone is added if it differs from the current one (summer time).
    """
    if not when:
        return "-"
    at, today = datetime.fromtimestamp(when).astimezone(), datetime.fromtimestamp(now).astimezone()
    if at.date() == today.date():
        shown = f"{at:%H:%M:%S}"
    else:
        shown = f"{at:%d %b %H:%M}" if at.year == today.year else f"{at:%Y-%m-%d}"
    return shown if at.tzname() == today.tzname() else f"{shown} {at.tzname()}"


def zone(now: float) -> str:
    """Return the current name of this machine's time zone."""
    return datetime.fromtimestamp(now).astimezone().tzname() or "local"
