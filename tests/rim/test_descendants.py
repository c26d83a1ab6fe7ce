"""What mobsters leave behind: the quick check whether there can be anything."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

from mob.rim import descendants


def test_a_child_that_is_known_is_no_other() -> None:
    known = {int(pid) for pid in _children()}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert descendants.has_others(known)
        assert not descendants.has_others({*known, child.pid})


def test_one_that_has_ended_and_was_not_waited_for_counts() -> None:
    known = {int(pid) for pid in _children()}
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert descendants.has_others(known)
    child.wait()
    assert not descendants.has_others(known)


def _children() -> list[str]:
    """Return the children of this process, which the test's runner may have started."""
    found: list[str] = []
    for thread in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError), open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
            found += file.read().split()  # otherwise the thread has just ended
    return found
