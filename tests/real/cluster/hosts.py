"""Separate hosts: network namespaces of this machine, each with its own loopback and abstract sockets.

They are plugged into a switch (a bridge in one more namespace), and their plugs can be pulled.

>>> hub, a, b = network.add("hub"), network.add("a"), network.add("b")                     # doctest: +SKIP
>>> b.cut()                                                                               # doctest: +SKIP

The namespaces have no names (`ip netns` would leave them behind if the tests were killed): a descriptor of this process
holds each, so they end with it. A thread that enters one (`Host.inside`) reaches what listens there, so the clients of
an app on a host are in this process. Clocks: `clock=` starts a process with a monotonic clock of its own (a time
namespace). The kernel has only one wall clock; `wall=` shifts what Python reads of it (a `sitecustomize`).
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mob
from tests.real.cluster.machines import Node
from tests.running import wait_until

NEW_NETWORK = 0x40000000
SUBNET = "10.77.0"
LIBC = ctypes.CDLL(None, use_errno=True)
SITECUSTOMIZE = """
import os, time
ahead = float(os.environ.get("TEST_WALL", 0))
if ahead:
    true_time, true_time_ns = time.time, time.time_ns
    time.time = lambda: true_time() + ahead
    time.time_ns = lambda: true_time_ns() + int(ahead * 1e9)
if protocol := os.environ.get("TEST_PROTOCOL"):
    from mob.wire import messages
    messages.PROTOCOL = int(protocol)
"""


def missing() -> str:
    """Return why hosts are not possible here; "" if they are."""
    if os.geteuid():
        return "network namespaces take root"
    if lacking := [name for name in ("ip", "nsenter", "unshare") if shutil.which(name) is None]:
        return f"there is no {' and no '.join(lacking)} (iproute2, util-linux)"
    try:
        os.close(_new_namespace())
    except OSError as error:
        return f"the kernel gives no network namespace: {error}"
    return ""


class Host:
    """One host. `number` is the last part of its address."""

    def __init__(self, network: Network, name: str, number: int) -> None:
        self.network = network
        self.name = name
        self.address = f"{SUBNET}.{number}"
        self.namespace = _new_namespace()
        self._plug = f"v{number}"
        self._run("ip", "link", "set", "lo", "up")
        if network.switch >= 0:
            there = _path(self.namespace)
            network.on_switch("ip", "link", "add", self._plug, "type", "veth", "peer", "name", "eth0", "netns", there)
            self._run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
            self._run("ip", "link", "set", "eth0", "up")
            network.on_switch("ip", "link", "set", self._plug, "up")
            self.heal()

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address}>"

    def _run(self, *command: str) -> None:
        subprocess.run(self.command(*command), check=True, stdin=subprocess.DEVNULL)

    def command(self, *command: str, clock: float = 0.0) -> list[str]:
        """Return a command as it runs on this host; `clock`: seconds by which its monotonic clock is ahead."""
        ahead = f"{clock:.0f}"
        clocks = ["unshare", "--time", "--monotonic", ahead, "--boottime", ahead] if clock else []
        return ["nsenter", f"--net={_path(self.namespace)}", *clocks, *command]

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Put this thread on that host for the block; what it opens stays there."""
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(self.namespace)
            try:
                yield
            finally:
                _enter(outside)
        finally:
            os.close(outside)

    def cut(self) -> None:
        """Drop all packets in both directions, without notice to either side."""
        self.network.on_switch("ip", "link", "set", self._plug, "nomaster")

    def heal(self) -> None:
        """Let packets through again."""
        self.network.on_switch("ip", "link", "set", self._plug, "master", "br0")

    def unplug(self) -> None:
        """Cut the host off so that it sees the loss of its carrier."""
        self.network.on_switch("ip", "link", "set", self._plug, "down")

    def plug(self) -> None:
        """Give the host its carrier again."""
        self.network.on_switch("ip", "link", "set", self._plug, "up")

    def thin_out(self, rate: str) -> None:
        """Limit the rate in each direction, such as "20mbit"; what does not fit waits."""
        shape = ("root", "tbf", "rate", rate, "burst", "64kb", "latency", "200ms")
        self._run("tc", "qdisc", "add", "dev", "eth0", *shape)
        self.network.on_switch("tc", "qdisc", "add", "dev", self._plug, *shape)

    def slow_down(self, delay: float, jitter: float, loss: float) -> None:
        """Delay each packet in each direction and lose some, permanently."""
        program = Path(__file__).with_name("slow_line.py")
        self._run("ip", "link", "delete", "eth0")
        figures = [str(each) for each in (delay, jitter, loss)]
        namespaces = [self.namespace, self.network.switch]
        line = subprocess.Popen(
            [sys.executable, str(program), *map(str, namespaces), self._plug, *figures],
            pass_fds=namespaces,
            stdout=subprocess.PIPE,
        )
        self.network.processes.append(line)
        assert line.stdout is not None
        assert line.stdout.readline() == b"ready\n"
        line.stdout.close()
        self._run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self._run("ip", "link", "set", "eth0", "up")
        self.network.on_switch("ip", "link", "set", self._plug, "up")
        self.heal()


