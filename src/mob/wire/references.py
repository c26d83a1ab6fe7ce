"""What stands in a body for something that is not in it: functions, large buffers, descriptors.

Strategy. A reference names its owner (the process in which the thing lives, or from which it comes) and a number there.
Its owner keeps the thing, or counts on word that it is no longer wanted, until the receiver has read the reference. So
what arrives is always read: a body that nobody will decode is searched for references (`references_in`), which are
given back unread.

Limits. Says nothing of what becomes of a reference: the codec makes something of it, or has it given back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from msgspec.msgpack import Decoder

from mob.wire.depth import FIXED, LONG, TOO_DEEP
from mob.wire.extensions import CALLBACK, DESCRIPTOR, NESTING, OBJECT, SHARED
from mob.wire.sharing import BufferLocation, place_of


class Reference(Struct, frozen=True, array_like=True, gc=False):
    """The name of a function that lives in some process of the mob: its owner, and its number there."""

    owner: int
    id: int
    is_stream: bool = False
    """Whether it is an iterator: calling it gives what it yields."""


class ObjectReference(Reference, frozen=True, array_like=True, gc=False):
    """The name of an object that lives in some process of the mob, and what is known of it. It is counted by its first
    two parts, as a function is."""

    label: str = ""
    """As people read it: `back.Room`."""
    methods: tuple[str, ...] = ()
    """What can be called."""


class Handle(Struct, frozen=True, array_like=True, gc=False):
    """A descriptor that travels beside the bytes: who sends it, its number there, and what to make of it."""

    owner: int
    number: int
    kind: str
    details: tuple[Any, ...] = ()
    """Plain values, which whoever opened it at the one end has written for the other."""


AnyReference = Reference | Handle | BufferLocation
Passage = Sequence[tuple[AnyReference, Any]]
"""References on their way, each with its function: what is passed on must live until it has been. Also the places of
large buffers (`buffers`) and the handles of sockets and files (`descriptors`), which share their fate."""


class DescriptorTable(Protocol):
    """Who knows sockets and open files."""

    def check(self, value: Any) -> None:
        """Raises `UnsendableValue` if it cannot be handed over, and says why."""
        ...

    def duplicate(self, value: Any) -> Handle:
        """Duplicates its descriptor, to be sent along with what is being encoded."""
        ...

    def open(self, handle: Handle) -> Any:
        """The socket or file of a handle that has arrived; each can be had once."""
        ...


class ObjectTable(Protocol):
    """Who knows objects that cross by reference."""

    def lend(self, value: Any) -> ObjectReference:
        """Names an object, or a handle of one."""
        ...

    def borrow(self, reference: ObjectReference) -> Any:
        """The object itself at home, a handle elsewhere."""
        ...


reference_of: Callable[[Any], Reference] = Decoder(Reference).decode
"""What a `CALLBACK` extension says."""
object_of: Callable[[Any], ObjectReference] = Decoder(ObjectReference).decode
"""What an `OBJECT` extension says."""
handle_of: Callable[[Any], Handle] = Decoder(Handle).decode
"""What a `DESCRIPTOR` extension says."""

_READERS: Mapping[int, Callable[[Any], AnyReference]] = {
    CALLBACK: reference_of,
    OBJECT: reference_of,
    SHARED: place_of,
    DESCRIPTOR: handle_of,
}

_NESTING = (*NESTING, TOO_DEEP)
"""Extensions whose data is MessagePack of the sender's."""


def references_in(body: bytes | bytearray | memoryview | msgspec.Raw) -> list[AnyReference]:
    """The references in a body, in the order of its bytes, whether or not the body can be decoded."""
    found: list[AnyReference] = []

    def collect(code: int, data: memoryview) -> None:
        if code in _NESTING:
            decode(data)
        elif code in _READERS:
            found.append(_READERS[code](data))

    decode = Decoder(ext_hook=collect).decode
    try:
        decode(body)
    except Exception:  # noqa: BLE001  whatever is wrong with it
        found = [_READERS[code](data) for code, data in _extensions(memoryview(body)) if code in _READERS]
    return found


def _extensions(body: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The extensions in MessagePack, those within registered types too.

    Arrays and maps are no more than counts of what follows, so a body is a row of tokens, however deeply it is nested.
    """
    at = 0
    while at < len(body):
        mark = body[at]
        at += 1
        size = 0
        if 0xA0 <= mark <= 0xBF:
            size = mark - 0xA0
        elif mark in FIXED:
            size = FIXED[mark]
        elif 0xD4 <= mark <= 0xD8:
            size = 1 << mark - 0xD4
        elif mark in LONG:
            size = int.from_bytes(body[at : at + LONG[mark]], "big")
            at += LONG[mark]
        if 0xD4 <= mark <= 0xD8 or 0xC7 <= mark <= 0xC9:
            at += 1
            if at + size > len(body):
                return  # cut off
            if body[at - 1] in _NESTING:
                yield from _extensions(body[at : at + size])
            else:
                yield body[at - 1], body[at : at + size]
        at += size
