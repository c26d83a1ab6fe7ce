"""From annotations to decoders: msgspec compiles what it can; for the rest there are stand-ins.

Strategy. `loosen` replaces the parts of an annotation that msgspec cannot compile with classes that it always accepts.
msgspec then calls the hook `fit` for them, and for types that it does not know. `fit` accepts instances, because they
came out of an extension; it turns back what such types are sent as (`SENT_AS`); and it converts tables and tensors of
another library (foreign.py). `converter` does all this to a value that is already decoded.

Limits. An annotation that cannot be understood at all requires nothing: the value arrives as if it were not annotated.
"""

from __future__ import annotations

import abc
import collections
import collections.abc
import datetime
import enum
import functools
import io
import pathlib
import re
import typing
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import ValidationError
from msgspec.msgpack import Decoder

from mob.wire.binary import asks_for_views
from mob.wire.encoders import Conversion, itself
from mob.wire.foreign import converted, origin_of
from mob.wire.kinds import LEAVES, is_a, is_opened, is_opened_by_msgspec
from mob.wire.methods import ByReference
from mob.wire.misfits import Misfit, misfits_of
from mob.wire.models import is_base, is_model, validator
from mob.wire.records import RecordMaker, fields_of, has_set_later, is_record
from mob.wire.refusals import text_of
from mob.wire.unions import Choice, members_of, unnamed

_CALLABLE: Any = typing.get_origin(Callable[[], None])
_kind: Callable[[Any], type[Any]] = type


def loosen(annotation: Any) -> Any:
    """Return the annotation with all parts that msgspec cannot compile replaced by a stand-in or by Any."""
    while (named := unnamed(annotation)) is not annotation:
        annotation = named
    if (validate := validator(annotation, converter)) is not None:
        return _stand_in(validate, _name(annotation))
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if _is_bare_protocol(origin or annotation):
        return Any
    if is_a(origin or annotation, typing.IO):
        return _stand_in(functools.partial(_fit_file, annotation), _name(annotation))
    if origin is typing.Annotated:
        return annotation if loosen(args[0]) is args[0] and _is_compilable(annotation) else loosen(args[0])
    if is_record(annotation):
        is_msgspecs = _is_compilable(annotation) and not has_set_later(annotation)
        if is_msgspecs and not any(_needs_help(each, {annotation}) for each in _parts(annotation)):
            return annotation
        return _stand_in(RecordMaker(annotation, converter).fit, _name(annotation))
    if _is_loosely_iterable(annotation):
        return _stand_in(functools.partial(_fit_items, origin, converter(list[args[0]]), converter(args[0])))
    if args and origin not in (typing.Literal, _CALLABLE):
        parts = tuple(part if part is ... else loosen(part) for part in args)
        if members_of(annotation):
            same = parts == args and _is_compilable(annotation)
            return annotation if same else _stand_in(Choice(args, converter).fit)
        if parts != args:
            annotation = origin[parts]
    if _is_compilable(annotation):
        return _stand_in(functools.partial(_fit_object, annotation)) if _is_own_class(annotation) else annotation
    return _stand_in(functools.partial(_fit_enum, annotation)) if is_a(annotation, enum.Enum) else Any


def _parts(annotation: Any) -> list[Any]:
    """Return the annotations within another one: of the fields of a record, of items, of members."""
    if is_record(annotation):
        return [field.annotation for field in fields_of(annotation)]
    return [part for part in typing.get_args(annotation) if part is not ... and not isinstance(part, list)]


def _needs_help(annotation: Any, seen: set[Any]) -> bool:
    """Return whether msgspec alone would make something else of a field than `loosen` requires."""
    while (named := unnamed(annotation)) is not annotation:
        annotation = named
    if is_model(annotation):
        return hasattr(annotation, "__dataclass_fields__")  # for the others msgspec calls `fit`
    if is_base(annotation) or _is_loosely_iterable(annotation) or has_set_later(annotation):
        return True
    if typing.get_origin(annotation) is typing.Annotated and validator(annotation, converter) is not None:
        return True
    if typing.get_origin(annotation) is typing.Literal or (is_record(annotation) and annotation in seen):
        return False
    return any(_needs_help(part, seen | {annotation}) for part in _parts(annotation))


def converter(annotation: Any) -> Conversion:
    """Return a function that converts a decoded value as annotated, or raises `msgspec.ValidationError`."""
    loose = loosen(annotation)
    if loose is Any:
        return itself
    return functools.partial(_fit_alone if _is_ours(loose) else _convert, loose)


def fit(kind: Any, value: Any) -> Any:
    """Return a value as a type unknown to msgspec: accept instances, and turn back what the type is sent as."""
    if kind.__class__ is _StandIn:  # faster than isinstance, on the hot path of models
        return kind.fit(value)
    base: Any = typing.get_origin(kind) or kind
    if isinstance(value, base):
        return value
    if (validate := _validator_of(kind)) is not None:
        return validate(value)
    if any(type(value) in sources and is_a(base, target) for target, sources in SENT_AS):
        return re.compile(value) if base is re.Pattern else base(value)
    if (made := converted(base, value)) is not None:
        return made
    if is_a(base, typing.IO) and isinstance(value, io.IOBase):
        raise ValueError(f"no file is an instance of `{_name(kind)}`: annotate this field as `io.IOBase`")
    raise ValueError(f"Expected `{_name(kind)}`, got `{type(value).__name__}`")


@functools.lru_cache(1000)
def _validator_of(kind: Any) -> Conversion | None:
    return validator(kind, converter)


