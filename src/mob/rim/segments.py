"""Shared memory: a pool that its owner writes and others map read-only; and views that report when they are freed.

The pool is one file without a name (memfd), of which only the used parts take memory. It is sealed, so it cannot
shrink, and others get a descriptor that can only be read. The kernel frees it with the last process that has it,
however that ends, so nothing can be left behind, on disk or in memory.

A `view` is a memoryview of a part of a mapping. When the last memoryview, slice or array made of it is freed, its
finalizer appends to a queue, and does nothing else.

The receiver of a buffer that its owner gave away writes it through a second mapping of the pool (`Mapping.writable`).

A view of memory with another owner has a private twin (`private_view`): the same memory, mapped once more so that
writes go to copies of its pages (copy-on-write), which only this process has.

A writable view can be made read-only in place, and writable again (`set_readonly`): Python has no way to do so, so this
sets the flag in the object's memory, where its position is known.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import sys
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from mob.rim.link import Descriptor

IS_AVAILABLE = hasattr(os, "memfd_create")

Dropped = deque[tuple[int, int]]

POPULATE_READ, POPULATE_WRITE = 22, 23
"""Values for madvise in Linux 5.14 that the mmap module lacks: map the pages of a part, to be read or written."""
SHMEM_ENABLED = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
"""File in which the system says which shared memory gets huge pages."""
PREFAULT = 1024 * 1024
"""Bytes from which it pays to map the pages of a view together; the system maps 64 KiB at a time by itself."""


class Memory:
    """The owner's side of a pool."""

    __slots__ = ("__weakref__", "_descriptor", "_is_huge", "_map", "_view", "mapping")

    def __init__(self, size: int) -> None:
        """Allocate a pool. Raise `OSError` if the system does not provide it."""
        self._descriptor = os.memfd_create("mob", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self._descriptor, size)
            fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            self._map = mmap.mmap(self._descriptor, size)
        except BaseException:
            os.close(self._descriptor)
            raise
        weakref.finalize(self, os.close, self._descriptor).atexit = False
        self._view = memoryview(self._map)
        self.mapping: Mapping = Mapping(address_of(self._map), size, self._map, is_ready=True)
        self._is_huge = _asks_for_huge_pages()
        if self._is_huge:
            self._map.madvise(mmap.MADV_HUGEPAGE)

    def __repr__(self) -> str:
        return f"<Memory of {len(self._map):,} bytes>"

    def descriptor(self) -> int:
        """Return a new read-only descriptor for another process."""
        try:
            return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # there is no /proc
            return os.dup(self._descriptor)

    def part(self, offset: int, size: int) -> memoryview:
        """Return a writable part of it."""
        return self._view[offset : offset + size]

    def take(self, offset: int, end: int) -> None:
        """Allocate that part now. Raise `OSError` if the system cannot, where writing would kill the process."""
        if not self._is_huge or not self.populate(offset, end):
            os.posix_fallocate(self._descriptor, offset, end - offset)

    def populate(self, offset: int, end: int) -> bool:
        """Allocate and map that part, ready to be written; return True on success. Releases the GIL."""
        return _advise(self.mapping.address + offset, end - offset, POPULATE_WRITE)

    def fill(self, offset: int, length: int, end: int, fill: Callable[[memoryview], None]) -> None:
        """Have `fill` write to a part of which not everything up to `end` is allocated. Otherwise like `take`.

        Writing through the descriptor costs half of what it costs through the mapping: no page is cleared before it is
        written, and none is mapped. Where the system gives huge pages to mappings, these cost least.
        """
        if not self._is_huge:
            try:
                fill(cast("memoryview", Unmapped(self._descriptor, offset, length)))
            except TypeError:  # it does not write everything at once, and needs memory: it gets that below
                pass
            else:
                if offset + length < end:
                    os.posix_fallocate(self._descriptor, offset + length, end - offset - length)
                return
        self.take(offset, end)
        fill(self.part(offset, length))

    def give_back(self, offset: int, end: int) -> None:
        """Return that part to the system; it must not be in use."""
        with contextlib.suppress(OSError):
            self._map.madvise(mmap.MADV_REMOVE, offset, end - offset)


