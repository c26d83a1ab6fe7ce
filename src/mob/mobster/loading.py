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
from mob.rim.places import PACKAGE


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
    try:
        loader.exec_module(module)
    except ImportError as error:
        if RELATIVE in str(error.msg) and _raised_in(error) == spec.origin:
            error.msg = f"{error.msg}. {_how_to_name(base, Path(spec.origin or name), role.name)}"
        raise
    return module


RELATIVE = "relative import with no known parent package"
"""How Python refuses `from .helper import f` in a file that is run by its path."""


def _raised_in(error: BaseException) -> str:
    """Return the file whose line has raised it: the innermost frame that is not the import system's own."""
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return next((file for file in reversed(frames) if not file.startswith("<frozen importlib")), "")


def _how_to_name(base: str, file: Path, role: str) -> str:
    """Return what its author can do whose role file imports from its own package."""
    place = file.parent
    inside = place.relative_to(base).parts if place.is_relative_to(base) else ()
    name = ".".join((*inside, file.stem)) if inside else f"{place.name}.{file.stem}"
    where = "" if inside else f", with .base({str(place.parent)!r})"
    return f'A role that belongs to a package is called by its import string: .role("{role}", "{name}"){where}.'


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


def name_process(role: RolePlan) -> None:
    """Have the arguments of this process be those of its role, as if Python had been started with its module.

    What starts the program again (the reloader of Flask) looks at them. They were those of the fork server. `__main__`
    stays without a file, so a child that `multiprocessing` spawns imports neither the role nor the main script again.
    """
    if role.module.endswith(".py"):
        sys.argv, started = [role.module], [role.module]
    else:
        sys.argv, started = [role.module], ["-m", role.module]
    sys.orig_argv = [sys.executable, *started]


def traceback_of(error: BaseException) -> str:
    """The traceback without mob's and importlib's frames at the top."""
    told = traceback.TracebackException.from_exception(error)
    frames = list(told.stack)
    while frames and (frames[0].filename.startswith(PACKAGE) or frames[0].filename.startswith("<frozen importlib")):
        frames.pop(0)
    told.stack = traceback.StackSummary.from_list(frames)
    return "".join(told.format())
