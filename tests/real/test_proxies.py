"""The configurations of docs/proxies.md are right: real proxies in front of a real app, started from that page."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.blocks import block
from tests.patience import patient
from tests.real.proxies import ADDRESSES, PROGRAMS, VISITOR, Proxy, commands, environment, page, running, written
from tests.real.test_reload_under_load import Clients
from tests.real.test_served_applications import made_certificate
from tests.running import RunningApp, apps_in, free_port, wait_until

FORGED = "6.6.6.6"
INSTALLED = sorted(PROGRAMS)
WAYS = [(proxy, address) for proxy in INSTALLED for address in ("unix", "tcp")]
RELOADED = list(zip(INSTALLED, ("unix", "tcp", "unix"), strict=False))

SHOP = """
    import asyncio, json, os
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route, WebSocketRoute

    def seen(connection):
        return {
            "pid": os.getpid(),
            "client": connection.client and connection.client.host,
            "port": connection.scope["client"] and connection.scope["client"][1],
            "scheme": connection.url.scheme,
            "host": connection.url.hostname,
        }

    async def show(request):
        await request.body()
        return JSONResponse(seen(request))

    async def wait(request):
        await asyncio.sleep(0.05)
        return JSONResponse(seen(request))

    async def echo(socket):
        await socket.accept()
        await socket.send_text(json.dumps(seen(socket)))
        async for text in socket.iter_text():
            await socket.send_text(text)

    routes = [Route("/", show, methods=["GET", "POST"]), Route("/wait", wait), WebSocketRoute("/ws", echo)]
    app = Starlette(routes=routes)

    def wsgi(environ, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({
            "client": environ.get("REMOTE_ADDR"), "scheme": environ["wsgi.url_scheme"], "host": environ["HTTP_HOST"],
        }).encode()]
    """
ROLES = """
    .role("unix", "./shop.py:app", workers=2, serve="unix:./web.sock", serve_options={"forwarded_allow_ips": "*"})
    .role("tcp", "./shop.py:app", workers=2, serve="127.0.0.1:TCP")
    .role("raw", "./shop.py:app", serve="127.0.0.1:RAW", serve_options={"proxy_headers": False})
    .role("wsgi", "./shop.py:wsgi", serve="unix:./wsgi.sock", serve_options={"forwarded_allow_ips": "*"})
    """.replace("\n", "")


@dataclass
class Site:
    """An app whose roles listen on a Unix socket and on a port, in a directory that every user may enter."""

    app: RunningApp
    backends: dict[str, str]
    """For each role, the address to which a proxy connects."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        made_certificate(directory)
        with apps_in(directory) as apps:
            tcp, raw = free_port(), free_port()
            roles = ROLES.replace("TCP", str(tcp)).replace("RAW", str(raw))
            app = apps.start(roles, options="grace=10", shop=SHOP)
            app.wait_ready()
            files = {"unix": f"{directory}/web.sock", "wsgi": f"{directory}/wsgi.sock"}
            yield Site(app, {**files, "tcp": f"127.0.0.1:{tcp}", "raw": f"127.0.0.1:{raw}"})


@pytest.fixture(scope="module")
def proxy(request: pytest.FixtureRequest, site: Site) -> Iterator[Proxy]:
    kind, role = request.param
    with running(kind, site.app.directory, site.backends[role]) as started:
        yield started


