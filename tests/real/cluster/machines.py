"""Several machines in one: a NATS server on the loopback, and an app that runs on it under several node names.

>>> a, b = nodes.start(nats, '.role("back", "./back.py")', back="def foo(): ...")          # doctest: +SKIP
>>> a.client.require("back").foo().result()                                                # doctest: +SKIP
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mob
from mob.app import _machine_name
from mob.plan import GATEWAY
from mob.wire.messages import node_of
from tests.running import PATIENCE, Apps, RunningApp, free_port, freeze, wait_until

MACHINE = _machine_name()
"""The name of a node without a given name."""
Placed = Mapping[str, Mapping[str, int]]
"""Number of workers of each role, by node."""


class Nats:
    """A `nats-server` on a port of the loopback, with JetStream; the port stays the same when it starts again."""

    def __init__(self, directory: Path, *arguments: str, has_jetstream: bool = True) -> None:
        self.directory = directory
        self.has_jetstream = has_jetstream
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Nats:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        program = Path(sys.executable).parent / "nats-server"
        jetstream = ("-js", "-sd", str(self.directory / "store")) if self.has_jetstream else ()
        where = ("-a", "127.0.0.1", "-p", str(self.port), *jetstream)
        log = ("-l", str(self.directory / "nats.log"))
        self.process = subprocess.Popen([str(program), *where, *log, *self._arguments], stdin=subprocess.DEVNULL)
        wait_until(self._answers, "the NATS server answers")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "nats.log").read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            return sock.recv(5) == b"INFO "
        return False

    def freeze(self) -> None:
        """Stop it with SIGSTOP; its connections stay open."""
        assert self.process is not None
        freeze(self.process.pid)

    def thaw(self) -> None:
        """Continue it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """Kill it, and start it again on the same port."""
        self.kill()
        self.start()


class Node(RunningApp):
    """An app as it runs on one of the machines. Its name is "app@node", which `mob.connect` takes."""

    client: mob.Client
    """A client of this node; exists after `Nodes.wait_together`."""

    @property
    def node(self) -> str:
        """The name of the machine."""
        return self.name.partition("@")[2] or MACHINE

    def pids(self, role: str) -> list[int]:
        """Return the pids of the ready workers of a role on this machine."""
        return [member.pid for member in self.workers(role)]

    def workers(self, role: str) -> list[Any]:
        """Return the ready workers of a role on this machine, by index."""
        return [member for member in self.ready(self.client, role) if node_of(member.uid) == self.number]

    def seen(self, other: Node, role: str) -> list[Any]:
        """Return the ready workers of a role on another machine, as this one knows them."""
        return [member for member in self.ready(self.client, role) if node_of(member.uid) == other.number]

    @property
    def number(self) -> int:
        """The number of the machine, in the uids of its members."""
        return node_of(self.client._peer.context.uid)

    @property
    def nodes(self) -> set[str]:
        """The names of the machines that this one knows, including itself."""
        return {node.name for node in self.client._peer.context.roster.nodes.values()}

    @property
    def is_cut(self) -> str:
        """Why the others cannot be reached; "" if they can."""
        return self.client._peer.context.roster.cut


class Nodes:
    """One app on several machines."""

    def __init__(self, directory: Path) -> None:
        self._apps = Apps(directory)
        self.directory = directory
        self.app = f"c{os.getpid()}-{directory.name[-20:]}".replace("_", "-")
        self.running: list[Node] = []

    def write(self, **files: str) -> None:
        """Write `name.py` for each argument, dedented."""
        self._apps.write(**files)

    def describe(self, nats: Nats | str, roles: str, *, options: str = "", cluster: str = "", **files: str) -> None:
        """Write the main script. `roles`: its `.role(...)` lines; `cluster`: more options of `.cluster(...)`."""
        self.write(
            main=f"""
            import json, os
            import mob

            app = mob.start({self.app!r}, {options}).base(__file__)
            app.cluster({str(getattr(nats, "url", nats))!r}, {cluster})
            app{roles}
            if "PLACED" in os.environ:
                app.place(**json.loads(os.environ["PLACED"]))
            app.run()
            """,
            **files,
        )

    def start(
        self,
        nats: Nats | str,
        roles: str,
        names: Sequence[str] = ("a", "b"),
        *,
        placed: Placed | None = None,
        options: str = "",
        cluster: str = "",
        **files: str,
    ) -> list[Node]:
        """Start the app on these machines, and wait until they know one another. `placed`: which roles run where."""
        self.describe(nats, roles, options=options, cluster=cluster, **files)
        started = [self.launch(name, None if placed is None else placed.get(name, {})) for name in names]
        self.wait_together(*started)
        return started

    def launch(self, name: str, placed: Mapping[str, int] | None = None, **env: str) -> Node:
        """Start the described app on one more machine, and do not wait. "": a machine without a given name."""
        shown = str(dict(placed)).replace("'", '"') if placed is not None else None
        more = {**({"MOB_NODE": name} if name else {}), **({} if shown is None else {"PLACED": shown}), **env}
        clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "COLUMNS", "MOB_NODE")}
        clean["XDG_STATE_HOME"] = str(self.directory / f"state-{name}")
        app = f"{self.app}@{name}" if name else self.app
        node = Node(self.directory, app, [sys.executable, "main.py"], {**clean, **more})
        self.running.append(node)
        return node

    def wait_together(self, *nodes: Node) -> None:
        """Wait until all workers of these machines are ready, and each machine knows them all."""
        for node in nodes:
            node.client = node.connect()
        names = {node.node for node in nodes}
        for node in nodes:
            wait_until(
                lambda node=node: node.nodes >= names and not node.is_cut and _is_complete(node),
                f"{node.node} knows the others: {node.nodes}\n{node.output}",
            )

    def end(self) -> None:
        """End all of them."""
        for node in self.running:
            with suppress(ProcessLookupError):
                node.signal(signal.SIGCONT)  # a test may have left it stopped
            if node.process.poll() is None:
                node.signal(signal.SIGTERM)
        for node in self.running:
            node.end()


@contextmanager
def nodes_in(directory: Path) -> Iterator[Nodes]:
    """An app on several machines that ends with the block."""
    nodes = Nodes(directory)
    try:
        yield nodes
    finally:
        nodes.end()


def _is_complete(node: Node) -> bool:
    """Return whether this machine knows all workers of the machines as ready."""
    roster = node.client._peer.context.roster
    roles = {name: sum(count for _, count in roster.places(name)) for name in roster.roles}
    ready = roster.ready()
    return all(sum(member.role == name for member in ready) >= count for name, count in roles.items()) and all(
        dict(other.places).get(GATEWAY) for other in roster.nodes.values() if other.number != node.number
    )


def wait_gone(node: Node, name: str, patience: float = PATIENCE) -> None:
    """Wait until a machine no longer knows another one."""
    wait_until(lambda: name not in node.nodes, f"{node.node} no longer knows {name}", patience)
