"""References: what a body holds for something that is not in it, such as functions, large buffers, descriptors.

Strategy. A reference names its owner (the process where the thing lives, or from which it comes) and a number there.
The owner keeps the thing, or waits for word that it is no longer needed, until the receiver reads the reference. So
everything that arrives is read: a body that is never decoded is searched for references (`references_in`), which are
given back unread.

Limits. What becomes of a reference is up to the codec: it makes a value from it, or has it given back.
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
    """The name of a function that lives in some process of the app: its owner, and its number there."""

    owner: int
    id: int
    is_stream: bool = False
    """True if it is an iterator: calling it returns what it yields."""


class ObjectReference(Reference, frozen=True, array_like=True, gc=False):
    """The name of an object that lives in some process of the app, and what is known about it.

    It is counted by its first two fields, as a function is.
    """

    label: str = ""
    """Its name for people: `back.Room`."""
    methods: tuple[str, ...] = ()
    """Names of the methods that can be called."""


class Handle(Struct, frozen=True, array_like=True, gc=False):
    """A descriptor that travels beside the bytes: its sender, its number there, and what to make of it."""

    owner: int
    number: int
    kind: str
    details: tuple[Any, ...] = ()
    """Plain values that the sending end writes for the receiving end."""


AnyReference = Reference | Handle | BufferLocation
Passage = Sequence[tuple[AnyReference, Any]]
"""References on their way, each with its function: what is passed on must live until it arrives.

Also the places of large buffers (`buffers`) and the handles of sockets and files (`descriptors`), which are treated in
the same way.
"""


class DescriptorTable(Protocol):
    """The part of a process that handles sockets and open files."""

    def check(self, value: Any) -> None:
        """Raise `UnsendableValue`, with the reason, if a value cannot be handed over."""
        ...

    def duplicate(self, value: Any) -> Handle:
        """Duplicate the descriptor of a value, to be sent along with the body being encoded."""
        ...

    def open(self, handle: Handle) -> Any:
        """Return the socket or file of a handle that arrived; each can be opened once."""
        ...


class ObjectTable(Protocol):
    """The part of a process that handles objects that cross by reference."""

    def lend(self, value: Any) -> ObjectReference:
        """Return the name of an object, or of a handle of one."""
        ...

    def borrow(self, reference: ObjectReference) -> Any:
        """Return the object itself in its own process, a handle in others."""
        ...


reference_of: Callable[[Any], Reference] = Decoder(Reference).decode
"""Decoder of the data of a `CALLBACK` extension."""
object_of: Callable[[Any], ObjectReference] = Decoder(ObjectReference).decode
"""Decoder of the data of an `OBJECT` extension."""
handle_of: Callable[[Any], Handle] = Decoder(Handle).decode
"""Decoder of the data of a `DESCRIPTOR` extension."""

_READERS: Mapping[int, Callable[[Any], AnyReference]] = {
    CALLBACK: reference_of,
    OBJECT: reference_of,
    SHARED: place_of,
    DESCRIPTOR: handle_of,
}

_NESTING = (*NESTING, TOO_DEEP)
"""Extensions whose data is MessagePack written by the sender."""


def references_in(body: bytes | bytearray | memoryview | msgspec.Raw) -> list[AnyReference]:
    """Return the references in a body, in the order of its bytes, even if the body cannot be decoded."""
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
    """Yield the extensions in MessagePack, including those within registered types.

    Arrays and maps are only counts of what follows, so a body is a row of tokens, however deeply it is nested.
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
