"""nginx, Caddy and HAProxy on the loopback, with the configurations of docs/proxies.md but other ports and paths.

Clients connect from 127.0.0.2, to differ from the proxy, which connects from 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.docs.blocks import block
from tests.patience import patient
from tests.running import free_port, wait_until

PROGRAMS = {
    name: path
    for name in ("nginx", "caddy", "haproxy")
    if (path := shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin"))
    and shutil.which("openssl")
}
"""The installed proxies, and their paths."""
VISITOR = "127.0.0.2"

ADDRESSES = {
    "nginx": ("server unix:/srv/shop/web.sock;", "server 127.0.0.1:8000;"),
    "caddy": ("reverse_proxy unix//srv/shop/web.sock {", "reverse_proxy 127.0.0.1:8000 {"),
    "haproxy": ("server shop unix@/srv/shop/web.sock", "server shop 127.0.0.1:8000"),
}
"""How the page writes a Unix socket, and a port."""

MAIN = {
    "nginx": """
pid DIRECTORY/nginx.pid;
daemon off;
worker_processes 1;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path DIRECTORY/body;
    proxy_temp_path DIRECTORY/proxy;
    fastcgi_temp_path DIRECTORY/fastcgi;
    uwsgi_temp_path DIRECTORY/uwsgi;
    scgi_temp_path DIRECTORY/scgi;
PAGE
}
""",
    "caddy": "{\n    admin off\n    auto_https disable_redirects\n}\nPAGE\n",
    "haproxy": """
global
    DROPS
defaults
    mode http
    timeout connect 5s
    timeout client 50s
    timeout server 50s
PAGE
""",
}
"""What surrounds the page's part in the configuration of an installed proxy."""


def page(proxy: str) -> str:
    """Return the configuration that docs/proxies.md shows."""
    return block("docs/proxies.md", f"tests/real/test_proxies.py::test_{proxy}_takes_its_configuration")


@dataclass
class Proxy:
    """A running proxy, at this port, with TLS."""

    port: int
    context: ssl.SSLContext

    def open(self, source: str = VISITOR) -> http.client.HTTPSConnection:
        """Return a connection of a client."""
        source_address = (source, 0)
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=patient(30), context=self.context, source_address=source_address
        )

    def ask(self, path: str = "/", headers: Mapping[str, str] = {}, source: str = VISITOR) -> dict[str, Any]:
        """Return what the application saw of a request."""
        connection = self.open(source)
        try:
            connection.request("GET", path, headers=dict(headers))
            response = connection.getresponse()
            text = response.read()
            assert response.status == 200, text
            return json.loads(text)
        finally:
            connection.close()

    def enter(self, **headers: str) -> ClientConnection:
        """Return a WebSocket of a client."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return connect(
            f"wss://127.0.0.1:{self.port}/ws",
            ssl=self.context,
            additional_headers=given,
            source_address=(VISITOR, 0),
            proxy=None,
        )


def written(proxy: str, directory: Path, port: int, backend: str, more: str = "") -> Path:
    """Write the configuration of a proxy: that of the page, with this port, and this backend in the page's notation."""
    unix, tcp = ADDRESSES[proxy]
    text = page(proxy)
    assert unix in text or tcp in text
    name = tcp.replace("127.0.0.1:8000", backend) if ":" in backend else unix.replace("/srv/shop/web.sock", backend)
    text = text.replace(unix, name).replace(tcp, name)
    both = directory / "both.pem"
    both.write_text((directory / "cert").read_text() + (directory / "key").read_text())
    text = text.replace("/etc/ssl/shop.pem", f"{directory}/cert").replace("/etc/ssl/shop.key", f"{directory}/key")
    text = text.replace("/etc/haproxy/shop.pem", str(both)).replace("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;")
    text = text.replace("bind :443 ", f"bind 127.0.0.1:{port} ")
    own = f"    bind 127.0.0.1\n    tls {directory}/cert {directory}/key\n"
    text = text.replace("shop.example.com {\n", f"https://127.0.0.1:{port} {{\n{own}")
    drops = "user nobody" if os.getuid() == 0 else ""
    whole = MAIN[proxy].replace("PAGE", more + text).replace("DIRECTORY", str(directory)).replace("DROPS", drops)
    file = directory / f"{proxy}.conf"
    file.write_text(whole)
    return file


def commands(proxy: str, file: Path) -> tuple[list[str], list[str]]:
    """Return how to start a proxy with a configuration, and how to check the configuration."""
    program, name = PROGRAMS[proxy], str(file)
    if proxy == "nginx":
        start = [program, "-p", str(file.parent), "-e", "stderr", "-c", name]
        return start, [*start, "-t"]
    if proxy == "caddy":
        how = ["--config", name, "--adapter", "caddyfile"]
        return [program, "run", *how], [program, "validate", *how]
    return [program, "-db", "-f", name], [program, "-c", "-f", name]


def environment(directory: Path) -> dict[str, str]:
    """Return the environment of a proxy: its files go into the directory of the test."""
    return {**os.environ, "HOME": str(directory), "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}


@contextlib.contextmanager
def running(proxy: str, directory: Path, backend: str, more: str = "") -> Iterator[Proxy]:
    """Run a proxy in front of a path or an address until the end of the block."""
    port = free_port()
    file = written(proxy, directory, port, backend, more)
    start, _ = commands(proxy, file)
    with (directory / f"{proxy}.log").open("wb+") as log:
        process = subprocess.Popen(
            start, cwd=directory, env=environment(directory), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        us = Proxy(port, ssl.create_default_context(cafile=directory / "cert"))

        def answers() -> bool:
            assert process.poll() is None, (directory / f"{proxy}.log").read_text()
            try:
                return us.ask() != {}
            except ConnectionError:
                return False

        try:
            wait_until(answers, f"{proxy} answers")
            yield us
        finally:
            process.terminate()
            process.wait(patient(30))
