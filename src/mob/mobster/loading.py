"""Finds the module of a role by its file or import string, runs it once, and explains errors to its author."""

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
from mob.rim.places import PACKAGE


def make_importable(directory: str) -> None:
    """Put a directory in front of the module search path."""
    if directory not in sys.path:
        sys.path.insert(0, directory)


def load(base: str, role: RolePlan, begin: Callable[[ModuleType], None]) -> ModuleType:
    """Run the module; `begin` receives it before its first line runs."""
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
    try:
        loader.exec_module(module)
    except ImportError as error:
        if RELATIVE in str(error.msg) and _raised_in(error) == spec.origin:
            error.msg = f"{error.msg}. {_how_to_name(base, Path(spec.origin or name), role.name)}"
        raise
    return module


RELATIVE = "relative import with no known parent package"
"""Python's error for `from .helper import f` in a file that is run by its path."""


def _raised_in(error: BaseException) -> str:
    """Return the file whose line raised the error: the innermost frame outside of the import system."""
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return next((file for file in reversed(frames) if not file.startswith("<frozen importlib")), "")


def _how_to_name(base: str, file: Path, role: str) -> str:
    """Return advice for a role file that imports from its own package."""
    place = file.parent
    inside = place.relative_to(base).parts if place.is_relative_to(base) else ()
    name = ".".join((*inside, file.stem)) if inside else f"{place.name}.{file.stem}"
    where = "" if inside else f", with .base({str(place.parent)!r})"
    return f'Name a role that belongs to a package by its import string: .role("{role}", "{name}"){where}.'


def found(module: str, name: str) -> tuple[ModuleSpec, Loader]:
    """Return how to load the module of a role: a file under that name, or an import string.

    Raises `ModuleNotFoundError` if there is no such module.
    """
    if module.endswith(".py"):
        spec = importlib.util.spec_from_file_location(name, module)
    else:
        spec = importlib.util.find_spec(module)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    return spec, spec.loader


def name_process(role: RolePlan) -> None:
    """Set the arguments of this process to those of its role, as if Python had been started with its module.

    Programs that restart themselves (the reloader of Flask) use them; they were those of the fork server. `__main__`
    keeps having no file, so a child that `multiprocessing` spawns does not import the role or the main script again.
    """
    if role.module.endswith(".py"):
        sys.argv, started = [role.module], [role.module]
    else:
        sys.argv, started = [role.module], ["-m", role.module]
    sys.orig_argv = [sys.executable, *started]


def traceback_of(error: BaseException) -> str:
    """Return the traceback without the outer frames of mob and importlib."""
    told = traceback.TracebackException.from_exception(error)
    frames = list(told.stack)
    while frames and (frames[0].filename.startswith(PACKAGE) or frames[0].filename.startswith("<frozen importlib")):
        frames.pop(0)
    told.stack = traceback.StackSummary.from_list(frames)
    return "".join(told.format())
