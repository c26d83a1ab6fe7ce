"""The latest lines: how many are kept, and which are returned."""

from __future__ import annotations

from mob.kingpin.output.followers import RECENT_BYTES, RECENT_LINES, Recent
from mob.kingpin.output.lines import Origin, OutputChunk
from mob.wire import messages as m


def printed(data: bytes, role: str = "back", index: int = 0, pid: int = 42) -> OutputChunk:
    return OutputChunk(1.0, Origin(role, index, pid, False, 36), data, data.count(b"\n"))


def texts(recent: Recent, last: int, role: str = "", index: int = -1, pid: int = 0) -> list[str]:
    return [line.text for line in recent.lines(m.Follow(1, role, pid, last, False, index))]


def test_the_last_are_found_oldest_first() -> None:
    recent = Recent()
    recent.add(printed(b"1\n2\n3\n"))
    recent.add(printed(b"4\n", "front", 1, 43))
    recent.add(printed(b"5\n\n6\n", "back", 1, 44))
    assert texts(recent, 100) == ["1", "2", "3", "4", "5", "", "6"]
    assert texts(recent, 5) == ["3", "4", "5", "", "6"]
    assert texts(recent, 0) == []
    assert texts(recent, 2, "back", 0) == ["2", "3"]
    assert texts(recent, 4, "back") == ["3", "5", "", "6"]
    assert texts(recent, 9, pid=43) == ["4"]
    assert texts(recent, 9, "front", 0) == []


def test_so_many_lines_are_kept_and_not_many_more() -> None:
    recent = Recent()
    for n in range(3 * RECENT_LINES):
        recent.add(printed(b"%d\n" % n))
    assert texts(recent, 10 * RECENT_LINES) == [str(n) for n in range(2 * RECENT_LINES, 3 * RECENT_LINES)]


def test_large_chunks_are_kept_whole_as_long_as_they_are_needed() -> None:
    recent = Recent()
    for _ in range(5):
        recent.add(printed(b"x\n" * 1500))
    assert len(texts(recent, 10_000)) == 3000


def test_long_lines_take_no_more_memory_than_short_ones() -> None:
    recent = Recent()
    for _ in range(50):
        recent.add(printed(b"x" * 100_000 + b"\n"))
    assert len(texts(recent, 100)) == RECENT_BYTES // 100_001
    recent.add(printed(b"x" * 2 * RECENT_BYTES + b"\n"))
    assert len(texts(recent, 100)) == 1
