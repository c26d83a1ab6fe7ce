"""A chaos run: starts the app with a load, injects faults on schedule, waits for recovery, and compares the books.

It watches the app as a client does, and asks the kernel whether processes that are reported as ready are alive. It
prints nothing: the outcome is a `ChaosReport`, which `command.py` prints.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
import psutil

from mob import client
from mob.cli.chaos.attacks import Attacks
from mob.cli.chaos.faults import ChaosFault
from mob.cli.chaos.ledger import CALLS, DIRECTORY, Judgement, judge
from mob.cli.chaos.machines import FIRST, ChaosMachines
from mob.cli.chaos.runner import ECHO, LOAD, PLAN
from mob.client import Client
from mob.core.roster import is_ready
from mob.errors import AppNotRunning, CallError, MobError, PlanError
from mob.plan import GATEWAY, Plan

BOOT = 90.0
"""Seconds until all roles must be ready for the first time."""
SETTLE = 60.0
"""Seconds until all roles must be ready again after the last fault: the backoff before a restart is up to 16.5 s."""
CALM = 2.0
"""Seconds for which every call must succeed after recovery."""
LAST_CALLS = 60.0
"""Seconds in which every call must end."""
APP_STOP_TIMEOUT = 10.0
"""Seconds beyond its grace period in which the app must stop."""
CHAOS_INTERVAL = 0.02
ENDS_IN_UPGRADE = ("upgrade", "signals")
"""A run with one of these faults ends with a SIGTERM during an upgrade."""


class ChaosReport(msgspec.Struct, frozen=True):
    """The outcome of a run."""

    faults: dict[str, int]
    missed: tuple[str, ...]
    """Faults that could not be injected, and why."""
    recoveries: tuple[float, ...]
    """Durations in seconds of the times when some role was below target."""
    judgement: Judgement
    problems: tuple[str, ...]
    """What the app did wrong; empty if the run passed."""
    spared: tuple[str, ...]
    """Roles that were left alone because a crash would exceed their restart limit."""


class ChaosRun:
    """One run, in a directory of its own."""

    def __init__(
        self, directory: Path, script: Path, args: Sequence[str], calls: Sequence[str], nodes: int = 1
    ) -> None:
        self._directory = directory
        self._started_at = time.monotonic()
        (directory / "start").write_text(str(self._started_at))
        env = {**os.environ, DIRECTORY: str(directory), CALLS: ",".join(calls), "XDG_STATE_HOME": str(directory)}
        command = [sys.executable, "-m", "mob.cli.chaos.runner", str(script), *args]
        self._machines = ChaosMachines(directory, command, env, nodes) if nodes > 1 else None
        self._process = subprocess.Popen(
            command,
            env=env if self._machines is None else self._machines.env_of(FIRST),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        self._client: Client | None = None
        self._attacks: Attacks | None = None
        self._problems: list[str] = []
        self._missed: list[str] = []
        self._late: list[psutil.Process] = []
        """Processes that started with the last upgrade."""
        self._recoveries: list[float] = []
        self._app = ""
        self._grace = 0.0
        self._ends_in_upgrade = False
        self._targets: dict[str, tuple[int, int]] = {}
        self._is_over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __repr__(self) -> str:
        return f"<ChaosRun of pid {self._process.pid}, {len(self._problems)} problems>"

    # ------------------------------------------------------------------------------------------- from begin to end

    def carry_out(
        self, faults: Sequence[ChaosFault], seconds: float, on_fault: Callable[[ChaosFault], None]
    ) -> ChaosReport:
        """Do the whole run; faults are injected for that many seconds."""
        calm_at = float("inf")
        spared: list[str] = []
        try:
            plan = self._begin()
            spared = [role.name for role in plan.roles if role.restart != "permanent" or role.intensity is not None]
            sizes = {role.name: role.workers for role in plan.roles}
            self._attacks = Attacks(self._connected, sizes, frozenset(spared), self._machines)
            self._ends_in_upgrade = any(fault.kind in ENDS_IN_UPGRADE for fault in faults)
            self._watcher.start()
            self._attack(faults, seconds, on_fault)
            if not self._problems and self._settle():
                calm_at = time.monotonic() - self._started_at
                time.sleep(CALM)
                self._end_load()
        except AppNotRunning as error:
            self._problems.append(f"the app ended: {error}")
        finally:
            self._stop()
        judgement = judge(self._directory, calm_at)
        self._problems += [f"{count} calls: {what}" for what, count in judgement.faults.items()]
        made = Counter(fault.kind for fault in faults) - Counter(text.partition(":")[0] for text in self._missed)
        return ChaosReport(
            dict(made),
            tuple(self._missed),
            tuple(self._recoveries),
            judgement,
            tuple(self._problems),
            tuple(spared),
        )

    def _begin(self) -> Plan:
        deadline = time.monotonic() + BOOT
        if self._machines is not None:
            self._machines.start()
        path = self._directory / PLAN
        self._wait(path.exists, deadline, "the script did not call .run()")
        plan = msgspec.json.decode(path.read_bytes(), type=Plan)
        self._targets = self._targets_of(plan)
        self._grace = plan.grace
        self._app = plan.name if self._machines is None else f"{plan.name}@{FIRST}"

        def is_in() -> bool:
            with contextlib.suppress(AppNotRunning):
                self._client = client.connect(self._app)
            return self._client is not None and self._client.kingpin_pid == self._process.pid

        self._wait(is_in, deadline, "the app accepts no connection")
        self._wait(lambda: not self._missing(), deadline, lambda: f"not all roles are ready: {self._missing()}")
        return plan

    def _targets_of(self, plan: Plan) -> dict[str, tuple[int, int]]:
        """Return the minimum and maximum number of workers of each role, on all nodes together."""
        targets = {role.name: (role.workers, role.max_workers or role.workers) for role in plan.roles}
        if self._machines is None:
            return targets
        nodes = dict.fromkeys(targets, len(self._machines.names) + 1)
        nodes[ECHO] -= 1  # the first node has none
        nodes.update((role.name, 1) for role in plan.roles if role.singleton)
        targets = {name: (nodes[name] * least, nodes[name] * most) for name, (least, most) in targets.items()}
        return {**targets, GATEWAY: (nodes[LOAD], nodes[LOAD])}

    def _attack(self, faults: Sequence[ChaosFault], seconds: float, on_fault: Callable[[ChaosFault], None]) -> None:
        start = time.monotonic()
        with ThreadPoolExecutor(64) as pool:
            under_way: list[Future[None]] = []
            for fault in faults:
                self._sleep_until(start + fault.at)
                on_fault(fault)
                under_way.append(pool.submit(self._make, fault))
            self._sleep_until(start + seconds)
        for each in under_way:
            each.result()

    def _sleep_until(self, when: float) -> None:
        while (left := when - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))
            if self._process.poll() is not None:
                raise AppNotRunning(f"its Kingpin (supervisor) exited with status {self._process.returncode}.")
            if self._machines is not None and (ended := self._machines.ended()):
                raise AppNotRunning(f"{ended}.")

    def _make(self, fault: ChaosFault) -> None:
        """Inject a fault, in a thread of its own."""
        assert self._attacks is not None
        try:
            missed = self._attacks.carry_out(fault)
        except AssertionError as error:
            self._problems.append(str(error))
            return
        if missed:
            self._missed.append(f"{fault.kind}: {missed}")

    def _watch(self) -> None:
        """Measure, in a thread of its own, for how long some role is below target."""
        since = 0.0
        while not self._is_over.wait(CHAOS_INTERVAL):
            try:
                missing = self._missing(or_more=True)
            except AppNotRunning:
                return
            if missing and not since:
                since = time.monotonic()
            elif since and not missing:
                self._recoveries.append(time.monotonic() - since)
                since = 0.0

    def _settle(self) -> bool:
        """Wait until all roles are at target after the last fault; return whether they are."""
        deadline = time.monotonic() + SETTLE
        while missing := self._missing() or self._missing_elsewhere():
            if time.monotonic() > deadline:
                self._problems.append(f"{SETTLE:g} s after the last fault roles were still below target: {missing}")
                return False
            time.sleep(CHAOS_INTERVAL)
        return True

    def _missing_elsewhere(self) -> str:
        """Return what other nodes do not see yet, although the first one does."""
        for name in () if self._machines is None else self._machines.names:
            try:
                with client.connect(f"{self._app.removesuffix(FIRST)}{name}") as there:
                    if missing := self._missing(there=there):
                        return f"{missing}, as {name} sees it"
            except (MobError, CallError) as error:
                return f"{name} accepts no connection ({error})"
        return ""

    def _end_load(self) -> None:
        """Stop making calls, and wait until all have ended."""
        (self._directory / "quiet").touch()
        deadline = time.monotonic() + LAST_CALLS
        while still_open := self._open_calls():
            if time.monotonic() > deadline:
                self._problems.append(
                    f"{still_open} calls were still open {LAST_CALLS:g} s after the last one was made"
                )
                return
            time.sleep(CHAOS_INTERVAL)

    def _open_calls(self) -> int:
        try:
            answers = self._connected.all(LOAD).call.open_calls().result(10)
        except (CallError, MobError):
            return -1
        return sum(answers.values())

    def _stop(self) -> None:
        """Stop the app gracefully, and check that nothing of it is left."""
        left = self._processes()
        self._is_over.set()
        if self._watcher.is_alive():
            self._watcher.join()
        if self._client is not None:
            self._client.close()
        if self._attacks is not None:
            self._attacks.output_flows.set()
        try:
            self._end_kingpin()
        finally:
            if self._machines is not None:
                self._problems += self._machines.stop()
            left += [each for each in self._late if each not in left]
            psutil.wait_procs(left, timeout=5)
            for process in left:
                if _is_alive(process):
                    self._problems.append(f"pid {process.pid} ({process.name()}) is left behind")
                    process.kill()
        self._reader.join(10)

    def _end_kingpin(self) -> None:
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGCONT)
        if self._ends_in_upgrade:
            self._process.send_signal(signal.SIGUSR2)
            time.sleep(random.uniform(0.0, 1.0))
            self._late = self._processes()
        self._process.send_signal(signal.SIGTERM)
        limit = self._grace + APP_STOP_TIMEOUT
        try:
            status = self._process.wait(limit)
        except subprocess.TimeoutExpired:
            self._problems.append(f"the app did not stop within {limit:g} s (grace={self._grace:g})")
            self._process.kill()
            self._process.wait()
        else:
            if status:
                self._problems.append(f"the app stopped with status {status}")

    # ------------------------------------------------------------------------------------------------ watching

    @property
    def _connected(self) -> Client:
        assert self._client is not None
        return self._client

    def _missing(self, or_more: bool = False, there: Client | None = None) -> str:
        """Return the roles that are not at target, or "".

        `or_more`: a role may be above its target, or still starting workers.
        """
        ready: Counter[str] = Counter()
        others: Counter[str] = Counter()
        for member in (there or self._connected).members():
            if is_ready(member) and _is_alive(member.pid):
                ready[member.role] += 1
            elif member.role:
                others[member.role] += 1
        return ", ".join(
            f"{role} has {ready[role]} of {least} ready"
            for role, (least, most) in self._targets.items()
            if ready[role] < least or (not or_more and (ready[role] > most or others[role]))
        )

    def _wait(self, question: Callable[[], bool], deadline: float, why: str | Callable[[], str]) -> None:
        while not question():
            if self._process.poll() is not None:
                self._reader.join(5)
                raise PlanError(f"the app exited with status {self._process.returncode}.\n{self.last_lines()}")
            if time.monotonic() > deadline:
                raise PlanError(f"{why if isinstance(why, str) else why()} ({BOOT:g} s).\n{self.last_lines()}")
            time.sleep(CHAOS_INTERVAL)

    def last_lines(self) -> str:
        """Return the last lines that the app printed."""
        log = self._directory / "output.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log.exists() else ""

    def _processes(self) -> list[psutil.Process]:
        try:
            kingpin = psutil.Process(self._process.pid)
            return [kingpin, *kingpin.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _read(self) -> None:
        """Write the app's output to a file, in a thread, unless a fault blocks it."""
        assert self._process.stdout is not None
        with (self._directory / "output.log").open("wb") as log:
            while data := os.read(self._process.stdout.fileno(), 64 * 1024):
                log.write(data)
                log.flush()
                if self._attacks is not None:
                    self._attacks.output_flows.wait()


def _is_alive(process: psutil.Process | int) -> bool:
    try:
        found = psutil.Process(process) if isinstance(process, int) else process
        return found.is_running() and found.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
