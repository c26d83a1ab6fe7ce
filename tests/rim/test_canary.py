"""Sockets that close with a process before its memory is freed; and how the end of a process is detected."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mob.rim import canary, processes
from tests.patience import patient
from tests.running import unmeasured, wait_until

CHILD = """
    import os, socket, sys
    from mob.rim import canary
    parent = socket.socket(fileno=int(sys.argv[1]))
    socket.send_fds(parent, [b"x"], canary.send_out())
    print(os.read(0, 1).decode(), flush=True)  # its own descriptors are all there
    {then}
    """


@contextmanager
def child(then: str = "os.read(0, 1)") -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """Yield a process that has sent out canaries, and their other ends."""
    ours, theirs = socket.socketpair()
    code = textwrap.dedent(CHILD.format(then=then))
    command = [sys.executable, "-c", code, str(theirs.fileno())]
    with ours, theirs:
        process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=unmeasured(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        _, ends, _, _ = socket.recv_fds(ours, 1, 8)
    try:
        yield process, ends
    finally:
        process.kill()
        process.communicate()
        for end in ends:
            os.close(end)


def has_ended(ends: list[int], seconds: float = 0.0) -> bool:
    """Return True if one of them closed."""
    readable, _, _ = select.select(ends, [], [], seconds)
    return any(os.read(end, 1) == b"" for end in readable)


needs_unshare = pytest.mark.skipif(not canary.send_out(), reason="unshare(2) is not allowed here")


@needs_unshare
def test_they_end_with_their_process_and_not_before() -> None:
    with child() as (process, ends):
        assert len(ends) == canary.THREADS
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"a")
        process.stdin.flush()
        assert process.stdout.read(2) == b"a\n"
        assert not has_ended(ends)
        assert processes.dying_status(process.pid) is None
        process.kill()
        assert has_ended(ends, patient(20))
        wait_until(lambda: processes.dying_status(process.pid) == -signal.SIGKILL, "its status is detected")
        process.wait()
        assert processes.dying_status(process.pid) is None, "it was reaped, and its number is free"


@needs_unshare
@pytest.mark.parametrize(("then", "status"), [("os._exit(3)", 3), ("os._exit(0)", 0), ("os.abort()", -signal.SIGABRT)])
def test_how_a_process_ends_is_seen_before_it_is_reaped(then: str, status: int) -> None:
    with child(then) as (process, ends):
        assert process.stdin is not None
        process.stdin.write(b"a")
        process.stdin.flush()
        assert has_ended(ends, patient(20))
        wait_until(lambda: processes.dying_status(process.pid) == status, "its status is detected")


@needs_unshare
def test_a_program_that_replaces_itself_loses_its_canaries_and_does_not_end() -> None:
    with child("os.execvp('sleep', ['sleep', '600'])") as (process, ends):
        assert process.stdin is not None
        process.stdin.write(b"a")
        process.stdin.flush()
        assert has_ended(ends, patient(20))
        assert processes.dying_status(process.pid) is None


def test_where_unshare_is_refused_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert canary._send_out_one(lambda flags: -1) == []
    assert len(os.listdir("/proc/self/fd")) == before
    monkeypatch.setattr(processes, "LINUX", False)
    assert canary.send_out() == []
