"""The module of a role: found by its file or its import string, run once; and what its author is told of its errors."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from mob.plan import RolePlan

PACKAGE = str(Path(__file__).resolve().parents[1])


def make_importable(directory: str) -> None:
    """From now on modules are found there, before all others."""
    if directory not in sys.path:
        sys.path.insert(0, directory)


def load(base: str, role: RolePlan, begin: Callable[[ModuleType], None]) -> ModuleType:
    """Runs the module; `begin` gets it before the first line of it has run."""
    make_importable(base)
    if not role.module.endswith(".py"):
        name = role.module
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    else:
        path = Path(role.module)
        name = path.stem if path.stem not in sys.modules else f"{path.stem}__{role.name}"
        make_importable(str(path.parent))
        spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    if name in sys.modules:
        return sys.modules[name]
    module = importlib.util.module_from_spec(spec)
    begin(module)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def traceback_of(error: BaseException) -> str:
    """The traceback without mob's and importlib's frames at the top."""
    told = traceback.TracebackException.from_exception(error)
    frames = list(told.stack)
    while frames and (frames[0].filename.startswith(PACKAGE) or frames[0].filename.startswith("<frozen importlib")):
        frames.pop(0)
    told.stack = traceback.StackSummary.from_list(frames)
    return "".join(told.format())
