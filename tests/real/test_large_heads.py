"""The headers of HTTP requests are limited, over a real socket, with each of uvicorn's parsers."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from mob.mobster.http.heads import LIMIT
from tests.patience import patient
from tests.running import apps_in

SHOP = """
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"%d" % size
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
"""
MEGABYTE = 1024 * 1024
PARSERS = "httptools", "h11"


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    with apps_in(tmp_path_factory.mktemp("heads")) as apps:
        roles = "".join(
            f'.role("{parser}", "./shop.py:app", serve="127.0.0.1:0", serve_options={{"http": "{parser}"}})'
            for parser in PARSERS
        )
        app = apps.start(roles, options="grace=10", shop=SHOP)
        app.wait_ready()
        found = app.wait_for(r"(\w+)\.0 \d+ \| serving on http://127\.0\.0\.1:(\d+)$", 2)
        yield {match[1]: int(match[2]) for match in found}


def ask(port: int, *parts: bytes) -> bytes:
    """Return the response up to the end of the connection, even if not all data was accepted."""
    with socket.create_connection(("127.0.0.1", port), timeout=patient(60)) as sock:
        answer = b""
        try:
            for part in parts:
                sock.sendall(part)
        except OSError:
            pass  # it was refused before all was sent
        try:
            while data := sock.recv(65536):
                answer += data
        except ConnectionError:
            pass  # closed with something unread
        return answer


def post(size: int, headers: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n%s\r\n" % (size, headers)


def many(total: int) -> Iterator[bytes]:
    """Headers that never end."""
    for number in range(total // 1024):
        yield b"x-%d: %s\r\n" % (number, b"v" * 1000)


@pytest.mark.parametrize("parser", PARSERS)
def test_an_ordinary_request_with_a_large_body_is_served(ports: dict[str, int], parser: str) -> None:
    answer = ask(ports[parser], post(5 * MEGABYTE, b"cookie: %s\r\n" % (b"c" * 8000)), b"b" * (5 * MEGABYTE))
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n%d" % (5 * MEGABYTE))


@pytest.mark.parametrize("parser", PARSERS)
def test_headers_without_an_end_are_refused(ports: dict[str, int], parser: str) -> None:
    answer = ask(ports[parser], b"GET / HTTP/1.1\r\nhost: x\r\n", *many(20 * MEGABYTE))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")  # a reset may overtake the answer


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("begin", [b"GET /?", b"GET / HTTP/1.1\r\nhost: x\r\nx-long: "], ids=["url", "header"])
def test_a_refusal_is_read_by_a_client_that_sends_no_more(ports: dict[str, int], parser: str, begin: bytes) -> None:
    answer = ask(ports[parser], begin + b"v" * (5 * LIMIT))
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert answer.endswith(b"The headers of this request are too large.")


def test_complete_headers_beyond_the_limit_are_refused(ports: dict[str, int]) -> None:
    answer = ask(ports["httptools"], post(0, b"x-long: %s\r\n" % (b"v" * (LIMIT + 100))))
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_headers_of_almost_the_limit_are_served(ports: dict[str, int]) -> None:
    answer = ask(ports["httptools"], post(3, b"x-long: %s\r\n" % (b"v" * (LIMIT - 1000))), b"abc")
    assert answer.startswith(b"HTTP/1.1 200")


def test_many_requests_in_one_piece_are_not_counted_together(ports: dict[str, int]) -> None:
    request = b"POST / HTTP/1.1\r\nhost: x\r\nx-pad: %s\r\ncontent-length: 1\r\n\r\na" % (b"p" * 2000)
    answer = ask(ports["httptools"], request * 100 + post(1) + b"b")
    assert answer.count(b"HTTP/1.1 200") == 101


def test_trailers_without_an_end_end_the_connection(ports: dict[str, int]) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    answer = ask(ports["httptools"], head, *many(20 * MEGABYTE))
    assert b"200" not in answer[:20]
    assert ask(ports["httptools"], post(1), b"a").startswith(b"HTTP/1.1 200")
