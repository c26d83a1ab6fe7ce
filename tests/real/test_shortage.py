"""A Kingpin that has no descriptor left: it goes on, and does what it could not do as soon as it can."""

from __future__ import annotations

import os
import resource
import signal
import sys

import pytest

from tests.running import Apps, RunningApp, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit of another process is set")
FEW = 3


def set_limit(app: RunningApp, soft: int) -> int:
    """Let the Kingpin open descriptors below that number only; the limit that it had."""
    before, hard = resource.prlimit(app.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(app.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    return before


def test_a_worker_that_dies_meanwhile_is_revived_when_there_are_descriptors_again(apps: Apps) -> None:
    app = apps.start('.role("a", "./a.py", workers=2)', a="def f(): return 1")
    client = app.wait_ready()
    victim = app.ready(client)[0].pid
    call = client.require("a").f()  # from now on there are links, and the Kingpin is not needed for calls
    assert call.result(20) == 1
    before = set_limit(app, FEW)
    os.kill(victim, signal.SIGKILL)
    app.wait_for(
        r"mob \| a\.0 could not be launched: Too many open files \(ulimit -n is 3\)\. It is tried again every 1 s"
    )
    assert client.require("a").f().result(20) == 1
    wait_until(lambda: any("could not be launched" in row.note for row in client.overview()), "ps says why")
    set_limit(app, before)
    wait_until(lambda: len(app.ready(client)) == 2, "it is revived")
    assert app.output.count("could not be launched") == 1
    assert app.stop() == 0


def test_a_fork_server_that_dies_meanwhile_is_replaced_when_there_are_descriptors_again(apps: Apps) -> None:
    app = apps.start('.role("a", "./a.py")', a="import os\ndef pid(): return os.getpid()")
    client = app.wait_ready()
    before = set_limit(app, FEW)
    os.kill(app.fork_server(), signal.SIGKILL)
    app.wait_for(r"a fork server cannot be started: Too many open files")
    set_limit(app, before)
    victim = app.ready(client)[0].pid
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: {member.pid for member in app.ready(client)} - {victim}, "its worker is revived")
    assert client.require("a").pid().result(20)
