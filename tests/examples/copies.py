"""Copies of the examples that tests run: unchanged except for the names of their apps, which may be in use here."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from tests.running import Apps, RunningApp

EXAMPLES = Path(__file__).parents[2] / "examples"


def started(
    apps: Apps,
    example: str,
    env: dict[str, str] | None = None,
    *,
    terminal: bool = False,
    replace: dict[str, str] | None = None,
) -> RunningApp:
    """Run a copy of the example with `python main.py`, as its page says. `replace`: texts to replace in the copy."""
    shutil.copytree(
        EXAMPLES / example, apps.directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    name = f"{example}-{os.getpid()}-{apps.directory.name[-20:]}".replace("_", "-")  # tests run in several processes
    renamed = 0
    for path in apps.directory.glob("*.py"):
        text, count = re.subn(r'mob\.(start|connect)\("\w+"\)', rf'mob.\1("{name}")', path.read_text())
        for old, new in (replace or {}).items():
            text = text.replace(old, new)
        path.write_text(text)
        renamed += count
    assert renamed, f"no app is started or connected to in {example}"
    return apps.run(name, [sys.executable, "main.py"], env, terminal)
