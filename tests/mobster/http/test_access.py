"""The lines of the access log: formats with gunicorn's names, JSON, and text that must not forge a line."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from mob import serve_options
from mob.errors import PlanError
from mob.mobster.http.access import COMBINED, GETTERS, AccessEntry, as_json, compiled, escaped

HEADERS = [(b"host", b"shop"), (b"user-agent", b'curl "8"'), (b"referer", b"http://a/\xe9\n"), (b"x-tag", b"7")]


def entry(**changes: Any) -> AccessEntry:
    scope = {
        "type": "http",
        "method": "GET",
        "path": '/a "b"',
        "raw_path": b"/a%20%22b%22",
        "query_string": b"x=1",
        "http_version": "1.1",
        "client": ("10.0.0.1", 4711),
        "headers": HEADERS,
    }
    scope.update(changes)
    return AccessEntry(scope, 200, 13, 1.2345678, [(b"Content-Type", b"text/plain")], "id-1")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("%(h)s", "10.0.0.1"),
        ("%(l)s %(u)s", "- -"),
        ("%(r)s", "GET /a%20%22b%22?x=1 HTTP/1.1"),
        ("%(m)s|%(U)s|%(q)s|%(H)s", r"GET|/a \x22b\x22|x=1|HTTP/1.1"),
        ("%(s)s %(B)s %(b)s", "200 13 13"),
        ("%(T)s %(M)s %(D)s %(L)s", "1 1234 1234567 1.234568"),
        ("%(a)s", r"curl \x228\x22"),
        ("%(f)s", "http://a/é\\x0a"),
        ("%({Host}i)s %({X-Tag}i)s %({missing}i)s", "shop 7 -"),
        ("%({content-type}o)s", "text/plain"),
        ("%(I)s", "id-1"),
        ("100%% %(s)s %d %s", "100% 200 %d %s"),
    ],
)
def test_what_each_name_stands_for(text: str, line: str) -> None:
    assert compiled(text)(entry()) == line


def test_the_combined_format_is_the_one_that_tools_know() -> None:
    line = compiled(COMBINED)(entry())
    assert re.fullmatch(
        r'\S+ - - \[\d\d/\w{3}/\d{4}:[\d:]{8} [+-]\d{4}\] "[^"]*" \d{3} \d+ "[^"]*" "[^"]*" [\d.]+', line
    )


def test_a_unix_socket_has_no_address_and_no_body_is_a_dash() -> None:
    empty = AccessEntry(entry(client=None).scope, 204, 0, 0.0, (), "")
    assert compiled("%(h)s %(b)s %(B)s %(I)s")(empty) == "- - 0 -"


@pytest.mark.parametrize("text", ["%(nothing)s", "%({Host}x)s", "no name at all", "%()s", "", "JSON", 1, None])
def test_a_format_that_cannot_be_is_refused(text: object) -> None:
    with pytest.raises(PlanError, match="access_log"):
        serve_options.check("access_log", text)


def test_each_name_that_is_known_can_be_used() -> None:
    assert set(GETTERS) == set(serve_options.NAMES)


@pytest.mark.parametrize("text", ["a\nb", "a\rb", 'a"b', "a\\b", "\x1b[31m", "\x00", "\u2028", "\x85", "\U000e0001"])
def test_no_text_leaves_its_line_or_its_quotes(text: str) -> None:
    shown = escaped(text)
    assert shown.isprintable()
    assert '"' not in shown
    assert len(shown.splitlines()) == 1
    assert shown != text


def test_as_json_it_is_one_object_in_one_line() -> None:
    line = as_json(entry())
    assert "\n" not in line
    fields = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", fields.pop("time"))
    assert fields == {
        "level": "INFO",
        "logger": "mob.access",
        "message": "GET /a%20%22b%22?x=1 HTTP/1.1 200",
        "client": "10.0.0.1",
        "method": "GET",
        "path": '/a "b"',
        "query": "x=1",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 13,
        "seconds": 1.234568,
        "agent": 'curl "8"',
        "referer": "http://a/é\n",
        "request_id": "id-1",
    }
