"""Typed proxies: what a caller says that a role exports, as the methods of a `typing.Protocol` or of any class.

Only the annotations of results, and of what generators yield, are looked at, each when its export is first used;
arguments are checked by the callee. A typed call is a class of its own, so an untyped one pays nothing for it. Nothing
here knows a link or a worker.
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
from mob.wire.extensions import WithTags
from mob.wire.misfits import said_of
from mob.wire.unions import Settle, has_choice, plain
from mob.wire.ways import itself

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.results.maker import Maker
    from mob.wire.codec import Codec
    from mob.wire.ways import Way

NewCall = Callable[["Maker", str, str], Call[Any]]
"""What makes a call: of a process, a label and the role among whose workers it may be repeated."""

AWAITED: tuple[Any, ...] = (Call, Awaitable, Coroutine)
"""`-> Call[str]` and the like say of what `await` gives that it is a str."""
STREAMED: tuple[Any, ...] = (AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator)
"""`-> Iterator[int]` and the like say of what it yields that it is an int."""


class Declared(msgspec.Struct, frozen=True):
    """What a caller says of an export."""

    name: str
    """As people read it: `Back.rows`."""
    convert: Way
    """Makes a result what it is annotated as."""
    convert_item: Way
    """The same for what a generator yields."""
    decode: Callable[[Raw], Any]
    """For a result that cannot be decoded unless one knows what it is."""
    as_views: bool = False
    """Whether large buffers in a result are looked at where they lie."""
    items_as_views: bool = False
    """The same for what a generator yields."""
    settle: Settle | None = None
    """Settles the tags of a result, if there is a union in it that needs them."""
    settle_item: Settle | None = None
    """The same for what a generator yields."""

    @property
    def is_undecided(self) -> bool:
        """Whether a result must be decoded so that the annotation decides what is made of it."""
        return self.as_views or self.items_as_views or self.settle is not None


class Interface:
    """The exports of a role as its caller has declared them."""

    __slots__ = ("_codec", "_context", "_kind", "_makers")

    def __init__(self, context: Context, codec: Codec, kind: Any) -> None:
        if not isinstance(kind, type):
            raise TypeError(
                f"the interface of a role is a class, best a typing.Protocol with its exports as methods, not {kind!r}."
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
            self._context.log.warning(
                "results of %s.%s arrive unconverted: its annotation %r cannot be evaluated. What it names must be "
                "imported at run time too, not under TYPE_CHECKING only.",
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
        if kind in STREAMED and kind is not Iterable:  # which says of a list what is in it, too
            return Declared(name, itself, convert_item, codec.decode, False, items_as_views, settle, settle_item)
        convert, decode, as_views = codec.converter(wanted), codec.fast_decoder(wanted), asks_for_views(wanted)
        return Declared(name, convert, convert_item, decode, as_views, items_as_views, settle, settle_item)


class TypedCall(Call[Any]):
    """A call whose value, or what it yields, is converted to what its caller has annotated."""

    __slots__ = ("declared",)

    def __init__(self, declared: Declared, peer: Maker, label: str, role: str) -> None:
        super().__init__(peer, label, role)
        self.declared: Declared = declared

    def settle(self, value: Any) -> None:
        """It ended with a value: which fits, or fails the call."""
        if self.state is DONE or self.incoming is not None:  # what ends a stream is no value
            super().settle(value)
            return
        try:
            converted = self.declared.convert(value)
        except Exception as failure:  # noqa: BLE001  becomes the call's outcome
            self.fail(self.misfit("returned", "return", value, failure))
        else:
            super().settle(converted)

    def settle_as_declared(self, body: Raw) -> bool:
        """It ended with what cannot be decoded untyped: a dict whose keys would be dicts."""
        try:
            value = self.declared.decode(body)
        except Exception:  # noqa: BLE001  then the first reason is the better one
            return False
        super().settle(value)
        return True

    def convert_item(self, item: Any) -> Any:
        """Make what a generator has yielded what it is annotated as."""
        return self.declared.convert_item(item)

    def misfit(self, done: str, do: str, value: Any, failure: Exception) -> CallError:
        """The error for a value that is not what is annotated."""
        seen = said_of(failure, value)
        text = f"{self.label} has {done} what {self.declared.name} is not annotated to {do}: {seen}"
        error = CallError(text, executed="yes")
        error.__cause__ = failure
        return error

    def _new_receiver(self, incoming: Incoming) -> Receiver:
        is_typed = self.declared.convert_item is not itself
        return TypedReceiver(self, self._peer, incoming) if is_typed else super()._new_receiver(incoming)


class UndecidedCall(TypedCall):
    """A typed call whose annotation decides what is made of its result: which member of a union it is, if the export
    sends tags, and whether large buffers are looked at where they lie."""

    __slots__ = ()
    is_undecided = True

    def settle(self, value: Any) -> None:
        """It ended with a value: which fits, or fails the call."""
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
        """Make what a generator has yielded what it is annotated as."""
        item = settled(item, self.declared.items_as_views)
        return super().convert_item(_untagged(self.declared.settle_item, item) if type(item) is WithTags else item)

    def _new_receiver(self, incoming: Incoming) -> Receiver:
        return UndecidedReceiver(self, self._peer, incoming)


def _untagged(settle: Settle | None, value: WithTags) -> Any:
    return plain(value.data) if settle is None else settle(value.data, False)


class TypedReceiver(Receiver):
    """Receives a stream whose items are converted to what the caller has annotated."""

    __slots__ = ()

    def handle_item(self, item: Any) -> None:
        """The generator has yielded something: which fits, or ends the stream."""
        call = self()
        if not isinstance(call, TypedCall):
            return  # it was dropped: nobody will read this
        try:
            converted = call.convert_item(item)
        except Exception as failure:  # noqa: BLE001  becomes the call's outcome
            call.fail(call.misfit("yielded", "yield", item, failure))
            call.contact.forget_call(call)
        else:
            super().handle_item(converted)


class UndecidedReceiver(TypedReceiver):
    """Receives a stream whose annotation decides what is made of its items."""

    __slots__ = ()
    is_undecided = True


def _awaited(annotation: Any) -> Any:
    """What `await` gives, of a call that is annotated so."""
    is_awaited = (typing.get_origin(annotation) or annotation) in AWAITED
    return (Any, *typing.get_args(annotation))[-1] if is_awaited else annotation
