"""How `mob doctor` judges the machine. Pure: facts go in, findings come out.

Each finding has a verdict, what was seen, what was expected, and what to do. "fail" means that something will not work,
"warn" that it may fail or work badly. The facts come from `facts.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from mob.cli.shown import size
from mob.plan import MIB, Plan

OK, WARN, FAIL = "ok", "warn", "fail"
BASE_DESCRIPTORS = 40
"""Descriptors that a worker or a Kingpin opens before it is linked to others: pipes, loop, board, early modules."""
FOR_EACH_MOBSTER = 4
"""Descriptors that the Kingpin opens for each worker: control, liveness, stdout, stderr."""
FOR_EACH_PEER = 2
"""Descriptors that a worker opens for each peer that it is linked to: the link, and their shared memory."""
THREADS = 4
"""Threads of a process with threads=1: the loop's, liveness, and a few of libraries."""
OLDEST_PYTHON = (3, 11)
OLDEST_KERNEL = (4, 14)
FAST_CLOCKS = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page")


class Finding(msgspec.Struct, frozen=True):
    """The result of one check."""

    check: str
    verdict: str
    seen: str
    wanted: str = ""
    advice: str = ""


class Facts(msgspec.Struct, frozen=True):
    """The relevant facts about the machine; None if unknown."""

    system: str = "Linux"
    kernel: tuple[int, ...] = (6, 1)
    python: tuple[int, ...] = (3, 12, 0)
    is_root: bool = False
    nofile: tuple[int, int] = (1024, 1048576)
    """Soft and hard limit of open files; -1 means no limit."""
    nproc: tuple[int, int] = (-1, -1)
    threads: int = 0
    """Number of threads that this user has now."""
    core: int = 0
    """Soft limit of core files in bytes; -1 means no limit."""
    core_pattern: str | None = None
    memory: int = 8 * 1024 * MIB
    """Available memory in bytes."""
    cgroup_memory: int | None = None
    """Bytes that the control group still allows."""
    cgroup_pids: int | None = None
    has_memfd: bool = True
    can_populate: bool = True
    """True if pages of shared memory can be allocated in advance."""
    shm: int | None = None
    """Size of /dev/shm in bytes, used or free."""
    ptrace: int | None = None
    clock: str | None = None
    huge_pages: str | None = None
    shared_huge_pages: str | None = None
    """Kernel's mode of huge pages for shared memory."""
    overcommit: int | None = None
    state: str = ""
    """Why crash reports cannot be written; "" if they can."""


def judge(facts: Facts, plan: Plan | None) -> Iterator[Finding]:
    """Yield the findings about the machine, for an app if there is one."""
    yield _python(facts)
    yield _kernel(facts)
    yield _descriptors(facts, plan)
    yield _processes(facts, plan)
    yield _shared_memory(facts, plan)
    if facts.has_memfd:
        yield _fresh_pages(facts)
    if facts.shm is not None:
        yield _shm(facts.shm)
    yield _core_files(facts)
    yield _state(facts)
    if facts.ptrace is not None:
        yield _ptrace(facts.ptrace, facts.is_root)
    if facts.clock is not None:
        yield _clock(facts.clock)
    if facts.huge_pages is not None:
        yield _huge_pages(facts.huge_pages)
    if facts.overcommit is not None:
        yield _overcommit(facts.overcommit)


def _python(facts: Facts) -> Finding:
    seen = ".".join(map(str, facts.python[:3]))
    is_fine = facts.python >= OLDEST_PYTHON
    wanted = f"{'.'.join(map(str, OLDEST_PYTHON))} or later"
    return Finding("Python", OK if is_fine else FAIL, seen, wanted, "" if is_fine else "Install a newer Python.")


