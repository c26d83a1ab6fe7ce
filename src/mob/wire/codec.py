"""The body of a message: Python values <-> MessagePack.

Strategy. A plain value costs one C call into msgspec, there and back; the rest is left to hooks and fallbacks, which
run only when msgspec meets something it does not know:

* `encode` finds the way of an unknown type once and remembers it. What msgspec refuses without asking (ints beyond
  64 bit, circles, broken text) is handled after the failure by a slow `_Walk` over the structure: it rewrites what can
  be sent after all, and knows the path of what cannot.
* `decoder(annotation)` compiles an annotation once. What does not fit the compiled decoder is decoded untyped and
  converted, so that values born of extensions (big ints, arrays, functions, registered types) fit annotations too.
  Pieces of an annotation that msgspec cannot compile get a stand-in, which never refuses to be built.
* Functions are counted by their owners, hence: `encode` calls `lend` once for each reference in the bytes it returns,
  and not before it is sure that all the rest can be sent; decoding calls `borrow` once for each reference it reads.

Limits. Pure: no I/O, no clock. Arrays may alias the bytes given to `decode`: those must not change afterwards. A class
that msgspec cannot describe arrives as if it were not annotated. attrs fields named `_x` do not travel (msgspec).
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import importlib
import pathlib
import struct
import sys
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import msgspec
from msgspec import UNSET, Struct, ValidationError
from msgspec.msgpack import Decoder, Encoder, Ext

from mob.errors import BadMessage, GarbageFrame, MobError

CALLBACK, BIG_INT, ARRAY, COMPLEX, RANGE, REGISTERED = 1, 2, 3, 4, 5, 6
"""The codes of mob's MessagePack extensions."""

Way = Callable[[Any], Any]
_kind: Callable[[Any], type[Any]] = type
Raw = bytes | bytearray | memoryview | msgspec.Raw
MIN_INT, MAX_INT = -(2**63), 2**64 - 1


class Reference(Struct, frozen=True, array_like=True, gc=False):
    """The name of a function that lives in some process of the mob: its owner, and its number there."""

    owner: int
    id: int


