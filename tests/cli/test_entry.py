"""Ctrl-C while a command is still being imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.patience import patient

CODE = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Interrupting(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
            try:
                for _ in range(1000):  # handlers run between two instructions
                    pass
            except BaseException:  # as some modules do
                pass

sys.meta_path.insert(0, Interrupting())
sys.argv = ["mob", "ps", "-a", "t-no-such-app"]
{before}
from mob.cli.entry import main
main()
"""


@pytest.mark.parametrize("name", ["click", "mob.cli.main", "mob.cli.ps", "msgspec"])
def test_it_ends_quietly_whatever_is_imported(name: str) -> None:
    command = [sys.executable, "-c", CODE.format(name=name, before="")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=patient(60), stdin=subprocess.DEVNULL)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_an_ignored_signal_stays_ignored() -> None:
    code = CODE.format(name="mob.cli.ps", before="signal.signal(signal.SIGINT, signal.SIG_IGN)")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=patient(60))
    assert ended.returncode == 3  # no such app
    assert "Traceback" not in ended.stderr
