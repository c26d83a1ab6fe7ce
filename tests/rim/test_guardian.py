"""The guardian, in the process of the test: whom it holds, and whom it leaves alone at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mob.rim.guardian import RECORD, Guardian
from tests.patience import PATIENCE
from tests.running import is_alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is a guardian on Linux only")


class Watched:
    """A guardian, and the writing ends of its pipes: what its fork server says, and the deadman."""

    def __init__(self, fork_server: int) -> None:
        news, self.news = os.pipe()
        self._deadman, self.deadman = os.pipe()
        self.guardian = Guardian(news, self._deadman, fork_server, "guardian of a test", 0)

    def tell(self, pid: int) -> None:
        """Say that there is a mobster."""
        os.write(self.news, RECORD.pack(pid))

    def end(self) -> None:
        """Let fork server and Kingpin die: the guardian does what it is there for, and returns."""
        os.close(self.news)
        os.close(self.deadman)
        self.guardian.run()
        os.close(self._deadman)


@pytest.fixture
def leader() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group, as a mobster does."""
    process = subprocess.Popen(["sleep", "1000"], process_group=0)
    yield process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_what_it_was_told_of_ends_with_the_app(leader: subprocess.Popen[bytes]) -> None:
    watched = Watched(fork_server=leader.pid)
    watched.tell(leader.pid)
    watched.end()
    assert leader.wait(PATIENCE) == -signal.SIGKILL


def test_a_mobster_that_has_ended_needs_no_guard(leader: subprocess.Popen[bytes]) -> None:
    watched = Watched(fork_server=leader.pid)
    leader.kill()
    leader.wait()
    watched.tell(leader.pid)
    assert repr(watched.guardian) == "<Guardian of 0 mobsters>"
    watched.end()


def test_what_is_not_its_parent_is_not_taken_for_its_fork_server(leader: subprocess.Popen[bytes]) -> None:
    # The fork server ended before it was held: its number may be another's by now, and whatever has adopted the
    # guardian (the first process, a manager of a session) is none of the app's.
    watched = Watched(fork_server=leader.pid)
    watched.end()
    assert is_alive(leader.pid)
    assert is_alive(os.getppid())
