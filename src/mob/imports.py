"""Imports of many modules at once, during which the garbage collector is off.

Imports make tens of thousands of objects and hardly any garbage, and the collector scans all of these objects again and
again: a tenth of the time, and more on a slow machine.
"""

from __future__ import annotations

import gc
import importlib
from types import ModuleType


def import_at_rest(name: str) -> ModuleType:
    """Import a module, and what it needs. Afterwards the collector is turned on again if it was on."""
    is_on = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        if is_on:
            gc.enable()
