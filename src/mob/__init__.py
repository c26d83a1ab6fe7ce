"""mob: a simple toolkit for parallelizing one application over several supervised processes.

All public names, each with the file that makes it. They are loaded when first used, so that a Kingpin never loads the
mobsters' side, and a mobster neither the Kingpin's nor the command line.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mob.errors import nearest

if TYPE_CHECKING:
    from mob.app import App as App
    from mob.app import start as start
    from mob.client import Client as Client
    from mob.client import connect as connect
    from mob.errors import AddressHeld as AddressHeld
    from mob.errors import AppNotRunning as AppNotRunning
    from mob.errors import AppRunning as AppRunning
    from mob.errors import ArgumentError as ArgumentError
    from mob.errors import BadMessage as BadMessage
    from mob.errors import Busy as Busy
    from mob.errors import CallError as CallError
    from mob.errors import CallTimeout as CallTimeout
    from mob.errors import Deadlock as Deadlock
    from mob.errors import FrameTooLong as FrameTooLong
    from mob.errors import GarbageFrame as GarbageFrame
    from mob.errors import LinkError as LinkError
    from mob.errors import Lost as Lost
    from mob.errors import MobError as MobError
    from mob.errors import NotInMobster as NotInMobster
    from mob.errors import PartialFailure as PartialFailure
    from mob.errors import PlanError as PlanError
    from mob.errors import Quarantined as Quarantined
    from mob.errors import RemoteError as RemoteError
    from mob.errors import Unavailable as Unavailable
    from mob.errors import UnknownExport as UnknownExport
    from mob.errors import UnknownRole as UnknownRole
    from mob.errors import UnknownTarget as UnknownTarget
    from mob.mobster.api import Me as Me
    from mob.mobster.api import all as all
    from mob.mobster.api import any as any
    from mob.mobster.api import caller as caller
    from mob.mobster.api import cancelled as cancelled
    from mob.mobster.api import last_error as last_error
    from mob.mobster.api import listen as listen
    from mob.mobster.api import me as me
    from mob.mobster.api import on as on
    from mob.mobster.api import pid as pid
    from mob.mobster.api import ready as ready
    from mob.mobster.api import require as require
    from mob.mobster.api import scale as scale
    from mob.mobster.api import send as send
    from mob.mobster.call import Call as Call
    from mob.mobster.callbacks import RemoteFunction as RemoteFunction
    from mob.mobster.exports import export as export
    from mob.mobster.peer import register as register
    from mob.mobster.proxy import Proxy as Proxy
    from mob.mobster.proxy import Target as Target

__version__ = "0.1.0"

_HOMES = {
    "mob.app": "App start",
    "mob.client": "Client connect",
    "mob.errors": "AddressHeld AppNotRunning AppRunning ArgumentError BadMessage Busy CallError CallTimeout Deadlock "
    "FrameTooLong GarbageFrame LinkError Lost MobError NotInMobster PartialFailure PlanError Quarantined RemoteError "
    "Unavailable UnknownExport UnknownRole UnknownTarget",
    "mob.mobster.api": "Me all any caller cancelled last_error listen me on pid ready require scale send",
    "mob.mobster.call": "Call",
    "mob.mobster.callbacks": "RemoteFunction",
    "mob.mobster.exports": "export",
    "mob.mobster.peer": "register",
    "mob.mobster.proxy": "Proxy Target",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'mob' has no {name!r}. {nearest(name, _HOME_OF)}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
