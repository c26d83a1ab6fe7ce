"""Signals that reach the intended process, or none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mob.rim import pidfds
from mob.rim.pidfds import ProcessHandle
from tests.patience import patient
from tests.running import is_alive, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pidfds are Linux's")


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Yield a process that leads a group, and the pid of its child, which outlives it."""
    code = "import subprocess; print(subprocess.Popen(['sleep', '1000']).pid, flush=True); input()"
    leader = subprocess.Popen(
        [sys.executable, "-c", code], process_group=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert leader.stdin is not None
    assert leader.stdout is not None
    child = int(leader.stdout.readline())
    yield leader, child
    leader.stdin.close()
    leader.stdout.close()
    leader.kill()
    leader.wait()
    if is_alive(child):
        os.kill(child, signal.SIGKILL)


def test_one_that_is_held_is_signalled_and_later_nobody(family: tuple[subprocess.Popen[bytes], int]) -> None:
    leader, child = family
    held = ProcessHandle(leader.pid)
    held.signal(signal.SIGKILL)
    assert leader.wait() == -signal.SIGKILL
    held.signal(signal.SIGKILL)  # its number is free by now
    assert is_alive(child)
    held.close()


def test_a_group_is_signalled_though_its_leader_has_ended(family: tuple[subprocess.Popen[bytes], int]) -> None:
    leader, child = family
    held = ProcessHandle(leader.pid)
    leader.kill()
    os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
    held.signal_group(signal.SIGKILL)
    wait_until(lambda: not is_alive(child), "the child exited")
    leader.wait()
    held.signal_group(signal.SIGKILL)
    held.close()


def test_only_a_child_of_those_who_are_named_is_signalled(family: tuple[subprocess.Popen[bytes], int]) -> None:
    leader, child = family
    pidfds.signal_child(leader.pid, (1, child), signal.SIGKILL, whole_group=True)
    pidfds.signal_child(child, (os.getpid(),), signal.SIGKILL)
    assert leader.poll() is None
    assert is_alive(child)
    assert pidfds.is_child(leader.pid, (os.getpid(),))
    assert not pidfds.is_child(child, (os.getpid(),))
    pidfds.signal_child(leader.pid, (1, os.getpid()), signal.SIGKILL, whole_group=True)
    assert leader.wait() == -signal.SIGKILL
    wait_until(lambda: not is_alive(child), "the child exited")
    pidfds.signal_child(leader.pid, (os.getpid(),), signal.SIGKILL)  # there is no such process any more


def test_a_later_process_of_the_same_number_is_not_signalled(family: tuple[subprocess.Popen[bytes], int]) -> None:
    leader, _ = family
    status = pidfds.status_of(leader.pid)
    assert status is not None
    assert (status.parent, status.group) == (os.getpid(), leader.pid)
    pidfds.signal_started(leader.pid, status.started - 1, signal.SIGKILL)
    assert leader.poll() is None
    pidfds.signal_started(leader.pid, status.started, signal.SIGKILL)
    assert leader.wait() == -signal.SIGKILL
    assert pidfds.status_of(leader.pid) is None


def test_children_are_met_once_more_before_their_numbers_are_free() -> None:
    code = """if True:
        import subprocess
        from mob.rim import pidfds, processes
        started = [subprocess.Popen(["true"]) for _ in range(3)]
        children = {each.pid for each in started}
        met, ended = [], []
        while len(ended) < 3:
            def before(pid):
                assert pidfds.status_of(pid).has_ended
                met.append(pid)
            ended += processes.reap(before)
        assert set(met) == {pid for pid, status in ended} == children
        assert all(status == 0 for _, status in ended)
        assert processes.reap(met.append) == []
        assert not processes.has_children()
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=patient(60))


@pytest.mark.parametrize("spare", [0, 1])
def test_without_descriptors_a_child_is_signalled_all_the_same(
    spare: int, family: tuple[subprocess.Popen[bytes], int]
) -> None:
    leader, _ = family
    what = f"pidfds.signal_child({leader.pid}, ({os.getpid()},), signal.SIGKILL)"
    command = [sys.executable, "-c", without_descriptors(spare, what)]
    subprocess.run(command, check=True, timeout=patient(60))
    assert leader.wait() == -signal.SIGKILL


def without_descriptors(spare: int, what: str) -> str:
    """Return a program that does something while it can open only that many more files."""
    return f"""if True:
        import os, resource, signal
        from mob.rim import pidfds
        ended = os.fork()
        if not ended:
            os._exit(0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
        held = []
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            for _ in range({spare}):
                os.close(held.pop())
        {what}
        for each in held:
            os.close(each)
    """


def test_without_descriptors_a_group_is_signalled_and_an_end_waited_for(
    family: tuple[subprocess.Popen[bytes], int],
) -> None:
    leader, child = family
    status = pidfds.status_of(child)
    assert status is not None
    for spare, what in (
        (1, f"pidfds.signal_child({leader.pid}, ({os.getpid()},), signal.SIGKILL, whole_group=True)"),
        (1, f"pidfds.signal_started({child}, {status.started}, signal.SIGKILL)"),
        (0, "assert pidfds.wait_for(ended, 0.0)"),  # however long that takes
    ):
        command = [sys.executable, "-c", without_descriptors(spare, what)]
        subprocess.run(command, check=True, timeout=patient(60))
    assert leader.wait() == -signal.SIGKILL
    wait_until(lambda: not is_alive(child), "the child exited")


def test_of_one_that_has_gone_or_does_not_end_nothing_is_believed(
    family: tuple[subprocess.Popen[bytes], int],
) -> None:
    leader, _ = family
    held = ProcessHandle(leader.pid)
    assert repr(held) == f"<ProcessHandle {leader.pid}>"
    assert not held.has_ended()
    held.close()
    assert not pidfds.wait_for(leader.pid, 0.0)
    leader.kill()
    assert pidfds.wait_for(leader.pid, patient(60))
    assert pidfds.wait_for(leader.pid, 0.0)
    pidfds.signal_started(leader.pid, 0, signal.SIGKILL)
    assert not pidfds.is_child(leader.pid, (os.getpid(),))
