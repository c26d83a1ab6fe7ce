"""Shared memory, and views that report when the last object made of them is freed."""

from __future__ import annotations

import gc
import mmap
import os
import re
import resource
import weakref
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mob.rim import segments
from mob.rim.segments import IS_AVAILABLE, PREFAULT, Dropped, Mapping, Memory, Unmapped, private_view

pytestmark = pytest.mark.skipif(not IS_AVAILABLE, reason="no memfd here")
PAGE = mmap.PAGESIZE
SIZE = 64 * PAGE


@pytest.fixture
def memory() -> Memory:
    return Memory(SIZE)


def mapped(memory: Memory) -> Mapping:
    return Mapping.of(memory.descriptor(), SIZE)


def blocks_of(memory: Memory) -> int:
    descriptor = memory.descriptor()
    try:
        return os.fstat(descriptor).st_blocks * 512
    finally:
        os.close(descriptor)


def test_what_the_owner_writes_others_read(memory: Memory) -> None:
    mapping, dropped = mapped(memory), Dropped()
    memory.part(3 * PAGE, 5)[:] = b"hello"
    view = mapping.view(3 * PAGE, 5, (1, 2), dropped)
    assert view == b"hello"
    assert (view.format, view.itemsize, view.shape, view.readonly) == ("B", 1, (5,), True)
    assert (view[0], bytes(view[1:3]), view.tobytes(), view.hex()) == (104, b"el", b"hello", "68656c6c6f")
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1
    memory.part(3 * PAGE, 1)[:] = b"j"
    assert view == b"jello"  # no copy


def test_a_view_tells_when_all_that_was_made_of_it_has_gone(memory: Memory) -> None:
    mapping, dropped = mapped(memory), Dropped()
    view = mapping.view(0, 16, (1, 2), dropped)
    array = np.frombuffer(view, "<u4")[1:]
    part = view[4:8]
    del view, array
    assert not dropped
    del part
    assert dropped == deque([(1, 2)])


def test_a_view_keeps_the_memory_when_its_owner_has_gone() -> None:
    memory, dropped = Memory(SIZE), Dropped()
    memory.part(0, 4)[:] = b"kept"
    mapping = mapped(memory)
    view = mapping.view(0, 4, (1, 1), dropped)
    del memory, mapping
    gc.collect()
    assert view == b"kept"


def test_nobody_but_the_owner_can_write_or_shrink_it(memory: Memory) -> None:
    descriptor = memory.descriptor()
    with pytest.raises(PermissionError):
        mmap.mmap(descriptor, SIZE)
    with pytest.raises(OSError, match=r"."):
        os.ftruncate(descriptor, 0)
    with pytest.raises(OSError, match=r"."):
        os.write(descriptor, b"x")
    os.close(descriptor)


def test_only_what_is_used_takes_memory_and_it_can_be_given_back() -> None:
    memory = Memory(1024 * SIZE)
    assert blocks_of(memory) == 0
    memory.take(0, 16 * PAGE)
    assert blocks_of(memory) == 16 * PAGE
    memory.part(0, 16 * PAGE)[:] = b"x" * 16 * PAGE
    memory.give_back(4 * PAGE, 16 * PAGE)
    assert blocks_of(memory) == 4 * PAGE
    assert bytes(memory.part(4 * PAGE - 1, 2)) == b"x\0"


@pytest.mark.parametrize(("offset", "length"), [(-1, 4), (0, 0), (0, -1), (0, SIZE + 1), (SIZE, 1), (SIZE - 1, 2)])
def test_a_view_lies_within_its_mapping(memory: Memory, offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="are outside the"):
        mapped(memory).view(offset, length, (1, 1), Dropped())


def test_a_pool_that_is_shorter_than_promised_is_not_mapped(memory: Memory) -> None:
    descriptor = memory.descriptor()
    with pytest.raises(ValueError, match="less than the announced"):
        Mapping.of(descriptor, 2 * SIZE)
    with pytest.raises(OSError, match=r"."):
        os.fstat(descriptor)


def test_no_descriptor_is_left(memory: Memory) -> None:
    gc.collect()  # what other tests left
    before = len(os.listdir("/proc/self/fd"))
    other = Memory(SIZE)
    mapping, dropped = mapped(other), Dropped()
    view = mapping.view(0, 8, (1, 1), dropped)
    reference = weakref.ref(other)
    del other, mapping, view
    gc.collect()
    assert reference() is None
    assert len(os.listdir("/proc/self/fd")) <= before


