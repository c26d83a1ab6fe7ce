"""Typed proxies: the exports of a role as the caller declares them, by a `typing.Protocol` or any class.

Only the annotations of results and of yielded items are used, each when its export is first used; the worker checks
arguments. A typed call is a class of its own, so an untyped one pays nothing for it. This module knows no link and no
worker.
"""

from __future__ import annotations

import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from functools import partial
from inspect import getattr_static
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from mob.errors import CallError
from mob.peer.results.call import DONE, Call
from mob.peer.results.streams import Incoming, Receiver
from mob.wire.arguments import result_of
from mob.wire.binary import asks_for_views, settled
from mob.wire.encoders import itself
from mob.wire.extensions import WithTags
from mob.wire.misfits import said_of
from mob.wire.unions import Settle, has_choice, plain

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.results.maker import Maker
    from mob.wire.codec import Codec
    from mob.wire.encoders import Conversion

NewCall = Callable[["Maker", str, str], Call[Any]]
"""Makes a call for a process, a label and the role whose workers may repeat it."""

AWAITED: tuple[Any, ...] = (Call, Awaitable, Coroutine)
"""Annotations whose argument is the type of the awaited value, such as `-> Call[str]`."""
STREAMED: tuple[Any, ...] = (AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator)
"""Annotations whose argument is the type of the yielded items, such as `-> Iterator[int]`."""


class Declared(msgspec.Struct, frozen=True):
    """The declaration of an export by its caller."""

    name: str
    """Its name for people: `Back.rows`."""
    convert: Conversion
    """Converts a result to its annotation."""
    convert_item: Conversion
    """Converts an item that a generator yields."""
    decode: Callable[[Raw], Any]
    """Decodes a result that needs its annotation for that."""
    as_views: bool = False
    """True if large buffers in a result are views of shared memory."""
    items_as_views: bool = False
    """True if large buffers in yielded items are views of shared memory."""
    settle: Settle | None = None
    """Resolves the tags of a result, if it contains a union that needs them."""
    settle_item: Settle | None = None
    """Resolves the tags of a yielded item."""

    @property
    def is_undecided(self) -> bool:
        """True if the annotation decides how a result is decoded."""
        return self.as_views or self.items_as_views or self.settle is not None


class Interface:
    """The exports of a role as its caller declares them."""

    __slots__ = ("_codec", "_context", "_kind", "_makers")

    def __init__(self, context: Context, codec: Codec, kind: Any) -> None:
        if not isinstance(kind, type):
            raise TypeError(
                f"the interface of a role must be a class (a typing.Protocol with exports as methods), not {kind!r}."
            )
        self._context = context
        self._codec = codec
        self._kind = kind
        self._makers: dict[str, NewCall] = {}

    def __repr__(self) -> str:
        return f"<Interface {self.name}>"

    @property
    def name(self) -> str:
        """The name of the class."""
        return self._kind.__name__

    def has(self, export: str) -> bool:
        """Return True if it declares that export."""
        return callable(self._method(export))

    def new_call(self, export: str) -> NewCall:
        """Return the constructor of the calls of an export: plain ones, if its result is not declared."""
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
            self._context.log.warning(
                "results of %s.%s arrive unconverted: its annotation %r cannot be evaluated. The names in it must be "
                "imported at run time, too, not only under TYPE_CHECKING.",
                *(self.name, export, wanted),
            )
            return Call
        declared = self._look_up(f"{self.name}.{export}", _awaited(wanted))
        says_nothing = declared.convert is itself and declared.convert_item is itself
        return Call if says_nothing else partial(UndecidedCall if declared.is_undecided else TypedCall, declared)

    def _look_up(self, name: str, wanted: Any) -> Declared:
        codec = self._codec
        settle = codec.settling(wanted) if has_choice(wanted) else None
        kind = typing.get_origin(wanted) or wanted
        item = (*typing.get_args(wanted), Any)[0] if kind in STREAMED else Any
        convert_item, items_as_views = codec.converter(item), asks_for_views(item)
        settle_item = None if settle is None or item is Any else codec.settling(item)
        if kind in STREAMED and kind is not Iterable:  # `Iterable` may also be the annotation of a list
            return Declared(name, itself, convert_item, codec.decode, False, items_as_views, settle, settle_item)
        convert, decode, as_views = codec.converter(wanted), codec.fast_decoder(wanted), asks_for_views(wanted)
        return Declared(name, convert, convert_item, decode, as_views, items_as_views, settle, settle_item)