def _kernel(facts: Facts) -> Finding:
    seen = f"{facts.system} {'.'.join(map(str, facts.kernel))}"
    if facts.system != "Linux":
        advice = "Fine for development: large buffers go through sockets, and a killed app may leave its socket behind."
        return Finding("kernel", WARN, seen, "Linux", advice)
    if facts.kernel < OLDEST_KERNEL:
        return Finding("kernel", WARN, seen, f"{'.'.join(map(str, OLDEST_KERNEL))} or later", "Update the kernel.")
    return Finding("kernel", OK, seen)


def _descriptors(facts: Facts, plan: Plan | None) -> Finding:
    soft, hard = facts.nofile
    shown = f"{_limit(soft)} open files (hard limit {_limit(hard)})"
    if plan is None:
        if 0 <= soft < 1024:
            return Finding(
                "open files", WARN, shown, "1024 or more", "Raise it: `ulimit -n 4096`, or LimitNOFILE= of a unit."
            )
        return Finding("open files", OK, shown)
    processes = count_of(plan)
    needed = {"the Kingpin": BASE_DESCRIPTORS + FOR_EACH_MOBSTER * processes}
    limits = {"the Kingpin": soft}
    for role in plan.roles:
        needed[f"a worker of {role.name!r}"] = BASE_DESCRIPTORS + FOR_EACH_PEER * processes
        limits[f"a worker of {role.name!r}"] = role.limits.get("nofile", soft)
    lacking = [who for who, count in needed.items() if 0 <= limits[who] < count]
    most = max(needed.values())
    wanted = f"{most} if all {processes} workers are linked to each other, plus the app's own connections"
    if lacking:
        who = lacking[0]
        way = "limits={'nofile': ...} of the role" if "worker" in who and limits[who] != soft else "`ulimit -n`"
        advice = (
            f"{who} may need {needed[who]}, the limit is {limits[who]}: raise it with {way} or LimitNOFILE= of a unit."
        )
        return Finding("open files", FAIL, shown, wanted, advice)
    if 0 <= soft < 2 * most:
        advice = "This leaves room for only a few connections of the app's own; raise the limit if it serves many."
        return Finding("open files", WARN, shown, wanted, advice)
    return Finding("open files", OK, shown, wanted)


def count_of(plan: Plan) -> int:
    """Return the maximum number of workers, including those that replace others in a reload."""
    return sum(_most(role.workers, role.max_workers) + _spare(role.workers) for role in plan.roles)


def _most(workers: int, most: int | None) -> int:
    return max(workers, most or 0)


def _spare(workers: int) -> int:
    return (workers + 3) // 4


def _processes(facts: Facts, plan: Plan | None) -> Finding:
    soft = -1 if facts.is_root else facts.nproc[0]
    allowed = [each for each in (soft - facts.threads if soft >= 0 else None, facts.cgroup_pids) if each is not None]
    room = min(allowed, default=None)
    shown = "no limit" if room is None else f"room for {max(room, 0)} more processes and threads"
    if plan is None or room is None:
        verdict = OK if room is None or room > 50 else WARN
        return Finding(
            "processes", verdict, shown, "", "" if verdict == OK else "Raise it: `ulimit -u`, or TasksMax= of a unit."
        )
    needed = 2 + sum(
        (_most(r.workers, r.max_workers) + _spare(r.workers)) * (THREADS + (r.threads or 1) - 1) for r in plan.roles
    )
    verdict = OK if room >= 2 * needed else WARN if room >= needed else FAIL
    advice = "" if verdict == OK else "Raise it: `ulimit -u`, TasksMax= of a unit, or the pids limit of a container."
    return Finding("processes", verdict, shown, f"{needed} for this app", advice)


