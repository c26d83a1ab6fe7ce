"""The app inside of a `mob.Pool`: one role, whose module runs tasks.

It is started by the first task of the first pool, which takes a moment: a Kingpin, a fork server, workers. When a pool
is shut down its app is kept for the next one of the same kind, with new workers in the place of those that have run
something. One is kept, until the process ends.
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
"""What the role is called."""
MODULE = "mob.pools.worker"
GRACE = 5.0
"""Seconds that workers may take to end when the pool is shut down; their tasks have ended by then."""
BOOT_TRIES = 3
"""Workers that may fail to start before the pool is given up, because tasks would wait for ever."""
SHARED_MEMORY = 4096 * MIB
"""Bytes of large buffers that each process may have on their way, or looked at by others."""

VOLATILE = frozenset({"PYTEST_CURRENT_TEST"})
"""Environment variables that change all the time and concern no worker."""

_numbers = itertools.count(1)
_keeping = threading.Lock()
_kept: tuple[int, StartedApp] | None = None  # and the process that has started it


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
            boot_tries=BOOT_TRIES,
            pool=True,
        )


class StartedApp(NamedTuple):
    """An app, and what it has been started with, which another pool must have in common with it."""

    kind: Kind
    client: Background
    surroundings: object


def start(kind: Kind) -> StartedApp:
    """Return an app with fresh workers: the one that was kept, if it is as it would be started now, or a new one.
    `RuntimeError` if the worker of a pool imports a module that uses a pool as soon as it is imported."""
    if worker.is_reading:
        raise RuntimeError(
            "a module that was imported here, in the worker of a pool, uses a pool itself when it is imported, and so "
            "would its workers, without end. Put that under `if __name__ == '__main__':`, or into a function."
        )
    kept, surroundings = _take(), _surroundings()
    if kept is not None:
        if (kept.kind, kept.surroundings) == (kind, surroundings) and not kept.client.wait_stopped(0):
            return kept
        kept.client.close()
    return StartedApp(kind, background.start(kind.plan()), surroundings)


def keep(app: StartedApp, used: Collection[int]) -> None:
    """Keep an app for the next pool like this one; it has no task any more. `used`: the uids of the workers that have
    run some; others take their places."""
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
    """Return what an app takes from this process once, when it starts: the environment, and where it prints."""
    streams: list[tuple[int, int]] = []
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):  # it is closed
            found = os.fstat(descriptor)
            streams.append((found.st_dev, found.st_ino))
    return {name: value for name, value in os.environ.items() if name not in VOLATILE}, streams
