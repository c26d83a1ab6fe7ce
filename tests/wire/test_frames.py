"""Frames, byte by byte: what a decoder makes of bytes does not depend on where they were cut."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from mob.errors import FrameTooLong, GarbageFrame, LinkError
from mob.wire.frames import LARGE, STEP, FrameDecoder, frame

LIMIT = 4096


@dataclass
class Outcome:
    """The result of a decoder: the payloads, the error that ended it, and the size of what is unfinished."""

    payloads: list[bytes] = field(default_factory=list[bytes])
    error: type[LinkError] | None = None
    pending: int = 0


def decoded(pieces: list[bytes], limit: int = LIMIT, in_place: bool = False) -> Outcome:
    """Feed the pieces as a link does; with `in_place` the rest of a large frame is received into its room."""
    decoder = FrameDecoder(limit)
    outcome = Outcome()
    try:
        for piece in pieces:
            rest = piece
            while in_place and rest and (room := decoder.room()) is not None:
                count = min(len(room), len(rest))
                room[:count] = rest[:count]
                outcome.payloads += map(bytes, decoder.fill(count))
                rest = rest[count:]
            if rest:
                outcome.payloads += map(bytes, decoder.feed(rest))
    except LinkError as error:
        outcome.error = type(error)
    else:
        outcome.pending = decoder.pending
    return outcome


def expected(stream: bytes, limit: int = LIMIT) -> Outcome:
    """Return the same result from the simplest possible decoder, which needs the whole stream at once."""
    outcome = Outcome()
    at = 0
    while len(stream) - at >= 4:
        (length,) = struct.unpack_from("<I", stream, at)
        if length > limit or length == 0:
            outcome.error = FrameTooLong if length else GarbageFrame
            return outcome
        if len(stream) - at - 4 < length:
            break
        outcome.payloads.append(stream[at + 4 : at + 4 + length])
        at += 4 + length
    outcome.pending = len(stream) - at
    return outcome


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """Return the stream in pieces, cut at these places (taken modulo its length); no piece is empty."""
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[a:b] for a, b in pairwise(edges)]


streams = st.one_of(
    st.binary(max_size=200),  # almost always garbage
    st.lists(st.binary(min_size=1, max_size=40), max_size=8).map(lambda payloads: b"".join(map(frame, payloads))),
    st.builds(  # good frames, then anything
        lambda payloads, tail: b"".join(map(frame, payloads)) + tail,
        st.lists(st.binary(min_size=1, max_size=20), max_size=4),
        st.binary(max_size=20),
    ),
)
cuts = st.lists(st.integers(0, 10_000), max_size=12)


@given(streams, cuts)
def test_any_stream_cut_anywhere_gives_the_same(stream: bytes, places: list[int]) -> None:
    outcome, wanted = decoded(cut(stream, places)), expected(stream)
    if wanted.error is None:
        assert outcome.payloads == wanted.payloads
        assert outcome.pending == wanted.pending
    else:  # nothing of the piece with the error is returned: the link closes anyway
        assert outcome.payloads == wanted.payloads[: len(outcome.payloads)]
    assert outcome.error is wanted.error


@given(
    st.lists(st.sampled_from([1, 3, LARGE - 1, LARGE, LARGE + 1, 2 * LARGE + 7]), min_size=1, max_size=5),
    st.lists(st.integers(0, 12 * LARGE), max_size=8),
    st.booleans(),
)
def test_large_frames_cut_anywhere_give_the_same(sizes: list[int], places: list[int], in_place: bool) -> None:
    payloads = [bytes([65 + i]) * size for i, size in enumerate(sizes)]
    stream = b"".join(map(frame, payloads))
    outcome = decoded(cut(stream, places), limit=4 * LARGE, in_place=in_place)
    assert outcome == Outcome(payloads)


@given(
    st.lists(st.sampled_from([2, LARGE, LARGE + 5]), max_size=3),
    st.one_of(st.binary(max_size=20), st.just((LARGE + 9).to_bytes(4, "little") + b"unfinished")),
    st.lists(st.integers(0, 4 * LARGE), max_size=8),
    st.booleans(),
)
def test_large_frames_and_then_anything_give_the_same_or_one_clean_error(
    sizes: list[int], tail: bytes, places: list[int], in_place: bool
) -> None:
    limit = 2 * LARGE
    stream = b"".join(frame(bytes([65 + i]) * size) for i, size in enumerate(sizes)) + tail
    outcome, wanted = decoded(cut(stream, places), limit, in_place), expected(stream, limit)
    assert outcome.error is wanted.error
    assert outcome.payloads == wanted.payloads[: len(outcome.payloads)]
    if wanted.error is None:
        assert len(outcome.payloads) == len(wanted.payloads)
        header = 4 if decoded_in_place(wanted, stream) else 0
        assert outcome.pending == wanted.pending - header


def decoded_in_place(wanted: Outcome, stream: bytes) -> bool:
    """Return whether the unfinished part is a large frame, of which a decoder no longer holds the header."""
    rest = stream[len(stream) - wanted.pending :]
    return len(rest) >= 4 and struct.unpack_from("<I", rest)[0] >= LARGE


@pytest.mark.parametrize(
    ("pieces", "payloads", "pending"),
    [
        ([], [], 0),
        ([b"\x01"], [], 1),
        ([b"\x01\x00\x00\x00"], [], 4),
        ([b"\x01\x00\x00\x00a"], [b"a"], 0),
        ([b"\x01\x00\x00\x00a\x02"], [b"a"], 1),
        ([b"\x01\x00\x00\x00a\x02\x00\x00\x00bc"], [b"a", b"bc"], 0),
        ([b"\x01", b"\x00", b"\x00", b"\x00", b"a"], [b"a"], 0),
        ([b"\x02\x00\x00\x00a", b"b\x01\x00\x00\x00c"], [b"ab", b"c"], 0),
        ([b"\x00\x01\x00\x00" + b"x" * 255], [], 259),  # little-endian: 256 bytes, one is missing
    ],
)
def test_small_streams_byte_by_byte(pieces: list[bytes], payloads: list[bytes], pending: int) -> None:
    assert decoded(pieces) == Outcome(payloads, pending=pending)


def test_a_frame_is_its_length_in_four_bytes_and_its_payload() -> None:
    assert frame(b"abc") == b"\x03\x00\x00\x00abc"
    assert frame(b"x" * 0x0102) == b"\x02\x01\x00\x00" + b"x" * 0x0102


def test_room_is_offered_only_for_the_rest_of_a_large_frame() -> None:
    decoder = FrameDecoder(4 * LARGE)
    assert decoder.room() is None
    decoder.feed(frame(b"a" * LARGE)[:100])
    room = decoder.room()
    assert room is not None
    assert (len(room), decoder.pending) == (LARGE - 96, 96)
    room[:] = b"a" * len(room)
    assert decoder.fill(len(room)) == [b"a" * LARGE]
    assert decoder.room() is None
    decoder.feed(frame(b"a" * 100)[:50])
    assert decoder.room() is None


def test_a_frame_of_just_the_limit_passes() -> None:
    assert decoded([frame(b"x" * LIMIT)]).payloads == [b"x" * LIMIT]


def test_a_longer_one_is_refused_before_any_of_it_is_kept() -> None:
    decoder = FrameDecoder(LIMIT)
    with pytest.raises(FrameTooLong) as caught:
        decoder.feed((1 << 30).to_bytes(4, "little"))
    assert decoder.pending == 0
    assert str(caught.value) == (
        "the other end announced a frame of 1,073,741,824 bytes; the limit is 4,096 (the app's frame_limit). "
        "Either it does not speak mob, or the value is too big for one message."
    )


def test_a_frame_of_nothing_is_garbage() -> None:
    with pytest.raises(GarbageFrame, match=r"the other end announced an empty frame\. mob sends none"):
        FrameDecoder(LIMIT).feed(b"\x00\x00\x00\x00")


def test_a_decoder_says_how_much_it_holds() -> None:
    decoder = FrameDecoder(LIMIT)
    decoder.feed(b"\x05\x00\x00\x00ab")
    assert repr(decoder) == "<FrameDecoder holding 6 bytes>"


def test_room_grows_with_what_has_come() -> None:
    size = 4 * STEP
    decoder = FrameDecoder(size)
    assert decoder.feed(struct.pack("<I", size) + b"a") == []
    payloads: list[bytes | bytearray | memoryview] = []
    rooms: list[int] = []
    while not payloads:
        room = decoder.room()
        assert room is not None
        rooms.append(len(room))
        payloads = decoder.fill(len(room))
        room.release()
    assert len(rooms) > 2
    assert sum(rooms) == size - 1
    assert len(payloads[0]) == size
