"""The GPUs of this machine, and the devices of each role.

A device is a name as CUDA_VISIBLE_DEVICES takes it: a number, or a UUID. They are counted by the driver's files, so
nothing of CUDA is loaded, and in a container only the devices that it was given count.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mob.errors import PlanError, counted
from mob.plan import CUDA_VARIABLE, Plan, RolePlan

CONTAINER_VARIABLE = "NVIDIA_VISIBLE_DEVICES"
"""Environment variable in which the container runtime lists the devices that it passed in."""
DEVICE = re.compile(r"nvidia\d+")
ROOT = Path("/")


def assigned(plan: Plan, environ: Mapping[str, str] = os.environ, root: Path = ROOT) -> Plan:
    """Return the plan with the devices of each role that has `gpus`.

    Each role gets its own devices, in the order of the roles, and the last one those that are left. A role whose `env`
    contains CUDA_VISIBLE_DEVICES gets the devices listed there. `environ` is the environment of the app, `root` the
    directory in which the system's files begin.

    Raises:
        PlanError: There are too few devices.
    """
    wanting = [role for role in plan.roles if role.gpus]
    if not wanting:
        return plan
    sharing = [role for role in wanting if CUDA_VARIABLE not in role.env]
    every, source = _visible(environ, root) if sharing else ((), "")
    given = {role.name: (_listed(role.env.get(CUDA_VARIABLE, "")), f"its env {CUDA_VARIABLE}") for role in wanting}
    begin = 0
    for role in sharing:
        end = len(every) if role is sharing[-1] else begin + _needed(role)
        given[role.name] = every[begin:end], source if not begin else f"{source}, of which other roles have {begin}"
        begin += _needed(role)
    for role in wanting:
        _check(role, *given[role.name])
    roles = tuple(
        msgspec.structs.replace(role, devices=given[role.name][0]) if role.gpus else role for role in plan.roles
    )
    return msgspec.structs.replace(plan, roles=roles)


def _needed(role: RolePlan) -> int:
    """Return how many devices a role needs at its maximum size."""
    places = max(role.workers, role.max_workers or 0)
    return places * round(role.gpus) if role.gpus >= 1 else math.ceil(places / role.places_per_device)


def _check(role: RolePlan, devices: tuple[str, ...], source: str) -> None:
    needed = _needed(role)
    if len(devices) >= needed:
        return
    size = f"max_workers={role.max_workers}" if (role.max_workers or 0) > role.workers else f"workers={role.workers}"
    raise PlanError(
        f"role {role.name!r}: {size} and gpus={role.gpus:g} need {counted(needed, 'GPU')}, and there "
        f"{'is' if len(devices) == 1 else 'are'} {len(devices)} for it ({source}). Use fewer workers, share devices "
        f"(gpus=0.5), or name the devices: {CUDA_VARIABLE}=0,1."
    )


def _visible(environ: Mapping[str, str], root: Path) -> tuple[tuple[str, ...], str]:
    """Return the devices that the app may use, and where they are listed."""
    if CUDA_VARIABLE in environ:
        return _listed(environ[CUDA_VARIABLE]), f"{CUDA_VARIABLE}={environ[CUDA_VARIABLE]}"
    passed = _listed(environ.get(CONTAINER_VARIABLE, ""))
    if passed and all(name.startswith(("GPU-", "MIG-")) for name in passed):
        return passed, f"{CONTAINER_VARIABLE}={environ[CONTAINER_VARIABLE]}"
    files = [name for name in _names(root / "dev") if DEVICE.fullmatch(name)]
    if files:  # CUDA numbers the devices that it sees from 0, whatever the files are called
        return tuple(map(str, range(len(files)))), f"{counted(len(files), 'file')} /dev/nvidia*"
    driver = _names(root / "proc" / "driver" / "nvidia" / "gpus")
    source = "in /proc/driver/nvidia/gpus" if driver else "neither /dev/nvidia0 nor /proc/driver/nvidia/gpus is there"
    return tuple(map(str, range(len(driver)))), source


def _listed(text: str) -> tuple[str, ...]:
    """Return the devices of a list, up to the first invalid one, as CUDA reads it."""
    names: list[str] = []
    for part in text.split(","):
        name = part.strip()
        if not name or name.startswith("-") or name in ("none", "void", "all"):
            break
        names.append(name)
    return tuple(names)


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
