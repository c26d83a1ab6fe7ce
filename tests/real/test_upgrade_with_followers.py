"""Clients that read nothing do not prevent an upgrade of the Kingpin, and continue where they were."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil

from tests.patience import patient
from tests.running import Apps, freeze, wait_until

PRINTS = """
def flood(first, count):
    for number in range(first, first + count):
        print(f"line {number:09d}", "x" * 200)
    return count
"""


def test_a_stopped_follower_does_not_put_off_an_upgrade(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=PRINTS)
    client = app.wait_ready()
    path = apps.directory / "followed"
    with path.open("wb") as file:
        command = [sys.executable, "-m", "mob", "logs", "-f", "-a", app.name]
        follower = subprocess.Popen(command, stdout=file, stdin=subprocess.DEVNULL)
    try:
        flood = client.require("back").flood
        flood(0, 1).result(patient(30))
        wait_until(lambda: b"line 000000000" in path.read_bytes(), "it follows")
        freeze(follower.pid)
        for part in range(20):
            flood(1 + part * 1000, 1000).result(patient(30))
        kingpin = psutil.Process(app.process.pid)
        for count in (1, 2):
            app.signal(signal.SIGUSR2)
            app.wait_for("the new Kingpin took over 1 mobster", count)
        assert kingpin.is_running()
        assert "was cancelled" not in app.output
        os.kill(follower.pid, signal.SIGCONT)

        def still_follows() -> bool:
            flood(900_000_000, 1).result(patient(30))
            return b"line 900000000" in path.read_bytes()

        wait_until(still_follows, "it follows again")
        followed = [line for line in path.read_bytes().splitlines() if b"line " in line and b"mob" not in line[:4]]
        numbers = [int(line.partition(b"line ")[2][:9]) for line in followed]
        assert numbers == sorted(numbers)  # no duplicates, no fragments
    finally:
        follower.kill()
        follower.wait()
