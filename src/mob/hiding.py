"""Role files that hide a module of the standard library or of an installed package: `queue.py`, `flask.py`.

The directory of a role's file comes first when modules are looked up, as that of a script does. So code that imports
`queue` there gets the role instead, and the error may come much later, in a traceback of another package. Therefore a
warning is printed when the app starts. Nothing is imported to find out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path

from mob.plan import RolePlan


def hidden_by(role: RolePlan, base: str, path: Iterable[str]) -> str:
    """Return a sentence that names the module hidden by the file of a role; "" if it hides none.

    `path` is where modules are looked up, as in `sys.path`.

    >>> hidden_by(RolePlan("q", "/app/queue.py"), "/app", [])
    "the file of role 'q', /app/queue.py, hides the module 'queue' of the standard library: code that imports 'queue' \
gets the role instead. Rename the file, for example to queue_role.py."
    """
    file = _file(role, base)
    if file is None:
        return ""
    name = file.stem
    if name in sys.stdlib_module_names:
        what = "of the standard library"
    elif found := _installed(file, base, path):
        what = f"at {found}"
    else:
        return ""
    return (
        f"the file of role {role.name!r}, {file}, hides the module {name!r} {what}: code that imports {name!r} "
        f"gets the role instead. Rename the file, for example to {name}_role.py."
    )


def _file(role: RolePlan, base: str) -> Path | None:
    """Return the file of a role if modules are looked up in its directory; None for a module of a package."""
    if role.module.endswith(".py"):
        return Path(role.module)
    file = Path(base, f"{role.module}.py")
    return file if "." not in role.module and file.is_file() else None


def _installed(file: Path, base: str, path: Iterable[str]) -> str:
    own = {os.path.realpath(file.parent), os.path.realpath(base)}
    found = PathFinder.find_spec(file.stem, list(_elsewhere(path, own)))
    return found.origin if found is not None and found.origin is not None else ""


def _elsewhere(path: Iterable[str], own: set[str]) -> Iterator[str]:
    return (place for place in path if os.path.realpath(place or os.curdir) not in own)
