"""A fork server that starts before its Kingpin exists."""

from __future__ import annotations

import os
import signal

import pytest

from mob.kingpin.processes.starting import Starter
from mob.plan import Plan
from mob.rim import openfiles
from tests.patience import PATIENCE


@pytest.fixture(autouse=True)
def _limit() -> None:
    """Restore the limit of open files, which a starter raises, and a Kingpin that ends restores."""
    openfiles.raise_limit()


def test_the_one_that_was_begun_is_the_first_that_is_started() -> None:
    starter = Starter(Plan("early", os.getcwd())).begin()
    process, channel = starter.start()
    starter.cancel()  # does nothing: it was taken
    assert process.poll() is None
    channel.close()  # so it learns that there is no Kingpin
    assert process.wait(PATIENCE) == 0
    for descriptor in starter.deadman:
        os.close(descriptor)


def test_one_that_nothing_has_asked_for_ends_with_what_it_has() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    starter = Starter(Plan("early", os.getcwd())).begin()
    process = starter._first.process  # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]
    starter.cancel()
    assert process.returncode == -signal.SIGKILL
    assert sorted(os.listdir("/proc/self/fd")) == before
