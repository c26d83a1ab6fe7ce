"""The guardian, in the process of the test: which processes it ends, and which it leaves alone."""

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
    """A guardian, and the writing ends of its pipes: that of its fork server, and the deadman pipe."""

    def __init__(self, fork_server: int) -> None:
        news, self.news = os.pipe()
        self._deadman, self.deadman = os.pipe()
        self.guardian = Guardian(news, self._deadman, fork_server, "guardian of a test", 0)

    def tell(self, pid: int) -> None:
        """Report a mobster."""
        os.write(self.news, RECORD.pack(pid))

    def end(self) -> None:
        """Close the pipes as if fork server and Kingpin died: the guardian does its work and returns."""
        os.close(self.news)
        os.close(self.deadman)
        self.guardian.run()
        os.close(self._deadman)


@pytest.fixture
def leader() -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process that leads a group, as a mobster does."""
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
    # The fork server ended before it was opened: its number may belong to another process by now, and the process that
    # adopted the guardian (the first process, a session manager) does not belong to the app.
    watched = Watched(fork_server=leader.pid)
    watched.end()
    assert is_alive(leader.pid)
    assert is_alive(os.getppid())


STARTED = """
import os, resource, sys
from mob.rim.guardian import GuardianHandle

deadman, writing = os.pipe()
guard = GuardianHandle(deadman)
for _ in range(20):
    guard.start()
    with open(f"/proc/{guard.pid}/cmdline", "rb") as file:
        assert file.read().rstrip(b"\\0").decode() == f"guardian of pid {os.getppid()}", "it has another name"
    guard.end()
before = os.listdir("/proc/self/fd")
resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) + 1, len(before) + 1))
guard.start()
assert guard.pid == 0
guard.tell(os.getpid())  # without a listener
resource.setrlimit(resource.RLIMIT_NOFILE, (len(before), len(before)))
guard.start()
assert os.listdir("/proc/self/fd") == before
"""


def test_it_has_its_name_before_there_is_a_mobster_and_does_without_descriptors() -> None:
    ran = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, timeout=PATIENCE)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("mob: the guardian cannot be started: ") == 2
