"""What an app is: its name, its roles, their options. Frozen, validated, and free of code.

A plan names modules by import string or by file; it never holds a function or a module, so it can be sent to another
process and shown by a tool. Options are declared here and nowhere else. Floor 0.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from mob.errors import PlanError

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
RESERVED = frozenset({"kingpin", "mobster", "client", "mob"})

MIB = 1024 * 1024
FRAME_LIMIT = 256 * MIB
SHARED_MEMORY = 256 * MIB
LARGEST_FRAME = 2**32 - 1  # its length has four bytes
GRACE = 30.0  # seconds; gunicorn's graceful_timeout


class RolePlan(msgspec.Struct, frozen=True):
    """One role: the module that its mobsters run, how many there are, and how they work."""

    name: str
    module: str
    """An import string (`pkg.module`) or the absolute path of a `.py` file."""
    workers: int = 1
    threads: int = 1
    """How many plain `def` exports run at once; 1 runs them on the loop, one at a time."""
    concurrency: int = 100
    """How many `async def` exports run at once."""
    queue: int = 10_000
    """How many calls may wait in one worker before it answers `Busy`."""
    shared_memory: int = SHARED_MEMORY
    """Bytes of large buffers that each mobster may have sent and others still look at; what is beyond them travels
    through the sockets. 0 turns it off."""


class Plan(msgspec.Struct, frozen=True):
    """An app: what `mob.start(...)` and the lines after it have said."""

    name: str
    base: str
    """The directory from which role files and modules are found."""
    roles: tuple[RolePlan, ...] = ()
    grace: float = GRACE
    """Seconds that an orderly stop may take before the rest is killed."""
    frame_limit: int = FRAME_LIMIT
    """Bytes; a longer frame closes its link."""

    def role(self, name: str) -> RolePlan:
        """The role of that name; `KeyError` if there is none."""
        for role in self.roles:
            if role.name == name:
                return role
        raise KeyError(name)


def check_app_name(name: object) -> str:
    """The name if it can name an app; it becomes part of a socket's name and of every process title."""
    if not isinstance(name, str) or not _is_name(name):
        raise PlanError(
            f"{name!r} cannot name an app. Wanted: a letter, then up to 63 letters, digits, '_', '.' or '-', "
            f'as in mob.start("myapp").'
        )
    return name


def check_role(role: RolePlan, others: tuple[RolePlan, ...]) -> RolePlan:
    """The role if it fits beside the others; `PlanError` tells the first thing that does not."""
    if not _is_name(role.name):
        raise PlanError(
            f"{role.name!r} cannot name a role. Wanted: a letter, then up to 63 letters, digits, '_', '.' or '-', "
            f'as in .role("back", "./background_worker.py").'
        )
    if role.name in RESERVED:
        raise PlanError(f"{role.name!r} cannot name a role: mob uses that word itself. Choose another.")
    for other in others:
        if other.name == role.name:
            raise PlanError(
                f"the role {role.name!r} is there twice: first with {other.module!r}, then with {role.module!r}. "
                f"Give each role a name of its own; for more processes of one role say workers=."
            )
    for option in ("workers", "threads", "concurrency", "queue"):
        value = getattr(role, option)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise PlanError(f"role {role.name!r}: {option}={value!r} is not a whole number of at least 1.")
    if not _is_number(role.shared_memory, int, 0, math.inf):
        raise PlanError(
            f"role {role.name!r}: shared_memory={role.shared_memory!r} is not a number of bytes; 0 means none."
        )
    return role


def check_limits(plan: Plan) -> Plan:
    """The plan if its numbers make sense and there is something to run."""
    if not plan.roles:
        raise PlanError(
            f'the app {plan.name!r} has no role, so there is nothing to run. Add one: .role("back", "./worker.py").'
        )
    if not _is_number(plan.grace, (int, float), 0, math.inf):
        raise PlanError(f"grace={plan.grace!r} is not a number of seconds.")
    if not _is_number(plan.frame_limit, int, 4096, math.inf):
        raise PlanError(f"frame_limit={plan.frame_limit!r} is not a number of bytes of at least 4096.")
    if plan.frame_limit > LARGEST_FRAME:
        raise PlanError(f"frame_limit={plan.frame_limit!r} is more bytes than any frame can have: {LARGEST_FRAME:,}.")
    return plan


def _is_name(name: object) -> bool:
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def _is_number(value: Any, kind: type | tuple[type, ...], least: float, beyond: float) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and least <= value < beyond
