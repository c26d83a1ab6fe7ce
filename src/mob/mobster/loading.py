"""The module of a role: found by its file or its import string, run once; and what its author is told of its errors."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
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
    name = role.module
    if name.endswith(".py"):
        path = Path(name)
        name = path.stem if path.stem not in sys.modules else f"{path.stem}__{role.name}"
        make_importable(str(path.parent))
    spec, loader = found(role.module, name)
    if name in sys.modules:
        return sys.modules[name]
    module = importlib.util.module_from_spec(spec)
    begin(module)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def found(module: str, name: str) -> tuple[ModuleSpec, Loader]:
    """How the module of a role is loaded: a file, under that name, or what an import string leads to.
    `ModuleNotFoundError` if that is nothing."""
    if module.endswith(".py"):
        spec = importlib.util.spec_from_file_location(name, module)
    else:
        spec = importlib.util.find_spec(module)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    return spec, spec.loader


def traceback_of(error: BaseException) -> str:
    """The traceback without mob's and importlib's frames at the top."""
    told = traceback.TracebackException.from_exception(error)
    frames = list(told.stack)
    while frames and (frames[0].filename.startswith(PACKAGE) or frames[0].filename.startswith("<frozen importlib")):
        frames.pop(0)
    told.stack = traceback.StackSummary.from_list(frames)
    return "".join(told.format())
