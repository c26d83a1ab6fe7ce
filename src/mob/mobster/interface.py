"""Typed proxies: what a caller says that a role exports, as the methods of a `typing.Protocol` or of any class.

Only the annotations of results are looked at, each when its export is first used; arguments are checked by the callee.
A typed call is a class of its own, so an untyped one pays nothing for it. Nothing here knows a link or a worker.
"""

from __future__ import annotations

import typing
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from functools import partial
from inspect import getattr_static
from typing import TYPE_CHECKING, Any

from mob.errors import CallError
from mob.mobster.call import DONE, Call
from mob.wire.arguments import explained, result_of
from mob.wire.ways import itself

if TYPE_CHECKING:
    from mob.mobster.peer import Peer
    from mob.wire.ways import Way

NewCall = Callable[["Peer", str, str], Call[Any]]
"""What makes a call: of a peer, a label and the role among whose workers it may be repeated."""

AWAITED: tuple[Any, ...] = (Call, Awaitable, Coroutine)
"""`-> Call[str]` and the like say of what `await` gives that it is a str."""
STREAMED: tuple[Any, ...] = (AsyncGenerator, AsyncIterator, Generator, Iterator)


class Interface:
    """The exports of a role as its caller has declared them."""

    __slots__ = ("_kind", "_makers", "_peer")

    def __init__(self, peer: Peer, kind: Any) -> None:
        if not isinstance(kind, type):
            raise TypeError(
                f"the interface of a role is a class, best a typing.Protocol with its exports as methods, not {kind!r}."
            )
        self._peer = peer
        self._kind = kind
        self._makers: dict[str, NewCall] = {}

    def __repr__(self) -> str:
        return f"<Interface {self.name}>"

    @property
    def name(self) -> str:
        """The name of the class."""
        return self._kind.__name__

    def has(self, export: str) -> bool:
        """Whether it declares that export."""
        return callable(self._method(export))

    def new_call(self, export: str) -> NewCall:
        """What makes the calls of an export: plain ones, if nothing is said of its result."""
        maker = self._makers.get(export)
        if maker is None:
            maker = self._makers[export] = self._maker(export)
        return maker

    def _method(self, export: str) -> Any:
        found = getattr_static(self._kind, export, None)
        return getattr(found, "__func__", found)  # of static methods and class methods

    def _maker(self, export: str) -> NewCall:
        if not self.has(export):
            return Call
        wanted = result_of(self._method(export))
        if isinstance(wanted, str):
            self._peer.log.warning(
                "results of %s.%s arrive unconverted: its annotation %r cannot be evaluated. What it names must be "
                "imported at run time too, not under TYPE_CHECKING only.",
                *(self.name, export, wanted),
            )
            return Call
        convert = self._peer.codec.converter(_awaited(wanted))
        return Call if convert is itself else partial(TypedCall, convert, f"{self.name}.{export}")


class TypedCall(Call[Any]):
    """A call whose value is converted to what its caller has annotated."""

    __slots__ = ("_convert", "_declared")

    def __init__(self, convert: Way, declared: str, peer: Peer, label: str, role: str) -> None:
        super().__init__(peer, label, role)
        self._convert = convert
        self._declared = declared

    def settle(self, value: Any) -> None:
        """It ended with a value: which fits, or fails the call."""
        if self.state is DONE or hasattr(self, "incoming"):  # what ends a stream is no value
            super().settle(value)
            return
        try:
            converted = self._convert(value)
        except Exception as failure:  # noqa: BLE001  becomes the call's outcome
            seen = explained(str(failure), value)
            text = f"{self.label} has returned what {self._declared} is not annotated to return: {seen}"
            error = CallError(text, executed="yes")
            error.__cause__ = failure
            self.fail(error)
        else:
            super().settle(converted)


def _awaited(annotation: Any) -> Any:
    if (typing.get_origin(annotation) or annotation) in AWAITED:
        annotation = (Any, *typing.get_args(annotation))[-1]
    return Any if (typing.get_origin(annotation) or annotation) in STREAMED else annotation
