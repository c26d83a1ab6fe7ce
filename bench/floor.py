"""The floor: two C processes, blocking read and write on a socket pair (floor.c). What the kernel takes.

Limits: needs `cc`. It carries 8 bytes and understands nothing; no peer can be expected to reach it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.measure import MEGABYTE
from bench.side import BaseSide


class Side(BaseSide):
    label = "C floor"
    limits = "blocking read and write in C on a socket pair, no encoding, no dispatch"

    def start(self) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            raise FileNotFoundError("there is no cc here")
        self.program = Path(tempfile.mkdtemp()) / "floor"
        subprocess.run([compiler, "-O2", "-o", self.program, Path(__file__).with_suffix(".c")], check=True)

    def _trips(self, count: int, size: int) -> float:
        done = subprocess.run([self.program, str(count), str(size)], check=True, capture_output=True, text=True)
        return float(done.stdout)

    def blocking(self, n: int) -> float:
        return self._trips(n, 8)

    def megabyte(self, n: int) -> float:
        return self._trips(n, MEGABYTE)
