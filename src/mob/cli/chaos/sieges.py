"""Attacks on the Kingpin: it replaces itself, runs out of descriptors, and gets connections that misbehave.

After each attack the Kingpin must continue with the same pid, end every request in time, and accept connections. Each
attack is undone. Attacks on workers and their environment are in `attacks.py`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Generator, Sequence

import psutil

from mob.cli.chaos.faults import ChaosFault
from mob.client import Client, connect
from mob.core.roster import is_ready
from mob.errors import AppNotRunning, CallTimeout, MobError
from mob.wire import messages as m
from mob.wire.frames import frame

UPGRADE_TIMEOUT = 60.0
"""Seconds in which an upgrade must end, in any way."""
LETS_IN = 10.0 + 5.0
"""Seconds in which a connection is accepted or refused: what mob promises, plus a margin for a busy machine."""
STRANGERS = 150
"""Number of silent connections; more than the backlog of the listening socket."""
QUESTIONS = 20_000
"""Number of requests of a client that reads no answer; about 10 MiB of answers."""
HELLO = frame(m.encode([m.Hello(m.PROTOCOL, os.getpid())]))
SCARCE = (-2, 0, 0, 1, 2, 4)
"""Number of descriptors that the Kingpin may open in addition to the open ones."""


class Sieges:
    """The attacks on the Kingpin."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pid = client.kingpin_pid
        self._limits = threading.Lock()
        """Held by the attack that changed the Kingpin's limits."""
        self._scarcities = 0
        """Number of attacks that changed them so far."""

    def __repr__(self) -> str:
        return f"<Sieges of pid {self._pid}>"

    @property
    def acts(self) -> dict[str, Callable[[ChaosFault, random.Random], None]]:
        """Functions that carry out the faults, by kind."""
        return {
            "upgrade": self._upgrade,
            "signals": self._signal,
            "Kingpin's descriptors": self._take_descriptors,
            "strangers": self._send_strangers,
            "deaf client": self._ask_and_read_nothing,
        }

    def _upgrade(self, fault: ChaosFault, chance: random.Random) -> None:
        try:
            self._client.upgrade(UPGRADE_TIMEOUT)
        except CallTimeout:
            raise AssertionError(f"an upgrade did not end within {UPGRADE_TIMEOUT:g} s") from None
        if (pid := self._client.metrics().kingpin_pid) != self._pid:
            raise AssertionError(f"an upgrade changed the Kingpin's pid from {self._pid} to {pid}")
        self._check_lets_in()

    def _signal(self, fault: ChaosFault, chance: random.Random) -> None:
        """Send SIGHUP and SIGUSR2 in either order, and kill a worker at some point."""
        steps = [(self._pid, signal.SIGHUP), (self._pid, signal.SIGUSR2)]
        steps += [(victim, signal.SIGKILL) for victim in chance.sample(self._replaceable(), 1)]
        for pid, signum in chance.sample(steps, len(steps)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
            time.sleep(chance.choice([0.0, 0.01, 0.1, 0.4]))

    def _take_descriptors(self, fault: ChaosFault, chance: random.Random) -> None:
        with self._scarcity():
            kingpin = psutil.Process(self._pid)
            before = kingpin.rlimit(psutil.RLIMIT_NOFILE)
            try:
                kingpin.rlimit(psutil.RLIMIT_NOFILE, (max(1, _highest(self._pid) + chance.choice(SCARCE)), before[1]))
                os.kill(chance.choice(self._replaceable()), signal.SIGKILL)
                begun = time.monotonic()
                self._check_lets_in()
                time.sleep(max(0.0, fault.seconds - (time.monotonic() - begun)))
            finally:
                kingpin.rlimit(psutil.RLIMIT_NOFILE, before)
        self._check_lets_in()

    def _send_strangers(self, fault: ChaosFault, chance: random.Random) -> None:
        with contextlib.ExitStack() as open_sockets:
            for number in range(STRANGERS):
                sock = open_sockets.enter_context(self._knock())
                if number % 3 == 0:  # some send an incomplete frame
                    with contextlib.suppress(ConnectionError):  # refused, because descriptors are scarce
                        sock.send(chance.choice([b"\0", b"\x08\0\0\0", HELLO[:-1]]))
            self._check_lets_in()
            time.sleep(fault.seconds)

    def _ask_and_read_nothing(self, fault: ChaosFault, chance: random.Random) -> None:
        with self._knock() as sock:
            words = [HELLO]
            for first in range(0, QUESTIONS, 500):
                words.append(frame(m.encode([m.Overview(number) for number in range(first, first + 500)])))
            deadline = time.monotonic() + fault.seconds
            with contextlib.suppress(TimeoutError, ConnectionError):
                for word in words:
                    sock.settimeout(max(0.01, deadline - time.monotonic()))
                    sock.sendall(word)
            self._check_lets_in()
            time.sleep(max(0.0, deadline - time.monotonic()))

    # ---------------------------------------------------------------------------------------------- questions

    def _check_lets_in(self) -> None:
        """Raise `AssertionError` if a client is not answered in time, or is refused although there are descriptors."""
        was_scarce, before = self._limits.locked(), self._scarcities
        begun, why = time.monotonic(), ""
        try:
            connect(self._client.app).close()
        except (MobError, OSError) as error:
            why = str(error)
        seconds = time.monotonic() - begun
        if seconds > LETS_IN:
            raise AssertionError(f"a client waited {seconds:.1f} s for a connection ({why or 'it succeeded'})")
        if why and not was_scarce and before == self._scarcities:
            raise AssertionError(f"a client could not connect: {why}")

    def _knock(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(LETS_IN), 0))
        try:
            sock.connect(self._client._door)  # pyright: ignore[reportPrivateUsage]
        except BlockingIOError:
            sock.close()
            raise AssertionError(f"a connection was not accepted within {LETS_IN:g} s") from None
        except OSError as error:
            sock.close()
            raise AppNotRunning(f"the app does not listen: {error}") from error
        return sock

    def _replaceable(self) -> Sequence[int]:
        """Return the pids of ready workers of the run's own roles, which every app can spare for a moment."""
        members = self._client.members(here=True)
        found = sorted(each.pid for each in members if is_ready(each) and each.role.startswith("chaos-"))
        if not found:
            raise ProcessLookupError
        return found

    @contextlib.contextmanager
    def _scarcity(self) -> Generator[None]:
        if not self._limits.acquire(blocking=False):
            raise MobError("the Kingpin is already short of descriptors")
        try:
            self._scarcities += 1
            yield
        finally:
            self._limits.release()


def _highest(pid: int) -> int:
    """Return the highest descriptor of a process plus one: a limit at which it can open no higher descriptor."""
    return 1 + max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