def check(proxy: str, directory: Path) -> None:
    """Have a proxy check the configuration of the page."""
    made_certificate(directory)
    _, checks = commands(proxy, written(proxy, directory, free_port(), "127.0.0.1:8000"))
    done = subprocess.run(
        checks,
        env=environment(directory),
        capture_output=True,
        text=True,
        timeout=patient(60),
        stdin=subprocess.DEVNULL,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "[warn" not in said.lower(), said


@pytest.mark.skipif("nginx" not in PROGRAMS, reason="nginx is not installed")
def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    check("nginx", tmp_path)


@pytest.mark.skipif("caddy" not in PROGRAMS, reason="caddy is not installed")
def test_caddy_takes_its_configuration(tmp_path: Path) -> None:
    check("caddy", tmp_path)


@pytest.mark.skipif("haproxy" not in PROGRAMS, reason="haproxy is not installed")
def test_haproxy_takes_its_configuration(tmp_path: Path) -> None:
    check("haproxy", tmp_path)


def test_the_page_says_how_each_names_the_other_kind_of_address() -> None:
    text = (Path(__file__).parents[2] / "docs" / "proxies.md").read_text("utf-8")
    assert [name for both in ADDRESSES.values() for name in both if name not in text] == []
    assert all(any(name in page(proxy) for name in both) for proxy, both in ADDRESSES.items())


FORGERIES = [
    {},
    {"X-Forwarded-For": FORGED, "X-Forwarded-Proto": "http"},
    {"X-Forwarded-For": f"{FORGED}, 127.0.0.1", "X-Forwarded-Proto": "ws"},
    {"x-forwarded-for": f"127.0.0.1, {FORGED}", "Forwarded": f"for={FORGED};proto=http", "X-Real-IP": FORGED},
    {"X_Forwarded_For": FORGED, "X_Forwarded_Proto": "http"},
]


@pytest.mark.parametrize("proxy", WAYS, indirect=True, scope="module")
def test_the_application_sees_the_visitor_whatever_he_claims(proxy: Proxy) -> None:
    for headers in FORGERIES:
        seen = proxy.ask(headers=headers)
        assert (seen["client"], seen["scheme"], seen["host"]) == (VISITOR, "https", "127.0.0.1"), headers


@pytest.mark.parametrize("proxy", WAYS, indirect=True, scope="module")
def test_a_websocket_goes_through(proxy: Proxy) -> None:
    with proxy.enter(X_Forwarded_For=FORGED) as guest:
        seen = json.loads(guest.recv(30))
        assert (seen["client"], seen["scheme"]) == (VISITOR, "wss")
        guest.send("x" * 100_000)
        assert guest.recv(30) == "x" * 100_000


@pytest.mark.parametrize("proxy", [(proxy, "wsgi") for proxy in INSTALLED], indirect=True, scope="module")
def test_a_wsgi_application_sees_the_visitor_whatever_he_claims(proxy: Proxy) -> None:
    for headers in FORGERIES:
        seen = proxy.ask(headers=headers)
        assert (seen["client"], seen["scheme"], seen["host"].split(":")[0]) == (VISITOR, "https", "127.0.0.1"), headers


@pytest.mark.parametrize("proxy", [(proxy, "raw") for proxy in INSTALLED], indirect=True, scope="module")
def test_connections_to_the_workers_are_kept(proxy: Proxy) -> None:
    """Fifty requests of one client on one connection use a few connections of the proxy, not fifty."""
    connection = proxy.open()
    used: set[tuple[int, int]] = set()
    for _ in range(50):
        connection.request("GET", "/")
        seen = json.loads(connection.getresponse().read())
        assert seen["client"] == "127.0.0.1"
        used.add((seen["pid"], seen["port"]))
    connection.close()
    assert len(used) <= 5


@pytest.mark.parametrize("proxy", RELOADED, indirect=True, scope="module")
def test_no_request_fails_in_a_reload_under_load(proxy: Proxy, site: Site, request: pytest.FixtureRequest) -> None:
    """Neither a GET nor a POST fails, though no proxy repeats a POST and the clients repeat nothing."""
    client, role = site.app.clients[0], request.node.callspec.params["proxy"][1]
    them = Clients()
    kinds = [("GET", "/wait"), ("POST", "/"), ("GET", "/"), ("POST", "/"), ("GET", "/"), ("POST", "/")]
    with ThreadPoolExecutor(len(kinds)) as pool, ExitStack() as visitors:
        for method, path in kinds:
            visitor = Visitor(visitors.enter_context(closing(proxy.open())), method, path)
            pool.submit(them.ask_again_and_again, visitor.ask)
        try:
            old = {member.pid for member in site.app.ready(client, role)}
            wait_until(lambda: them.answers.total() > 50, "they are answered")
            client.reload(role)
            wait_until(lambda: not any(m.pid in old for m in client.members()), "the old ones have ended")
            so_far = them.answers.total()
            wait_until(lambda: them.answers.total() > so_far + 50, "the new ones answer")
        finally:
            them.is_over.set()
            pool.shutdown()
    assert them.failures == []
    assert len(them.answers) >= 3


@dataclass
class Visitor:
    """A client that keeps a connection to the proxy as long as the proxy does."""

    connection: http.client.HTTPConnection
    method: str
    path: str

    def ask(self) -> int:
        """Return the pid of the worker that answered."""
        self.connection.request(self.method, self.path, b"something" if self.method == "POST" else None)
        response = self.connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise ValueError(f"{response.status} {text[:100]!r}")
        return int(json.loads(text)["pid"])


@pytest.mark.skipif("nginx" not in PROGRAMS, reason="nginx is not installed")
def test_machines_in_front_of_the_proxy_are_believed_and_others_not(site: Site) -> None:
    test = "tests/real/test_proxies.py::test_machines_in_front_of_the_proxy_are_believed_and_others_not"
    lines = block("docs/proxies.md", test).replace("10.0.0.0/8", "127.0.0.3")
    with running("nginx", site.app.directory, site.backends["unix"], lines) as proxy:
        headers = {"X-Forwarded-For": f"{FORGED}, 10.1.1.1"}
        assert proxy.ask(headers=headers, source="127.0.0.3")["client"] == "10.1.1.1"
        assert proxy.ask(headers=headers)["client"] == VISITOR


def test_only_the_loopback_is_believed_at_a_port(site: Site) -> None:
    """Without a proxy: a client from another address may claim anything."""
    address = site.backends["tcp"]
    connection = http.client.HTTPConnection(address, timeout=patient(30), source_address=(VISITOR, 0))
    connection.request("GET", "/", headers={"X-Forwarded-For": FORGED, "X-Forwarded-Proto": "https"})
    seen = json.loads(connection.getresponse().read())
    connection.close()
    assert (seen["client"], seen["scheme"]) == (VISITOR, "http")


def test_a_unix_socket_has_no_address_to_believe(site: Site) -> None:
    """Without a proxy: everyone who may connect is believed, which is why the mode of the file counts."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(patient(30))
        sock.connect(os.path.relpath(site.backends["unix"]))
        sock.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["client"] == FORGED