class HostNode(Node):
    """An app on a host."""

    host: Host

    def connect(self) -> mob.Client:
        """A client that is on the host as well."""
        with self.host.inside():
            return super().connect()


class HostNats:
    """A `nats-server` with JetStream on a host; one of several if `cluster` names them."""

    def __init__(self, host: Host, *cluster: Host) -> None:
        self.host = host
        self.url = f"nats://{host.address}:4222"
        self.directory = host.network.directory / f"nats-{host.name}"
        self.directory.mkdir(exist_ok=True)
        self._cluster = cluster
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> HostNats:
        """Start it, and wait until it answers."""
        program = Path(sys.executable).parent / "nats-server"
        address, log = self.host.address, str(self.directory / "log")
        options = ["-n", self.host.name, "-a", address, "-p", "4222", "-m", "8222", "-js", "-sd", str(self.directory)]
        if self._cluster:
            routes = ",".join(f"nats://{each.address}:6222" for each in self._cluster)
            options += ["--cluster_name", "hosts", "--cluster", f"nats://{address}:6222", "--routes", routes]
        self.process = subprocess.Popen(self.host.command(str(program), "-l", log, *options))
        self.host.network.processes.append(self.process)
        wait_until(lambda: self.ask("varz"), f"the NATS server on {self.host} answers")
        return self

    def kill(self) -> None:
        """Kill it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def ask(self, what: str) -> dict[str, Any]:
        """Return a page of its monitoring, such as `varz`, `connz` or `jsz`; {} if it does not answer."""
        answer: dict[str, Any] = {}
        with self.host.inside(), suppress(OSError):
            url = f"http://{self.host.address}:8222/{what}"
            answer = json.loads(urllib.request.urlopen(url, timeout=2).read())
        return answer

    @property
    def leader(self) -> str:
        """Return the server that leads JetStream, as this one sees it."""
        return self.ask("jsz").get("meta_cluster", {}).get("leader", "")

    @property
    def clients(self) -> int:
        """Return the number of its connections."""
        return self.ask("varz").get("connections", 0)


class Network:
    """All hosts of a test, and the apps on them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.app = f"h{os.getpid()}-{directory.name[-20:]}".replace("_", "-")
        self.hosts: dict[str, Host] = {}
        self.nodes: list[HostNode] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.switch = -1
        self._switch = Host(self, "switch", 0)
        self.switch = self._switch.namespace
        self.on_switch("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        self.on_switch("ip", "link", "set", "br0", "up")
        (directory / "site").mkdir()
        (directory / "site" / "sitecustomize.py").write_text(SITECUSTOMIZE)

    def on_switch(self, *command: str) -> None:
        """Run a command in the namespace of the switch."""
        subprocess.run(self._switch.command(*command), check=True, stdin=subprocess.DEVNULL)

    def add(self, *names: str) -> list[Host]:
        """Add more hosts."""
        for name in names:
            self.hosts[name] = Host(self, name, len(self.hosts) + 1)
        return [self.hosts[name] for name in names]

    def launch(
        self,
        host: Host,
        servers: list[HostNats],
        roles: str,
        placed: Mapping[str, int] | None = None,
        *,
        files: Mapping[str, str],
        clock: float = 0.0,
        wall: float = 0.0,
        protocol: int = 0,
        **env: str,
    ) -> HostNode:
        """Start the app on a host, in a directory of its own, and do not wait. `placed`: what of it runs there."""
        directory = self.directory / f"on-{host.name}"
        directory.mkdir(exist_ok=True)
        place = f"app.place(**{dict(placed)!r})" if placed is not None else ""
        urls = ", ".join(repr(server.url) for server in servers)
        start = f"mob.start({self.app!r}).base(__file__).cluster({urls})"
        main = f"import mob\napp = {start}\napp{roles}\n{place}\napp.run()\n"
        write(directory, main=main, **files)
        shifts = {
            "TEST_WALL": str(wall),
            "TEST_PROTOCOL": str(protocol or ""),
            "PYTHONPATH": str(directory.parent / "site"),
        }
        clean = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "PLACED", *shifts)}
        more = {"MOB_NODE": host.name, "XDG_STATE_HOME": str(directory / "state"), **env}
        if wall or protocol:
            more |= shifts
        command = host.command(sys.executable, "main.py", clock=clock)
        node = HostNode(directory, f"{self.app}@{host.name}", command, clean | more)
        node.host = host
        self.nodes.append(node)
        return node

    def wait_together(self, *nodes: HostNode, roles: Mapping[str, int]) -> None:
        """Wait until each node knows the given number of ready workers of these roles, wherever they are."""
        for node in nodes:
            if not hasattr(node, "client"):
                node.client = node.connect()

        def is_complete(node: HostNode) -> bool:
            ready = [member.role for member in node.client._peer.context.roster.ready()]
            others = {name for name, _ in _names(node)} >= {each.node for each in nodes}
            gateways = ready.count("gateway") >= len(nodes)
            return not node.is_cut and others and gateways and all(ready.count(role) >= n for role, n in roles.items())

        for node in nodes:
            wait_until(lambda node=node: is_complete(node), f"{node.node} knows the others and all workers")

    def end(self) -> None:
        """Clean up, whatever happened."""
        for node in self.nodes:
            if node.process.poll() is None:
                node.signal(15)
        try:
            for node in self.nodes:
                node.end()
        finally:
            for process in self.processes:
                process.kill()
                process.wait()
            for host in (self._switch, *self.hosts.values()):
                os.close(host.namespace)


def write(directory: Path, **files: str) -> None:
    """Write `name.py` for each argument, unchanged except for its indentation."""
    for name, text in files.items():
        (directory / f"{name}.py").write_text(textwrap.dedent(text))


def _names(node: Node) -> list[tuple[str, int]]:
    return [(each.name, each.number) for each in node.client._peer.context.roster.nodes.values()]


def _path(namespace: int) -> str:
    return f"/proc/{os.getpid()}/fd/{namespace}"


def _new_namespace() -> int:
    """Return a descriptor of a new network namespace."""
    made: list[int] = []
    errors: list[OSError] = []

    def make() -> None:
        if LIBC.unshare(NEW_NETWORK):
            errors.append(OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())))
        else:
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    _in_thread(make)
    if errors:
        raise errors[0]
    return made[0]


def _in_thread(what: Callable[[], None]) -> None:
    thread = threading.Thread(target=what)
    thread.start()
    thread.join()


def _enter(namespace: int) -> None:
    if LIBC.setns(namespace, NEW_NETWORK):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
