"""What crosses to another machine in another way: large buffers, descriptors, times."""

from __future__ import annotations

from time import monotonic
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from mob.errors import BadMessage
from mob.peer.references import portable
from mob.wire import messages as m
from mob.wire.codec import Codec
from mob.wire.references import Handle, Passage, Reference
from mob.wire.sharing import BufferLocation

FUNCTION: Passage = [(Reference(1, 1), None)]
SOCKET: Passage = [(Handle(1, 2, "socket"), None)]
BUFFER: Passage = [(BufferLocation(1, 3, 0, 70_000), None)]


def never(*_: Any) -> Any:
    raise AssertionError("there is nothing to look at")


@pytest.mark.parametrize(("passage", "stays"), [((), False), (FUNCTION, False), (BUFFER, False), (SOCKET, True)])
def test_only_descriptors_cannot_leave(passage: Passage, stays: bool) -> None:
    assert portable.stays_here(passage) is stays
    assert portable.stays_here([*FUNCTION, *passage]) is stays


def test_a_body_without_buffers_goes_as_it_is() -> None:
    body = Raw(b"\x01")
    assert portable.whole(body, (), never) is body
    assert portable.whole(body, FUNCTION, never) is body
    with pytest.raises(BadMessage, match="a socket or an open file cannot be sent to another machine"):
        portable.whole(body, [*FUNCTION, *SOCKET], never)


def test_a_large_buffer_goes_along_in_the_bytes() -> None:
    data = b"x" * 70_000
    codec = Codec(never, never)
    body = Raw(codec.encode_sharing([1, {"deep": data}], lambda length, fill: BufferLocation(1, 3, 0, length)))
    assert len(bytes(body)) < 100
    looked: list[BufferLocation] = []
    whole = portable.whole(body, BUFFER, lambda place: looked.append(place) or memoryview(data))
    assert looked == [BUFFER[0][0]]
    assert codec.decode(whole) == [1, {"deep": data}]


def test_times_are_put_into_those_of_the_clock_here() -> None:
    call = m.Invoke(1, "foo", Raw(b"\x90"), (), (100.0, 107.0), ())
    plain = m.Invoke(2, "foo", Raw(b"\x90"), (), None, ())
    before = monotonic()
    first, second = portable.decode(msgspec.msgpack.encode([99.0, call, plain]))
    assert first.times[1] - first.times[0] == pytest.approx(7)
    assert before + 1 - 1e-6 <= first.times[0] <= monotonic() + 1 + 1e-6
    assert second.times is None
    assert portable.decode(msgspec.msgpack.encode([call])) == [call]
    assert portable.decode(msgspec.msgpack.encode([])) == []
