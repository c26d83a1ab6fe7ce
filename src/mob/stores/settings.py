"""The options of a store in a main script, and their way to the store's worker: one environment variable of the role.

Errors are raised where the options are given.
"""

from __future__ import annotations

import os

import msgspec

from mob.errors import PlanError
from mob.plan import Plan
from mob.sizes import size_of

VARIABLE = "MOB_STORE_"
"""The prefix of the variable's name; the name of the role follows."""
LEAST = 64 * 1024
"""Minimum bytes of `max_memory`: a smaller store holds nothing."""


class StoreSettings(msgspec.Struct, frozen=True, array_like=True):
    """The options of a store."""

    max_memory: int | None = None
    """Maximum bytes of keys and values; None for no limit."""
    file: str | None = None
    """The absolute path of the file in which they are kept; None for none."""


def settings_of(name: str, max_memory: object, file: str | None) -> StoreSettings:
    """Return the options of a store if they are valid; raise `PlanError` otherwise."""
    size = max_memory
    if isinstance(size, str):
        try:
            size = size_of(size)
        except ValueError:
            size = None
    is_size = isinstance(size, int) and not isinstance(size, bool) and size >= LEAST
    if max_memory is not None and not is_size:
        raise PlanError(
            f"store {name!r}: max_memory={max_memory!r} is not a size of at least {LEAST // 1024} KiB, such as "
            f'"500M" or 500_000_000.'
        )
    if file is not None and not os.path.isdir(os.path.dirname(file)):
        raise PlanError(f"store {name!r}: the directory of file={file!r} does not exist.")
    return StoreSettings(size if isinstance(size, int) else None, file)


def variable_of(name: str, settings: StoreSettings) -> dict[str, str]:
    """Return the environment variable that carries the options to a worker of the role."""
    text = msgspec.json.encode(settings).decode()
    return {VARIABLE + name: text.replace("{", "\\u007b").replace("}", "\\u007d")}  # braces in `env` mean something


def settings_for(role: str) -> StoreSettings:
    """Return the options of the store that this worker is."""
    return msgspec.json.decode(os.environ[VARIABLE + role], type=StoreSettings)


def check_files(plan: Plan, module: str) -> None:
    """Raise `PlanError` if the stores of an app (the roles with that module) cannot have the files in their options."""
    taken: dict[str, str] = {}
    for role in plan.roles:
        if role.module != module:
            continue
        file = msgspec.json.decode(role.env[VARIABLE + role.name], type=StoreSettings).file
        if file is None:
            continue
        if plan.cluster is not None:
            raise PlanError(
                f"store {role.name!r}: file={file!r} cannot be used in a cluster: a store moves to another machine "
                f"when its own is lost, and would find another file there, or none. Leave out file= or .cluster()."
            )
        if file in taken:
            raise PlanError(f"the stores {taken[file]!r} and {role.name!r} share a file: {file}. Give each its own.")
        taken[file] = role.name
