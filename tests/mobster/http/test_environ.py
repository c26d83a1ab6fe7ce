"""The environ that a WSGI application gets for a request."""

from __future__ import annotations

import io
from typing import Any

import pytest

from mob.mobster.http.environ import environ_of, lasting
from mob.mobster.http.sending import FileWrapper

BASE = lasting(10, True)


def environ(target: bytes = b"/", *headers: tuple[bytes, bytes], length: int = 0, **scope: Any) -> dict[str, Any]:
    known = {
        "method": "GET",
        "root_path": "",
        "raw_path": target,
        "http_version": "1.1",
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "client": ("10.0.0.7", 4711),
    }
    return environ_of({**known, "mob.target": target, "headers": headers, **scope}, io.BytesIO(), length, BASE)


def test_all_that_pep_3333_wants_is_there() -> None:
    made = environ(b"/a?b=c")
    assert made["SERVER_SOFTWARE"] == "mob"
    assert made["wsgi.file_wrapper"] is FileWrapper
    expected = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/a", "QUERY_STRING": "b=c", "REQUEST_URI": "/a?b=c",
        "RAW_URI": "/a?b=c", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000", "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "10.0.0.7", "REMOTE_PORT": "4711", "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
        "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False, "wsgi.input_terminated": True,
    }  # fmt: skip
    assert {key: made[key] for key in expected} == expected
    assert {type(value) for key, value in made.items() if "." not in key} == {str}


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/%C3%A9%FF%2Fa", "/\xc3\xa9\xff/a", ""),
        (b"/a%20b?c=%20d&e#f", "/a b", "c=%20d&e"),
        (b"//a//b?", "/a//b", ""),
        (b"/a?b?c", "/a", "b?c"),
    ],
)
def test_the_path_is_latin_1_of_its_bytes(target: bytes, path: str, query: str) -> None:
    made = environ(target)
    assert (made["PATH_INFO"], made["QUERY_STRING"], made["RAW_URI"]) == (path, query, target.decode())


def test_a_proxy_is_asked_with_a_whole_url() -> None:
    made = environ(b"http://shop/a?b", raw_path=b"/a")
    assert (made["PATH_INFO"], made["QUERY_STRING"], made["REQUEST_URI"]) == ("/a", "b", "http://shop/a?b")


def test_the_root_path_is_the_script_name() -> None:
    made = environ(b"/a", root_path="/sh\xf6p", raw_path="/sh\xf6p/a".encode())
    assert (made["SCRIPT_NAME"], made["PATH_INFO"]) == ("/sh\xc3\xb6p", "/a")


@pytest.mark.parametrize("name", [b"x_remote_user", b"x-remote_user", b"content_length", b"_", b"host_"])
def test_a_header_with_an_underscore_is_dropped(name: bytes) -> None:
    assert "admin" not in environ(b"/", (name, b"admin")).values()


def test_a_header_that_comes_twice_is_joined() -> None:
    made = environ(
        b"/", (b"x-a", b"1"), (b"x-a", b" 2 "), (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"accept", b"\xe9")
    )
    assert (made["HTTP_X_A"], made["HTTP_COOKIE"], made["HTTP_ACCEPT"]) == ("1,2", "a=1; b=2", "\xe9")


def test_the_length_of_a_body_in_chunks_is_said() -> None:
    made = environ(b"/", (b"transfer-encoding", b"chunked"), length=11)
    assert made["CONTENT_LENGTH"] == "11"
    assert "HTTP_TRANSFER_ENCODING" not in made


def test_the_type_and_the_length_of_the_body_have_keys_of_their_own() -> None:
    made = environ(b"/", (b"content-type", b"text/plain"), (b"content-length", b"3"), length=3)
    assert (made["CONTENT_TYPE"], made["CONTENT_LENGTH"]) == ("text/plain", "3")
    assert "HTTP_CONTENT_TYPE" not in made
    assert "CONTENT_LENGTH" not in environ()


@pytest.mark.parametrize(
    ("host", "scheme", "name", "port"),
    [
        ((b"host", b"shop.example:81"), "http", "shop.example", "81"),
        ((b"host", b"shop.example"), "https", "shop.example", "443"),
        ((b"host", b"[::1]:81"), "http", "[::1]", "81"),
        ((b"accept", b"x"), "http", "/run/web.sock", "80"),
    ],
)
def test_on_a_unix_socket_the_host_names_the_server(host: Any, scheme: str, name: str, port: str) -> None:
    made = environ(b"/", host, server=("/run/web.sock", None), client=None, scheme=scheme)
    assert (made["SERVER_NAME"], made["SERVER_PORT"], made["REMOTE_ADDR"]) == (name, port, "")
    assert "REMOTE_PORT" not in made


def test_a_proxy_names_the_client_without_a_port() -> None:
    made = environ(b"/", client=("1.2.3.4", 0))
    assert made["REMOTE_ADDR"] == "1.2.3.4"
    assert "REMOTE_PORT" not in made


def test_one_thread_in_one_process() -> None:
    made = lasting(1, False)
    assert (made["wsgi.multithread"], made["wsgi.multiprocess"]) == (False, False)
