"""mob: a simple toolkit for parallelizing one application over several supervised processes.

All public names, each with the module that defines it. They are loaded when first used, so that a Kingpin (the
supervisor) never loads the mobsters' side, and a mobster (a worker) never loads the Kingpin's or the command line.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from mob.errors import suggested
from mob.imports import import_at_rest

if TYPE_CHECKING:
    from mob.app import App as App, start as start
    from mob.client import Client as Client, connect as connect
    from mob.core.job_rows import JobRow as JobRow
    from mob.errors import (
        AddressHeld as AddressHeld,
        AppNotRunning as AppNotRunning,
        AppRunning as AppRunning,
        ArgumentError as ArgumentError,
        BadMessage as BadMessage,
        Busy as Busy,
        CallError as CallError,
        CallTimeout as CallTimeout,
        Deadlock as Deadlock,
        Fenced as Fenced,
        Forbidden as Forbidden,
        FrameTooLong as FrameTooLong,
        GarbageFrame as GarbageFrame,
        JobDropped as JobDropped,
        LinkError as LinkError,
        Lost as Lost,
        MobError as MobError,
        NotInMobster as NotInMobster,
        PartialFailure as PartialFailure,
        PlanError as PlanError,
        Quarantined as Quarantined,
        QueueFailed as QueueFailed,
        RemoteError as RemoteError,
        Unavailable as Unavailable,
        UnknownExport as UnknownExport,
        UnknownJob as UnknownJob,
        UnknownRole as UnknownRole,
        UnknownTarget as UnknownTarget,
        WrongProcess as WrongProcess,
    )
    from mob.mobster.api import (
        Me as Me,
        all as all,
        any as any,
        caller as caller,
        cancelled as cancelled,
        delivery as delivery,
        exit as exit,
        inherited as inherited,
        job as job,
        last_error as last_error,
        listen as listen,
        me as me,
        on as on,
        pid as pid,
        ready as ready,
        require as require,
        scale as scale,
        send as send,
    )
    from mob.mobster.metering import (
        Counter as Counter,
        Gauge as Gauge,
        Histogram as Histogram,
        Stopwatch as Stopwatch,
        counter as counter,
        gauge as gauge,
        histogram as histogram,
    )
    from mob.mobster.records import JsonFormatter as JsonFormatter
    from mob.mobster.timers import cron as cron, every as every
    from mob.peer.calls.jobs import (
        DurableExport as DurableExport,
        DurableProxy as DurableProxy,
        Job as Job,
        JobOptions as JobOptions,
    )
    from mob.peer.calls.mapping import Map as Map
    from mob.peer.calls.options import CallOptions as CallOptions
    from mob.peer.calls.proxy import Calls as Calls, Proxy as Proxy, RemoteExport as RemoteExport, Target as Target
    from mob.peer.operating.machines import Machine as Machine
    from mob.peer.references.encoding import register as register
    from mob.peer.references.functions import RemoteFunction as RemoteFunction
    from mob.peer.references.loans import (
        Lending as Lending,
        buffer as buffer,
        empty as empty,
        lend as lend,
        zeros as zeros,
    )
    from mob.peer.references.objects import RemoteMethod as RemoteMethod, RemoteObject as RemoteObject, ref as ref
    from mob.peer.results.call import Call as Call
    from mob.peer.results.streams import RemoteIterator as RemoteIterator, Stream as Stream
    from mob.peer.results.waiting import Waited as Waited, as_completed as as_completed, wait as wait
    from mob.peer.serving.deliveries import Delivery as Delivery
    from mob.peer.serving.hooked import ErrorContext as ErrorContext
    from mob.peer.serving.selection import export as export
    from mob.plan import (
        Cluster as Cluster,
        Logs as Logs,
        Plan as Plan,
        RoleOptions as RoleOptions,
        RolePlan as RolePlan,
    )
    from mob.pools.executor import Pool as Pool
    from mob.pools.futures import PoolFuture as PoolFuture
    from mob.pools.role import RolePool as RolePool, pool as pool
    from mob.rim.crashes import Crash as Crash
    from mob.stores.lock import StoreLock as StoreLock
    from mob.stores.store import Allowance as Allowance, Store as Store, store as store
    from mob.stores.watch import StoreChange as StoreChange, StoreWatch as StoreWatch
    from mob.wire.messages import (
        AppMetric as AppMetric,
        AppSample as AppSample,
        CallerMetrics as CallerMetrics,
        Event as Event,
        ExportInfo as ExportInfo,
        ExportMetrics as ExportMetrics,
        History as History,
        Line as Line,
        Member as Member,
        Metrics as Metrics,
        MobsterMetrics as MobsterMetrics,
        Point as Point,
        RoleInfo as RoleInfo,
        RoleMetrics as RoleMetrics,
        Row as Row,
        Running as Running,
        TimerMetrics as TimerMetrics,
    )

__version__ = "0.1.0"

if None in (sys.stdin, sys.stdout, sys.stderr):  # closed: keep mob's own files from getting their numbers
    importlib.import_module("mob.rim.standard").occupy()

_HOMES = {
    "mob.app": "App start",
    "mob.client": "Client connect",
    "mob.core.job_rows": "JobRow",
    "mob.errors": "AddressHeld AppNotRunning AppRunning ArgumentError BadMessage Busy CallError CallTimeout Deadlock "
    "Fenced Forbidden FrameTooLong GarbageFrame JobDropped LinkError Lost MobError NotInMobster PartialFailure "
    "PlanError Quarantined QueueFailed RemoteError Unavailable UnknownExport UnknownJob UnknownRole "
    "UnknownTarget WrongProcess",
    "mob.mobster.api": "Me all any caller cancelled delivery exit inherited job last_error listen me on pid ready "
    "require scale send",
    "mob.mobster.metering": "Counter Gauge Histogram Stopwatch counter gauge histogram",
    "mob.mobster.records": "JsonFormatter",
    "mob.mobster.timers": "cron every",
    "mob.peer.serving.deliveries": "Delivery",
    "mob.peer.calls.jobs": "DurableExport DurableProxy Job JobOptions",
    "mob.peer.calls.mapping": "Map",
    "mob.peer.calls.options": "CallOptions",
    "mob.peer.calls.proxy": "Calls Proxy RemoteExport Target",
    "mob.peer.operating.machines": "Machine",
    "mob.peer.references.encoding": "register",
    "mob.peer.references.functions": "RemoteFunction",
    "mob.peer.references.loans": "Lending buffer empty lend zeros",
    "mob.peer.references.objects": "RemoteMethod RemoteObject ref",
    "mob.peer.results.call": "Call",
    "mob.peer.results.streams": "RemoteIterator Stream",
    "mob.peer.results.waiting": "Waited as_completed wait",
    "mob.peer.serving.hooked": "ErrorContext",
    "mob.peer.serving.selection": "export",
    "mob.plan": "Cluster Logs Plan RoleOptions RolePlan",
    "mob.pools.executor": "Pool",
    "mob.pools.role": "RolePool pool",
    "mob.pools.futures": "PoolFuture",
    "mob.rim.crashes": "Crash",
    "mob.wire.messages": "AppMetric AppSample CallerMetrics Event ExportInfo ExportMetrics History Line Member Metrics "
    "MobsterMetrics Point RoleInfo RoleMetrics Row Running TimerMetrics",
    "mob.stores.lock": "StoreLock",
    "mob.stores.store": "Allowance Store store",
    "mob.stores.watch": "StoreChange StoreWatch",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        words = importlib.import_module("mob.spellings")
        here = words.instead(name, words.MODULE, _HOME_OF) if name in words.MODULE else suggested(name, _HOME_OF, 0.75)
        raise AttributeError(f"module 'mob' has no {name!r}. {here or 'dir(mob) lists its names.'}".rstrip())
    value = globals()[name] = getattr(import_at_rest(home), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if os.environ.get("MOB_UPGRADE", "").startswith("inherit:"):  # this process is a Kingpin during an upgrade
    from mob.kingpin.upgrade import upgrade

    upgrade.begin_probation()
