"""A client that does not send the head of its request in time is disconnected, with each of uvicorn's parsers.

Other clients may wait as long as they like.
"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator

import pytest

from tests.patience import patient
from tests.real.test_large_heads import PARSERS, SHOP
from tests.real.test_served_applications import made_certificate
from tests.running import apps_in

TIMEOUT = 1.0
SLOW = SHOP.replace("size, more = 0, True", 'size, more = 0, True\n        if scope["path"] == "/slow": await sleep(3)')
SLOW = SLOW.replace("    async def app", "    from asyncio import sleep\n\n    async def app", 1)


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    with apps_in(tmp_path_factory.mktemp("slow")) as apps:
        roles = "".join(
            f'.role("{parser}", "./shop.py:app", serve="127.0.0.1:0", '
            f'serve_options={{"http": "{parser}", "head_timeout": {TIMEOUT}, "timeout_keep_alive": 3}})'
            for parser in PARSERS
        )
        app = apps.start(roles, options="grace=10", shop=SLOW)
        app.wait_ready()
        found = app.wait_for(r"(\w+)\.0 \d+ \| serving on http://127\.0\.0\.1:(\d+)$", 2)
        yield {match[1]: int(match[2]) for match in found}


def enter(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=patient(60))


def rest_of(sock: socket.socket) -> bytes:
    """Return everything that is sent until the end of the connection."""
    said = b""
    while data := sock.recv(65536):
        said += data
    return said


HEAD = b"GET / HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("begun", [b"G", b"GET / HTTP/1.1\r\n", HEAD, HEAD + b"x-y: z"])
def test_a_head_that_does_not_end_is_refused(ports: dict[str, int], parser: str, begun: bytes) -> None:
    with enter(ports[parser]) as sock:
        sock.sendall(begun)
        assert rest_of(sock).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


@pytest.mark.parametrize("parser", PARSERS)
def test_a_head_that_comes_byte_by_byte_is_refused(ports: dict[str, int], parser: str) -> None:
    with enter(ports[parser]) as sock:
        sock.settimeout(0.05)
        said = b""
        begun = time.monotonic()
        while not said:
            assert time.monotonic() < begun + 60
            try:
                sock.sendall(b"x" if time.monotonic() > begun + 0.1 else b"")
                said = sock.recv(1000)
            except TimeoutError:
                continue
        assert said.startswith(b"HTTP/1.1 4")  # a line of that many x is not a request, either


@pytest.mark.parametrize("parser", PARSERS)
def test_a_connection_that_says_nothing_is_closed(ports: dict[str, int], parser: str) -> None:
    with enter(ports[parser]) as sock:
        assert rest_of(sock) == b""


@pytest.mark.parametrize("parser", PARSERS)
def test_the_second_head_on_a_connection_has_as_long(ports: dict[str, int], parser: str) -> None:
    with enter(ports[parser]) as sock:
        sock.sendall(HEAD + b"\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        sock.sendall(b"GET / HT")
        assert b"HTTP/1.1 408" in rest_of(sock)


@pytest.mark.parametrize("parser", PARSERS)
def test_who_is_answered_slowly_or_sends_a_body_slowly_is_not_refused(ports: dict[str, int], parser: str) -> None:
    with enter(ports[parser]) as slow, enter(ports[parser]) as sender:
        slow.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\nGET / HT")  # the next one has begun
        sender.sendall(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\na")
        answer = slow.recv(1000)
        assert answer.startswith(b"HTTP/1.1 200")
        slow.sendall(b"TP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"HTTP/1.1 200" in rest_of(slow)
        sender.sendall(b"b")
        assert rest_of(sender).endswith(b"\r\n\r\n2")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_handshake_that_does_not_end_is_cut(tmp_path_factory: pytest.TempPathFactory) -> None:
    with apps_in(tmp_path_factory.mktemp("tls")) as apps:
        made_certificate(apps.directory)
        options = f'{{"head_timeout": {TIMEOUT}, "ssl_certfile": "cert", "ssl_keyfile": "key"}}'
        app = apps.start(f'.role("web", "./shop.py:app", serve="127.0.0.1:0", serve_options={options})', shop=SHOP)
        app.wait_ready()
        (found,) = app.wait_for(r"serving on https://127\.0\.0\.1:(\d+)$")
        with enter(int(found[1])) as sock:
            sock.sendall(b"\x16\x03\x01")
            assert rest_of(sock) == b""
