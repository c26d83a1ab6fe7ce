"""The body of a message: Python values <-> MessagePack.

Strategy. A plain value costs one C call into msgspec in each direction. Everything else is left to hooks and fallbacks,
which run only when msgspec meets something that it does not know:

* `encode` sends a type unknown to msgspec as `encoders.py` says. What msgspec refuses without calling a hook (ints
  beyond 64 bits, circles, invalid text) is handled after the failure by a slow walk over the value (walk.py), which
  rewrites what can be sent after all, and knows the path of what cannot.
* `decoder(annotation)` compiles an annotation once (annotations.py). What does not fit the compiled decoder is decoded
  untyped and converted, so that values made from extensions (big ints, arrays, functions, registered types) fit too.
* Large buffers can be left out of the bytes (sharing.py): `encode_sharing` does that, and `decode` gets them from
  `attach`. They are counted as functions are.
* Functions are counted by their owners. So `encode` calls `lend` once for each reference in the bytes that it returns,
  and only when it is certain that everything else can be sent; decoding calls `borrow` once for each reference that it
  reads. Sockets and files are treated in the same way: duplicated once, opened once.
* What is not read is given back: all references in a body that is never decoded (`discard`), and those behind the
  place where decoding had to stop.

Limits. Pure: no I/O, no clock. Arrays may alias the bytes given to `decode`: those must not change afterwards. A class
that msgspec cannot describe arrives as if it were not annotated. attrs fields named `_x` do not travel (msgspec).
docs/types.md shows what arrives for every type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, cast

import msgspec
from msgspec.msgpack import Decoder, Encoder, Ext

from mob.errors import BadMessage, GarbageFrame, MobError
from mob.wire.annotations import converter, fit, leaves_open, loosen
from mob.wire.arrays import array_over
from mob.wire.binary import Given, Unread, asks_for_views, holds_others, loses_type, made_of, may_hold_binary, settled
from mob.wire.depth import TOO_DEEP
from mob.wire.encoders import (
    MAKERS,
    Conversion,
    Encoders,
    as_function,
    as_given,
    as_object,
    as_opened,
    as_registered,
    itself,
)
from mob.wire.extensions import (
    CALLBACK,
    DESCRIPTOR,
    FOREIGN,
    NESTING,
    OBJECT,
    REGISTERED,
    SHARED,
    TAGGED,
    WITH_TAGS,
    Named,
    Tagged,
    WithTags,
)
from mob.wire.foreign import rebuilt
from mob.wire.kinds import is_opened_by_msgspec
from mob.wire.references import (
    AnyReference,
    DescriptorTable,
    Handle,
    ObjectReference,
    ObjectTable,
    Reference,
    handle_of,
    object_of,
    reference_of,
    references_in,
)
from mob.wire.refusals import UnsendableValue, complaint, text_of
from mob.wire.sharing import LARGE, BufferLocation, BufferSharing, Find, Share, place_of
from mob.wire.unions import Settle, Tagging, settling
from mob.wire.walk import Walk

Raw = bytes | bytearray | memoryview | msgspec.Raw
NESTED = "the message is nested too deeply to be decoded here."

_STOPPING = (CALLBACK, OBJECT, SHARED, DESCRIPTOR, TOO_DEEP, *NESTING)
"""Extensions at which a fast decoder gives up."""
_kind: Callable[[Any], type[Any]] = type
_pack = Encoder().encode


class Codec:
    """An encoder and decoder of bodies; one per process, shared by all of its threads.

    `lend` names a function of this process (for a remote function it returns the existing name), and `borrow` makes a
    remote function from a name; `objects` does both for objects. `attach` returns the memory of a large buffer,
    read-only. `descriptors` handles sockets and files. `give_back` is called with each reference that arrived and was
    not read.
    """

    pack: Callable[[Any], bytes]
    """The bare C encoder, for hot paths. On any exception, call `encode_slowly`, which says what is wrong.

    It stops at functions, sockets and files, so that none is sent twice, and at large buffers that are given away. Look
    it up for each call, because `register` may replace it.
    """

    def __init__(
        self,
        lend: Callable[[Callable[..., Any]], Reference],
        borrow: Callable[[Reference], Any],
        attach: Callable[[BufferLocation], memoryview] | None = None,
        descriptors: DescriptorTable | None = None,
        give_back: Callable[[AnyReference], None] | None = None,
        objects: ObjectTable | None = None,
    ) -> None:
        self._lend = lend
        self._borrow = borrow
        self._attach = attach
        self._descriptors = descriptors
        self._give_back = give_back
        self._objects = objects
        self.references_read: int = 0
        """Number of references read so far, in all bodies together."""
        self._makers: dict[str, Conversion] = {}
        self._encoders = Encoders(self._check_opened)
        self._decoders: dict[Any, Conversion] = {}
        self._probing = _Packer(
            self._encoders, _stop_at_reference, _stop_at_reference, _stop_at_reference, _stop_if_large
        )
        self._dry = _Packer(self._encoders, _skip_function, self._check_opened, _skip_function)
        self._lending = _Packer(self._encoders, self._encode_function, self._encode_opened, self._encode_object)
        self._walks_always = False
        self.pack = self._probing.pack
        self._unpack = Decoder(ext_hook=self._ext_hook).decode
        self._unpack_undecided = Decoder(ext_hook=self._ext_hook_undecided).decode

    def __repr__(self) -> str:
        return f"<Codec: {len(self._encoders.registered)} registered types, {len(self._decoders)} compiled annotations>"

    def encode(self, value: Any, root: str = "args") -> bytes:
        """Return the MessagePack of a value.

        Raises `BadMessage` if it cannot be sent, with the path of the unsendable part from `root`.
        """
        try:
            body = self.pack(value)
        except Exception as failure:  # noqa: BLE001  translated there
            return self.encode_slowly(value, root, failure)
        return body if not may_hold_binary(body) else self.encode_binary(value, root, body)

    def encode_binary(self, value: Any, root: str, body: bytes) -> bytes:
        """Return the body of a value given the result of `pack`: a new body if `pack` lost a type, else the same."""
        return self.encode_slowly(value, root, _LOST_TYPE) if holds_others(value) else body

    def tagged(self, value: Any, root: str) -> WithTags:
        """Return the value with tags for unions, ready to be encoded; raise `BadMessage` as `encode` does."""
        walk = Tagging(self._encoders, root)
        return WithTags(None, self._walked(walk, value))

    def encode_sharing(self, value: Any, share: Share, find: Find | None = None) -> bytes:
        """Return the MessagePack of a value without its large buffers. If this raises, `encode` says what is wrong."""
        return self._lending.pack(BufferSharing(self._encoders, share, find).rewrite(value))

    def encode_data(self, value: Any) -> bytes | None:
        """Return the MessagePack of a value without functions; None if it has some, or cannot be sent at all."""
        for prepare in (itself, Walk(self._encoders).rewrite):
            try:
                body = self.pack(prepare(value))
            except Exception:  # noqa: BLE001  whatever goes wrong, the answer is None
                continue
            if prepare is not itself or not loses_type(value, body):
                return body
        return None

    def has_registered(self, kind: type[Any]) -> bool:
        """Return whether this process registered a class or one of its bases."""
        return self._encoders.registration(kind) is not None

    def decode(self, raw: Raw, undecided: bool = False) -> Any:
        """Return the value as MessagePack gives it back: tuples and sets as lists, structured types as dicts.

        With `undecided`, what only an annotation can decide stays open: large buffers become `Unread`, for `settled`; a
        body with tags becomes a `WithTags` with tagged values as `Tagged`, for `settling`. Otherwise tags are dropped.
        Raises `GarbageFrame` if the bytes are malformed, `BadMessage` if they are valid but mean something that this
        process does not support.
        """
        before = self.references_read
        try:
            return self._unpack_undecided(raw) if undecided else self._unpack(raw)
        except BaseException as failure:  # noqa: BLE001  translated there
            self.discard(raw, self.references_read - before)
            blame_bytes(failure)

    def decode_both(self, args: Raw, kwargs: Raw | None, undecided: bool = False) -> tuple[Any, Any]:
        """Return the decoded args and kwargs of a call; if the args cannot be decoded, discard the kwargs."""
        try:
            values = self.decode(args, undecided)
        except BaseException:
            if kwargs is not None:
                self.discard(kwargs)
            raise
        return values, None if kwargs is None else self.decode(kwargs, undecided)

    def discard(self, raw: Raw, read: int = 0) -> None:
        """Give back the references in a body that is not decoded to its end, except the first `read` ones."""
        if self._give_back is not None:
            for reference in references_in(raw)[read:]:
                self._give_back(reference)

    def decoder(self, annotation: Any) -> Callable[[Raw], Any]:
        """Return a function that decodes a body as annotated, compiled once per annotation.

        On a misfit it raises `msgspec.ValidationError`.
        """
        try:
            found = self._decoders.get(annotation)
        except TypeError:  # unhashable, like Annotated[int, []]
            return self._compile(annotation)
        if found is None:
            found = self._decoders[annotation] = self._compile(annotation)
        return found

    def fast_decoder(self, annotation: Any) -> Callable[[Raw], Any]:
        """Return the bare C decoder, for hot paths. Whatever it raises, start again with `decode` and `converter`.

        Unless the annotation consists only of `Any`, it stops at references, so that none is read twice.
        """
        hook = self._ext_hook if leaves_open(annotation) else self._ext_hook_typed
        return Decoder(loosen(annotation), ext_hook=hook, dec_hook=fit).decode

    def converter(self, annotation: Any) -> Conversion:
        """Return a function that converts a result of `decode` as annotated, or raises `msgspec.ValidationError`."""
        return converter(annotation)

    def settling(self, annotation: Any) -> Settle:
        """Return a function that settles the tags in a result of `decode`, for the converter of that annotation."""
        return settling(annotation, converter)

    def register(self, kind: type[Any], encode: Conversion, decode: Conversion) -> None:
        """Add a type and its subclasses: `encode(obj)` returns sendable data, `decode(data)` makes an object of it.

        Both ends must register it. `encode` may run more than once for one message. A type that msgspec encodes by
        itself, such as a dataclass, can be registered too, at a price: from then on this process walks through every
        value before sending it.
        """
        self._makers[self._encoders.register(kind, encode)] = decode
        if is_opened_by_msgspec(kind):
            self._walks_always = True
            self.pack = self._pack_walked

    def serve(self, kind: type[Any]) -> None:
        """Send objects of a class by reference, unless msgspec encodes them by itself."""
        self._encoders.serve(kind)

    # -- encoding ----------------------------------------------------------------------------------------------------

    def _encode_function(self, function: Callable[..., Any]) -> Ext:
        return Ext(CALLBACK, _pack(self._lend(function)))

    def _encode_object(self, value: Any) -> Ext:
        if self._objects is None:
            raise UnsendableValue(complaint(value, _kind(value)))
        return Ext(OBJECT, _pack(self._objects.lend(value)))

    def _encode_opened(self, opened: Any) -> Ext:
        return Ext(DESCRIPTOR, _pack(self._table_for(opened).duplicate(opened)))

    def _check_opened(self, opened: Any) -> None:
        self._table_for(opened).check(opened)

    def _table_for(self, opened: Any) -> DescriptorTable:
        if self._descriptors is None:
            raise UnsendableValue(complaint(opened, _kind(opened)))
        return self._descriptors

    def _pack_walked(self, value: Any) -> bytes:
        return self._probing.pack(Walk(self._encoders).rewrite(value))

    def encode_slowly(self, value: Any, root: str, failure: Exception) -> bytes:
        """Do the same as `encode`, after `pack` raised `failure`."""
        if not (isinstance(failure, _HasReference) and self._is_plain(value)):
            value = self._rewritten(value, root)
        try:
            return self._lending.pack(value)
        except MobError:  # an error of `lend`
            raise
        except UnsendableValue as reason:
            raise BadMessage(f"cannot send {root}: {reason}", root) from reason.__cause__
        except Exception as reason:
            raise BadMessage(f"cannot send {root}: encoding it raised {text_of(reason)}.", root) from reason

    def _is_plain(self, value: Any) -> bool:
        try:
            body = self._dry.pack(value)
        except Exception:  # noqa: BLE001  the walk will say what it is
            return False
        return not self._walks_always and not loses_type(value, body)

    def _rewritten(self, value: Any, root: str) -> Any:
        return self._walked(Walk(self._encoders, root), value)

    def _walked(self, walk: Walk, value: Any) -> Any:
        try:
            return walk.rewrite(value)
        except Exception as reason:
            where = walk.where()
            if isinstance(reason, UnsendableValue):
                raise BadMessage(f"cannot send {where}: {reason}", where) from reason.__cause__
            if isinstance(reason, RecursionError):
                raise BadMessage(f"cannot send {where}: it is nested too deeply.", where) from reason
            raise BadMessage(f"cannot send {where}: encoding it raised {text_of(reason)}.", where) from reason

    # -- decoding ----------------------------------------------------------------------------------------------------

    def _ext_hook(self, code: int, data: memoryview) -> Any:
        try:
            if code == CALLBACK:
                reference = reference_of(data)
            elif code == TOO_DEEP:
                raise BadMessage(NESTED)
            elif code == REGISTERED:
                return self._decode_registered(*self._unpack(data))
            elif code == FOREIGN:
                return rebuilt(*self._unpack(data))
            elif code in (TAGGED, WITH_TAGS):
                return self._unpack(data)[1]
            elif code == SHARED:
                return self._decode_shared(place_of(data))
            elif code == DESCRIPTOR:
                return self._decode_opened(handle_of(data))
            elif code == OBJECT:
                return self._decode_object(object_of(data))
            else:
                return MAKERS[code](data) if code in MAKERS else Ext(code, bytes(data))
        except (MobError, RecursionError):
            raise
        except Exception as failure:
            raise GarbageFrame(f"the extension {code} of a body is malformed: {text_of(failure)}") from failure
        function = self._borrow(reference)
        self.references_read += 1
        return function

    def _ext_hook_undecided(self, code: int, data: memoryview) -> Any:
        if code == SHARED:
            place = place_of(data)
            return self._decode_shared(place) if place.head is not None else Unread(place.kind, self._look_at(place))
        if code == TAGGED:
            names, value = _two(code, self._unpack_undecided(data))
            if type(names) is not list or not names or set(map(_kind, cast("list[Any]", names))) != {str}:
                raise GarbageFrame(f"the extension {code} of a body is malformed: a tag is no list of names.")
            return Tagged(names, value)
        if code == WITH_TAGS:
            return WithTags(*_two(code, self._unpack_undecided(data)))
        return self._ext_hook(code, data)

    def _ext_hook_typed(self, code: int, data: memoryview) -> Any:
        if code in _STOPPING:
            raise _HasReference
        return self._ext_hook(code, data)

    def _decode_shared(self, place: BufferLocation) -> Any:
        memory = self._look_at(place)
        return made_of(place.kind, memory) if place.head is None else array_over(memory, place.head)

    def _look_at(self, place: BufferLocation) -> memoryview:
        if self._attach is None:
            raise BadMessage("a buffer in shared memory arrived, but this process has no shared memory.")
        memory = self._attach(place)
        self.references_read += 1
        return memory

    def _decode_opened(self, handle: Handle) -> Any:
        if self._descriptors is None:
            raise BadMessage("a socket or file arrived, but this process cannot receive any.")
        opened = self._descriptors.open(handle)
        self.references_read += 1
        return opened

    def _decode_object(self, reference: ObjectReference) -> Any:
        if self._objects is None:
            raise BadMessage("an object arrived by reference, but this process cannot receive any.")
        found = self._objects.borrow(reference)
        self.references_read += 1
        return found

    def _decode_registered(self, name: str, data: Any) -> Any:
        if (make := self._makers.get(name)) is None:
            raise BadMessage(
                f"a {name} arrived, but this process did not register that type. Call mob.register(...) for it in"
                f" both processes, best in a module that both import."
            )
        try:
            return make(data)
        except KeyboardInterrupt:  # meant for the caller that waits
            raise
        except BaseException as failure:
            raise BadMessage(f"the decoder registered for {name} failed: {text_of(failure)}") from failure

    def _compile(self, annotation: Any) -> Conversion:
        if annotation is Any:
            return self.decode
        fast, convert, as_views = self.fast_decoder(annotation), self.converter(annotation), asks_for_views(annotation)

        def decode(raw: Raw) -> Any:
            try:
                return fast(raw)
            except Exception:  # noqa: BLE001  the slow way raises a better error
                return convert(settled(self.decode(raw, True), True) if as_views else self.decode(raw))

        return decode


class _Packer:
    """msgspec's encoder with one function each for functions, opened files, objects, and buffers given away."""

    def __init__(
        self,
        encoders: Encoders,
        function: Conversion,
        opened: Conversion,
        by_reference: Conversion,
        given: Conversion = as_given,
    ) -> None:
        self.encoders = encoders
        self.function = function
        self.opened = opened
        self.by_reference = by_reference
        self.given = given
        self.pack = Encoder(enc_hook=self.hook).encode

    def hook(self, value: Any) -> Any:
        encoder = self.encoders.of(value)
        if encoder is as_function:
            return self.function(value)
        if encoder is as_opened:
            return self.opened(value)
        if encoder is as_object:
            return self.by_reference(value)
        if encoder is as_given:
            return self.given(value)
        if encoder is not as_registered:
            return encoder(value)
        if not isinstance(value, Named):
            kind = _kind(value)
            name, encode = self.encoders.registration(kind) or ("", itself)
            value = Named(name, encode(value))
        return Ext(value.code, self.pack((value.name, value.data)))


