"""The same requests to the same WSGI application on mob, gunicorn (gthread) and waitress: the responses are equal.

The tests compare the status with its reason, the headers of the application, the decoded body, and the environ of the
request. Where gunicorn and waitress differ from each other, the case says what mob does.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.patience import patient
from tests.running import apps_in

APPLICATION = """
    import io, json, os, sys

    def shown(value):
        return value if isinstance(value, str | bool | int) else type(value).__name__

    def app(environ, start_response):
        path, body = environ["PATH_INFO"], environ["wsgi.input"]

        def answer(content, status="200 OK", *headers):
            start_response(status, [("Content-Length", str(len(content))), *headers])
            return [content]

        def failed(*status):
            try:
                raise KeyError("key")
            except KeyError:
                return start_response(*status, sys.exc_info())

        if path.startswith("/environ"):
            return answer(json.dumps({key: shown(value) for key, value in environ.items()}).encode())
        match path:
            case "/readline":
                return answer(repr([body.readline(3), body.readline(100), body.readline(), body.readline()]).encode())
            case "/readlines":
                return answer(repr([body.readlines(), body.readlines()]).encode())
            case "/iterate":
                return answer(repr(list(body)).encode())
            case "/read":
                return answer(repr([body.read(2), body.read(0), body.read(), body.read(5), body.read()]).encode())
            case "/replaced":
                start_response("200 OK", [])
                failed("500 Replaced", [("X-New", "2"), ("Content-Length", "4")])
                return [b"late"]
            case "/twice":
                start_response("200 OK", [("Content-Length", "7")])
                try:
                    start_response("201 Created", [])
                except AssertionError:
                    return [b"refused"]
            case "/too-late":
                start_response("200 OK", [("Content-Length", "6")])
                def late():
                    yield b"abc"
                    try:
                        failed("500 Late", [])
                    except KeyError:
                        yield b"def"
                return late()
            case "/fine":
                return answer(b"x", "299 Fine", ("X-Latin", "\\xe9"), ("X-Two", "1"), ("X-Two", "2"))
            case "/long":
                start_response("200 OK", [("Content-Length", "5")])
                return (b"123" for _ in range(30))
            case "/long-list":
                start_response("200 OK", [("Content-Length", "5")])
                return [b"1234567"]
            case "/204":
                start_response("204 No Content", [("Content-Length", "3")])
                return [b"abc"]
            case "/304":
                start_response("304 Not Modified", [("ETag", '"a"')])
                return []
            case "/write":
                write = start_response("200 OK", [("Content-Length", "11")])
                write(b"one")
                write(b"two")
                return [b"three"]
            case "/generator":
                def generator():
                    start_response("200 OK", [("X-A", "1")])
                    yield b""
                    yield b"a"
                    yield b"b"
                return generator()
            case "/file":
                start_response("200 OK", [("Content-Length", "150000")])
                file = open(__file__ + ".data", "rb")
                file.seek(50000)
                return environ["wsgi.file_wrapper"](file, 4096)
            case "/blocks":
                start_response("200 OK", [("Content-Length", "150000")])
                return environ["wsgi.file_wrapper"](io.BytesIO(b"z" * 150000), 4096)
            case "/boom":
                raise RuntimeError("boom")
            case "/header":
                start_response("200 OK", [("X-A", "a\\r\\nSet-Cookie: b=1")])
                return [b"x"]
            case "/status":
                start_response("200 OK\\r\\nX-A: b", [])
                return [b"x"]
        return answer(b"alive " + body.read())
    """
BODY = b"abc\ndef\nghi\njkl"
OWN = {"connection", "date", "server", "transfer-encoding", "via"}
"""Headers that the server sets."""


def request(path: str, *headers: str, method: str = "GET", version: str = "1.1", body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: shop.example:81", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def posted(path: str) -> bytes:
    return request(path, f"Content-Length: {len(BODY)}", method="POST", body=BODY)


def chunked(path: str) -> bytes:
    chunks = b"5\r\nabc\nd\r\n4;x=y\r\nef\ng\r\n0\r\n\r\n"
    return request(path, "Transfer-Encoding: chunked", method="POST", body=chunks)


ANSWERS = {
    **{
        path: request(path)
        for path in ["/x", "/replaced", "/twice", "/too-late", "/fine", "/long", "/long-list", "/204", "/304"]
    },
    **{path: request(path) for path in ["/write", "/generator", "/file", "/blocks"]},
    **{f"POST {path}": posted(path) for path in ["/x", "/readline", "/iterate", "/read"]},
    **{f"POST {path} in chunks": chunked(path) for path in ["/x", "/readline", "/iterate", "/read"]},
    **{f"HEAD {path}": request(path, method="HEAD") for path in ["/x", "/write", "/generator", "/file"]},
    **{f"{path} of HTTP/1.0": request(path, version="1.0") for path in ["/x", "/generator", "/write", "/file"]},
}
ERRORS = {path: request(path) for path in ("/boom", "/header", "/status")}
ENVIRONS = {
    "plain": request("/environ%20a/%C3%A9/%FF/b%2Fc?x=%20y&z=1", "Accept:   a  ", "Content-Type: text/x"),
    "repeated": request("/environ", "X-A: 1", "X-A: 2"),
    "underscores": request("/environ", "X_Remote_User: admin", "X-Remote-User: nobody"),
    "a whole URL": request("http://other.example:99/environ/a?b"),
    "a body": posted("/environ"),
    "HTTP/1.0": request("/environ", version="1.0"),
    "no query": request("/environ?"),
}


@dataclass
class Servers:
    """The ports on which the three servers listen."""

    mob: int
    gunicorn: int
    waitress: int

    def ask(self, sent: bytes) -> list[tuple[str, dict[str, list[str]], bytes]]:
        return [answered(port, sent) for port in (self.mob, self.gunicorn, self.waitress)]


def answered(port: int, sent: bytes) -> tuple[str, dict[str, list[str]], bytes]:
    """The status line, the headers of the application, and the body of one response."""
    with socket.create_connection(("127.0.0.1", port), timeout=patient(60)) as sock:
        sock.sendall(sent)
        file = sock.makefile("rb")
        status = file.readline().decode("latin-1").strip()
        headers: dict[str, list[str]] = {}
        while line := file.readline().strip():
            name, _, value = line.decode("latin-1").partition(": ")
            headers.setdefault(name.lower(), []).append(value)
        is_empty = sent.startswith(b"HEAD") or status.split()[1] in ("204", "304")
        body = b"" if is_empty else _body(file, headers)
    return status, {name: values for name, values in sorted(headers.items()) if name not in OWN}, body


def _body(file: Any, headers: dict[str, list[str]]) -> bytes:
    if "content-length" in headers:
        return bytes(file.read(int(headers["content-length"][0])))
    if "transfer-encoding" not in headers:
        return bytes(file.read())
    body = b""
    while count := int(file.readline(), 16):
        body += file.read(count)
        file.readline()
    return body


def started(directory: Path, *command: str, listens: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "shop:app"], cwd=directory, stderr=subprocess.STDOUT, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if match := re.search(listens, line):
            return process, int(match[1])
    raise AssertionError(f"{command[0]} does not start")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    directory = tmp_path_factory.mktemp("compared")
    (directory / "shop.py.data").write_bytes(bytes(range(250)) * 800)
    with apps_in(directory) as apps:
        app = apps.start('.role("shop", "./shop.py:app", serve="127.0.0.1:0")', shop=APPLICATION)
        port = int(app.wait_for(r"serving on http://127\.0\.0\.1:(\d+)")[0][1])
        options = ["-k", "gthread", "--threads", "4", "-b", "127.0.0.1:0"]
        processes = [
            started(directory, "gunicorn", *options, listens=r"Listening at: http://127\.0\.0\.1:(\d+)"),
            started(directory, "waitress", "--listen", "127.0.0.1:0", listens=r"Serving on http://127\.0\.0\.1:(\d+)"),
        ]
        yield Servers(port, *(port for _, port in processes))
        for process, _ in processes:
            process.terminate()
        for process, _ in processes:
            process.communicate(timeout=patient(60))


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_are_the_same(servers: Servers, case: str) -> None:
    mob, gunicorn, waitress = servers.ask(ANSWERS[case])
    assert mob[0] == gunicorn[0] == waitress[0]
    assert mob[2] == gunicorn[2] == waitress[2]
    for name in {*mob[1], *gunicorn[1], *waitress[1]}:
        if gunicorn[1].get(name) == waitress[1].get(name):
            assert mob[1].get(name) == gunicorn[1].get(name), name


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_the_same_but_for_the_text(servers: Servers, case: str) -> None:
    assert {status for status, _, _ in servers.ask(ERRORS[case])} == {"HTTP/1.1 500 Internal Server Error"}


@pytest.mark.parametrize("case", ENVIRONS)
def test_the_application_gets_to_know_the_same(servers: Servers, case: str) -> None:
    mob, gunicorn, waitress = (json.loads(body) for _, _, body in servers.ask(ENVIRONS[case]))
    own = {"SERVER_PORT", "REMOTE_PORT", "SERVER_SOFTWARE", "wsgi.input", "wsgi.errors", "wsgi.file_wrapper"}
    for key in {*gunicorn, *waitress} - own:
        if gunicorn.get(key) == waitress.get(key) or ("." not in key and key not in waitress):
            assert mob.get(key) == gunicorn.get(key), key
    assert waitress["REQUEST_URI"] == mob["REQUEST_URI"]
    assert {"HTTP_X_REMOTE_USER": mob.get("HTTP_X_REMOTE_USER")} in (
        {"HTTP_X_REMOTE_USER": None},
        {"HTTP_X_REMOTE_USER": "nobody"},
    )
