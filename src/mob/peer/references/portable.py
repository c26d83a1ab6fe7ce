"""What crosses to another machine in another way than within one machine.

Shared memory ends at the machine's edge: a large buffer travels in the bytes of its message. Sockets and open files
cannot leave at all. Clocks differ: every frame has the time of the sender's clock when it left, and times in it are
converted to the receiver's clock, as if the transfer took no time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from msgspec import Raw, structs

from mob.errors import BadMessage
from mob.wire import messages as m
from mob.wire.references import Handle, Passage
from mob.wire.sharing import BufferLocation, inlined


def stays_here(passage: Passage) -> bool:
    """Return True if a message contains something that cannot leave this machine."""
    return any(isinstance(reference, Handle) for reference, _ in passage)


def whole(body: Raw, passage: Passage, look: Callable[[BufferLocation], memoryview]) -> Raw:
    """Return a body that contains its large buffers, which `look` reads.

    `BadMessage` if something in it cannot leave this machine.
    """
    if stays_here(passage):
        raise BadMessage("a socket or an open file cannot be sent to another machine.")
    if not any(isinstance(reference, BufferLocation) for reference, _ in passage):
        return body
    return Raw(inlined(memoryview(body), look))


def decode(payload: bytes | bytearray | memoryview) -> list[Any]:
    """Return the messages of a frame from another machine, with its times converted to the clock here."""
    messages: Sequence[Any] = m.decode_peer(payload)
    if not messages or messages[0].__class__ is not float:
        return list(messages)
    offset = monotonic() - messages[0]
    return [_shifted(message, offset) for message in messages[1:]]


def _shifted(message: Any, offset: float) -> Any:
    if message.__class__ is m.Invoke and message.times is not None:
        made, deadline = message.times
        return structs.replace(message, times=(made + offset, deadline + offset))
    return message
