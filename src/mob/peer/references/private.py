"""Writable memory of one's own, made of a large buffer that has arrived: what is written there, nobody else sees.

Strategy. Two ways lead there. A copy costs once, by the size; if the memory for it was used before, it costs little. A
private mapping of the same pages costs nothing at first, but each page that is read is mapped, and each page that is
written costs a fault and a copy of its own: several times what it costs as a part of one large copy. So all that the
allocator can place into memory that was used before is copied, and what is larger is mapped: a program that only reads
it, or writes to a part of it, has no copy. docs/internals/data.md has the measurements.

A private mapping keeps the view of which it was made, so its owner writes nothing else there until it has gone.

Limits. A private mapping is new memory: to send it is to copy it, because nobody knows whether it was written to.
"""

from __future__ import annotations

from mob.rim.processes import KEPT_BY_HEAP
from mob.rim.segments import private_view


def private(buffer: memoryview | bytearray) -> memoryview:
    """Return a writable memoryview of the same bytes, which only this process sees: of the same memory, if that is
    writable already.

    >>> bytes(private(memoryview(b"abc")))
    b'abc'
    """
    view = memoryview(buffer)
    if not view.readonly:
        return view
    mapped = private_view(view) if view.nbytes >= KEPT_BY_HEAP else None
    return memoryview(bytearray(view)) if mapped is None else mapped
