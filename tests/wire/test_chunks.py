"""The bodies of a chunk and of its answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw
from msgspec.msgpack import decode, encode

from mob.wire.chunks import answer, failure_of, is_plain, raw_answer, rows_of
from mob.wire.failures import Failure


def test_the_rows_of_a_chunk_are_read_one_by_one() -> None:
    rows = [(1, "two"), ([3],), ()]
    body = encode([Raw(encode(row)) for row in rows])
    assert body == encode(rows)
    assert [decode(row) for row in rows_of(Raw(body))] == [[1, "two"], [[3]], []]


@pytest.mark.parametrize("body", [b"\xc1", encode(7), encode({"a": 1}), b"\x92\x01"])
def test_what_is_no_array_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        rows_of(Raw(body))


def test_an_answer_there_and_back() -> None:
    failure = Failure("ValueError", "ValueError", "no")
    body = answer(0.5, [1, Raw(encode({"a": [2]})), None], [(2, failure)])
    seconds, values, failed = decode(body)
    assert (seconds, values) == (0.5, [1, {"a": [2]}, None])
    assert [(index, failure_of(each)) for index, each in failed] == [(2, failure)]
    raw = raw_answer(Raw(body))
    assert raw is not None
    assert [decode(value) for value in raw[1]] == [1, {"a": [2]}, None]


def test_what_is_no_answer_is_none() -> None:
    assert raw_answer(Raw(encode([1, 2]))) is None


PLAIN = [None, True, 7, -(2**63), 2**64 - 1, 0.5, "ascii"]
NOT_PLAIN = [2**64, -(2**63) - 1, "\udc80", "é", b"bytes", [1], (1,), {}, object(), type("Int", (int,), {})(1)]


@pytest.mark.parametrize("value", PLAIN)
def test_plain_values_can_be_encoded_later(value: Any) -> None:
    assert is_plain(value)
    assert decode(encode(value)) == value


@pytest.mark.parametrize("value", NOT_PLAIN, ids=lambda value: type(value).__name__)
def test_others_are_encoded_at_once(value: Any) -> None:
    assert not is_plain(value)
