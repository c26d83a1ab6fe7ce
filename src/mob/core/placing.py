"""What a process gets by its place: its environment, with the names in braces filled in, and its GPUs."""

from __future__ import annotations

import msgspec

from mob import templates
from mob.plan import CUDA_VARIABLE, RolePlan


def placed_at(role: RolePlan, index: int, workers: int, app: str, node: str) -> RolePlan:
    """Return the role for the process in this place; `workers`: the current number of workers of the role.

    >>> placed_at(RolePlan("back", "back", env={"SHARD": "{index}/{workers}"}), 2, 4, "shop", "alpha").env
    {'SHARD': '2/4'}
    """
    if not role.env and not role.devices:
        return role
    values = {"index": str(index), "workers": str(workers), "role": role.name, "app": app, "node": node}
    env = templates.filled(role.env, values)
    if devices := role.devices_of(index):
        env[CUDA_VARIABLE] = ",".join(devices)
    return msgspec.structs.replace(role, env=env)
