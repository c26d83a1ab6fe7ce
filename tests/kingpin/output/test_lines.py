"""The formats of lines: text with a prefix, and JSON that keeps what is JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mob.kingpin.output import lines
from mob.kingpin.output.lines import Origin, OutputChunk

BACK = Origin("back", 2, 4242, False, 36)
KINGPIN = Origin(lines.KINGPIN, 0, 1, True, lines.BOLD)
OURS: dict[str, Any] = {
    "time": "1970-01-01T00:00:01.500000Z",
    "role": "back",
    "index": 2,
    "pid": 4242,
    "stream": "stdout",
}


def chunk(data: bytes, origin: Origin = BACK) -> OutputChunk:
    return OutputChunk(1.5, origin, data, data.count(b"\n"))


@pytest.mark.parametrize(
    ("form", "prefix"),
    [
        (lines.as_text, b"back.2 4242 | "),
        (lines.as_painted_text, b"\x1b[36mback.2 4242\x1b[0m | "),
        (lines.as_dated_text, b"1970-01-01T00:00:01.500Z back.2 4242 | "),
    ],
)
@pytest.mark.parametrize("data", [b"\n", b"one\n", b"one\n\ntwo\n", b"\xff\r\n"])
def test_every_line_has_the_prefix(form: Callable[[OutputChunk], bytes], prefix: bytes, data: bytes) -> None:
    assert form(chunk(data)) == b"".join(prefix + line + b"\n" for line in data[:-1].split(b"\n"))


def test_a_word_of_the_kingpin_has_no_pid_and_is_one_even_of_several_lines() -> None:
    word = chunk(b"it said:\nno\n", KINGPIN)
    assert lines.as_text(word) == b"mob | it said:\nno\n"
    assert lines.as_painted_text(word) == b"\x1b[1mmob\x1b[0m | it said:\nno\n"
    (line,) = lines.as_json(word).splitlines()
    fields = json.loads(line)
    assert (fields["role"], fields["stream"], fields["message"]) == ("kingpin", "stderr", "it said:\nno")


def as_objects(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.as_json(chunk(data)).decode().split("\n")[:-1]]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "a line",
        'with "quotes" and \\',
        "umläut €",
        "\x1b[1mbold\x1b[0m\r",
        "{",
        "{}{}",
        "{1: 2}",
        '{"a": NaN}',
        '{"a": 1',
        '["a", 1]',
        '"text"',
        "4711",
        "null",
    ],
)
def test_what_is_no_object_becomes_the_message_of_one(line: str) -> None:
    assert as_objects(f"{line}\n".encode()) == [{**OURS, "message": line}]


def test_what_is_no_utf_8_is_replaced_even_in_what_looks_like_an_object() -> None:
    assert [each["message"] for each in as_objects(b'\xff\n{"a": "\xff"}\n')] == ["�", '{"a": "�"}']


@pytest.mark.parametrize(
    "line", ["{}", '{"a": 1}', ' {"a": {"b": [1, 2.50, "x"]}}\t\r', '{"message": "hello", "level": "info"}', '{"": {}}']
)
def test_an_object_keeps_its_fields_and_gets_those_that_it_lacks(line: str) -> None:
    if line.startswith(" "):  # only lines that begin like an object are decoded
        assert as_objects(f"{line}\n".encode()) == [{**OURS, "message": line}]
        line = line.lstrip()
    assert as_objects(f"{line}\n".encode()) == [{**OURS, **json.loads(line)}]


def test_where_fields_clash_those_of_the_app_stay() -> None:
    theirs = {"time": "noon", "role": None, "index": [1], "pid": "mine", "stream": 1}
    line = json.dumps(theirs).encode()
    assert lines.as_json(chunk(line + b"\n")) == line + b"\n"
    assert as_objects(b'{"role": "admin"}\n') == [{**OURS, "role": "admin"}]


def test_numbers_stay_as_they_were_written() -> None:
    assert lines.as_json(chunk(b'{"n": 1.10, "big": 123456789012345678901234567890}\n')).startswith(
        b'{"n": 1.10, "big": 123456789012345678901234567890,"time"'
    )
