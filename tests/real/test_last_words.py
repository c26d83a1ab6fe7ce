"""What a process sent before its end is received, even if both become known at the same moment."""

from __future__ import annotations

import os
import signal

import mob
from tests.running import Apps, freeze, wait_until

BACK = """
    import mob

    @mob.on("message")
    def got(obj):
        print("got", obj)
    """


def test_a_message_of_a_client_that_has_left_is_heard(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    watcher = app.wait_ready()
    (back,) = app.ready(watcher)
    there = len(watcher.members())
    freeze(back.pid)
    try:
        with mob.connect(app.name) as client:
            client.send("last words")
        wait_until(lambda: len(watcher.members()) == there, "the client is known to have left")
    finally:
        os.kill(back.pid, signal.SIGCONT)
    app.wait_for("got last words")