def test_views_of_any_length_have_it(memory: Memory) -> None:
    mapping, dropped = mapped(memory), Dropped()
    lengths = [1, 2, 3, 5, PAGE - 1, PAGE, PAGE + 1, SIZE // 2 + 1, SIZE]
    assert [len(mapping.view(0, length, (1, length), dropped)) for length in lengths] == lengths
    assert list(dropped) == [(1, length) for length in lengths]


def test_they_can_be_looked_at(memory: Memory) -> None:
    assert repr(memory) == f"<Memory of {SIZE:,} bytes>"
    assert repr(mapped(memory)) == f"<Mapping of {SIZE:,} bytes>"


# --- private ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "length"), [(0, SIZE), (0, 1), (3, PAGE), (2 * PAGE - 1, 2), (SIZE - 5, 5)])
def test_what_is_written_to_a_private_view_stays_there(memory: Memory, offset: int, length: int) -> None:
    memory.part(0, SIZE)[:] = bytes(range(256)) * (SIZE // 256)
    view = mapped(memory).view(offset, length, (1, 2), Dropped())
    before = bytes(view)
    private = private_view(view)
    assert private is not None
    assert (private.format, private.itemsize, private.shape, private.readonly) == ("B", 1, (length,), False)
    assert private == before
    private[:] = b"x" * length
    assert private == b"x" * length
    assert view == memory.part(offset, length) == before


def test_of_a_slice_the_private_view_is_the_same_slice(memory: Memory) -> None:
    memory.part(PAGE, 6)[:] = b"abcdef"
    private = private_view(mapped(memory).view(PAGE, 6, (1, 2), Dropped())[2:4])
    assert private == b"cd"


def test_a_private_view_keeps_the_view_that_it_was_made_of(memory: Memory) -> None:
    dropped = Dropped()
    private = private_view(mapped(memory).view(0, PAGE, (1, 2), dropped))
    assert private is not None
    array = np.frombuffer(private, "<u4")[1:]
    array += 1
    del private
    gc.collect()
    assert not dropped
    del array
    assert dropped == deque([(1, 2)])


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("/memfd:mob")


def test_a_private_mapping_goes_with_its_last_view(memory: Memory) -> None:
    view = mapped(memory).view(0, SIZE, (1, 2), Dropped())
    before = mappings()
    private = private_view(view)
    assert private is not None
    part = private[:3]
    del private
    assert mappings() == before + 1
    del part
    assert mappings() == before


def test_other_memory_has_no_private_view(memory: Memory) -> None:
    dropped = Dropped()
    assert private_view(memoryview(b"abc")) is None
    assert private_view(memoryview(bytearray(3))) is None
    assert private_view(memory.mapping.view(0, 3, (1, 2), dropped)) is None  # the owner's own view
    view = mapped(memory).view(0, 6, (1, 2), dropped)
    assert private_view(view[::2]) is None
    private = private_view(view)
    assert private is not None
    assert private_view(private) is None


def test_without_address_space_there_is_no_private_view(memory: Memory) -> None:
    mapping = mapped(memory)
    view = mapping.view(0, SIZE, (1, 2), Dropped())
    used = 1024 * int(re.findall(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used, limits[1]))
    try:
        private = private_view(view)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert private is None


# --- given away -------------------------------------------------------------------------------------------------------


def test_what_is_given_away_is_written_where_it_lies(memory: Memory) -> None:
    mapping, dropped = mapped(memory), Dropped()
    writable = mapping.writable()
    assert writable is not None
    assert mapping.writable() is writable
    view = writable.view(PAGE, 3, (1, 2), dropped, is_writable=True)
    view[:] = b"abc"
    assert bytes(memory.part(PAGE, 3)) == b"abc"
    assert mapping.view(PAGE, 3, (1, 2), dropped).readonly
    before = mappings()
    del mapping, writable
    view[:1] = b"x"
    assert bytes(memory.part(PAGE, 3)) == b"xbc"
    del view
    gc.collect()
    assert mappings() < before
    assert list(dropped) == [(1, 2)] * 2


def test_pages_of_what_is_given_away_are_there_before_they_are_written() -> None:
    size = 4 * PREFAULT
    memory = Memory(size)
    if not memory.populate(0, size):
        pytest.skip("this system cannot map pages ahead")
    mapping = Mapping.of(memory.descriptor(), size).writable()
    assert mapping is not None
    view = mapping.view(0, size, (1, 1), Dropped(), is_writable=True)
    data = bytes(range(256)) * (size // 256)
    before = faults()
    view[:] = data
    assert faults() - before < 8


def test_its_owner_has_no_other_mapping_to_write_to(memory: Memory) -> None:
    assert memory.mapping.writable() is None


def test_where_it_cannot_be_opened_for_writing_nothing_can_be_written() -> None:
    running = os.open("/proc/self/exe", os.O_RDONLY)
    assert Mapping.of(running, PAGE).writable() is None


# --- fresh pages ------------------------------------------------------------------------------------------------------


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


def all_at_once(memory: memoryview) -> None:
    memory[:] = b"x" * 5 * PAGE


def through_a_buffer(memory: memoryview) -> None:
    np.frombuffer(memory, np.uint8)[...] = ord("x")


@pytest.mark.parametrize("fill", [all_at_once, through_a_buffer])
@pytest.mark.parametrize("is_huge", [False, True])
def test_a_fresh_part_is_written_and_all_of_it_is_there(memory: Memory, fill: Any, is_huge: bool) -> None:
    memory._is_huge = is_huge
    memory.fill(2 * PAGE, 5 * PAGE, 8 * PAGE, fill)
    assert memory.part(2 * PAGE, 5 * PAGE) == b"x" * 5 * PAGE
    assert mapped(memory).view(2 * PAGE, 5 * PAGE, (1, 1), Dropped()) == b"x" * 5 * PAGE
    assert blocks_of(memory) == 6 * PAGE


def test_a_fresh_part_takes_what_fits_only(memory: Memory) -> None:
    def fill(part: memoryview) -> None:
        part[:] = b"x"

    with pytest.raises(ValueError, match="different"):  # as memory itself reports it
        memory.fill(0, 2, PAGE, fill)


def test_what_the_system_does_not_give_is_an_error(memory: Memory) -> None:
    with pytest.raises(OSError, match=r"."):
        Unmapped(memory.descriptor(), 0, 1)[:] = b"x"  # type: ignore[call-overload]  # that one can be read only


def test_pages_that_were_had_ahead_cost_nothing_when_they_are_written(memory: Memory) -> None:
    if not memory.populate(0, 32 * PAGE):
        pytest.skip("this system cannot have pages there ahead")
    assert blocks_of(memory) == 32 * PAGE
    data = bytes(range(256)) * (32 * PAGE // 256)
    part = memory.part(0, 32 * PAGE)
    before = faults()
    part[:] = data
    assert faults() - before < 8
    memory.give_back(0, 32 * PAGE)
    assert blocks_of(memory) == 0
    assert not memory.populate(0, SIZE + 2**40)  # outside of it


def test_pages_of_a_large_view_are_mapped_before_they_are_read() -> None:
    size = 4 * PREFAULT
    memory = Memory(size)
    if not memory.populate(0, size):
        pytest.skip("this system cannot map pages ahead")
    mapping, dropped = Mapping.of(memory.descriptor(), size), Dropped()

    def faults_of(offset: int, length: int) -> int:
        view = mapping.view(offset, length, (1, 1), dropped)
        before = faults()
        assert not any(view[::PAGE])
        return faults() - before

    first = faults_of(PAGE // 2, PREFAULT)
    assert first < PREFAULT // PAGE // 16  # the system by itself maps 16 pages at a time
    assert faults_of(0, 2 * PREFAULT) < PREFAULT // PAGE // 16
    mapping.handle_idle()
    assert mapping._ready == 0
    memory.mapping.handle_idle()
    assert memory.mapping._ready == size  # pages are mapped when they are written


@pytest.mark.parametrize(
    ("text", "expected"),
    [("always within_size [advise] never deny force", True), ("always within_size advise [never] deny force", False)],
)
def test_huge_pages_are_asked_for_where_that_changes_something(
    text: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shmem_enabled").write_text(text)
    monkeypatch.setattr(segments, "SHMEM_ENABLED", str(tmp_path / "shmem_enabled"))
    memory = Memory(SIZE)
    assert memory._is_huge is expected
    memory.fill(0, 5, PAGE, lambda part: part.__setitem__(slice(None), b"hello"))
    assert memory.part(0, 5) == b"hello"
    monkeypatch.setattr(segments, "SHMEM_ENABLED", str(tmp_path / "missing"))
    assert not Memory(SIZE)._is_huge
