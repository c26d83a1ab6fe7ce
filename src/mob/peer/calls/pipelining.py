"""Calls of methods of an object that is still being made: `back.Room("kitchen").add(1)`.

Calling a class of another role is a call like any other, and ends with a handle. Its methods can be called at once:
these calls are encoded in the line that makes them, wait for the handle, and are sent in that order to the worker that
made the object. If making the object fails, they end with the same error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, cast

from mob.errors import BadMessage, CallError, UnknownExport
from mob.peer.calls.method_calls import PreparedCall
from mob.peer.references.objects import Promised, RemoteObject, no_method
from mob.peer.results.call import Call
from mob.wire.messages import ExportInfo, RoleInfo

if TYPE_CHECKING:
    from mob.peer.calls.outgoing import Outgoing

_first = Lock()
"""Held while a line is created, which any thread may do first."""


class Making(Call[Any], Promised):
    """A call of a class, which makes an object in one worker of its role."""

    __slots__ = ("_line", "_lock")

    _line: deque[PreparedCall]
    _lock: Any
    """Both exist once a method was called.

    Before the exports of a role are known, each of its calls may make an object, and must cost no more than other
    calls.
    """

    def __getattr__(self, name: str) -> PipelinedMethod:
        if name.startswith("_") or hasattr(Call, name):
            raise AttributeError(f"a call has no attribute {name!r} yet" if hasattr(Call, name) else name)
        info = self._described()
        if info is not None and info.methods is None:
            raise AttributeError(f"a call has no attribute {name!r}. {self.label} is a function: await its result.")
        if info is not None and info.methods is not None:
            known = [each.name.rpartition(".")[2] for each in info.methods]
            if name not in known:
                raise no_method(self.label, name, known)
        return PipelinedMethod(self, name)

    def __dir__(self) -> list[str]:
        info = self._described()
        methods = () if info is None else info.methods or ()
        return [*super().__dir__(), *(each.name.rpartition(".")[2] for each in methods)]

    def awaited(self) -> RemoteObject:
        """Wait for the handle and return it."""
        handle = self.result()
        if not isinstance(handle, RemoteObject):
            raise BadMessage(f"a call of {self.label} cannot be sent. Await it, and send its result.")
        return handle

    def begin(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call[Any]:
        """Call a method of the object that is being made."""
        peer = cast("Outgoing", self._peer)
        prepared = peer.calling.prepare_method(self.label, name, args, kwargs, None)
        with _first:
            is_first = not hasattr(self, "_line")
            if is_first:
                self._lock, self._line = RLock(), deque()
        if is_first:
            self.when_done(self._send_line)
        with self._lock:
            self._line.append(prepared)
            if self.done_already():
                self._send_line(self)
        return prepared.call

    def _send_line(self, _: Call[Any]) -> None:
        """Send or end the calls that wait for the object, now that its making has ended; on any thread."""
        peer = cast("Outgoing", self._peer)
        with self._lock:
            while self._line:
                prepared = self._line.popleft()
                if self.cancelled():
                    prepared.call.cancel()
                elif (error := self.exception()) is not None:
                    prepared.call.fail(error)
                elif isinstance(handle := self.result(), RemoteObject):
                    peer.calling.send_prepared(prepared, handle)
                else:
                    peer.fail(prepared.call, _no_object(self.label, prepared.call.label))

    def _described(self) -> ExportInfo | None:
        """Return what is known of the called export; None before a worker was ready."""
        role, _, name = self.label.partition(".")
        known = self._peer.context.roster.roles.get(role)
        return next((each for each in (known and known.exports) or () if each.name == name), None)


class PipelinedMethod:
    """One method of an object that is being made."""

    __slots__ = ("_making", "_name")

    def __init__(self, making: Making, name: str) -> None:
        """Send the call once the object exists."""
        self._making = making
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Call[Any]:
        """Send the call once the object exists."""
        return self._making.begin(self._name, args, kwargs)

    def __repr__(self) -> str:
        return f"<{self._making.label}.{self._name}(...)>"


def _no_object(label: str, method: str) -> CallError:
    return UnknownExport(f"{method} cannot be called: {label} is a function, and returned no object.")


def makes_objects(role: RoleInfo | None, name: str) -> bool | None:
    """Return True if an export is a class; None if that is not known yet."""
    if role is None or role.exports is None:
        return None
    found = next((each for each in role.exports if each.name == name), None)
    return (False if role.complete else None) if found is None else found.methods is not None
