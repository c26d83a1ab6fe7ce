"""The end of a process whose objects are not freed."""

from __future__ import annotations

import subprocess
import sys

from tests.patience import PATIENCE

CODE = """
import atexit
from mob.rim import processes
atexit.register(print, "at exit")
print("printed", end=", ")
processes.leave(3)
"""


def test_a_process_that_leaves_has_written_all_and_run_what_atexit_has() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (3, "printed, at exit\n", "")