class TypedCall(Call[Any]):
    """A call whose value, or yielded items, are converted to the annotation of its caller."""

    __slots__ = ("declared",)

    def __init__(self, declared: Declared, peer: Maker, label: str, role: str) -> None:
        super().__init__(peer, label, role)
        self.declared: Declared = declared

    def settle(self, value: Any) -> None:
        """End with a value that fits its annotation; otherwise fail."""
        if self.state is DONE or self.incoming is not None:  # the end of a stream is not a value
            super().settle(value)
            return
        try:
            converted = self.declared.convert(value)
        except Exception as failure:  # noqa: BLE001  becomes the call's outcome
            self.fail(self.misfit("returned", "return", value, failure))
        else:
            super().settle(converted)

    def settle_as_declared(self, body: Raw) -> bool:
        """End with a value that cannot be decoded untyped, such as a dict whose keys are dicts."""
        try:
            value = self.declared.decode(body)
        except Exception:  # noqa: BLE001  then the first reason is the better one
            return False
        super().settle(value)
        return True

    def convert_item(self, item: Any) -> Any:
        """Convert a yielded item to its annotation."""
        return self.declared.convert_item(item)

    def misfit(self, done: str, do: str, value: Any, failure: Exception) -> CallError:
        """Return the error for a value that does not fit its annotation."""
        seen = said_of(failure, value)
        text = f"{self.label} {done} what {self.declared.name} is not annotated to {do}: {seen}"
        error = CallError(text, executed="yes")
        error.__cause__ = failure
        return error

    def _new_receiver(self, incoming: Incoming) -> Receiver:
        is_typed = self.declared.convert_item is not itself
        return TypedReceiver(self, self._peer, incoming) if is_typed else super()._new_receiver(incoming)


class UndecidedCall(TypedCall):
    """A typed call whose annotation decides how its result is decoded.

    It decides on the member of a union, if the export sends tags, and on views of large buffers in shared memory.
    """

    __slots__ = ()
    is_undecided = True

    def settle(self, value: Any) -> None:
        """End with a value that fits its annotation; otherwise fail."""
        if self.state is DONE or self.incoming is not None:
            super().settle(value)
            return
        value = settled(value, self.declared.as_views)
        if type(value) is WithTags:
            try:
                value = _untagged(self.declared.settle, value)
            except Exception as failure:  # noqa: BLE001  becomes the call's outcome
                self.fail(self.misfit("returned", "return", plain(value.data), failure))
                return
        super().settle(value)

    def convert_item(self, item: Any) -> Any:
        """Convert a yielded item to its annotation."""
        item = settled(item, self.declared.items_as_views)
        return super().convert_item(_untagged(self.declared.settle_item, item) if type(item) is WithTags else item)

    def _new_receiver(self, incoming: Incoming) -> Receiver:
        return UndecidedReceiver(self, self._peer, incoming)


def _untagged(settle: Settle | None, value: WithTags) -> Any:
    return plain(value.data) if settle is None else settle(value.data, False)


class TypedReceiver(Receiver):
    """Receives a stream whose items are converted to the annotation of the caller."""

    __slots__ = ()

    def handle_item(self, item: Any) -> None:
        """Take an item that fits its annotation; otherwise end the stream."""
        call = self()
        if not isinstance(call, TypedCall):
            return  # it was dropped, so no one will read this
        try:
            converted = call.convert_item(item)
        except Exception as failure:  # noqa: BLE001  becomes the call's outcome
            call.fail(call.misfit("yielded", "yield", item, failure))
            call.contact.forget_call(call)
        else:
            super().handle_item(converted)


class UndecidedReceiver(TypedReceiver):
    """Receives a stream whose annotation decides how its items are decoded."""

    __slots__ = ()
    is_undecided = True


def _awaited(annotation: Any) -> Any:
    """Return the type of the awaited value for a call with this annotation."""
    is_awaited = (typing.get_origin(annotation) or annotation) in AWAITED
    return (Any, *typing.get_args(annotation))[-1] if is_awaited else annotation
