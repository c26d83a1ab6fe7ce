"""What a main script says of a store, and how it gets to the store's worker: as one environment variable of the role.

Says what is wrong with it where it was said.
"""

from __future__ import annotations

import os

import msgspec

from mob.errors import PlanError
from mob.plan import Plan
from mob.sizes import size_of

VARIABLE = "MOB_STORE_"
"""What the name of the variable begins with; the name of the role follows."""
LEAST = 64 * 1024
"""Bytes that `max_memory` is at least: less holds nothing."""


class StoreSettings(msgspec.Struct, frozen=True, array_like=True):
    """The options of a store."""

    max_memory: int | None = None
    """Bytes that keys and values may take; None for no bound."""
    file: str | None = None
    """The absolute path of the file in which they are kept; None for none."""


def settings_of(name: str, max_memory: object, file: str | None) -> StoreSettings:
    """Return the options of a store if they make sense; `PlanError` says what does not."""
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
        raise PlanError(f"store {name!r}: file={file!r} would lie in a directory that does not exist.")
    return StoreSettings(size if isinstance(size, int) else None, file)


def variable_of(name: str, settings: StoreSettings) -> dict[str, str]:
    """Return the environment variable that tells a worker of the role."""
    text = msgspec.json.encode(settings).decode()
    return {VARIABLE + name: text.replace("{", "\\u007b").replace("}", "\\u007d")}  # braces in `env` mean something


def settings_for(role: str) -> StoreSettings:
    """Return the options of the store that this worker is."""
    return msgspec.json.decode(os.environ[VARIABLE + role], type=StoreSettings)


def check_files(plan: Plan, module: str) -> None:
    """`PlanError` if the stores of an app, the roles with that module, cannot have the files that they are to have."""
    taken: dict[str, str] = {}
    for role in plan.roles:
        if role.module != module:
            continue
        file = msgspec.json.decode(role.env[VARIABLE + role.name], type=StoreSettings).file
        if file is None:
            continue
        if plan.cluster is not None:
            raise PlanError(
                f"store {role.name!r}: file={file!r} cannot be in a cluster: a store moves to another machine when its "
                f"own is lost, and would find another file there, or none. Leave out file= or .cluster()."
            )
        if file in taken:
            raise PlanError(f"the stores {taken[file]!r} and {role.name!r} have one file: {file}. Give each its own.")
        taken[file] = role.name
