"""The servers that `bench.serving` compares: how each is started for an application, and ended again.

All have two workers. They serve the same file of bench/apps on ports of their own; what they print goes to a file, as
in production. A server that is not installed is left out, with one line that says so.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil

from bench.mob_side import new_name
from bench.side import ROOT

APPS = ROOT / "bench" / "apps"
PATIENCE = 30.0
THREADS = 4
"""Threads of a worker that serves a WSGI application."""
MOB = """
import mob
options = {options!r}
mob.start({name!r}).base({base!r}).role(
    "web", "{module}:app", workers=2, threads={threads}, serve="{address}", serve_options=options
).run()
"""
NGINX = """
daemon off;
pid {place}/nginx.pid;
error_log stderr;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    keepalive_requests 10000000;
    upstream mob {{ server unix:{socket}; keepalive 32; keepalive_requests 10000000; keepalive_timeout 4s; }}
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        location / {{ proxy_pass http://mob; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""


@dataclass(frozen=True)
class Site:
    """What is served, and how."""

    module: str = "served"
    is_wsgi: bool = False
    logs: bool = False
    cert: str = ""
    key: str = ""


@dataclass
class Server:
    """One that runs: where, its first process, and the name of the app if it is mob."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    app: str = ""
    is_tls: bool = False
    more: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])
    """Others without which it does not serve: the app behind a proxy."""

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http{'s' if self.is_tls else ''}://127.0.0.1:{self.port}"

    def time_on_cores(self) -> float:
        """Return the seconds that the server and its workers have computed so far."""
        total = 0.0
        for first in (self.process, *self.more):
            with contextlib.suppress(psutil.NoSuchProcess):
                main = psutil.Process(first.pid)
                for each in (main, *main.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        times = each.cpu_times()
                        total += times.user + times.system
        return total

    def end(self) -> None:
        """End all its processes; those that stay are killed."""
        processes = [self.process, *self.more]
        known = [child for each in processes if each.poll() is None for child in _children(each.pid)]
        for each in processes:
            each.terminate()
            try:
                each.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
        for child in known:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def _children(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def command_of(kind: str, site: Site, port: int, app: str = "", path: str = "") -> list[str]:
    """Return how a server is started. `kind`: its name, the first word counts (`mob`, `granian HTTP/2`)."""
    name, target, python = kind.split()[0], f"{site.module}:app", [sys.executable, "-m"]
    if name in ("mob", "nginx"):
        options: dict[str, Any] = {}
        if site.logs:
            options["access_log"] = True
        if site.cert and not path:
            options.update(ssl_certfile=site.cert, ssl_keyfile=site.key)
        if path:
            options["forwarded_allow_ips"] = "*"
        address = f"unix:{path}" if path else f"127.0.0.1:{port}"
        threads = THREADS if site.is_wsgi else 1
        where = {"module": site.module, "base": str(APPS), "address": address}
        return [sys.executable, "-c", MOB.format(name=app, options=options, threads=threads, **where)]
    if name == "uvicorn":
        tls = ["--ssl-certfile", site.cert, "--ssl-keyfile", site.key] if site.cert else []
        log = [] if site.logs else ["--no-access-log", "--log-level", "warning"]
        return [*python, "uvicorn", target, "--workers", "2", "--port", str(port), *log, *tls]
    if name == "gunicorn":
        tls = ["--certfile", site.cert, "--keyfile", site.key] if site.cert else []
        worker = ["gthread", "--threads", str(THREADS)] if site.is_wsgi else ["uvicorn_worker.UvicornWorker"]
        log = ["--access-logfile", "-"] if site.logs else ["--log-level", "warning"]
        return [*python, "gunicorn", target, "-b", f"127.0.0.1:{port}", "-w", "2", *log, *tls, "-k", *worker]
    if name == "granian":
        tls = ["--ssl-certificate", site.cert, "--ssl-keyfile", site.key] if site.cert else []
        log = ["--access-log"] if site.logs else ["--no-access-log", "--log-level", "warning"]
        how = ["--interface", "wsgi", "--blocking-threads", str(THREADS)]
        how = how if site.is_wsgi else ["--interface", "asgi", "--loop", "uvloop"]
        more = ["--workers", "2", "--respawn-failed-workers", "--port", str(port)]
        return [*python, "granian", *how, *more, *log, *tls, target]
    if name == "hypercorn":
        tls = ["--certfile", site.cert, "--keyfile", site.key] if site.cert else []
        more = ["--workers", "2", "--worker-class", "uvloop", "--log-level", "warning"]
        return [*python, "hypercorn", target, "--bind", f"127.0.0.1:{port}", *more, *tls]
    raise ValueError(f"{kind}: no such server")


def is_installed(kind: str) -> bool:
    """Return whether a server can be started here; say so if it cannot."""
    name = kind.split()[0]
    found = shutil.which("nginx") if name == "nginx" else importlib.util.find_spec(name)
    if found is None:
        print(f"{name} is not installed: its rows are left out", file=sys.stderr)
    return found is not None


@contextlib.contextmanager
def serving(kinds: Sequence[str], site: Site) -> Iterator[dict[str, Server]]:
    """All these servers at once, to the end of the block: each has answered."""
    kinds = [kind for kind in kinds if is_installed(kind)]
    servers: dict[str, Server] = {}
    with tempfile.TemporaryDirectory() as place, (Path(place) / "output").open("wb+") as output:
        os.chmod(place, 0o755)
        try:
            for kind, port in zip(kinds, free_ports(len(kinds)), strict=True):
                servers[kind] = _start(kind, site, port, Path(place), output)
            for server in servers.values():
                wait_for(server, Path(place) / "output")
            yield servers
        finally:
            for server in servers.values():
                server.end()


def _start(kind: str, site: Site, port: int, place: Path, output: Any) -> Server:
    def popen(command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=APPS, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    app = new_name() if kind.split()[0] in ("mob", "nginx") else ""
    path = f"{place}/web.sock" if kind.startswith("nginx") else ""
    process = popen(command_of(kind, site, port, app, path))
    if not path:
        return Server(kind, port, process, app, bool(site.cert))
    (place / "nginx.conf").write_text(NGINX.format(place=place, socket=path, port=port, cert=site.cert, key=site.key))
    nginx = popen(["nginx", "-p", str(place), "-e", "stderr", "-c", f"{place}/nginx.conf"])
    return Server(kind, port, nginx, app, is_tls=True, more=[process])


def free_ports(count: int) -> list[int]:
    """Return so many ports that nobody has."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in held]


def wait_for(server: Server, output: Path) -> None:
    """Wait until a server answers with status 200."""
    deadline = monotonic() + PATIENCE
    while monotonic() < deadline and server.process.poll() is None:
        command = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "-m", "5", f"{server.url}/pid"]
        if subprocess.run(command, capture_output=True, text=True).stdout == "200":
            return
        sleep(0.05)
    raise RuntimeError(f"{server.name} does not serve on port {server.port}:\n{output.read_text()[-2000:]}")


def made_certificate(place: Path) -> tuple[str, str]:
    """Make a certificate for 127.0.0.1; the paths of it and of its key, which is PKCS#8, as granian wants it."""
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *curve, *subject, "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=place, check=True, capture_output=True)
    (place / "key.pem").chmod(0o644)
    return str(place / "cert.pem"), str(place / "key.pem")


def is_alive(pid: int) -> bool:
    """Return whether a process runs."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def until(question: Any, patience: float) -> bool:
    """Ask until the answer is true, for so many seconds; return whether it was."""
    deadline = time.monotonic() + patience
    while not (answer := bool(question())) and time.monotonic() < deadline:
        time.sleep(0.02)
    return answer
