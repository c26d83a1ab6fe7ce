"""Private writable memory, made of a large buffer that arrived: no other process sees what is written there.

Strategy. There are two ways. A copy costs once, by the size, and little if its memory was used before. A private
mapping of the same pages costs nothing at first, but each page that is read is mapped, and each page that is written
costs a fault and a copy of its own: several times what it costs as part of one large copy. So everything that the
allocator can place into memory that was used before is copied, and larger buffers are mapped: a program that only reads
them, or writes to a part, makes no copy. docs/internals/data.md has the measurements.

A private mapping keeps the view of which it was made, so its owner reuses the memory only after the mapping is freed.

Limits. A private mapping is new memory: sending it copies it, because it may have been written to.
"""

from __future__ import annotations

from mob.rim.processes import KEPT_BY_HEAP
from mob.rim.segments import private_view


def private(buffer: memoryview | bytearray) -> memoryview:
    """Return a writable memoryview of the same bytes that only this process sees.

    It is of the same memory, if that is writable already.

    >>> bytes(private(memoryview(b"abc")))
    b'abc'
    """
    view = memoryview(buffer)
    if not view.readonly:
        return view
    mapped = private_view(view) if view.nbytes >= KEPT_BY_HEAP else None
    return memoryview(bytearray(view)) if mapped is None else mapped
