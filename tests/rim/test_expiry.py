"""A process that ends at a certain time."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from mob.rim import expiry
from tests.running import freeze, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel has no such timer")


def child(seconds: float, then: float | None = None) -> int:
    """Start a child that hangs forever, and has an end."""
    pid = os.fork()
    if pid == 0:
        timer = expiry.Timer(expiry.now() + seconds)
        if then is not None:
            timer.set(expiry.now() + then)
        while True:
            signal.pause()
    return pid


def test_ends_a_process_that_does_nothing() -> None:
    pid = child(0.05)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_one_that_stands_still_does_nothing_more() -> None:
    began = expiry.now()
    pid = child(0.3)
    freeze(pid)
    wait_until(lambda: expiry.now() > began + 0.5, "its end passed")
    os.kill(pid, signal.SIGCONT)  # some kernels end it immediately, others before it runs again
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_can_be_put_off_and_a_time_in_the_past_is_now() -> None:
    pid = child(0.01, then=60)
    began = expiry.now()
    wait_until(lambda: expiry.now() > began + 0.1, "its first end passed")
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child(60, then=-5), 0)[1]) == -signal.SIGKILL
