"""Whole lines from several threads."""

from __future__ import annotations

import io
import os
import threading

from mob.mobster.output import LONGEST, Buffer, StandardStream, WholeLines


class Pipe(io.BytesIO):
    """Records each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        self.writes.append(bytes(data))
        return super().write(data)


def stream() -> tuple[Pipe, WholeLines]:
    pipe = Pipe()
    return pipe, WholeLines(pipe)  # type: ignore[arg-type]


def test_a_line_is_written_when_it_is_complete() -> None:
    pipe, out = stream()
    print("a", "b", 3, file=out, end="")
    assert pipe.writes == []
    print("!", file=out)
    assert pipe.writes == [b"a b 3!\n"]


def test_a_line_begun_by_another_thread_does_not_come_in_between() -> None:
    pipe, out = stream()
    print("begun", file=out, end=" ")
    other = threading.Thread(target=print, args=("whole",), kwargs={"file": out})
    other.start()
    other.join()
    print("ended", file=out)
    assert pipe.getvalue() == b"whole\nbegun ended\n"


def test_a_flush_writes_what_this_thread_has_begun() -> None:
    pipe, out = stream()
    print("50 %", file=out, end="\r", flush=True)
    assert pipe.getvalue() == b"50 %\r"


def test_an_object_begins_a_line_of_its_own_where_logs_are_objects() -> None:
    pipe, out = stream()
    out.as_object = lambda text: '{"exc_info": true}\n'
    print("\r50%", file=out, end="", flush=True)
    out.write('{"message": "one"}\n')
    out.write('{"message": "two"}\n')
    print("\r60%", file=out, end="", flush=True)
    out.write(f"failed\n{out.TRACEBACK}  ...\nValueError: no\n")
    print("begun", file=out, end=" ")  # held: nothing is open
    out.write('{"message": "three"}\n')
    print("ended", file=out)
    out.flush()
    lines = ["\r50%", '{"message": "one"}', '{"message": "two"}', "\r60%", '{"exc_info": true}', '{"message": "three"}']
    assert pipe.getvalue().decode().split("\n") == [*lines, "begun ended", ""]


def test_text_stays_in_the_line_that_is_open_where_logs_are_text() -> None:
    pipe, out = stream()
    print("\r50%", file=out, end="", flush=True)
    out.write('{"message": "one"}\n')
    assert pipe.getvalue() == b'\r50%{"message": "one"}\n'


def test_the_end_of_the_process_loses_nothing() -> None:
    pipe, out = stream()
    other = threading.Thread(target=out.write, args=("theirs",))
    other.start()
    other.join()
    out.write("mine")
    out.finish()
    assert sorted(pipe.writes) == [b"mine", b"theirs"] or pipe.getvalue() in (b"minetheirs", b"theirsmine")


def test_a_line_without_end_is_not_held_for_ever() -> None:
    pipe, out = stream()
    out.write("x" * (LONGEST + 1))
    out.flush()
    assert len(pipe.getvalue()) == LONGEST + 1


def test_what_is_left_is_written_while_others_still_write() -> None:
    pipe, out = stream()
    is_over = threading.Event()

    def write_on() -> None:
        while not is_over.is_set():
            out.write("a line ")
            out.write("with an end\n")

    threads = [threading.Thread(target=write_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3000):
            out.finish()
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert b"".join(pipe.writes).count(b"a line") == b"".join(pipe.writes).count(b"with an end")


def test_what_nobody_reads_any_more_is_dropped() -> None:
    reading, writing = os.pipe()
    out = WholeLines(Buffer(StandardStream(writing)))
    print("read", file=out)
    assert os.read(reading, 100) == b"read\n"
    os.close(reading)
    print("dropped", file=out)
    assert out.buffer.write(b"x" * 1_000_000) == 1_000_000
    out.flush()
    os.close(writing)
