"""The test kit for apps built on mob: a pytest plugin, an app in one process, faults on demand, a look for leaks.

With pytest the fixture `mob_app` is all that is needed; `start` is the same as a context manager. The parts are loaded
when first used: the plugin is imported in every run of pytest, and must cost nothing where no app is tested.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mob.testing.app import AppUnderTest as AppUnderTest, NotReady as NotReady
    from mob.testing.faults import Fault as Fault, Faults as Faults
    from mob.testing.leaks import Leak as Leak, Leaked as Leaked
    from mob.testing.stage import start as start

_HOMES = {
    "AppUnderTest": "mob.testing.app",
    "NotReady": "mob.testing.app",
    "Fault": "mob.testing.faults",
    "Faults": "mob.testing.faults",
    "Leak": "mob.testing.leaks",
    "Leaked": "mob.testing.leaks",
    "start": "mob.testing.stage",
}

in_one_process = False
"""Where apps run of which nothing else is said; the plugin sets it as its option says."""

__all__ = ["AppUnderTest", "Fault", "Faults", "Leak", "Leaked", "NotReady", "start"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mob.testing' has no {name!r}.")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value
