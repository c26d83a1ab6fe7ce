"""The app inside a `mob.Pool`: one role, whose module runs tasks.

The first task of the first pool starts it, which takes a moment: a Kingpin, a fork server, workers. When a pool is shut
down its app is kept for the next one of the same kind, and workers that have run something are replaced. One app is
kept, until the process ends.
"""

from __future__ import annotations

import contextlib
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
from mob.pools import worker

ROLE = "pool"
"""The name of the role."""
MODULE = "mob.pools.worker"
GRACE = 5.0
"""Seconds that workers may take to end when the pool is shut down; their tasks have ended by then."""
BOOT_TRIES = 3
"""Number of workers that may fail to start before the pool is given up; otherwise tasks would wait forever."""
SHARED_MEMORY = 4096 * MIB
"""Maximum number of bytes of large buffers from each process that are under way, or that others read."""

VOLATILE = frozenset({"PYTEST_CURRENT_TEST"})
"""Environment variables that change all the time and do not matter to workers."""

_numbers = itertools.count(1)
_keeping = threading.Lock()
_kept: tuple[int, StartedApp] | None = None  # with the process that started it


class Kind(NamedTuple):
    """The properties that pools must have in common for one to take over the app of another."""

    workers: int
    threads: int = 1
    max_memory: int | None = None
    preload: tuple[str, ...] = ()
    env: Mapping[str, str] = MappingProxyType({})

    def plan(self) -> Plan:
        """Return the plan of an app of this kind."""
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
            boot_tries=BOOT_TRIES,
            pool=True,
        )


class StartedApp(NamedTuple):
    """An app with the conditions of its start, which another pool must share."""

    kind: Kind
    client: Background
    surroundings: object


def start(kind: Kind) -> StartedApp:
    """Return an app with new workers: the kept one, if its conditions are those of today, or a new one.

    `RuntimeError` if the worker of a pool imports a module that uses a pool during its import.
    """
    if worker.is_reading:
        raise RuntimeError(
            "a module that was imported here, in the worker of a pool, uses a pool during its import. Its workers "
            "would do the same, without end. Move that code under `if __name__ == '__main__':`, or into a function."
        )
    kept, surroundings = _take(), _surroundings()
    if kept is not None:
        if (kept.kind, kept.surroundings) == (kind, surroundings) and not kept.client.wait_stopped(0):
            return kept
        kept.client.close()
    return StartedApp(kind, background.start(kind.plan()), surroundings)


def keep(app: StartedApp, used: Collection[int]) -> None:
    """Keep an app without tasks for the next pool like this one; `used`: the uids of the workers to be replaced."""
    global _kept
    client = app.client
    try:
        for member in client.members():
            if member.uid in used:
                client.restart(member.pid)
    except MobError:
        client.close()
        return
    with _keeping:
        previous, _kept = _kept, (os.getpid(), app)
    if previous is not None:
        previous[1].client.close()


def _take() -> StartedApp | None:
    global _kept
    with _keeping:
        kept, _kept = _kept, None
    return kept[1] if kept is not None and kept[0] == os.getpid() else None


def _surroundings() -> object:
    """Return what an app takes from this process when it starts: the environment, and the targets of its output."""
    streams: list[tuple[int, int]] = []
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):  # it is closed
            found = os.fstat(descriptor)
            streams.append((found.st_dev, found.st_ino))
    return {name: value for name, value in os.environ.items() if name not in VOLATILE}, streams
