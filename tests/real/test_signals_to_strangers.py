"""Chaos signals processes of its app, and no other that has one of their numbers by now."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from mob.cli.chaos.attacks import Attacks
from tests.running import Apps, wait_until

BACK = "def foo():\n    return 1\n"


def test_a_number_that_is_a_strangers_is_not_signalled(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    client = app.wait_ready()
    attacks = Attacks(client, {"back": 1}, frozenset())
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(ProcessLookupError):
            attacks._signal(stranger.pid, signal.SIGKILL)
        assert stranger.poll() is None
    finally:
        stranger.communicate(b"\n")
    assert stranger.returncode == 0
    with pytest.raises(ProcessLookupError):
        attacks._signal(stranger.pid, signal.SIGKILL)
    (member,) = app.ready(client)
    attacks._signal(member.pid, signal.SIGKILL)
    wait_until(lambda: [each.pid for each in app.ready(client) if each.pid != member.pid], "another is there")
