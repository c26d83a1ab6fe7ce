"""Scripts that have apps inside of them: started as a user would, and nothing of them is left behind."""

from __future__ import annotations

import sys
import uuid

from mob.rim.addresses import running_apps
from mob.testing.leaks import processes_with
from tests.running import Apps, RunningApp, wait_until

MARK = "MOB_TEST_MARK"
BACK = """
import os, time

def foo(x):
    print("foo", x)
    return x + 1

def pid():
    return os.getpid()

def cycle():
    while True:
        pass

def sleep():
    time.sleep(3000)
"""
SCRIPT = """
import os, signal, sys, time
import msgspec
import mob
from mob import background

def described(name, **options):
    return mob.start(name, grace=1).role("back", "./back.py", workers=2, **options)

def plan(name, **options):
    return described(name, **options).hand_over()

def direct(plan):
    return msgspec.structs.replace(plan, direct=True)

NAME = {name!r}
"""


class Scripts:
    """Starts scripts that have apps inside of them."""

    def __init__(self, apps: Apps) -> None:
        self._apps = apps
        self.mark = uuid.uuid4().hex
        self.name = f"bg-{self.mark[:8]}"

    def run(self, text: str, **files: str) -> RunningApp:
        """Starts one, beside these files."""
        self.text = SCRIPT.replace("{name!r}", repr(self.name)) + text
        self._apps.write(**{"back": BACK, **files}, script=self.text)
        command = [sys.executable, "-X", "dev", "-W", "error", "script.py"]
        return self._apps.run(self.name, command, {MARK: self.mark})

    def wait_nothing_left(self) -> None:
        """Waits until no process of the script and its apps is left."""
        wait_until(lambda: not any(self.name in app for app in running_apps()), "no app of the script is left")
        wait_until(lambda: not processes_with(MARK, self.mark, set()), "nothing of the script is left")