class _HasReference(Exception):
    """Stops a fast path before it lends or borrows what a slow path might lend or borrow again."""


class HasLargeBuffer(Exception):
    """Stops `pack` before it packs a large buffer that is given away, at any depth: it is better shared."""


_LOST_TYPE = ValueError("a bytearray or a memoryview was packed as bytes")


def _stop_at_reference(thing: Any) -> NoReturn:
    raise _HasReference


def _stop_if_large(given: Given) -> Ext:
    if given.nbytes >= LARGE:
        raise HasLargeBuffer
    return as_given(given)


def _skip_function(function: Any) -> None:
    return None


def _two(code: int, parts: Any) -> Any:
    """Return the parts of an extension that holds a name and a value."""
    if type(parts) is not list or len(parts) != 2:  # pyright: ignore[reportUnknownArgumentType]
        raise GarbageFrame(f"the extension {code} of a body is malformed: it is not a name and a value.")
    return parts  # pyright: ignore[reportUnknownVariableType]


def blame_bytes(failure: BaseException) -> NoReturn:
    """Translate what decoding raised.

    Raises `GarbageFrame` if the bytes are malformed, `BadMessage` if they mean something that this process does not
    support, and anything else as it is.
    """
    if isinstance(failure, RecursionError):
        raise BadMessage(NESTED) from failure
    if isinstance(failure, msgspec.DecodeError | UnicodeDecodeError):
        if "must be hashable" in str(failure):
            raise BadMessage("a dict in the message has keys that arrive as dicts: annotate it.") from failure
        raise GarbageFrame(f"the bytes of a body are not MessagePack: {failure}.") from failure
    raise failure
