"""The writer: its queue is bounded, only noisy sources lose lines, and every lost line is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mob.kingpin.output.writer import WAITING_LIMIT, Writer, sink_of
from mob.plan import KINGPIN, Logs
from tests.kingpin.disks import disk_of
from tests.kingpin.paper import LINES, Paper, printed
from tests.patience import patient
from tests.running import wait_until

BLOCK = LINES * 1024  # 64 KiB


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def writer(paper: Paper) -> Iterator[Writer]:
    writer = Writer(paper)
    yield writer
    paper.goes.set()
    writer.close()


def put_until(writer: Writer, role: str, question: Callable[[], bool]) -> int:
    count = 0
    while not question():
        writer.put(printed(role, BLOCK))
        count += 1024
    return count


def test_in_order_and_to_the_end(paper: Paper, writer: Writer) -> None:
    chunks = [printed(role, b"%d\n" % n) for n in range(100) for role in ("a", "b")]
    for chunk in chunks:
        writer.put(chunk)
    writer.reopen()
    writer.close()
    assert paper.written[:-1] == chunks
    assert paper.reopened == 200
    assert paper.written[-1].origin.role == "end"


def test_who_floods_loses_lines_and_nobody_else_does(paper: Paper, writer: Writer) -> None:
    paper.goes.clear()
    total = put_until(writer, "flood", lambda: writer.dropped > 5000)
    assert total * len(LINES) < WAITING_LIMIT + 1024 * 1024
    for _ in range(1000):
        writer.put(printed("quiet"))
    writer.put(printed("flood"))  # another line is dropped, too
    paper.goes.set()
    writer.wait_empty(patient(10))
    assert paper.count("quiet") == 1000
    assert paper.count("flood") + writer.dropped == total + 1
    assert paper.words() == [f"{writer.dropped:,} lines of flood.0 were dropped: this paper takes them too slowly."]


def test_the_count_is_said_in_the_place_of_the_lines(paper: Paper, writer: Writer) -> None:
    paper.goes.clear()
    put_until(writer, "flood", lambda: writer.dropped > 0)
    paper.goes.set()
    wait_until(lambda: writer.dropped and len(paper.written) > 200, "more than half is written")
    writer.put(printed("flood", b"after\n"))
    writer.wait_empty(patient(10))
    assert [chunk.origin.role for chunk in paper.written].index(KINGPIN) == len(paper.written) - 2
    assert paper.written[-1].data == b"after\n"


def test_each_stream_is_told_of_its_own(paper: Paper, writer: Writer) -> None:
    paper.goes.clear()
    put_until(writer, "flood", lambda: writer.dropped > 0)
    for _ in range(10):
        writer.put(printed("flood", BLOCK, is_error=True))
    paper.goes.set()
    writer.wait_empty(patient(10))
    told = {chunk.origin.is_error: chunk.data.decode() for chunk in paper.written if chunk.origin.role == KINGPIN}
    assert set(told) == {False, True}
    assert told[True].startswith("9,216 lines of flood.0 were")  # all except its share, 64 KiB


def test_what_could_not_be_written_is_told_when_it_can_again(paper: Paper, writer: Writer) -> None:
    paper.is_full = True
    writer.put(printed("a", LINES * 3))
    writer.put(printed("b"))
    writer.wait_empty(patient(10))
    assert writer.dropped == 4
    paper.is_full = False
    writer.put(printed("a"))
    writer.wait_empty(patient(10))
    assert paper.words() == [
        "3 lines of a.0 were lost: the file could not be written.",
        "1 line of b.0 was lost: the file could not be written.",
    ]


def test_a_full_disk_is_told_on_the_terminal_once_and_again_when_it_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out"
    writer = Writer(sink_of(Logs(file=str(path)), color=False))
    with disk_of(250):
        for n in range(9):
            writer.put(printed("a", b"line %d\n" % n))
        writer.wait_empty(patient(10))
    writer.put(printed("a", b"after\n"))
    writer.close()
    said = capsys.readouterr().err.splitlines()
    why = f"{path} cannot be written: File too large."
    assert said == [
        f"mob | {why} The app keeps running; its output is lost until this is fixed.",
        f"mob | {path} can be written again.",
    ]
    *written, after, told = [line.partition(" | ")[2] for line in path.read_text().splitlines()]
    assert after == "after"
    assert written == [f"line {n}" for n in range(len(written))]
    assert told == f"{9 - len(written)} lines of a.0 were lost: the file could not be written."


def test_losses_go_over_to_the_next_program(paper: Paper, writer: Writer) -> None:
    paper.goes.clear()
    writer.put(printed("a"))
    wait_until(lambda: "0 bytes" in repr(writer), "the first is being written")
    writer.put(printed("a", LINES * 2))
    writer.wait_empty(0.01)
    dropped, lost = writer.losses()
    assert (dropped, lost) == (2, [(("a.0", False), 2)])
    next_paper = Paper()
    after = Writer(next_paper)
    after.take_over(dropped, lost)
    after.wait_empty(patient(10))
    wait_until(next_paper.words, "the loss is reported")
    assert next_paper.words() == ["2 lines of a.0 were dropped: this paper takes them too slowly."]
    assert after.dropped == 2
    after.close()