class Codec:
    """Encodes and decodes bodies; one per process, for all of its threads.

    `lend` gives a function of this process a name (a remote function has one already: `lend` returns that), `borrow`
    makes a remote function of a name.
    """

    def __init__(self, lend: Callable[[Callable[..., Any]], Reference], borrow: Callable[[Reference], Any]) -> None:
        self._lend = lend
        self._borrow = borrow
        self._registered: dict[type, tuple[str, Way]] = {}
        self._makers: dict[str, Way] = {}
        self._ways: dict[type, Way] = {}
        self._decoders: dict[Any, Way] = {}
        self._probing = _Packer(self, _stop_at_function)
        self._dry = _Packer(self, _skip_function)
        self._lending = _Packer(self, self._encode_function)
        self._walks_always = False
        self._pack: Callable[[Any], bytes] = self._probing.pack
        self._unpack = Decoder(ext_hook=self._ext_hook).decode

    def __repr__(self) -> str:
        return f"<Codec: {len(self._registered)} registered types, {len(self._decoders)} compiled annotations>"

    def encode(self, value: Any, root: str = "args") -> bytes:
        """The MessagePack of a value, else `BadMessage`, which names the unsendable part by its path from `root`."""
        try:
            return self._pack(value)
        except Exception as failure:  # noqa: BLE001  translated there
            return self._encode_slowly(value, root, failure)

    def encode_data(self, value: Any) -> bytes | None:
        """The MessagePack of a value without functions; None if there are some, or if it cannot be sent at all."""
        for prepare in (_itself, _Walk(self).rewrite):
            try:
                return self._pack(prepare(value))
            except Exception:  # noqa: BLE001  whatever the value does, the answer is None
                continue
        return None

    def decode(self, raw: Raw) -> Any:
        """The value as MessagePack gives it back: tuples and sets as lists, structured types as dicts.

        Raises `GarbageFrame` if the bytes are malformed, `BadMessage` if they are fine but cannot be understood here.
        """
        try:
            return self._unpack(raw)
        except Exception as failure:  # noqa: BLE001  translated there
            blame_bytes(failure)

    def decoder(self, annotation: Any) -> Callable[[Raw], Any]:
        """raw -> the value as annotated, compiled once. On a misfit it raises `msgspec.ValidationError`."""
        try:
            found = self._decoders.get(annotation)
        except TypeError:  # unhashable, as Annotated[int, []] is
            return self._compile(annotation)
        if found is None:
            found = self._decoders[annotation] = self._compile(annotation)
        return found

    def fast_decoder(self, annotation: Any) -> Callable[[Raw], Any]:
        """The bare C decoder: for hot paths which, whatever it raises, start again with `decode` and `converter`.

        Unless the annotation is nothing but `Any`, it stops at functions, lest they be borrowed twice.
        """
        hook = self._ext_hook if _leaves_open(annotation) else self._ext_hook_typed
        return Decoder(loosen(annotation), ext_hook=hook, dec_hook=_fit).decode

    def converter(self, annotation: Any) -> Way:
        """What `decode` returned -> the value as annotated; on a misfit `msgspec.ValidationError`."""
        loose = loosen(annotation)
        if loose is Any:
            return _itself
        return functools.partial(_fit_alone if _is_ours(loose) else _convert, loose)

    def register(self, kind: type[Any], encode: Way, decode: Way) -> None:
        """Add a type and its subclasses: `encode(obj)` gives sendable data, `decode(data)` makes it an object again.

        Both ends must register it. `encode` may run more than once for one message. A type that msgspec encodes by
        itself, such as a dataclass, can be registered too, at a price: from then on this process walks through every
        value before it sends it.
        """
        if kind in _BUILT_IN or kind in _LEAVES:
            raise TypeError(f"{kind.__qualname__} cannot be registered: it is sent as it is.")
        name = f"{kind.__module__}:{kind.__qualname__}"
        self._registered[kind] = (name, encode)
        self._makers[name] = decode
        self._ways = {}
        if issubclass(kind, (list, tuple, set, frozenset, dict, Struct, enum.Enum)) or _is_record(kind):
            self._walks_always = True
            self._pack = self._pack_walked

    # -- encoding ----------------------------------------------------------------------------------------------------

    def way(self, value: Any) -> Way:
        """How to send a value of a type that msgspec does not know; raises `_Refused` if it cannot be sent."""
        return self._ways.get(_kind(value)) or self._find_way(value)

    def registration(self, kind: type[Any]) -> tuple[str, Way] | None:
        """The name and the encoder of a registered type, its own or its nearest base's."""
        bases = kind.__mro__ if self._registered else ()
        return next((self._registered[base] for base in bases if base in self._registered), None)

    def _find_way(self, value: Any) -> Way:
        kind = _kind(value)
        if len(self._ways) > 2000:  # types made on the fly must not pile up
            self._ways = {}
        way: Way | None = _as_registered if self.registration(kind) or kind is _Named else None
        way = way or next((_WAYS[base] for base in kind.__mro__ if base in _WAYS), None) or _odd_way(value, kind)
        self._ways[kind] = way
        return way

    def _encode_function(self, function: Callable[..., Any]) -> Ext:
        return Ext(CALLBACK, _pack_plain(self._lend(function)))

    def _pack_walked(self, value: Any) -> bytes:
        return self._probing.pack(_Walk(self).rewrite(value))

    def _encode_slowly(self, value: Any, root: str, failure: Exception) -> bytes:
        if not (isinstance(failure, _HasFunction) and self._is_plain(value)):
            value = self._rewritten(value, root)
        try:
            return self._lending.pack(value)
        except MobError:  # what `lend` has to say
            raise
        except Exception as reason:
            raise BadMessage(f"cannot send {root}: encoding it raised {_text(reason)}.", root) from reason

    def _is_plain(self, value: Any) -> bool:
        try:
            self._dry.pack(value)
        except Exception:  # noqa: BLE001  the walk will say what it is
            return False
        return not self._walks_always

    def _rewritten(self, value: Any, root: str) -> Any:
        walk = _Walk(self, root)
        try:
            return walk.rewrite(value)
        except Exception as reason:
            where = walk.where()
            if isinstance(reason, _Refused):
                raise BadMessage(f"cannot send {where}: {reason}", where) from reason.__cause__
            if isinstance(reason, RecursionError):
                raise BadMessage(f"cannot send {where}: it is nested too deeply.", where) from reason
            raise BadMessage(f"cannot send {where}: encoding it raised {_text(reason)}.", where) from reason

    # -- decoding ----------------------------------------------------------------------------------------------------

    def _ext_hook(self, code: int, data: memoryview) -> Any:
        try:
            if code == CALLBACK:
                reference = _unpack_reference(data)
            elif code == REGISTERED:
                return self._decode_registered(*self._unpack(data))
            else:
                return _MAKERS[code](data) if code in _MAKERS else Ext(code, bytes(data))
        except (MobError, RecursionError):
            raise
        except Exception as failure:
            raise GarbageFrame(f"the extension {code} of a body is malformed: {_text(failure)}") from failure
        return self._borrow(reference)

    def _ext_hook_typed(self, code: int, data: memoryview) -> Any:
        if code in (CALLBACK, REGISTERED):
            raise _HasFunction
        return self._ext_hook(code, data)

    def _decode_registered(self, name: str, data: Any) -> Any:
        if (make := self._makers.get(name)) is None:
            raise BadMessage(
                f"a {name} arrived, and this process has not registered that type. Call mob.register(...) for it in"
                f" both processes, best in a module that both import."
            )
        try:
            return make(data)
        except Exception as failure:
            raise BadMessage(f"the decoder registered for {name} failed: {_text(failure)}") from failure

    def _compile(self, annotation: Any) -> Way:
        if annotation is Any:
            return self.decode
        fast, convert = self.fast_decoder(annotation), self.converter(annotation)

        def decode(raw: Raw) -> Any:
            try:
                return fast(raw)
            except Exception:  # noqa: BLE001  what is wrong comes up once more, and better
                return convert(self.decode(raw))

        return decode


