"""What a main script says of a store, and how it gets to the store's worker: as one environment variable of the role.

Says what is wrong with it where it was said.
"""

from __future__ import annotations

import os
import re

import msgspec

from mob.errors import PlanError

VARIABLE = "MOB_STORE_"
"""What the name of the variable begins with; the name of the role follows."""
LEAST = 64 * 1024
"""Bytes that `max_memory` is at least: less holds nothing."""
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)


class StoreSettings(msgspec.Struct, frozen=True):
    """The options of a store."""

    max_memory: int | None = None
    """Bytes that keys and values may take; None for no bound."""
    file: str | None = None
    """The absolute path of the file in which they are kept; None for none."""


def settings_of(name: str, max_memory: object, file: str | None) -> StoreSettings:
    """Return the options of a store if they make sense; `PlanError` says what does not."""
    size = max_memory
    if isinstance(size, str):
        found = _SIZE.fullmatch(size)
        size = int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " ")) if found else None
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
    return {VARIABLE + name: msgspec.json.encode(settings).decode()}


def settings_for(role: str) -> StoreSettings:
    """Return the options of the store that this worker is."""
    return msgspec.json.decode(os.environ[VARIABLE + role], type=StoreSettings)
