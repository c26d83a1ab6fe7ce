"""Frames: the length in four bytes, little-endian, then the payload.

A payload is one MessagePack array of messages (`messages.py`): all messages of one turn of the loop travel in one frame
and are decoded by one call. The decoder takes bytes in pieces of any size and returns whole payloads. It holds at most
one unfinished frame; if that frame is large, the reader can receive the rest of it directly into its final memory
(`room`), so that a big payload is not copied piece by piece.

Limits: a frame longer than `limit` is an error before any of it is kept. Memory is allocated for at most twice the
bytes that arrived, never for the announced length alone. After an error a decoder cannot be used again.
"""

from __future__ import annotations

import struct

from mob.errors import FrameTooLong, GarbageFrame

HEADER = struct.Struct("<I")
LARGE = 64 * 1024
"""Bytes of a frame from which on the rest is received in place; about as many as one read returns."""

FIRST = 256 * 1024
"""Bytes of memory that a large frame gets at first; the memory is doubled whenever it is full."""
STEP = 4 * 1024 * 1024
"""Maximum number of bytes by which that memory grows at a time."""
_ZEROS = memoryview(bytes(STEP))  # costs nothing: the system maps one page of zeros for all of it


def frame(payload: bytes) -> bytes:
    r"""Return the frame of a payload.

    >>> frame(b"abc")
    b'\x03\x00\x00\x00abc'
    """
    return HEADER.pack(len(payload)) + payload


class FrameDecoder:
    """A decoder that turns a stream of bytes into payloads."""

    __slots__ = ("_announced", "_filled", "_large", "_rest", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        """Maximum length of a frame in bytes; it may be changed between two frames."""
        self._rest = b""  # the head of an unfinished small frame
        self._large: bytearray | None = None  # the body of an unfinished large frame
        self._filled = 0
        self._announced = 0  # its announced length

    def __repr__(self) -> str:
        return f"<FrameDecoder holding {self.pending} bytes>"

    @property
    def pending(self) -> int:
        """Bytes of an unfinished frame that arrived so far."""
        return self._filled if self._large is not None else len(self._rest)

    def feed(self, data: bytes) -> list[bytes | bytearray | memoryview]:
        """Return the payloads that `data` completes, in order."""
        if self._large is not None:
            return self._feed_large(data)
        if self._rest:
            data = self._rest + data
            self._rest = b""
        size = len(data)
        if size >= 4 and HEADER.unpack_from(data)[0] == size - 4 > 0:  # nearly always: one whole frame
            self._check(size - 4)
            return [memoryview(data)[4:]]
        payloads: list[bytes | bytearray | memoryview] = []
        view = memoryview(data)
        at = 0
        while size - at >= 4:
            length: int = HEADER.unpack_from(data, at)[0]
            self._check(length)
            end = at + 4 + length
            if end > size:
                if length >= LARGE:
                    begun = view[at + 4 :]
                    self._announced, self._filled = length, len(begun)
                    self._large = bytearray(min(length, max(FIRST, 2 * self._filled)))
                    self._large[: self._filled] = begun
                    return payloads
                break
            payloads.append(view[at + 4 : end])
            at = end
        self._rest = bytes(view[at:])
        return payloads

    def room(self) -> memoryview | None:
        """Return the memory for the next bytes of a large frame, None if `feed` is to be used.

        Release it before the next call.
        """
        large = self._large
        if large is None:
            return None
        if self._filled == len(large):
            large += _ZEROS[: min(len(large), STEP, self._announced - len(large))]
        return memoryview(large)[self._filled :]

    def fill(self, count: int) -> list[bytes | bytearray | memoryview]:
        """Count `count` bytes that were put into `room`; return the payload if they complete it."""
        assert self._large is not None
        self._filled += count
        if self._filled < self._announced:
            return []
        payload, self._large = self._large, None
        return [payload]

    def _feed_large(self, data: bytes) -> list[bytes | bytearray | memoryview]:
        view, payloads = memoryview(data), list[bytes | bytearray | memoryview]()
        while view and (room := self.room()) is not None:
            with room:
                count = min(len(room), len(view))
                room[:count] = view[:count]
            payloads += self.fill(count)
            view = view[count:]
        return payloads + self.feed(bytes(view)) if view else payloads

    def _check(self, length: int) -> None:
        if length > self.limit:
            raise FrameTooLong(
                f"the other end announced a frame of {length:,} bytes; the limit is {self.limit:,} (the app's "
                f"frame_limit). Either it does not speak mob, or the value is too big for one message."
            )
        if length == 0:
            raise GarbageFrame("the other end announced an empty frame. mob sends none, so it does not speak mob.")
