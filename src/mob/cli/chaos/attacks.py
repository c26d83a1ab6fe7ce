"""Carries out the faults of a chaos run on the processes of the app, from another process, and undoes them.

There is one method for each kind. A victim that has already exited counts as no victim; a request that the app refuses
(a reload during another) is not a fault of the app. Stopped processes are always continued.
"""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence

import psutil

from mob.cli.chaos.faults import ChaosFault
from mob.cli.chaos.machines import ChaosMachines
from mob.cli.chaos.runner import ECHO, LOAD
from mob.cli.chaos.sieges import Sieges
from mob.client import Client, connect
from mob.core import roster
from mob.errors import CallError, CallTimeout, MobError
from mob.plan import GATEWAY
from mob.rim import titles
from mob.rim.pidfds import ProcessHandle
from mob.wire.messages import Member, node_of

RELOAD_PATIENCE = 60.0
CALL_PATIENCE = 30.0
HOG = (50, 300)  # MiB
ORDERS = 12  # requests to scale in a storm
FLOOD = 20_000  # lines; about 2 MiB, more than all pipes on the way can hold


class Attacks:
    """All kinds of faults."""

    def __init__(
        self, client: Client, targets: dict[str, int], spared: frozenset[str], machines: ChaosMachines | None = None
    ) -> None:
        self._client = client
        self._targets = targets
        self._spared = spared
        self._machines = machines
        self.output_flows: threading.Event = threading.Event()
        """Set while the app's output is read."""
        self.output_flows.set()
        self._acts: dict[str, Callable[[ChaosFault, random.Random], None]] = {
            "kill": self._kill,
            "kill several": self._kill_several,
            "ask": self._ask,
            "freeze": self._freeze,
            "memory": self._take_memory,
            "descriptors": self._take_descriptors,
            "garbage": self._send_garbage,
            "fork server": self._kill_fork_server,
            "freeze Kingpin": self._freeze_kingpin,
            "slow output": self._stop_output,
            "reload": self._reload,
            "scale": self._scale,
            "scale storm": self._storm,
            "gateway": self._kill_gateway,
            "node": self._kill_node,
            "NATS": self._kill_nats,
            "freeze NATS": self._freeze_nats,
            **Sieges(client).acts,
        }

    def carry_out(self, fault: ChaosFault) -> str:
        """Make a fault and undo it; return why it was impossible, or "". `AssertionError` if the app misbehaves."""
        try:
            self._acts[fault.kind](fault, random.Random(fault.seed))
        except (ProcessLookupError, psutil.NoSuchProcess):
            return "the victim had already exited"
        except (MobError, IndexError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    # --------------------------------------------------------------------------------------------- processes

    def _kill(self, fault: ChaosFault, chance: random.Random) -> None:
        self._signal(chance.choice(self._victims()).pid, signal.SIGKILL)

    def _ask(self, fault: ChaosFault, chance: random.Random) -> None:
        self._signal(chance.choice(self._victims(is_ready=False)).pid, signal.SIGTERM)

    def _kill_several(self, fault: ChaosFault, chance: random.Random) -> None:
        victims = self._victims()
        for victim in chance.sample(victims, min(len(victims), chance.randint(2, 4))):
            try:
                self._signal(victim.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _freeze(self, fault: ChaosFault, chance: random.Random) -> None:
        self._freeze_process(chance.choice(self._victims()).pid, fault.seconds)

    def _freeze_kingpin(self, fault: ChaosFault, chance: random.Random) -> None:
        self._freeze_process(self._client.kingpin_pid, fault.seconds)

    def _kill_fork_server(self, fault: ChaosFault, chance: random.Random) -> None:
        children = psutil.Process(self._client.kingpin_pid).children()
        app = self._client.app.partition("@")[0]
        servers = (each.pid for each in children if titles.app_of(_title(each), titles.FORK_SERVER) == app)
        self._signal(next(servers, 0) or _no_process(), signal.SIGKILL)

    # --------------------------------------------------------------------------------------------- resources

    def _take_memory(self, fault: ChaosFault, chance: random.Random) -> None:
        free = psutil.virtual_memory().available // 1024 // 1024
        size = min(chance.randint(*HOG), free // 4)
        victim = chance.choice(self._victims(ECHO))
        _ended(self._client.pid(self._address_of(victim)).call.hog(size, fault.seconds))

    def _take_descriptors(self, fault: ChaosFault, chance: random.Random) -> None:
        victim = psutil.Process(chance.choice(self._victims(ECHO)).pid)
        before = victim.rlimit(psutil.RLIMIT_NOFILE)
        try:
            victim.rlimit(psutil.RLIMIT_NOFILE, (victim.num_fds() + chance.choice([-2, 0, 1]), before[1]))
            time.sleep(fault.seconds)
        finally:
            victim.rlimit(psutil.RLIMIT_NOFILE, before)

    def _send_garbage(self, fault: ChaosFault, chance: random.Random) -> None:
        victim = chance.choice(self._victims(LOAD))
        _ended(self._client.pid(self._address_of(victim)).call.garble(fault.seed))

    def _stop_output(self, fault: ChaosFault, chance: random.Random) -> None:
        self.output_flows.clear()
        try:
            _ended(self._client.require(ECHO).chatter(FLOOD))
            time.sleep(fault.seconds)
        finally:
            self.output_flows.set()

    # ------------------------------------------------------------------------------------- what users may ask

    def _reload(self, fault: ChaosFault, chance: random.Random) -> None:
        role = chance.choice(sorted(self._targets))
        try:
            self._client.reload(role, timeout=RELOAD_PATIENCE)
        except CallTimeout:
            raise AssertionError(f"a reload of {role!r} did not end within {RELOAD_PATIENCE} s") from None

    def _scale(self, fault: ChaosFault, chance: random.Random) -> None:
        before = self._targets[ECHO]
        with self._where_echo_runs(chance) as there:
            try:
                there.scale(ECHO, before + chance.randint(1, 2))
                time.sleep(fault.seconds)
            finally:
                there.scale(ECHO, before)

    def _storm(self, fault: ChaosFault, chance: random.Random) -> None:
        before = self._targets[ECHO]
        with self._where_echo_runs(chance) as there:
            try:
                for _ in range(ORDERS):
                    there.scale(ECHO, max(1, before + chance.randint(-2, 3)))
                    time.sleep(chance.choice([0.0, 0.0, 0.02, 0.2]))
            finally:
                there.scale(ECHO, before)

    @contextlib.contextmanager
    def _where_echo_runs(self, chance: random.Random) -> Generator[Client]:
        """Yield a client of a node with that role. It needs no NATS, so the role can always be scaled back."""
        if self._machines is None:
            yield self._client
        else:
            name = self._client.app.partition("@")[0]
            with connect(f"{name}@{chance.choice(self._machines.names)}") as there:
                yield there

    # ---------------------------------------------------------------------------------------------- machines

    def _kill_gateway(self, fault: ChaosFault, chance: random.Random) -> None:
        self._signal(chance.choice(self._victims(GATEWAY)).pid, signal.SIGKILL)

    def _kill_node(self, fault: ChaosFault, chance: random.Random) -> None:
        machines = self._several
        name = chance.choice(machines.names)
        with machines.locks[name]:
            machines.kill_node(name)
            time.sleep(fault.seconds)
            machines.start_node(name)

    def _kill_nats(self, fault: ChaosFault, chance: random.Random) -> None:
        machines = self._several
        with machines.server_lock:
            machines.server.kill()
            try:
                time.sleep(fault.seconds)
            finally:
                machines.server.start()

    def _freeze_nats(self, fault: ChaosFault, chance: random.Random) -> None:
        machines = self._several
        with machines.server_lock:
            if (process := machines.server.process) is not None:
                # a child that is only reaped under this lock
                with contextlib.closing(ProcessHandle(process.pid)) as held:
                    _freeze(held, fault.seconds)

    @property
    def _several(self) -> ChaosMachines:
        assert self._machines is not None, "these faults require several nodes"
        return self._machines

    # ----------------------------------------------------------------------------------------------- victims

    def _address_of(self, victim: Member) -> int | str:
        """Return the address of a worker as seen from the first node."""
        nodes = {node.number: node for node in self._client.nodes()}
        node = nodes.get(node_of(victim.uid))
        return victim.pid if node is None or node.is_here else f"{node.name}:{victim.pid}"

    @contextlib.contextmanager
    def _held(self, pid: int) -> Generator[ProcessHandle]:
        """Hold a process of the app, so that a signal reaches only that process.

        It is recognized by its title or, because roles may change theirs, by its parent's. `ProcessLookupError` if it
        exited, or if another process has its pid now.
        """
        name = self._client.app.partition("@")[0]
        with contextlib.closing(ProcessHandle(pid)) as held:
            process = psutil.Process(pid)
            if not any(_title(each).startswith(name) for each in (process, process.parent()) if each is not None):
                raise ProcessLookupError(pid)
            yield held

    def _signal(self, pid: int, signum: int) -> None:
        with self._held(pid) as held:
            held.signal(signum)

    def _freeze_process(self, pid: int, seconds: float) -> None:
        with self._held(pid) as held:
            _freeze(held, seconds)

    def _victims(self, role: str = "", is_ready: bool = True) -> Sequence[Member]:
        """Return the workers that may be attacked, in a fixed order.

        `is_ready=False` includes those that start or drain.
        """
        known = [m for m in self._client.members() if m.role and m.pid and m.role not in self._spared]
        found = [m for m in known if role in ("", m.role) and (roster.is_ready(m) or not is_ready)]
        return sorted(found, key=lambda m: (m.role, m.index))


def _freeze(held: ProcessHandle, seconds: float) -> None:
    held.signal(signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        held.signal(signal.SIGCONT)


def _ended(call: object) -> None:
    """Wait until a call ends in any way; `AssertionError` if it does not."""
    try:
        call.result(CALL_PATIENCE)  # type: ignore[attr-defined]
    except CallError:
        if not call.done():  # type: ignore[attr-defined]
            raise AssertionError(f"{call!r} did not end within {CALL_PATIENCE} s") from None


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()  # psutil may split a title at its spaces
    except psutil.Error:
        return ""


def _no_process() -> int:
    raise ProcessLookupError
