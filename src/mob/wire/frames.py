"""Frames: a length of four bytes, little end first, then so many bytes of payload.

A payload is one MessagePack array of messages (`messages.py`): everything that was said within one turn of the loop
travels in one frame and is decoded by one call. The decoder takes bytes as they come, cut anywhere, and hands out
whole payloads. It holds at most one unfinished frame; once that is known to be large, the reader can have the rest
received straight into its place (`room`), so that a big payload is not copied piece by piece.

Limits: a frame longer than `limit` is an error before any of it is kept. Memory is taken for what has come in, and as
much again, never for what is only announced. After an error a decoder is spent.
"""

from __future__ import annotations

import struct

from mob.errors import FrameTooLong, GarbageFrame

HEADER = struct.Struct("<I")
LARGE = 64 * 1024
"""From here on the rest of a frame is received in place; about what one read brings."""

FIRST = 256 * 1024
"""So much memory a large frame gets at first; when that is full it gets as much again, and so on."""
STEP = 4 * 1024 * 1024
"""So much more at most at a time."""
_ZEROS = memoryview(bytes(STEP))  # costs nothing: the system has one page of zeros for all of it


def frame(payload: bytes) -> bytes:
    """The frame of a payload.

    >>> frame(b"abc")
    b'\\x03\\x00\\x00\\x00abc'
    """
    return HEADER.pack(len(payload)) + payload


class FrameDecoder:
    """Turns a stream of bytes into payloads."""

    __slots__ = ("_announced", "_filled", "_large", "_rest", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        """Bytes of the longest frame; it may be changed between two frames."""
        self._rest = b""  # the head of an unfinished small frame
        self._large: bytearray | None = None  # the body of an unfinished large frame
        self._filled = 0
        self._announced = 0  # how long it will be

    def __repr__(self) -> str:
        return f"<FrameDecoder holding {self.pending} bytes>"

    @property
    def pending(self) -> int:
        """Bytes of an unfinished frame that have come in so far."""
        return self._filled if self._large is not None else len(self._rest)

    def feed(self, data: bytes) -> list[bytes | bytearray | memoryview]:
        """The payloads that `data` completes, in order."""
        if self._large is not None:
            return self._feed_large(data)
        if self._rest:
            data = self._rest + data
            self._rest = b""
        size = len(data)
        if size >= 4 and HEADER.unpack_from(data)[0] == size - 4 > 0:  # by far the most: one whole frame
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
        """Where the next bytes of a large frame belong; None when `feed` is wanted. To be released before the next."""
        large = self._large
        if large is None:
            return None
        if self._filled == len(large):
            large += _ZEROS[: min(len(large), STEP, self._announced - len(large))]
        return memoryview(large)[self._filled :]

    def fill(self, count: int) -> list[bytes | bytearray | memoryview]:
        """Says that `count` bytes were put into `room`; the payload, if that completes it."""
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
                f"a frame of {length:,} bytes is announced; the limit is {self.limit:,} (frame_limit of the app). "
                f"Either the other end does not speak mob, or the value is too big for one message."
            )
        if length == 0:
            raise GarbageFrame("a frame of no bytes is announced; mob sends none. The other end does not speak mob.")