class Unmapped:
    """A part of a pool that is written through its descriptor, with `part[:] = data` like memory."""

    __slots__ = ("_descriptor", "_length", "_offset")

    def __init__(self, descriptor: int, offset: int, length: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._length = length

    def __setitem__(self, where: slice, data: memoryview) -> None:
        left = memoryview(data).cast("B")
        if where != slice(None) or left.nbytes != self._length:
            raise TypeError("only the whole part can be written")
        at = self._offset
        while left.nbytes:
            written = os.pwrite(self._descriptor, left, at)
            at, left = at + written, left[written:]


class Mapping:
    """Memory of a pool, mapped into this process; it stays as long as there is a view of it.

    `is_ready`: the process that writes its pages has mapped them.
    """

    __slots__ = ("__weakref__", "_kept", "_ready", "_writable", "address", "descriptor", "size")

    def __init__(
        self, address: int, size: int, kept: Any, descriptor: Descriptor | None = None, is_ready: bool = False
    ) -> None:
        self.size: int = size
        self.address: int = address
        self.descriptor: Descriptor | None = descriptor
        """Descriptor for other processes to map it; None for the owner's own mapping, which has another."""
        self._kept = kept
        self._writable: Mapping | None = None
        self._ready: int = size if is_ready else 0
        """End offset of the pages that were mapped before they were read."""

    def __repr__(self) -> str:
        return f"<Mapping of {self.size:,} bytes>"

    @classmethod
    def of(cls, descriptor: int, size: int) -> Mapping:
        """Map memory of another owner read-only, and keep the descriptor.

        If it raises `OSError`, the descriptor is not closed and the caller may try again. Python's own `mmap` would
        need a second descriptor.
        """
        if os.fstat(descriptor).st_size < size:
            os.close(descriptor)
            raise ValueError(f"it has less than the announced {size:,} bytes")
        address = _map(descriptor, size, mmap.PROT_READ, mmap.MAP_SHARED)
        mapping = cls(address, size, None, Descriptor(descriptor))
        weakref.finalize(mapping, _libc.munmap, address, size).atexit = False
        return mapping

    def writable(self) -> Mapping | None:
        """Return another mapping of all of it, for buffers that their owner gave away: writes go to the pool.

        None for the owner itself, or if the system does not provide it.
        """
        if self._writable is None and self.descriptor is not None:
            with contextlib.suppress(OSError):
                descriptor = os.open(f"/proc/self/fd/{self.descriptor.fileno()}", os.O_RDWR | os.O_CLOEXEC)
                try:
                    address = _map(descriptor, self.size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED)
                finally:
                    os.close(descriptor)
                self._writable = Mapping(address, self.size, None)
                weakref.finalize(self._writable, _libc.munmap, address, self.size).atexit = False
        return self._writable

    def has(self, address: int, length: int) -> bool:
        """Return True if this memory lies in it."""
        return self.address <= address and address + length <= self.address + self.size

    def map_private(self, offset: int, length: int, origin: Any) -> memoryview:
        """Return a writable view of the same bytes, whose changes stay here.

        It keeps `origin`, which keeps the segment, because unwritten pages show the shared memory. Raise `OSError` if
        there is no memory.
        """
        assert self.descriptor is not None
        start = offset - offset % mmap.PAGESIZE
        size = offset + length - start
        address = _map(self.descriptor.fileno(), size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, start)
        owner = _kind_of(_Private, length).from_address(address + offset - start)
        owner.origin = origin
        weakref.finalize(owner, _libc.munmap, address, size).atexit = False
        return memoryview(owner)[:length]

    def view(
        self, offset: int, length: int, key: tuple[int, int], dropped: Dropped, is_writable: bool = False
    ) -> memoryview:
        """Return a view, read-only unless it is the owner's or was given away.

        When the view and everything made of it is freed, `key` is appended to `dropped`.
        """
        if length <= 0 or offset < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at {offset} are outside the {self.size} bytes of a pool")
        if length >= PREFAULT and offset + length > self._ready:
            self._prefault(offset, offset + length)
        owner = _kind_of(_Finalizer, length).from_address(self.address + offset)
        owner.mapping, owner.key, owner.dropped = self, key, dropped
        view = memoryview(owner)[:length]
        return view if is_writable else view.toreadonly()

    def _prefault(self, offset: int, end: int) -> None:
        """Map pages together, which costs a fraction of single page faults."""
        start = max(offset, self._ready)
        start -= start % mmap.PAGESIZE
        _advise(self.address + start, end - start, POPULATE_READ)
        self._ready = end

    def handle_idle(self) -> None:
        """Note that the owner may have returned pages to the system."""
        if self._writable is not None:
            self._writable.handle_idle()
        if self._ready < self.size:
            self._ready = 0


def _asks_for_huge_pages() -> bool:
    """Return True if the system gives huge pages only to shared memory that asks for them."""
    try:
        with open(SHMEM_ENABLED) as file:
            return "[advise]" in file.read()
    except OSError:
        return False


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
    ctypes.c_long,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_FAILED = ctypes.c_void_p(-1).value


def _map(descriptor: int, size: int, protection: int, flags: int, offset: int = 0) -> int:
    """Return the address of a new mapping. Raise `OSError` if it cannot be made."""
    address = _libc.mmap(None, size, protection, flags, descriptor, offset)
    if address == _FAILED:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return address


def _advise(address: int, length: int, advice: int) -> bool:
    """Advise the kernel; unlike the function of the mmap module, this lets other threads run."""
    return _libc.madvise(address, length, advice) == 0


# -- memory as an object with a finalizer, which no built-in type has --------------------------------------------------


class _Byte(ctypes.Union):
    """A byte with the format "B", as in bytes; `c_ubyte` has "<B", with which a memoryview can do little."""

    _fields_ = (("value", ctypes.c_ubyte),)


class _Finalizer:
    key: tuple[int, int]
    dropped: Dropped
    mapping: Mapping

    def __del__(self) -> None:
        self.dropped.append(self.key)


class _Private:
    """The holder of the memory of a private view."""

    origin: Any


_kinds: dict[tuple[type, int], Any] = {}


def _kind_of(base: type, length: int) -> Any:
    """Return a class of memory of at least that many bytes; a few classes serve all lengths."""
    rounded = 1 << (length - 1).bit_length()
    return _kinds.get((base, rounded)) or _kinds.setdefault(
        (base, rounded), type("Memory", (base, _Byte * rounded), {})
    )


def key_of(memory: Any) -> tuple[int, int] | None:
    """Return the key of a view, given the holder of its memory (`memoryview.obj`); None if it is not of a pool."""
    return memory.key if isinstance(memory, _Finalizer) else None


def private_view(view: memoryview) -> memoryview | None:
    """Return the private twin of a view (or a slice of one) of memory with another owner.

    None for other memory, or if the system does not provide it.
    """
    holder = view.obj
    if not isinstance(holder, _Finalizer) or holder.mapping.descriptor is None or not view.c_contiguous:
        return None
    try:
        return holder.mapping.map_private(address_of(view) - holder.mapping.address, view.nbytes, holder)
    except OSError:
        return None


class _Buffer(ctypes.Structure):
    """The C struct `Py_buffer`."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


def address_of(buffer: mmap.mmap | memoryview) -> int:
    """Return the address of a contiguous buffer. The caller must keep the buffer while it uses the address."""
    found = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(buffer), ctypes.byref(found), 0)
    address: int = found.buf
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(found))
    return address


# -- making a memoryview read-only where it is held --------------------------------------------------------------------

_READONLY_AT = 7 * ctypes.sizeof(ctypes.c_void_p) + _Buffer.readonly.offset
"""Offset of the flag in a memoryview: after the object's head of three words and four fields comes a Py_buffer."""


def set_readonly(view: memoryview, is_readonly: bool) -> None:
    """Make a memoryview read-only, or writable again; do nothing on a Python where that is impossible.

    Slices made of it before stay as they are.
    """
    if CAN_SET_READONLY and type(view) is memoryview:
        ctypes.c_int.from_address(id(view) + _READONLY_AT).value = is_readonly


def _can_set_readonly() -> bool:
    """Return True if the flag is at the expected offset."""
    if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    data = bytearray(1)
    for view in (memoryview(data), memoryview(data).toreadonly()):
        if ctypes.c_int.from_address(id(view) + _READONLY_AT).value != view.readonly:
            return False
    return True


CAN_SET_READONLY = _can_set_readonly()
