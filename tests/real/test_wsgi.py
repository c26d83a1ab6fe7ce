"""WSGI applications in workers: uploads, long responses, clients that disconnect, files, refusals, and the end."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

MIB = 1024 * 1024

SHOP = """
    import hashlib, json, logging, os, threading
    from wsgiref.validate import validator
    import mob

    logging.basicConfig(format="[%(request_id)s] %(message)s")
    back = mob.require("back")
    mob.on("drain", lambda: print("drains", flush=True))
    closed, early = [], threading.Event()

    class Stream:
        def __init__(self, blocks):
            self.blocks = blocks
        def __iter__(self):
            return iter(self.blocks)
        def close(self):
            closed.append(threading.current_thread().name)

    def endless(block):
        while True:
            yield block

    def upload(environ):
        digest, count = hashlib.sha256(), 0
        while part := environ["wsgi.input"].read(65536):
            digest.update(part)
            count += len(part)
        return json.dumps([count, digest.hexdigest(), environ.get("CONTENT_LENGTH")])

    def app(environ, start_response):
        path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
        def text(body, status="200 OK"):
            start_response(status, [("Content-Type", "text/plain")])
            return [body.encode()]
        match path:
            case "/pid":
                return text(str(os.getpid()))
            case "/upload":
                return text(upload(environ))
            case "/events":
                start_response("200 OK", [("Content-Type", "text/event-stream")])
                return Stream(endless(b"data: x\\n\\n" if query else bytes(65536)))
            case "/closed":
                return text(str(len(closed)))
            case "/file":
                start_response("200 OK", [("Content-Type", "text/plain")])
                return environ["wsgi.file_wrapper"](open(query, "rb"))
            case "/blocks":
                start_response("200 OK", [("Content-Type", "text/plain")])
                return (bytes(65536) for _ in range(int(query)))
            case "/wait":  # until somebody opens the pipe of that name at its other end
                print("waits at", os.path.basename(query), flush=True)
                open(query).close()
                return text("through")
            case "/price":
                logging.warning("asks for %s", query)
                return text(back.price(query).result(30))
            case "/broken":
                raise RuntimeError("the till is empty")
            case "/half":
                start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "100")])
                return [b"half"]
            case "/errors":
                print("to the log", file=environ["wsgi.errors"])
                return text("said")
            case "/early":  # complete before the application has tidied up
                def answer():
                    yield b"early"
                    print("tidies up", flush=True)
                    early.wait(60)
                start_response("200 OK", [("Content-Length", "5")])
                return answer()
            case "/tidy":
                early.set()
                return text("done")
        return text("", "404 Not Found")

    @validator
    def validated(environ, start_response):
        body = environ["wsgi.input"]
        said = [body.readline(3), body.readline(), body.readlines(1), list(body), body.read(1)]
        environ["wsgi.errors"].write("validated\\n")
        environ["wsgi.errors"].flush()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [repr(said).encode()]

    class Anything:
        def __call__(self, *args):
            return app(*args)

    anything = Anything()
    """
BACK = """
    import logging

    logging.basicConfig(format="[%(request_id)s] %(message)s")

    def price(item):
        logging.warning("is asked for %s", item)
        return f"10 for {item}"
    """
ROLES = """
    .role("back", "./back.py")
    .role("shop", "./shop.py:app", serve="127.0.0.1:0")
    .role("validated", "./shop.py:validated", serve="127.0.0.1:0", serve_options={"interface": "wsgi"})
    .role("anything", "./shop.py:anything", serve="127.0.0.1:0", serve_options={"interface": "wsgi"})
    .role("single", "./shop.py:app", serve="127.0.0.1:0", threads=1, serve_options={"wsgi_queue": 2})
    """.replace("\n", "")


class Shop:
    """The app and its ports."""

    def __init__(self, app: RunningApp) -> None:
        self.app = app
        self.client = app.wait_ready()

    def port(self, role: str = "shop") -> int:
        return int(self.app.wait_for(rf"^{role}\.0 +\d+ \| serving on http://127\.0\.0\.1:(\d+)$")[0][1])

    def process(self, role: str = "shop") -> psutil.Process:
        return psutil.Process(self.app.ready(self.client, role)[0].pid)

    def ask(self, path: str, role: str = "shop", **more: Any) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port(role), timeout=patient(60))
        connection.request("POST" if "body" in more else "GET", path, **more)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body

    def visit(self, path: str, role: str = "shop") -> socket.socket:
        """Open a connection that sends a request and does not read."""
        visitor = socket.create_connection(("127.0.0.1", self.port(role)), timeout=patient(60))
        visitor.sendall(f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
        return visitor

    def in_hand(self, role: str) -> tuple[int, int, int]:
        """Return the counts of one worker: calls in hand, requests among them, and how many of these wait."""
        found = next(each for each in self.client.metrics().mobsters if each.role == role)
        return found.in_hand, found.open_requests, found.waiting


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with apps_in(tmp_path_factory.mktemp("wsgi")) as apps:
        yield Shop(apps.start(ROLES, options="grace=10", shop=SHOP, back=BACK))


def used(process: psutil.Process, function: Callable[[], Any]) -> tuple[Any, float, int]:
    """Return a function's result, the processor time that the process used for it, and its memory afterwards."""
    before = process.cpu_times()
    result = function()
    after = process.cpu_times()
    return result, after.user + after.system - before.user - before.system, process.memory_info().rss


