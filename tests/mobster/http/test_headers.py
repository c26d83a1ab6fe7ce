"""Status and headers of a WSGI application: what is sent, dropped and refused."""

from __future__ import annotations

from typing import Any

import pytest

from mob.mobster.http.headers import headers_of, status_of


@pytest.mark.parametrize(
    ("status", "number", "reason"),
    [
        ("200 OK", 200, b"OK"),
        ("299 Fine", 299, b"Fine"),
        ("404 ", 404, b""),
        ("404", 404, b""),
        ("200 \xe9", 200, b"\xe9"),
    ],
)
def test_a_status_has_a_number_and_a_reason(status: str, number: int, reason: bytes) -> None:
    assert status_of(status) == (number, reason)


@pytest.mark.parametrize(
    "status", ["", "OK", "20 OK", "2000 OK", "200 OK\r\nX: y", "200 a\nb", "200 a\x00b", "200 \u20ac", "100 Continue"]
)
def test_what_is_no_status_is_refused(status: str) -> None:
    with pytest.raises(ValueError, match="is not the status of a response; expected three digits"):
        status_of(status)


@pytest.mark.parametrize("status", [200, b"200 OK", None])
def test_a_status_is_a_str(status: Any) -> None:
    with pytest.raises(TypeError, match="expected a str"):
        status_of(status)


def test_headers_keep_their_case_and_order() -> None:
    said = [("X-B", " 1 "), ("content-type", "text/plain"), ("X-B", "\xe9")]
    assert headers_of(said, True) == ([(b"X-B", b"1"), (b"content-type", b"text/plain"), (b"X-B", b"\xe9")], None)


def test_the_length_is_said_once_and_not_where_there_is_no_body() -> None:
    assert headers_of([("Content-Length", "5"), ("content-length", "5")], True) == ([(b"Content-Length", b"5")], 5)
    assert headers_of([("Content-Length", "5")], False) == ([], None)


@pytest.mark.parametrize("name", ["Connection", "Keep-Alive", "transfer-encoding", "Upgrade", "TE", "Trailer"])
def test_what_belongs_to_the_connection_is_dropped(name: str) -> None:
    assert headers_of([(name, "x")], True) == ([], None)


def test_an_application_may_close_the_connection() -> None:
    assert headers_of([("Connection", "Close")], True) == ([(b"Connection", b"Close")], None)


@pytest.mark.parametrize(
    "header",
    [
        ("X-A", "a\r\nSet-Cookie: b"), ("X-A", "a\nb"), ("X-A", "a\rb"), ("X-A", "a\x00"), ("X-A", "\u20ac"),
        ("X A", "a"), ("X:A", "a"), ("X\r\n", "a"), ("", "a"), ("X-\xe9", "a"),
        ("Content-Length", "five"), ("Content-Length", "-1"), ("Content-Length", "+5"), ("Content-Length", "5 5"),
    ],
)  # fmt: skip
def test_what_could_end_a_line_or_lie_is_refused(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="header") as caught:
        headers_of([header], True)
    assert "Set-Cookie" not in str(caught.value)  # a value may be a secret


def test_two_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one number of bytes"):
        headers_of([("Content-Length", "5"), ("Content-Length", "6")], True)


@pytest.mark.parametrize("header", [("X-A", 5), ("X-A", b"a"), (b"X-A", "a")])
def test_names_and_values_are_str(header: Any) -> None:
    with pytest.raises(TypeError, match="expected a str"):
        headers_of([header], True)