class _Packer:
    """msgspec's encoder with one answer to functions."""

    def __init__(self, codec: Codec, function: Way) -> None:
        self.codec = codec
        self.function = function
        self.pack = Encoder(enc_hook=self.hook).encode

    def hook(self, value: Any) -> Any:
        way = self.codec.way(value)
        if way is _as_function:
            return self.function(value)
        if way is not _as_registered:
            return way(value)
        if not isinstance(value, _Named):
            kind = _kind(value)
            name, encode = self.codec.registration(kind) or ("", _itself)
            value = _Named(name, encode(value))
        return Ext(REGISTERED, self.pack((value.name, value.data)))


class _HasFunction(Exception):
    """Stops a fast path before it lends or borrows what a slow path might lend or borrow again."""


def _stop_at_function(function: Any) -> NoReturn:
    raise _HasFunction


def _skip_function(function: Any) -> None:
    return None


def _as_function(value: Any) -> NoReturn:
    raise AssertionError("a mark, not called: the packer decides about functions")


def _as_registered(value: Any) -> NoReturn:
    raise AssertionError("a mark, not called: the packer packs what the registered encoder returns")


def _itself(value: Any) -> Any:
    return value


def blame_bytes(failure: Exception) -> NoReturn:
    """Translates what decoding raised: `GarbageFrame` if the bytes are malformed, `BadMessage` if they only mean
    something that cannot be had here. All else passes as it is."""
    if isinstance(failure, RecursionError):
        raise BadMessage("the message is nested too deeply to be decoded here.") from failure
    if isinstance(failure, msgspec.DecodeError | UnicodeDecodeError):
        if "must be hashable" in str(failure):
            raise BadMessage("a dict of the message has keys that arrive as dicts: annotate it.") from failure
        raise GarbageFrame(f"the bytes of a body are not MessagePack: {failure}.") from failure
    raise failure


# -- the slow walk ---------------------------------------------------------------------------------------------------


class _Refused(Exception):
    """Says why a value is not data; the walk knows where it sits."""


class _Named:
    """What a registered encoder returned. (Not a dataclass, which msgspec would encode by itself.)"""

    __slots__ = ("data", "name")

    def __init__(self, name: str, data: Any) -> None:
        self.name = name
        self.data = data


