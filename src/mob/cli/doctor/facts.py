"""Facts about the machine: limits, memory, control group, kernel settings. What cannot be read is None."""

from __future__ import annotations

import contextlib
import mmap
import os
import platform
import re
import resource
import shutil
import sys
from pathlib import Path

import psutil

from mob.cli.doctor.findings import Facts
from mob.rim import segments
from mob.rim.places import state_directory

GROUPS = Path("/sys/fs/cgroup")


def look() -> Facts:
    """Return the facts of this machine, as this user sees them."""
    memory, pids = _control_group()
    return Facts(
        system=platform.system(),
        kernel=tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2]),
        python=sys.version_info[:3],
        is_root=os.geteuid() == 0,
        nofile=_limit(resource.RLIMIT_NOFILE),
        nproc=_limit(resource.RLIMIT_NPROC),
        threads=_threads(),
        core=_limit(resource.RLIMIT_CORE)[0],
        core_pattern=_read("/proc/sys/kernel/core_pattern"),
        memory=psutil.virtual_memory().available,
        cgroup_memory=memory,
        cgroup_pids=pids,
        has_memfd=_has_memfd(),
        can_populate=_can_populate(),
        shm=shutil.disk_usage("/dev/shm").total if os.path.isdir("/dev/shm") else None,
        ptrace=_number("/proc/sys/kernel/yama/ptrace_scope"),
        clock=_read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        huge_pages=_chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        shared_huge_pages=_chosen(segments.SHMEM_ENABLED),
        overcommit=_number("/proc/sys/vm/overcommit_memory"),
        state=_state(),
    )


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text("utf-8", "replace").strip()
    except OSError:
        return None


def _number(path: str | Path) -> int | None:
    text = _read(path)
    return int(text) if text is not None and text.isdigit() else None


def _chosen(path: str) -> str | None:
    """Return the word in brackets."""
    found = re.search(r"\[(\w+)\]", _read(path) or "")
    return found[1] if found else None


def _limit(which: int) -> tuple[int, int]:
    soft, hard = resource.getrlimit(which)
    return (
        -1 if soft == resource.RLIM_INFINITY else soft,
        -1 if hard == resource.RLIM_INFINITY else hard,
    )


def _threads() -> int:
    """Return the number of threads that count against the limit of processes."""
    user, count = os.getuid(), 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.uids().real == user:
                count += process.num_threads()
    return count


def _has_memfd() -> bool:
    """Return whether large buffers can be shared: memfd_create exists, and no sandbox forbids it."""
    if not segments.IS_AVAILABLE:
        return False
    try:
        os.close(os.memfd_create("mob-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    except OSError:
        return False
    return True


def _can_populate() -> bool:
    try:
        return segments.IS_AVAILABLE and segments.Memory(mmap.PAGESIZE).populate(0, mmap.PAGESIZE)
    except OSError:
        return False


def _control_group() -> tuple[int | None, int | None]:
    """Return the bytes of memory and the number of processes that the control group still allows."""
    memory = pids = None
    for line in (_read("/proc/self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        controllers, place = names.split(","), path.lstrip("/")
        if not names:
            memory = memory if memory is not None else _room(GROUPS / place, "memory.max", "memory.current")
            pids = pids if pids is not None else _room(GROUPS / place, "pids.max", "pids.current")
        if "memory" in controllers:
            memory = _room(GROUPS / "memory" / place, "memory.limit_in_bytes", "memory.usage_in_bytes")
        if "pids" in controllers:
            pids = _room(GROUPS / "pids" / place, "pids.max", "pids.current")
    return memory, pids


def _room(group: Path, most: str, used: str) -> int | None:
    """Return how much is left; None if there is no limit."""
    limit, now = _number(group / most), _number(group / used)
    if limit is None or now is None or limit >= 2**60:  # practically no limit
        return None
    return max(limit - now, 0)


def _state() -> str:
    """Return why crash reports cannot be kept; "" if they can."""
    try:
        state = state_directory().absolute()
        place = next(each for each in (state, *state.parents) if each.exists())
    except OSError as error:
        return f"{error.filename or ''}: {error.strerror}".removeprefix(": ")
    return "" if os.access(place, os.W_OK | os.X_OK) else f"{place} cannot be written"
