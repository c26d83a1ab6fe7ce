"""Crash reports on disk: they outlive the Kingpin, and their number is limited.

One JSON file for each, in the user's state directory (XDG_STATE_HOME, else ~/.local/state), named so that sorting by
name sorts by time. Where nothing can be written, the reports are kept in memory, and the reason is reported.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

import msgspec

from mob.plan import place_name
from mob.rim.places import state_directory
from mob.wire.messages import Running

MOST = 50
"""Maximum number of reports per app; the oldest ones are deleted."""
MOST_BYTES = 8 * 1024 * 1024
"""Maximum bytes of reports that are read at once to be sent elsewhere."""
MOST_OF_STACKS, MOST_OF_A_LINE = 32 * 1024, 400
"""Maximum characters of the stacks, and of each of the last lines, in reports for other machines."""


class Crash(msgspec.Struct, frozen=True):
    """A report of one crash."""

    at: float
    """Time of the crash in seconds since the epoch."""
    app: str
    role: str
    index: int
    pid: int
    generation: int
    """Number of processes with this role and index so far, including this one."""
    why: str
    """How the process ended: "was killed by SIGSEGV (signal 11)"."""
    uptime: float
    """Seconds from its launch to its end."""
    memory: int
    """Resident bytes at the last heartbeat."""
    running: tuple[Running, ...]
    """Calls in progress at the last heartbeat, with their age in seconds."""
    stacks: str
    """Stacks of all threads and tasks, if it hung; the traceback, if its module could not be imported."""
    lines: tuple[str, ...]
    """The last lines that it printed."""
    returncode: int | None = None
    """Its exit status, or the negative number of the signal that killed it, as in `subprocess`.

    None if the process never started.
    """
    node: str = ""
    """Name of the machine on which it ran; "" if the app is not in a cluster."""
    path: str = ""
    """Path of the report on that machine; "" if it could not be written."""

    def text(self) -> str:
        """Return the whole report as text."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.at))
        parts = [f"{when}  {self.app}: {place_name(self.role, self.index)} (pid {self.pid}) {self.why}"]
        memory = f", {self.memory / 1024 / 1024:.0f} MiB resident at the last heartbeat" if self.memory else ""
        parts.append(f"uptime {self.uptime:.1f} s{memory}")
        if self.running:
            parts.append("calls in progress at the last heartbeat:")
            parts += [f"    {call.label} for {call.seconds:.1f} s, from {call.caller}" for call in self.running]
        for title, text in ((self._heading(), self.stacks), ("last lines of output:", "\n".join(self.lines))):
            if text:
                parts += [title, *(f"    {line}" for line in text.rstrip().splitlines())]
        return "\n".join(parts)

    def _heading(self) -> str:
        """Return the heading of the stacks, which may be the traceback or the text of an error instead."""
        first, _, rest = self.stacks.partition("\n")
        if "Traceback (most recent call last)" in first:
            return "traceback:"
        return "stacks:" if rest else "error:"


class Crashes:
    """The crash reports of one app."""

    def __init__(self, app: str) -> None:
        self.app = app
        self.problem: str = ""
        """Reason why reports cannot be written, or ""."""
        self._last: dict[str, Crash] = {}  # by role, since this Kingpin started; earlier ones are on disk

    def __repr__(self) -> str:
        return f"<Crashes of {self.app!r}{', ' if self.problem else ''}{self.problem}>"

    def last(self, role: str) -> Crash | None:
        """Return the latest report of a role."""
        if role not in self._last:
            return next((crash for crash in reversed(self.all()) if crash.role == role), None)
        return self._last[role]

    def add(self, crash: Crash) -> Crash:
        """Keep a report and delete the oldest ones; return it with its path."""
        self._last[crash.role] = crash
        where = ""
        try:
            place = folder(self.app)
            where = f" to {place}"
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            name = f"{int(crash.at * 1000):015d}-{crash.role}.{crash.index}-{crash.pid}.json"
            unfinished, kept = place / f".{name}", msgspec.structs.replace(crash, path=str(place / name))
            with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(kept))
            unfinished.rename(place / name)  # never a partly written report
            for path in _files(place)[:-MOST]:
                path.unlink(missing_ok=True)
            self.problem = ""
            self._last[crash.role] = kept
        except OSError as error:
            self.problem = f"crash reports cannot be written{where}: {error.strerror}"
        return self._last[crash.role]

    def all(self) -> list[Crash]:
        """Return the reports on disk, oldest first. Unreadable ones are skipped."""
        crashes: list[Crash] = []
        for path in _files_of(self.app):
            with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
                crashes.append(msgspec.json.decode(path.read_bytes(), type=Crash))
        return crashes


def latest(app: str, number: int) -> tuple[bytes, ...]:
    """Return the latest reports of an app as they are on disk, oldest first; fewer than `number` if they are large."""
    found: list[bytes] = []
    size = 0
    for path in reversed(_files_of(app)[-max(1, number) :]):
        with contextlib.suppress(OSError):
            report = path.read_bytes()
            size += len(report)
            if found and size > MOST_BYTES:
                break
            found.append(report)
    return tuple(reversed(found))


def shortened(crash: Crash) -> Crash:
    """Return a report that is small enough for a letter to other machines."""
    lines = tuple(line[:MOST_OF_A_LINE] for line in crash.lines)
    return msgspec.structs.replace(
        crash, stacks=crash.stacks[-MOST_OF_STACKS:], lines=lines, running=crash.running[:20]
    )


def read(report: bytes) -> Crash | None:
    """Decode a report of `latest`; return None if it is not valid."""
    with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError):
        return msgspec.json.decode(report, type=Crash)
    return None


_kept: dict[str, Path] = {}


def keep_in(app: str, place: Path) -> None:
    """Keep the reports of an app in that directory from now on; for tests, whose reports are of no use later."""
    _kept[app] = place


def folder(app: str) -> Path:
    """Return the directory of an app's reports. Raise `FileNotFoundError` if there is no place for them."""
    return _kept.get(app) or state_directory() / app / "crashes"


def _files_of(app: str) -> list[Path]:
    with contextlib.suppress(OSError):
        return _files(folder(app))
    return []


def _files(place: Path) -> list[Path]:
    pattern = re.compile(r"\d{15}-.*\.json")
    with contextlib.suppress(OSError):
        return sorted(path for path in place.iterdir() if pattern.fullmatch(path.name))
    return []
