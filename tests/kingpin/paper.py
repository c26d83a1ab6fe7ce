"""The target of a console's output in a test."""

from __future__ import annotations

import threading

from mob.kingpin.output.lines import Origin, OutputChunk
from mob.plan import KINGPIN

LINES = b"x" * 63 + b"\n"


def printed(role: str, data: bytes = LINES, is_error: bool = False) -> OutputChunk:
    return OutputChunk(0.0, Origin(role, 0, 42, is_error, 36), data, data.count(b"\n"))


class Paper:
    """A sink that can be made to block or to fail."""

    why_slow = "this paper takes them too slowly"
    is_terminal = False
    is_live = False

    def __init__(self) -> None:
        self.written: list[OutputChunk] = []
        self.reopened = 0
        self.is_full = False
        self.goes = threading.Event()
        self.goes.set()

    def write(self, chunk: OutputChunk) -> int:
        self.goes.wait()
        if self.is_full:
            return chunk.count
        self.written.append(chunk)
        return 0

    def reopen(self) -> None:
        self.reopened += len(self.written)

    def settle(self) -> None:
        pass

    def close(self) -> None:
        self.written.append(printed("end"))

    def words(self) -> list[str]:
        return [chunk.data.decode().strip() for chunk in self.written if chunk.origin.role == KINGPIN]

    def count(self, role: str) -> int:
        return sum(chunk.count for chunk in self.written if chunk.origin.role == role)