class _Sealed:
    """Keeps a rewritten key of a dict hashable; its way opens it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Walk:
    """One pass over a value that goes where msgspec goes and rewrites what msgspec cannot encode.

    Functions stay as they are. An exception leaves `path` at the place where it happened.
    """

    def __init__(self, codec: Codec, root: str = "args") -> None:
        self.codec = codec
        self.root = root
        self.path: list[tuple[str, Any]] = []
        self.open: set[int] = set()

    def where(self) -> str:
        steps = (style.format(_brief(key)) if "{}" in style else style + key for style, key in self.path)
        text = self.root + "".join(steps)
        return text if len(text) <= 300 else f"{text[:150]} ... {text[-150:]}"

    def enter(self, style: str, key: Any, value: Any) -> Any:
        self.path.append((style, key))
        result = self.rewrite(value)
        self.path.pop()
        return result

    def rewrite(self, value: Any) -> Any:
        kind = _kind(value)
        if kind in _INERT:
            return value
        if kind is int:
            return value if MIN_INT <= value <= MAX_INT else Ext(BIG_INT, _bytes_of_int(value))
        if kind is str:
            return _checked_text(value)
        if id(value) in self.open:
            raise _Refused(f"a {kind.__name__} that contains itself is not data. Break the circle.")
        self.open.add(id(value))
        result = self.rewrite_compound(value, kind)
        self.open.discard(id(value))
        return result

    def rewrite_compound(self, value: Any, kind: Any) -> Any:
        if registration := self.codec.registration(kind):
            name, encode = registration
            return _Named(name, self.rewrite(encode(value)))
        if issubclass(kind, dict):
            return {self.key(key): self.enter("[{}]", key, part) for key, part in value.items()}
        if fields := _named_tuple_fields(kind):
            return tuple(self.enter(".", name, part) for name, part in zip(fields, value, strict=True))
        if issubclass(kind, list | tuple):
            return tuple(self.enter("[{}]", index, part) for index, part in enumerate(value))
        if issubclass(kind, set | frozenset):
            return tuple(self.enter("", "{...}", part) for part in value)
        if issubclass(kind, enum.Enum):
            return self.enter(".", "value", value._value_)
        if issubclass(kind, Struct):
            return self.rewrite_struct(value, kind)
        if _is_record(kind):
            parts = {name: getattr(value, name, UNSET) for name in _field_names(kind)}
            return {name: self.enter(".", name, part) for name, part in parts.items() if part is not UNSET}
        return self.rewrite_other(value, kind)

    def rewrite_struct(self, value: Struct, kind: Any) -> Any:
        config = kind.__struct_config__
        names = zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
        found = [(name, wire_name, getattr(value, name)) for name, wire_name in names]
        if config.array_like:
            parts = [self.enter(".", name, part) for name, _, part in found]
            return parts if config.tag is None else [config.tag, *parts]
        named = {wire_name: self.enter(".", name, part) for name, wire_name, part in found if part is not UNSET}
        return named if config.tag is None else {config.tag_field: config.tag, **named}

    def rewrite_other(self, value: Any, kind: Any) -> Any:
        if kind is memoryview:
            return value if value.c_contiguous else value.tobytes()
        if kind in _LEAVES:
            _pack_plain(value)  # raises if there is something wrong with it
            return value
        way = self.codec.way(value)
        if way is _as_function:
            return value
        result = way(value)
        return result if isinstance(result, Ext) else self.rewrite(result)

    def key(self, key: Any) -> Any:
        result = self.enter("", ".keys()", key)
        return result if type(result) in (str, int) or type(result) in _INERT else _Sealed(result)


def _checked_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as failure:
        hint = "Send it as bytes: text.encode('utf-8', 'surrogateescape')."
        raise _Refused(f"a str with a lone surrogate is not text. {hint}") from failure
    return value


def _named_tuple_fields(kind: Any) -> tuple[str, ...]:
    fields: tuple[str, ...] = getattr(kind, "_fields", ())
    return fields if issubclass(kind, tuple) else ()


def _is_record(kind: type[Any]) -> bool:
    return hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__")


def _field_names(kind: Any) -> list[str]:
    if hasattr(kind, "__dataclass_fields__"):
        return [field.name for field in dataclasses.fields(kind)]
    return [field.name for field in kind.__attrs_attrs__ if not field.name.startswith("_")]


def _brief(key: Any) -> str:
    """A key in a path; the representation of a stranger is not asked for."""
    is_plain = type(key) in (str, float, bool, bytes, types.NoneType) or (type(key) is int and -MAX_INT < key < MAX_INT)
    text = repr(key) if is_plain else f"<{type(key).__name__}>"
    return text if len(text) <= 60 else f"{text[:40]}...{text[-15:]}"


def _text(failure: BaseException) -> str:
    """What an exception says, even if it fails to."""
    try:
        return f"{type(failure).__name__}: {failure}".removesuffix(": ")
    except Exception:  # noqa: BLE001  a broken __str__
        return type(failure).__name__


_FILE = ("an open file", "Send its path or its content.")
_TASK = ("an unfinished result", "Await it, and send what it brings.")
_NOUNS: Mapping[str, tuple[str, str]] = {
    "_thread.lock": ("a thread lock", ""),
    "_thread.RLock": ("a thread lock", ""),
    **dict.fromkeys(("_io.TextIOWrapper", "_io.BufferedReader", "_io.BufferedWriter", "_io.BufferedRandom"), _FILE),
    **dict.fromkeys(("_io.FileIO", "tempfile._TemporaryFileWrapper"), _FILE),
    **dict.fromkeys(("coroutine", "_asyncio.Task", "_asyncio.Future", "concurrent.futures._base.Future"), _TASK),
    "generator": ("a generator", "Send a list, or export the generator function: its caller can iterate over it."),
    "async_generator": ("a generator", "Send a list, or export the generator function: its caller can iterate."),
    "module": ("a module", "Send its name."),
}


def _complaint(value: Any, kind: type) -> str:
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    noun, hint = _NOUNS.get(name, (f"an object of the type {name}", ""))
    if isinstance(value, type | types.GenericAlias):
        noun, hint = "a class", "Send its name."
    elif isinstance(value, BaseException):
        noun, hint = "an exception", "Raise it, or send its text."
    shown = noun if name in noun else f"{noun} ({name})"
    return f"{shown} is not data. {hint or 'Send what it describes, or register the type with mob.register(...).'}"


# -- the ways of the types that msgspec does not know ------------------------------------------------------------------


def _odd_way(value: Any, kind: type) -> Way:
    if _is_a(kind, "numpy.generic"):
        return _encode_scalar
    if hasattr(kind, "__array_interface__"):
        return _encode_array
    if isinstance(value, type | types.GenericAlias | BaseException):
        raise _Refused(_complaint(value, kind))
    if callable(value):
        return _as_function
    try:
        memoryview(value)
    except (TypeError, BufferError):
        raise _Refused(_complaint(value, kind)) from None
    return _encode_buffer


def _encode_buffer(value: Any) -> memoryview | bytes:
    view = memoryview(value)
    return view if view.c_contiguous else view.tobytes()


def _encode_array(value: Any) -> Ext:
    if _is_a(type(value), "numpy.ma.MaskedArray") or _is_a(type(value), "numpy.ma.core.MaskedArray"):
        raise _Refused("a masked array is not data. Send its data and its mask.")
    array = _numpy().asarray(value)
    dtype = array.dtype
    if dtype.hasobject or (dtype.kind == "V" and dtype.names is None and dtype.type.__module__ != "numpy"):
        raise _Refused(f"an array of the dtype {dtype} is not data. Send a list, or another dtype.")
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        array = array.copy(order="C")
    head = _pack_plain(
        (dtype.str if dtype.names is None else dtype.descr, array.shape, "F" if array.flags.fnc else "C")
    )
    body = memoryview(array.reshape(-1, order="A").view("u1")) if array.nbytes else b""
    return Ext(ARRAY, b"".join((len(head).to_bytes(4, "big"), head, body)))


def _decode_array(data: memoryview) -> Any:
    numpy = _numpy()
    end = 4 + int.from_bytes(data[:4], "big")
    described, shape, order = _unpack_plain(data[4:end])
    if isinstance(described, str):
        dtype = numpy.dtype(described)
    else:
        dtype = importlib.import_module("numpy.lib.format").descr_to_dtype(_fields_of(described))
    if not dtype.itemsize:
        array = numpy.empty(shape, dtype, order)
    elif end == len(data):
        array = numpy.empty(0, dtype).reshape(shape, order=order)
    else:
        array = numpy.frombuffer(data, dtype, offset=end).reshape(shape, order=order)
    if not array.flags.aligned:
        array = array.copy(order="K")
    array.flags.writeable = False
    return array


def _fields_of(described: Any) -> Any:
    """The fields of a structured dtype; its tuples became lists on the way."""
    if isinstance(described, str):
        return described
    return [
        (name if isinstance(name, str) else tuple(name), _fields_of(kind), *map(tuple, shape))
        for name, kind, *shape in described
    ]


def _numpy() -> Any:
    try:
        return sys.modules.get("numpy") or importlib.import_module("numpy")
    except ImportError as failure:
        raise BadMessage("an array is in the message, and NumPy is not installed here.") from failure


def _encode_scalar(value: Any) -> Any:
    item = value.item()
    if value.dtype.kind in "mM" and isinstance(item, int):  # finer than microseconds
        item = value.astype(f"{value.dtype.kind}8[us]").item()
    if type(item).__module__ == "numpy":  # a long double has no Python item
        return complex(item) if value.dtype.kind == "c" else float(item)
    return item


def _encode_datetime(value: datetime.datetime) -> datetime.datetime:
    return datetime.datetime.combine(value.date(), value.timetz())


def _encode_complex(value: complex) -> Ext:
    return Ext(COMPLEX, struct.pack(">dd", value.real, value.imag))


def _encode_range(value: range) -> Ext:
    return Ext(RANGE, f"{value.start} {value.stop} {value.step}".encode())


def _bytes_of_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


_BUILT_IN = frozenset(
    {types.NoneType, bool, int, float, str, bytes, bytearray, memoryview, list, tuple, set, frozenset, dict}
)
_INERT = frozenset({types.NoneType, bool, float, bytes, bytearray})
_LEAVES = frozenset(
    {datetime.datetime, datetime.date, datetime.time, datetime.timedelta, uuid.UUID, decimal.Decimal, Ext, msgspec.Raw}
)
_EMPTY: dict[Any, Any] = {}
_VIEWS: tuple[type[Any], ...] = (type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items()))

_pack_plain = Encoder().encode
_unpack_plain = Decoder().decode
_unpack_reference = Decoder(Reference).decode

_WAYS: Mapping[type, Way] = {
    **dict.fromkeys((types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial), _as_function),
    **dict.fromkeys(_VIEWS, list),
    collections.deque: list,
    types.MappingProxyType: dict,
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    complex: _encode_complex,
    range: _encode_range,
    pathlib.PurePath: str,
    datetime.datetime: _encode_datetime,
    datetime.date: lambda value: datetime.date(value.year, value.month, value.day),
    datetime.timedelta: lambda value: datetime.timedelta(value.days, value.seconds, value.microseconds),
    _Sealed: lambda sealed: sealed.value,
}
"""By type, for its subclasses too."""

_MAKERS: Mapping[int, Callable[[memoryview], Any]] = {
    BIG_INT: lambda data: int.from_bytes(data, "big", signed=True),
    ARRAY: _decode_array,
    COMPLEX: lambda data: complex(*struct.unpack(">dd", data)),
    RANGE: lambda data: range(*map(int, str(data, "ascii").split())),
}
"""By code, what makes a value of an extension."""


# -- annotations -------------------------------------------------------------------------------------------------------


class _StandIn(type):
    """The class of stand-ins for annotations that msgspec cannot compile: `fit` is asked instead of msgspec."""

    fit: Way

    def __instancecheck__(cls, instance: Any) -> bool:
        return True


def _stand_in(fit: Way) -> type:
    return _StandIn("StandIn", (), {"fit": staticmethod(fit)})


_CALLABLE: Any = typing.get_origin(Callable[[], None])


def loosen(annotation: Any) -> Any:
    """The annotation with everything that msgspec cannot compile replaced: by a stand-in, or else by Any."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if _is_bare_protocol(origin or annotation):
        return Any
    if origin is typing.Annotated:
        return annotation if loosen(args[0]) is args[0] and _is_compilable(annotation) else loosen(args[0])
    is_union = origin in (typing.Union, types.UnionType)
    if args and origin not in (typing.Literal, _CALLABLE):
        parts = tuple(loosen(part) for part in args)
        if is_union:
            same = parts == args and _is_compilable(annotation)
            return annotation if same else _stand_in(functools.partial(_fit_union, parts))
        if parts != args:
            annotation = origin[parts]
    if _is_compilable(annotation):
        return annotation
    return _stand_in(functools.partial(_fit_enum, annotation)) if _is_a(annotation, enum.Enum) else Any


