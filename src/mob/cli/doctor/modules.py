"""Checks an app's modules: that they exist, how long their imports take, and which start threads before the fork.

Existence is determined from the source of the roles, and nothing is run. The time is measured only on request, in a
separate process, because importing runs code of the application; it runs the imports of a role and not the role itself,
which may block forever or call others.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from mob.cli.doctor.findings import FAIL, OK, WARN, Finding
from mob.plan import Plan, RolePlan

IMPORT_TIMEOUT = 120.0
"""Seconds that imports may take here if the role has no `boot_timeout`."""
SHOWN = 3
"""Number of slow imports that are named."""
LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| (.*)")
COUNT = """
import importlib, sys, threading
from mob.mobster.preloading import native_threads
for name in sys.argv[1:]:
    importlib.import_module(name)
extra = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
print("threads:", native_threads(), *extra, sep="\\n")
"""


def findings(plan: Plan, is_measured: bool) -> Iterator[Finding]:
    """Yield the findings about the modules of an app."""
    for role in plan.roles:
        yield from _role(plan, role, is_measured)
    if plan.preload:
        yield _preload(plan)


def _role(plan: Plan, role: RolePlan, is_measured: bool) -> Iterator[Finding]:
    label = f"imports of {role.name}"
    path = _file_of(plan, role.module)
    if path is None:
        yield Finding(label, FAIL, f"{role.module} not found", "the role's module", "Check its path or name.")
        return
    try:
        tree = ast.parse(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        yield Finding(label, FAIL, f"{path.name} cannot be read: {error}", "a Python file", "Fix the file.")
        return
    needed = list(dict.fromkeys(_imported(tree)))
    places = [str(path.parent), plan.base]
    missing = [name for name in needed if not _can_find(name.partition(".")[0], places)]
    if missing:
        names = ", ".join(missing)
        yield Finding(label, FAIL, f"not found: {names}", "all of them", f"Install them for {sys.executable}.")
    elif is_measured:
        yield _measured(label, role, needed, places)
    elif role.boot_timeout is not None:
        found = {0: "none", 1: "found"}.get(len(needed), f"all {len(needed)} found")
        about = f"{found}; boot_timeout={role.boot_timeout:g} s"
        yield Finding(label, OK, about)


def _file_of(plan: Plan, module: str) -> Path | None:
    if module.endswith(".py"):
        path = Path(plan.base, module)
        return path if path.is_file() else None
    stem = module.replace(".", "/")
    places = [Path(root, stem + end) for root in (plan.base, *sys.path) for end in (".py", "/__init__.py")]
    return next((place for place in places if place.is_file()), None)


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yield the modules that are imported unconditionally with the module."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level and node.module != "__future__":
            yield node.module


def _can_find(top: str, places: list[str]) -> bool:
    if top in sys.builtin_module_names or PathFinder.find_spec(top, places) is not None:
        return True
    try:
        return find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _measured(label: str, role: RolePlan, needed: list[str], places: list[str]) -> Finding:
    allowed = role.boot_timeout or IMPORT_TIMEOUT
    wanted = f"less than {allowed:g} s (boot_timeout)" if role.boot_timeout else ""
    try:
        done = _run(["-X", "importtime", "-c", _program(needed)], places, allowed)
    except subprocess.TimeoutExpired:
        advice = "Import less, or later; or raise boot_timeout= of the role."
        return Finding(label, FAIL, f"took longer than {allowed:g} s", wanted, advice)
    failed = re.findall(r"^failed: (.*)$", done.stdout, re.MULTILINE)
    if failed:
        return Finding(label, FAIL, failed[0], "no error", "Fix it; a worker of this role would exit with this error.")
    times = sorted(_times(done.stderr), reverse=True)
    seconds = float(done.stdout.rpartition("took: ")[2] or 0)
    slow = ", ".join(f"{name} {took:.2f} s" for took, name in times[:SHOWN] if took >= 0.05)
    shown = f"{seconds:.2f} s{f': {slow}' if slow else ''}"
    if seconds < allowed / 3:
        return Finding(label, OK, shown, wanted)
    advice = (
        "On a busy machine it takes several times as long. Import less, or later, use preload(...), or raise"
        " boot_timeout=."
    )
    return Finding(label, WARN if seconds < allowed else FAIL, shown, wanted, advice)


def _program(needed: list[str]) -> str:
    lines = ["import time", "began = time.perf_counter()", f"for name in {needed!r}:"]
    lines += ["    try:", "        __import__(name)"]
    lines += ["    except BaseException as error:"]
    lines += ["        if type(error).__name__ != 'NotInMobster':"]  # it uses mob, which does not run here
    lines += ["            print('failed:', f'import {name}: {type(error).__name__}: {error}'.splitlines()[0])"]
    lines += ["print('took:', time.perf_counter() - began)"]
    return "\n".join(lines)


def _times(text: str) -> Iterator[tuple[float, str]]:
    """Yield how long each module took, including its own imports: those imported by name, not by others."""
    for line in text.splitlines():
        found = LINE.fullmatch(line)
        if found and not found[3].startswith(" "):
            yield int(found[2]) / 1e6, found[3].strip()


def _preload(plan: Plan) -> Finding:
    """Check whether modules imported before the fork start threads, which would not exist in the workers."""
    names = ", ".join(plan.preload)
    label = "preload"
    try:
        done = _run(["-c", COUNT, *plan.preload], [plan.base], IMPORT_TIMEOUT)
    except subprocess.TimeoutExpired:
        return Finding(
            label, FAIL, f"{names}: took longer than {IMPORT_TIMEOUT:g} s", "modules that only define things", ""
        )
    head, _, told = done.stdout.rpartition("threads:\n")
    if done.returncode or not told:
        last = (done.stderr or head).strip().splitlines()[-1:]
        return Finding(label, FAIL, f"{names}: {' '.join(last)}", "no error", "The app would not start. Fix it.")
    count, *own = told.split("\n")[:-1]
    if own:
        advice = (
            "A fork keeps only the thread that forks. Start them in the roles, or remove the module from preload(...)."
        )
        return Finding(label, FAIL, f"{names}: starts threads: {', '.join(own)}", "no threads before the fork", advice)
    if more := int(count):
        advice = "Thread pools (OpenMP, drivers, clients) do not survive a fork: compute and connect in the roles."
        return Finding(label, WARN, f"{names}: {more} threads of C libraries", "no threads before the fork", advice)
    return Finding(label, OK, f"{names}: no threads")


def _run(arguments: list[str], places: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*places, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
    )
