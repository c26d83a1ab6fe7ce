"""Imports of many modules at once, during which the garbage collector rests.

They make tens of thousands of objects and next to no garbage, and the collector looks through all of these again and
again: a tenth of the time, and more on a slow machine.
"""

from __future__ import annotations

import gc
import importlib
from types import ModuleType


def import_at_rest(name: str) -> ModuleType:
    """Import a module, and what that needs. The collector goes on afterwards, if it was on."""
    is_on = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        if is_on:
            gc.enable()