_NUMBER = (int, float)
SENT_AS: tuple[tuple[type | str, tuple[type, ...]], ...] = (
    (str, (str,)),
    (bytes, (bytes, memoryview)),
    (int, (int,)),
    (float, _NUMBER),
    (complex, _NUMBER),
    (pathlib.PurePath, (str,)),
    (re.Pattern, (str, bytes)),
    ("ipaddress._IPAddressBase", (str,)),
    (collections.deque, (list,)),
    ("numpy.generic", (bool, str, bytes, complex, datetime.datetime, datetime.timedelta, *_NUMBER)),
)
"""Base classes, and the types in which objects of their subclasses arrive."""


def leaves_open(annotation: Any) -> bool:
    """Return whether any values fit, provided that their number is right."""
    parts = typing.get_args(annotation) if typing.get_origin(annotation) in (tuple, list) else ()
    if hasattr(annotation, "_fields"):
        parts = tuple(annotation.__annotations__.values())
    return annotation in (Any, tuple[()]) or (bool(parts) and all(part is Any for part in parts))


def _is_compilable(annotation: Any) -> bool:
    try:
        Decoder(annotation)
    except Exception:  # noqa: BLE001  a class may have names in its annotations that do not resolve
        return False
    return True


def _is_bare_protocol(kind: Any) -> bool:
    """Return whether a class is a Protocol that `isinstance` cannot check."""
    return getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False)


_abc = collections.abc
_LOOSELY = (_abc.Iterable, _abc.Iterator, _abc.Reversible, _abc.Container, _abc.AsyncIterable, _abc.AsyncIterator)
_OF_ITEMS = (str, bytes, bytearray, range, dict)


def _is_loosely_iterable(annotation: Any) -> bool:
    """Return whether msgspec would accept any iterable, whatever its items are."""
    args = typing.get_args(annotation)
    is_one = typing.get_origin(annotation) in _LOOSELY and bool(args)
    return is_one and not asks_for_views(args[0]) and loosen(args[0]) is not Any


def _is_own_class(kind: Any) -> bool:
    """Return whether a class is one of the program that msgspec does not know; its objects may arrive by reference."""
    return (
        type(kind) in (type, abc.ABCMeta)
        and kind.__module__ not in ("builtins", "collections.abc", "typing")
        and kind not in LEAVES
        and not is_opened_by_msgspec(kind)
        and not hasattr(kind, "__array_interface__")
        and not any(is_a(kind, base) for base, _ in SENT_AS)
        and not is_opened(kind)
        and origin_of(kind) is None
    )


def _is_ours(annotation: Any) -> bool:
    """Return whether msgspec would only call `fit`."""
    return isinstance(annotation, _StandIn) or (typing.get_origin(annotation) or annotation) is _CALLABLE


# -- stand-ins ---------------------------------------------------------------------------------------------------------


class _StandIn(type):
    """The class of stand-ins for annotations that msgspec cannot compile: `fit` is called instead of msgspec."""

    fit: Conversion

    def __instancecheck__(cls, instance: Any) -> bool:
        return True


def _stand_in(fit: Conversion, name: str = "StandIn") -> type:
    return _StandIn(name, (), {"fit": staticmethod(fit)})


def _fit_object(kind: type[Any], value: Any) -> Any:
    return value if isinstance(value, ByReference) else fit(kind, value)


def _fit_items(kind: type[Any], convert_list: Conversion, convert_item: Conversion, value: Any) -> Any:
    """Convert lists at once, and remote iterators item by item as they are read; only check other iterables."""
    if (converted_by := getattr(_kind(value), "converted_by", None)) is not None:
        value = converted_by(value, convert_item)
    value = fit(kind, value)
    try:
        if _kind(value) is list:
            return convert_list(value)
        if _kind(value) in _OF_ITEMS:
            convert_list(list(value) if _kind(value) is dict else list(value[:1]))
    except ValidationError as failure:
        raise Misfit(misfits_of(failure, value, "")) from failure
    return value


def _fit_enum(kind: type[enum.Enum], value: Any) -> enum.Enum:
    return value if isinstance(value, kind) else kind(tuple(value) if _kind(value) is list else value)


def _fit_file(annotation: Any, value: Any) -> Any:
    """Check a value against `IO`, `TextIO` or `BinaryIO`, which stand for open files without being their classes."""
    wants_text = annotation in (typing.TextIO, typing.IO[str])
    wants_bytes = annotation in (typing.BinaryIO, typing.IO[bytes])
    is_text = isinstance(value, io.TextIOBase)
    if isinstance(value, io.IOBase) and not (wants_text and not is_text) and not (wants_bytes and is_text):
        return value
    raise ValueError(f"Expected `{_name(annotation)}`, got `{type(value).__name__}`")


# -- converting --------------------------------------------------------------------------------------------------------


def _fit_alone(annotation: Any, value: Any) -> Any:
    try:
        return annotation.fit(value) if annotation.__class__ is _StandIn else fit(annotation, value)
    except Exception as failure:
        raise ValidationError(str(failure) if isinstance(failure, ValueError) else text_of(failure)) from failure


def _convert(annotation: Any, value: Any) -> Any:
    try:
        return msgspec.convert(value, annotation, dec_hook=fit, builtin_types=(bytes, bytearray, memoryview))
    except ValidationError:
        raise
    except Exception as failure:
        raise ValidationError(text_of(failure)) from failure


def _name(annotation: Any) -> str:
    if (typing.get_origin(annotation) or annotation) is _CALLABLE:
        return "a function"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")
