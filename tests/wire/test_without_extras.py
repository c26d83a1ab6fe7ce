"""A codec without shared memory and descriptors says so, for what it is given and for what arrives."""

from __future__ import annotations

import socket
from typing import Any

import msgspec
import pytest
from msgspec.msgpack import Ext

from mob.errors import BadMessage
from mob.wire.codec import Codec
from mob.wire.extensions import DESCRIPTOR, SHARED
from mob.wire.references import Handle
from mob.wire.sharing import BufferLocation

pack = msgspec.msgpack.encode


@pytest.mark.parametrize(
    ("code", "reference", "text"),
    [
        (
            SHARED,
            BufferLocation(1, 2, 0, 3),
            "a buffer in shared memory arrived, but this process has no shared memory",
        ),
        (DESCRIPTOR, Handle(7, 1, "socket"), "a socket or file arrived, but this process cannot receive any"),
    ],
)
def test_what_arrives_and_cannot_be_taken(codec: Codec, code: int, reference: Any, text: str) -> None:
    with pytest.raises(BadMessage, match=text):
        codec.decode(pack(Ext(code, pack(reference))))


@pytest.mark.parametrize("place", ["alone", "beside a function"])
def test_a_socket_cannot_be_sent(codec: Codec, place: str) -> None:
    with socket.socket() as sock, pytest.raises(BadMessage, match=r"cannot send .*socket"):
        codec.encode(sock if place == "alone" else [len, sock])
