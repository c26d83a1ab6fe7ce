"""The toolkit of the same name on Node: `back.foo(i, callback)`, each call through its Kingpin and back, as JSON.

npm installs it into a temporary folder when the bench starts (apps/node/ is the app). Its front process is asked
over the standard input, which it inherits. Limits: needs node, npm and the npm registry.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile

from bench.cpu import MeasuresCpu
from bench.measure import WIDTH
from bench.side import ROOT, BaseSide

PACKAGE = "mob@0.0.9"


class Side(MeasuresCpu, BaseSide):
    label = "mob on Node"
    limits = "callbacks through its Kingpin, as JSON over Node's IPC"

    def start(self) -> None:
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            raise FileNotFoundError("there is no node or no npm here")
        folder = tempfile.mkdtemp()
        install = [npm, "install", "--silent", "--no-audit", "--no-fund"]
        install += [f"--prefix={folder}", f"--cache={folder}/cache", PACKAGE]
        try:
            subprocess.run(install, check=True, timeout=40, stdout=subprocess.DEVNULL)
        except subprocess.SubprocessError as error:
            raise RuntimeError(f"npm could not install {PACKAGE}") from error
        self.app = subprocess.Popen(
            [node, ROOT / "bench/apps/node/main.js"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
            env=os.environ | {"NODE_PATH": f"{folder}/node_modules"},
        )
        try:
            self._rounds(1, 1)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self.app.terminate()
        self.app.wait(5)

    def _rounds(self, n: int, width: int) -> float:
        assert self.app.stdin is not None
        assert self.app.stdout is not None
        self.app.stdin.write(f"{n} {width}\n".encode())
        self.app.stdin.flush()
        ready, _, _ = select.select([self.app.stdout], [], [], 30)
        line = self.app.stdout.readline() if ready else b""
        if not line:
            raise RuntimeError("its front process does not answer")
        return float(line)

    def awaited(self, n: int) -> float:
        return self._rounds(n, 1)

    def at_once(self, n: int) -> float:
        return self._rounds(n, WIDTH)
