"""How many cores this process may use: limited by its CPU affinity and by its control group.

A container with a limit of two CPUs on a machine of 64 sees all 64; a worker for each would compete for two. The limit
is a share of time (a quota within a period), of this group or of any above it. Part of a core counts as a whole one, as
in Go 1.25 and the JVM.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc/self")


def usable(proc: Path = PROC) -> int:
    """Return how many workers keep all cores of this process busy; at least 1.

    `proc` is the directory in /proc about this process.

    >>> usable() >= 1
    True
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = min(_limits(proc), default=math.inf)
    return count if share == math.inf else max(1, min(count, math.ceil(round(share, 2))))


def _limits(proc: Path) -> Iterator[float]:
    """Yield the limits of this process's groups, in cores."""
    mounts = list(_mounts(proc))
    for line in _lines(proc / "cgroup"):
        _, names, path = line.split(":", 2)
        for is_old, root, place in mounts:
            if is_old == ("cpu" in names.split(",")) and (is_old or not names):
                yield from _limits_in(place, _below(root, path))


def _mounts(proc: Path) -> Iterator[tuple[bool, str, Path]]:
    """Yield the mounts of groups that limit processors: True for version 1, the group at its root, and its place."""
    for line in _lines(proc / "mountinfo"):
        before, _, after = line.partition(" - ")
        kind, *_, options = after.split(" ")
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            _, _, _, root, place, *_ = before.split(" ")
            yield kind == "cgroup", root, Path(place)


def _below(root: str, path: str) -> list[str]:
    """Return the path from the root of a mount to a group; empty if the group is elsewhere (another namespace)."""
    if root == "/":
        return [part for part in path.split("/") if part not in ("", "..")]
    return [part for part in path.removeprefix(root).split("/") if part] if f"{path}/".startswith(f"{root}/") else []


def _limits_in(place: Path, parts: list[str]) -> Iterator[float]:
    """Yield the limits of a group and of those above it."""
    for depth in range(len(parts) + 1):
        group = place.joinpath(*parts[:depth])
        new = _numbers(group / "cpu.max")
        old = [*_numbers(group / "cpu.cfs_quota_us"), *_numbers(group / "cpu.cfs_period_us")]
        for quota, period in (each for each in (new, old) if len(each) == 2):
            if quota > 0 and period > 0:
                yield quota / period


def _numbers(file: Path) -> list[int]:
    """Return the numbers in a file; words that are not numbers, such as "max", are left out."""
    return [int(word) for line in _lines(file) for word in line.split() if word.lstrip("-").isdigit()]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