# --- bodies of requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 3 * MIB])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_arrives_whole(shop: Shop, size: int, is_chunked: bool) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    body: Any = iter([data[:1000], data[1000:]]) if is_chunked else data
    status, said = shop.ask("/upload", body=body, encode_chunked=is_chunked, headers=CHUNKED if is_chunked else {})
    assert (status, json.loads(said)) == (200, [size, hashlib.sha256(data).hexdigest(), str(size)])


CHUNKED = {"Transfer-Encoding": "chunked"}


def test_the_memory_of_a_worker_does_not_grow_with_a_body(shop: Shop) -> None:
    process = shop.process()
    shop.ask("/upload", body=bytes(MIB))
    before = process.memory_info().rss
    (status, said), _, after = used(process, lambda: shop.ask("/upload", body=(bytes(MIB) for _ in range(200))))
    assert (status, json.loads(said)[0]) == (200, 200 * MIB)
    assert after - before < 30 * MIB


def test_pep_3333_as_the_validator_of_the_standard_library_knows_it(shop: Shop) -> None:
    said = "[b'abc', b'def\\n', [b'ghi\\n'], [b'jkl\\n', b'm'], b'']"
    assert shop.ask("/", "validated", body=b"abcdef\nghi\njkl\nm") == (200, said)
    shop.app.wait_for(r"^validated\.0 +\d+ \| validated$")


def test_an_upload_that_is_announced_is_let_in(shop: Shop) -> None:
    with shop.visit("/pid") as visitor:
        visitor.recv(4096)
        visitor.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert visitor.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        visitor.sendall(b"abc")
        assert visitor.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


# --- responses --------------------------------------------------------------------------------------------------------


def test_an_application_that_takes_anything_is_served_if_the_role_names_its_interface(shop: Shop) -> None:
    assert shop.ask("/pid", "anything") == (200, str(shop.process("anything").pid))


def test_the_id_of_a_request_goes_along_into_the_thread_and_on_to_other_roles(shop: Shop) -> None:
    assert shop.ask("/price?apple", headers={"X-Request-Id": "order-4711"}) == (200, "10 for apple")
    shop.app.wait_for(r"^shop\.0 +\d+ \| \[order-4711\] asks for apple$")
    shop.app.wait_for(r"^back\.0 +\d+ \| \[order-4711\] is asked for apple$")


def test_a_file_is_sent_by_the_kernel(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 4 * 1024 * 200)

    def download() -> bytes:
        with shop.visit(f"/file?{path}") as visitor:
            response = http.client.HTTPResponse(visitor)
            response.begin()
            assert response.getheader("content-length") == str(path.stat().st_size)
            return response.read()

    data, cpu, _ = used(shop.process(), download)
    assert data == path.read_bytes()
    assert cpu < 1.0, "200 MiB in blocks take about two seconds"


def test_the_memory_of_a_worker_does_not_grow_with_an_answer(shop: Shop) -> None:
    process = shop.process()
    shop.ask("/blocks?10")
    before = process.memory_info().rss
    (status, said), _, after = used(process, lambda: shop.ask("/blocks?3200"))
    assert (status, len(said)) == (200, 3200 * 65536)
    assert after - before < 30 * MIB