def _is_compilable(annotation: Any) -> bool:
    try:
        Decoder(annotation)
    except Exception:  # noqa: BLE001  a class may have names in its annotations that do not resolve
        return False
    return True


def _is_bare_protocol(kind: Any) -> bool:
    """Whether it is a Protocol of which isinstance cannot tell anything."""
    return getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False)


def _leaves_open(annotation: Any) -> bool:
    """Whether nothing can turn out not to fit, once the number of values is right."""
    parts = typing.get_args(annotation) if typing.get_origin(annotation) in (tuple, list) else ()
    if hasattr(annotation, "_fields"):
        parts = tuple(annotation.__annotations__.values())
    return annotation in (Any, tuple[()]) or (bool(parts) and all(part is Any for part in parts))


def _is_ours(annotation: Any) -> bool:
    """Whether msgspec would do no more than to ask `_fit`."""
    return isinstance(annotation, _StandIn) or (typing.get_origin(annotation) or annotation) is _CALLABLE


def _fit_alone(annotation: Any, value: Any) -> Any:
    try:
        return _fit(annotation, value)
    except Exception as failure:
        raise ValidationError(str(failure) if isinstance(failure, ValueError) else _text(failure)) from failure


def _convert(annotation: Any, value: Any) -> Any:
    try:
        return msgspec.convert(value, annotation, dec_hook=_fit, builtin_types=(bytes, bytearray, memoryview))
    except ValidationError:
        raise
    except Exception as failure:
        raise ValidationError(_text(failure)) from failure


