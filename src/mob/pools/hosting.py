"""The app inside of a `mob.Pool`: one role, whose module runs tasks.

It is started by the first task of the first pool, which takes a moment: a Kingpin, a fork server, workers. When a pool
is shut down its app is kept for the next one of the same kind, with new workers in the place of those that have run
something. One is kept, until the process ends.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple

from mob import background
from mob.background import Background
from mob.errors import MobError
from mob.plan import LARGEST_FRAME, MIB, Plan, RolePlan

ROLE = "pool"
"""What the role is called."""
MODULE = "mob.pools.worker"
GRACE = 5.0
"""Seconds that workers may take to end when the pool is shut down; their tasks have ended by then."""
SHARED_MEMORY = 4096 * MIB
"""Bytes of large buffers that each process may have on their way, or looked at by others."""

_numbers = itertools.count(1)
_keeping = threading.Lock()
_kept: tuple[int, Kind, Background] | None = None


class Kind(NamedTuple):
    """What pools must have in common for one to take over the app of another."""

    workers: int
    threads: int = 1
    max_memory: int | None = None
    preload: tuple[str, ...] = ()
    env: Mapping[str, str] = MappingProxyType({})

    def plan(self) -> Plan:
        """Return an app of this kind."""
        return Plan(
            f"pool-{os.getpid()}-{next(_numbers)}",
            os.getcwd(),
            roles=(self.role(),),
            grace=GRACE,
            frame_limit=LARGEST_FRAME,
            preload=(MODULE, *self.preload),
            direct=True,
            metrics=False,
        )

    def role(self) -> RolePlan:
        """Return the role of its workers."""
        return RolePlan(
            ROLE,
            MODULE,
            workers=self.workers,
            threads=self.threads,
            max_memory=self.max_memory,
            env=dict(self.env),
            shared_memory=SHARED_MEMORY,
            pool=True,
        )


def start(kind: Kind) -> Background:
    """Return the client of an app with fresh workers: one that was kept, if it is of that kind, or a new one."""
    app = _take()
    if app is not None:
        if app[0] == kind and not app[1].wait_stopped(0):
            return app[1]
        app[1].close()
    return background.start(kind.plan())


def keep(kind: Kind, app: Background, used: Collection[int]) -> None:
    """Keep an app for the next pool of its kind; it has no task any more. `used`: the uids of the workers that have
    run some; others take their places."""
    global _kept
    try:
        for member in app.members():
            if member.uid in used:
                app.restart(member.pid)
    except MobError:
        app.close()
        return
    with _keeping:
        previous, _kept = _kept, (os.getpid(), kind, app)
    if previous is not None:
        previous[2].close()


def _take() -> tuple[Kind, Background] | None:
    global _kept
    with _keeping:
        kept, _kept = _kept, None
    return kept[1:] if kept is not None and kept[0] == os.getpid() else None