def test_a_complete_answer_is_sent_before_the_application_tidies_up(shop: Shop) -> None:
    assert shop.ask("/early") == (200, "early")
    shop.app.wait_for(r"\| tidies up$")
    shop.ask("/tidy")


def test_an_error_is_logged_once_with_the_request_and_the_frames_of_the_application(shop: Shop) -> None:
    assert shop.ask("/broken") == (500, "Internal Server Error")
    shop.app.wait_for(r"^shop\.0 +\d+ \| RuntimeError: the till is empty$")
    begin = next(number for number, line in enumerate(shop.app.lines) if line.endswith("] GET /broken failed"))
    report = [line.partition("| ")[2] for line in shop.app.lines[begin : begin + 6]]
    assert report[1] == "Traceback (most recent call last):"
    assert report[2].endswith(", in app")
    assert "RuntimeError: the till is empty" in report
    assert shop.app.output.count("RuntimeError: the till is empty") == 1
    assert "mob/mobster" not in shop.app.output


def test_an_answer_that_is_too_short_ends_its_connection(shop: Shop) -> None:
    with shop.visit("/half") as visitor:
        response = http.client.HTTPResponse(visitor)
        response.begin()
        with pytest.raises(http.client.IncompleteRead):
            response.read()
    shop.app.wait_for(
        r"\] GET /half: the response has 4 bytes, but its Content-Length is 100; the connection was closed$"
    )


def test_wsgi_errors_is_the_log(shop: Shop) -> None:
    shop.ask("/errors")
    shop.app.wait_for(r"^shop\.0 +\d+ \| to the log$")


