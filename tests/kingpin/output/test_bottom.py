"""Unfinished lines at the bottom of a terminal, as a terminal shows them."""

from __future__ import annotations

import re

import pytest

from mob.kingpin.output.bottom import MOST_ROWS, Bottom, fitting


class Screen:
    """A terminal that knows line feeds, carriage returns, `up` and `erase the row`."""

    def __init__(self) -> None:
        self.rows = [""]
        self.row = self.column = 0

    def write(self, data: bytes) -> None:
        for part in re.finditer(r"\x1b\[(\d*)([A-Za-z])|.", data.decode(), re.DOTALL):
            if part[2] == "A":
                self.row -= int(part[1])
            elif part[2] == "K":
                self.rows[self.row] = ""
            elif part[0] == "\r":
                self.column = 0
            elif part[0] == "\n":
                self.row, self.column = self.row + 1, 0
                self.rows += [""] * (self.row + 1 - len(self.rows))
            else:
                row = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = row[: self.column] + part[0] + row[self.column + 1 :]
                self.column += 1


A, B = ("a", False), ("b", True)


def test_rows_stay_below_what_is_printed() -> None:
    screen, bottom = Screen(), Bottom()

    def put(source: tuple[str, bool], row: bytes, lines: bytes = b"") -> None:
        bottom.put(source, row)
        screen.write(bottom.around(lines, 40, 24))

    put(A, b"a 10%")
    assert screen.rows == ["a 10%"]
    put(B, b"b 1%")
    assert screen.rows == ["a 10%", "b 1%"]
    put(A, b"a 20%")
    assert screen.rows == ["b 1%", "a 20%"]
    put(("c", False), b"", b"printed\ntwice\n")
    assert screen.rows == ["printed", "twice", "b 1%", "a 20%"]
    put(B, b"", b"b is done\n")
    assert screen.rows == ["printed", "twice", "b is done", "a 20%"]
    screen.write(bottom.erased())
    assert screen.rows == ["printed", "twice", "b is done", ""]
    assert bottom.erased() == b""
    put(A, b"", b"a is done\n")
    assert screen.rows == ["printed", "twice", "b is done", "a is done", ""]
    assert not bottom


def test_there_are_no_more_rows_than_fit() -> None:
    bottom = Bottom()
    for n in range(20):
        bottom.put((f"a.{n}", False), b"%d" % n)
    assert bottom.around(b"", 80, 24).split(b"\n") == [b"%d" % n for n in range(20 - MOST_ROWS, 20)]
    assert bottom.around(b"", 80, 4).rpartition(b"K")[2].split(b"\n") == [b"17", b"18", b"19"]
    assert bottom.around(b"", 80, 1).rpartition(b"K")[2] == b"19"


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (b"x" * 99, b"x" * 19),
        ("好".encode() * 99, "好".encode() * 9),
        ("e\u0301".encode() * 99, "e\u0301".encode() * 19),
        (b"\x1b[32m" + b"x" * 99, b"\x1b[32m" + b"x" * 19 + b"\x1b[0m"),
        (b"a\tb\x07c", b"a b c"),
        (b"\xff", "�".encode()),
    ],
)
def test_a_row_fits(row: bytes, kept: bytes) -> None:
    assert fitting(row, 20).rstrip() == kept
