"""What the modules of an app do when they are imported: whether they are there, how long they take, whether they start
threads before the fork.

Whether they can be found is read from the source of the roles, and nothing is run. The time is measured, if asked for,
in a process of its own, for importing runs code of the application; there the imports of a role run, not the role
itself, which may block for ever or call others.
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
"""Seconds that imports may take here, if the role has no `boot_timeout`."""
SHOWN = 3
"""Slow imports that are named."""
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
    """What is found of the modules of an app."""
    for role in plan.roles:
        yield from _role(plan, role, is_measured)
    if plan.preload:
        yield _preload(plan)


def _role(plan: Plan, role: RolePlan, is_measured: bool) -> Iterator[Finding]:
    label = f"imports of {role.name}"
    path = _file_of(plan, role.module)
    if path is None:
        yield Finding(label, FAIL, f"{role.module} is not there", "the role's module", "Is the path or the name right?")
        return
    try:
        tree = ast.parse(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        yield Finding(label, FAIL, f"{path.name} cannot be read: {error}", "a Python file", "Mend it.")
        return
    needed = list(dict.fromkeys(_imported(tree)))
    places = [str(path.parent), plan.base]
    missing = [name for name in needed if not _can_find(name.partition(".")[0], places)]
    if missing:
        names = ", ".join(missing)
        yield Finding(label, FAIL, f"not to be found: {names}", "all of them", f"Install them for {sys.executable}.")
    elif is_measured:
        yield _measured(label, role, needed, places)
    elif role.boot_timeout is not None:
        found = {0: "none", 1: "found"}.get(len(needed), f"all {len(needed)} are found")
        about = f"{found}; {role.boot_timeout:g} s to get ready (boot_timeout)"
        yield Finding(label, OK, about)


def _file_of(plan: Plan, module: str) -> Path | None:
    if module.endswith(".py"):
        path = Path(plan.base, module)
        return path if path.is_file() else None
    stem = module.replace(".", "/")
    places = [Path(root, stem + end) for root in (plan.base, *sys.path) for end in (".py", "/__init__.py")]
    return next((place for place in places if place.is_file()), None)


def _imported(tree: ast.Module) -> Iterator[str]:
    """The modules that are imported in any case, when the module itself is."""
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
        advice = "Import less, or later; or give the role more: boot_timeout=."
        return Finding(label, FAIL, f"took longer than {allowed:g} s", wanted, advice)
    failed = re.findall(r"^failed: (.*)$", done.stdout, re.MULTILINE)
    if failed:
        return Finding(label, FAIL, failed[0], "no error", "Mend it; a mobster of this role would end like this.")
    times = sorted(_times(done.stderr), reverse=True)
    seconds = float(done.stdout.rpartition("took: ")[2] or 0)
    slow = ", ".join(f"{name} {took:.2f} s" for took, name in times[:SHOWN] if took >= 0.05)
    shown = f"{seconds:.2f} s{f': {slow}' if slow else ''}"
    if seconds < allowed / 3:
        return Finding(label, OK, shown, wanted)
    advice = (
        "On a busy machine it takes several times as long. Import less, or later; preload(...); or raise boot_timeout=."
    )
    return Finding(label, WARN if seconds < allowed else FAIL, shown, wanted, advice)


def _program(needed: list[str]) -> str:
    lines = ["import time", "began = time.perf_counter()", f"for name in {needed!r}:"]
    lines += ["    try:", "        __import__(name)"]
    lines += ["    except BaseException as error:"]
    lines += ["        if type(error).__name__ != 'NotInMobster':"]  # it asks for mob, which is not there
    lines += ["            print('failed:', f'import {name}: {type(error).__name__}: {error}'.splitlines()[0])"]
    lines += ["print('took:', time.perf_counter() - began)"]
    return "\n".join(lines)


def _times(text: str) -> Iterator[tuple[float, str]]:
    """How long each module took, with what it imports: of those that were imported by name, not by another."""
    for line in text.splitlines():
        found = LINE.fullmatch(line)
        if found and not found[3].startswith(" "):
            yield int(found[2]) / 1e6, found[3].strip()


def _preload(plan: Plan) -> Finding:
    """Whether what is imported before the fork starts threads: they do not live on in the mobsters."""
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
        return Finding(label, FAIL, f"{names}: {' '.join(last)}", "no error", "The app would not start. Mend it.")
    count, *own = told.split("\n")[:-1]
    if own:
        advice = "Of threads only the one that forks lives on. Start them in the roles, or take it out of preload(...)."
        return Finding(label, FAIL, f"{names}: starts threads: {', '.join(own)}", "no threads before the fork", advice)
    if more := int(count):
        advice = "A pool of OpenMP, a driver or a client does not live on in a fork: compute and connect in the roles."
        return Finding(label, WARN, f"{names}: {more} threads of libraries in C", "no threads before the fork", advice)
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