def test_requests_of_a_pipeline_are_answered_in_order(shop: Shop) -> None:
    asked = ["/blocks?3", "/pid", "/errors", "/none", "/pid", "/blocks?1", "/errors"] * 20
    expected = {"/blocks?3": 3 * 65536, "/blocks?1": 65536, "/errors": 4, "/none": 0}
    expected["/pid"] = len(str(shop.process().pid))
    with socket.create_connection(("127.0.0.1", shop.port()), timeout=patient(60)) as visitor:
        visitor.sendall("".join(f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n" for path in asked).encode())
        file = visitor.makefile("rb")
        for path in asked:
            assert file.readline() == (b"HTTP/1.1 404 Not Found\r\n" if path == "/none" else b"HTTP/1.1 200 OK\r\n")
            assert len(body_of(file)) == expected[path]


def body_of(file: Any) -> bytes:
    """Return the body of a response whose status was read."""
    headers: dict[bytes, bytes] = {}
    while line := file.readline().strip():
        name, _, value = line.lower().partition(b": ")
        headers[name] = value
    if b"content-length" in headers:
        return bytes(file.read(int(headers[b"content-length"])))
    body = b""
    while count := int(file.readline(), 16):
        body += file.read(count)
        file.readline()
    file.readline()
    return body


@pytest.mark.parametrize("path", ["/pid", "/none", "/blocks?2"])
def test_a_connection_ends_after_its_last_answer(shop: Shop, path: str) -> None:
    with socket.create_connection(("127.0.0.1", shop.port()), timeout=patient(60)) as visitor:
        visitor.sendall(f"GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: visitor.recv(65536), b""))
    assert b"\r\nConnection: close\r\n" in answer


# --- clients that disconnect ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/events", "/events?small"])
def test_visitors_who_leave_a_stream_free_their_threads(shop: Shop, path: str) -> None:
    """There are more of them than threads; those of the first kind are blocked, because no client reads."""
    closed = int(shop.ask("/closed")[1])
    visitors = [shop.visit(path) for _ in range(8)]
    for visitor in visitors:
        assert visitor.recv(1)
    for visitor in visitors:
        visitor.close()
    wait_until(lambda: shop.ask("/closed")[1] == str(closed + 8), "all are closed")


def test_a_visitor_who_leaves_a_download_frees_its_thread(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(20 * MIB))
    for _ in range(12):  # there are ten threads
        with shop.visit(f"/file?{tmp_path / 'big'}") as visitor:
            assert visitor.recv(1)
    assert shop.ask("/closed")[0] == 200


class Door:
    """A door at which a request waits in the worker until it is opened here."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path

    def open(self) -> None:
        self.path.open("w").close()


def test_threads_1_is_one_at_a_time_and_what_waits_is_counted_bounded_and_dropped_with_its_visitor(
    shop: Shop, tmp_path: Path
) -> None:
    door = Door(tmp_path / "door")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shop.ask, f"/wait?{door.path}", "single")
        shop.app.wait_for("waits at door")
        leaves = shop.visit("/wait?/never", "single")
        wait_until(lambda: shop.in_hand("single") == (2, 2, 1), "one waits")
        second = pool.submit(shop.ask, "/pid", "single")
        wait_until(lambda: shop.in_hand("single") == (3, 3, 2), "two wait")
        connection = http.client.HTTPConnection("127.0.0.1", shop.port("single"), timeout=patient(60))
        connection.request("GET", "/pid")
        refusal = connection.getresponse()
        assert (refusal.status, refusal.getheader("retry-after"), refusal.read()) == (503, "1", b"Service Unavailable")
        connection.close()
        shop.app.wait_for(r"\] 503: 2 requests wait for one of 1 threads \(wsgi_queue=2 in serve_options, threads=")
        leaves.close()
        wait_until(lambda: shop.in_hand("single") == (2, 2, 1), "the one that disconnected is forgotten")
        assert not second.done()
        door.open()
        assert first.result(patient(60)) == (200, "through")
        assert second.result(patient(60)) == (200, str(shop.process("single").pid))
    assert "waits at never" not in shop.app.output
    wait_until(lambda: shop.in_hand("single") == (0, 0, 0), "none is left")


def test_no_descriptor_is_left(shop: Shop) -> None:
    process = shop.process()
    shop.ask("/pid")
    wait_until(lambda: shop.in_hand("shop")[1] == 0, "nothing is under way")
    before = process.num_fds()
    for _ in range(20):
        shop.ask("/pid")
        shop.visit("/pid").close()
        shop.visit("/blocks?100").close()
        shop.ask("/upload", body=bytes(100_000))
    wait_until(lambda: process.num_fds() <= before, "all descriptors are closed")


# --- the end ----------------------------------------------------------------------------------------------------------

ONE = '.role("back", "./back.py").role("shop", "./shop.py:app", serve="127.0.0.1:0")'


def test_a_request_is_finished_at_a_stop(apps: Apps, tmp_path: Path) -> None:
    shop, door = Shop(apps.start(ONE, options="grace=20", shop=SHOP, back=BACK)), Door(tmp_path / "door")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(shop.ask, f"/wait?{door.path}")
        shop.app.wait_for("waits at door")
        shop.client.stop()
        shop.app.wait_for("stopping")
        door.open()
        assert asked.result(patient(60)) == (200, "through")
    assert shop.app.wait() == 0
    assert "grace" not in shop.app.output


def test_an_answer_in_progress_says_at_a_reload_that_it_is_the_last_one(apps: Apps, tmp_path: Path) -> None:
    shop, door = Shop(apps.start(ONE, options="grace=20", shop=SHOP, back=BACK)), Door(tmp_path / "door")
    connection = http.client.HTTPConnection("127.0.0.1", shop.port(), timeout=patient(60))
    connection.request("GET", f"/wait?{door.path}")
    shop.app.wait_for("waits at door")
    with ThreadPoolExecutor(1) as pool:
        reloaded = pool.submit(shop.client.reload, "shop")
        shop.app.wait_for(r"\| drains$")
        door.open()
        response = connection.getresponse()
        assert (response.status, response.headers.get_all("connection")) == (200, ["close"])
        connection.close()
        reloaded.result(patient(60))


def test_a_stream_without_an_end_does_not_hold_up_a_stop(apps: Apps) -> None:
    shop = Shop(apps.start(ONE, options="grace=60", shop=SHOP, back=BACK))
    with shop.visit("/events?x") as visitor:
        assert visitor.recv(1000)
        begun = time.monotonic()
        assert shop.app.stop() == 0
        assert time.monotonic() < begun + 30
    assert "grace" not in shop.app.output


def test_a_request_that_never_ends_does_not_hold_up_a_stop_beyond_the_grace_time(apps: Apps, tmp_path: Path) -> None:
    shop, door = Shop(apps.start(ONE, options="grace=3", shop=SHOP, back=BACK)), Door(tmp_path / "door")
    with shop.visit(f"/wait?{door.path}"):
        shop.app.wait_for("waits at door")
        assert shop.app.stop() == 0
    shop.app.wait_gone()
    assert "requests still run in threads after the grace period, and end with them: GET /wait" in shop.app.output
