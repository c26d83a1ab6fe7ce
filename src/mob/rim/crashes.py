"""Reports of crashes, on disk: they outlive the Kingpin, and there are never more than a few.

One JSON file for each, in the user's state directory (XDG_STATE_HOME, else ~/.local/state), named so that sorting by
name sorts by time. Where nothing can be written the reports are kept in memory, and the reason is told.
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
"""Reports that are kept of one app; the oldest go."""
MOST_BYTES = 8 * 1024 * 1024
"""Of reports that are read at once, to be sent elsewhere."""
MOST_OF_STACKS, MOST_OF_A_LINE = 32 * 1024, 400
"""Characters that go to other machines by themselves, of the stacks and of each of the last lines."""


class Crash(msgspec.Struct, frozen=True):
    """What is known of one death that nobody had asked for."""

    at: float
    """Seconds since the epoch."""
    app: str
    role: str
    index: int
    pid: int
    generation: int
    """How many processes had had this role and index, this one counted."""
    why: str
    """How it ended: "was killed by SIGSEGV (signal 11)"."""
    uptime: float
    """Seconds from its launch to its end."""
    memory: int
    """Resident bytes at the last beat."""
    running: tuple[Running, ...]
    """Calls in hand at the last beat, with their age in seconds."""
    stacks: str
    """Of all threads and tasks, if it hung; the traceback, if its module could not be imported."""
    lines: tuple[str, ...]
    """What it printed last."""
    returncode: int | None = None
    """Its exit status, or the negative number of the signal that killed it, as in `subprocess`. None if the process was
    never born."""
    node: str = ""
    """The machine on which it ran; "" if the app is in no cluster."""
    path: str = ""
    """Where the report lies, on that machine; "" if it could not be written."""

    def text(self) -> str:
        """All of it, to be read."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.at))
        parts = [f"{when}  {self.app}: {place_name(self.role, self.index)} (pid {self.pid}) {self.why}"]
        parts.append(f"up for {self.uptime:.1f} s, {self.memory / 1024 / 1024:.0f} MiB resident at its last beat")
        if self.running:
            parts.append("calls in hand at its last beat:")
            parts += [f"    {call.label} for {call.seconds:.1f} s, from {call.caller}" for call in self.running]
        for title, text in (("where it stood:", self.stacks), ("its last lines:", "\n".join(self.lines))):
            if text:
                parts += [title, *(f"    {line}" for line in text.rstrip().splitlines())]
        return "\n".join(parts)


class Crashes:
    """The reports of one app."""

    def __init__(self, app: str) -> None:
        self.app = app
        self.problem: str = ""
        """Why nothing can be written, if so."""
        self._last: dict[str, Crash] = {}  # by role, of this Kingpin's time; those from before are on disk

    def __repr__(self) -> str:
        return f"<Crashes of {self.app!r}{', ' if self.problem else ''}{self.problem}>"

    def last(self, role: str) -> Crash | None:
        """The latest report of a role."""
        if role not in self._last:
            return next((crash for crash in reversed(self.all()) if crash.role == role), None)
        return self._last[role]

    def add(self, crash: Crash) -> Crash:
        """Keep a report, and return it with the path where it lies; the oldest go."""
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
            unfinished.rename(place / name)  # whole or not at all
            for path in _files(place)[:-MOST]:
                path.unlink(missing_ok=True)
            self.problem = ""
            self._last[crash.role] = kept
        except OSError as error:
            self.problem = f"reports of crashes cannot be written{where}: {error.strerror}"
        return self._last[crash.role]

    def all(self) -> list[Crash]:
        """Those on disk, oldest first. What cannot be read is passed over."""
        crashes: list[Crash] = []
        for path in _files_of(self.app):
            with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
                crashes.append(msgspec.json.decode(path.read_bytes(), type=Crash))
        return crashes


def latest(app: str, number: int) -> tuple[bytes, ...]:
    """The latest reports of an app as they lie on disk, oldest first: so many, or fewer if they are large."""
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
    """A report that is small enough for a letter to other machines."""
    lines = tuple(line[:MOST_OF_A_LINE] for line in crash.lines)
    return msgspec.structs.replace(
        crash, stacks=crash.stacks[-MOST_OF_STACKS:], lines=lines, running=crash.running[:20]
    )


def read(report: bytes) -> Crash | None:
    """A report of `latest`; None if it is none."""
    with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError):
        return msgspec.json.decode(report, type=Crash)
    return None


_kept: dict[str, Path] = {}


def keep_in(app: str, place: Path) -> None:
    """From now on this process has the reports of an app in that directory: those of a test are of no use later on."""
    _kept[app] = place


def folder(app: str) -> Path:
    """Where the reports of an app lie. `FileNotFoundError` if there is no place for them."""
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
