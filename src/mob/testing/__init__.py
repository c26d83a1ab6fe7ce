"""The test kit for apps built on mob: a pytest plugin, an app in one process, faults on demand, and leak checks.

With pytest, the fixture `mob_app` is all you need; `start` is the same as a context manager. The parts are loaded at
first use: every run of pytest imports the plugin, which must cost nothing if no app is tested.
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
"""True if apps run in the test's process unless a test says otherwise; set by the plugin from its option."""

__all__ = ["AppUnderTest", "Fault", "Faults", "Leak", "Leaked", "NotReady", "start"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mob.testing' has no {name!r}.")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value