def _shared_memory(facts: Facts, plan: Plan | None) -> Finding:
    if not facts.has_memfd:
        advice = "Large buffers go through sockets, which is slower. Everything else works."
        return Finding("shared memory", WARN, "no memfd", "memfd_create(2)", advice)
    room = facts.memory if facts.cgroup_memory is None else min(facts.memory, facts.cgroup_memory)
    where = "" if room == facts.memory else " in this control group"
    shown = f"memfd, {size(room)} of memory available{where}"
    if plan is None:
        return Finding("shared memory", OK, shown)
    bound = sum(role.shared_memory * _most(role.workers, role.max_workers) for role in plan.roles)
    most = max((role.shared_memory for role in plan.roles), default=0)
    wanted = (
        f"up to {size(bound)}, if every worker has the maximum of large buffers in transit (shared_memory, "
        f"at most {size(most)} each)"
    )
    if bound > room:
        advice = "If much is sent at once, the kernel may kill a worker. Lower the limit: shared_memory=64 * 1024**2."
        return Finding("shared memory", WARN, shown, wanted, advice)
    return Finding("shared memory", OK, shown, wanted)


def _fresh_pages(facts: Facts) -> Finding:
    ahead = "allocated in advance" if facts.can_populate else "allocated when first written"
    mode = facts.shared_huge_pages
    shown = ahead if mode is None else f"{ahead}; huge pages for shared memory: {mode}"
    advice: list[str] = []
    if not facts.can_populate:
        advice.append("Linux 5.14 can allocate them in advance, which makes the first large buffers cheaper.")
    if mode in ("never", "deny"):
        advice.append("`advise` makes them cheaper: echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled.")
    return Finding("fresh pages", OK, shown, advice=" ".join(advice))


def _shm(length: int) -> Finding:
    advice = (
        "mob does not use it: its large buffers are memory files (memfd), which count as memory of the control"
        " group. The size limits libraries that use it, such as multiprocessing.shared_memory and PyTorch."
    )
    return Finding("/dev/shm", OK, size(length), advice=advice)


def _core_files(facts: Facts) -> Finding:
    if facts.core == 0:
        return Finding("core files", OK, "none are written (ulimit -c 0)")
    pattern = facts.core_pattern or "core"
    if pattern.startswith("|"):
        return Finding("core files", OK, f"go to {pattern[1:].split(' ')[0]}")
    if pattern.startswith("/"):
        return Finding("core files", OK, f"go to {pattern}")
    advice = (
        "Each crash in C code leaves a file of the worker's size there. Disable them (`ulimit -c 0`) or set"
        " core_pattern."
    )
    return Finding("core files", WARN, f"{pattern!r} in the directory of the app", "elsewhere, or none", advice)


def _state(facts: Facts) -> Finding:
    if facts.state:
        advice = (
            "Set XDG_STATE_HOME to a writable directory; without one, crashes are logged but their reports not kept."
        )
        return Finding("crash reports", WARN, facts.state, "a writable directory", advice)
    return Finding("crash reports", OK, "can be kept")


def _ptrace(scope: int, is_root: bool) -> Finding:
    if scope == 0 or is_root:
        return Finding("ptrace", OK, f"yama.ptrace_scope={scope}: debuggers and py-spy may attach")
    return Finding("ptrace", OK, f"yama.ptrace_scope={scope}: py-spy needs root; `mob stacks` does not")


def _clock(source: str) -> Finding:
    if source in FAST_CLOCKS:
        return Finding("clock", OK, source)
    advice = "Each reading of the clock is a system call of some microseconds; mob needs two for a call."
    return Finding("clock", WARN, source, f"one of {', '.join(FAST_CLOCKS)}", advice)


def _huge_pages(mode: str) -> Finding:
    if mode != "always":
        return Finding("huge pages", OK, mode)
    advice = "Memory that workers share after the fork is copied in pieces of 2 MiB, so each uses more than it needs."
    return Finding("huge pages", WARN, "always", "madvise", f"{advice} transparent_hugepage/enabled.")


def _overcommit(mode: int) -> Finding:
    if mode != 2:
        return Finding("overcommit", OK, str(mode))
    advice = (
        "The fork of a large process and the reserve for large buffers count in full, so launches may fail. Set it"
        " to 0."
    )
    return Finding("overcommit", WARN, "2 (strict)", "0 or 1", advice)


def _limit(number: int) -> str:
    return "no limit" if number < 0 else str(number)
