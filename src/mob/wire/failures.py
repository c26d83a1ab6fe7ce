"""PLACEHOLDER until the real file is written: overwrite it entirely."""
from __future__ import annotations
import traceback
import msgspec
from mob.errors import RemoteError, CallError
class Failure(msgspec.Struct, frozen=True, array_like=True):
    type_name: str
    builtin: str
    message: str
    traceback: str
    executed: str = "yes"
def describe(exc, codec):
    return Failure(type(exc).__name__, "", str(exc), "".join(traceback.format_exception(exc)))
def rebuild(f, codec):
    e = RemoteError(f.message); e.type_name = f.type_name
    return e