def _fit(kind: Any, value: Any) -> Any:
    """The hook for types unknown to msgspec: instances are welcome, and what such types are sent as is turned back."""
    if isinstance(kind, _StandIn):
        return kind.fit(value)
    base: Any = typing.get_origin(kind) or kind
    if isinstance(value, base):
        return value
    if any(type(value) in sources and _is_a(base, target) for target, sources in _SENT_AS):
        return base(value)
    raise ValueError(f"Expected `{_name(kind)}`, got `{type(value).__name__}`")


_NUMBER = (int, float)
_SENT_AS: tuple[tuple[type | str, tuple[type, ...]], ...] = (
    (str, (str,)),
    (bytes, (bytes,)),
    (int, (int,)),
    (float, _NUMBER),
    (complex, _NUMBER),
    (pathlib.PurePath, (str,)),
    (collections.deque, (list,)),
    ("numpy.generic", (bool, str, bytes, complex, datetime.datetime, datetime.timedelta, *_NUMBER)),
)
"""A base class, and what its subclasses arrive as."""


def _is_a(kind: Any, base: type | str) -> bool:
    return isinstance(kind, type) and any(
        each is base or f"{each.__module__}.{each.__name__}" == base for each in kind.__mro__
    )


def _fit_union(parts: Iterable[Any], value: Any) -> Any:
    for part in parts:
        try:
            return _convert(part, value)
        except ValidationError:
            continue
    raise ValueError(f"Expected `{' | '.join(map(_name, parts))}`, got `{type(value).__name__}`")


def _fit_enum(kind: type[enum.Enum], value: Any) -> enum.Enum:
    return value if isinstance(value, kind) else kind(tuple(value) if _kind(value) is list else value)


def _name(annotation: Any) -> str:
    if annotation is types.NoneType:
        return "None"
    if (typing.get_origin(annotation) or annotation) is _CALLABLE:
        return "a function"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")
