"""Records: dataclasses, attrs classes, Structs, TypedDicts and NamedTuples, field by field.

Strategy. msgspec makes records by itself, and fast, as long as it can compile all of their fields. `RecordMaker` makes
the others: it converts each field by itself, then calls the class as the application would.

Limits. Annotations that do not evaluate require nothing. Pydantic's classes are not covered: they make themselves.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, ValidationError

from mob.wire.kinds import named_tuple_fields
from mob.wire.misfits import Convert, Misfit, misfits_of

_kind: Callable[[Any], type[Any]] = type


class Field(NamedTuple):
    """One field of a record."""

    name: str
    key: str
    """Its name in the data."""
    annotation: Any
    is_required: bool


def is_record(annotation: Any) -> bool:
    """Return whether an annotation is a class of records, with or without type parameters."""
    kind: Any = typing.get_origin(annotation) or annotation
    if not _is_class(kind):
        return False
    is_class = dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__") or issubclass(kind, Struct)
    return is_class or typing.is_typeddict(kind) or hasattr(kind, "__required_keys__") or bool(named_tuple_fields(kind))


def _is_class(kind: Any) -> bool:
    return isinstance(kind, type)


def is_row(kind: Any) -> bool:
    """Return whether records of a class travel as arrays, where fields have no names but an order."""
    return bool(named_tuple_fields(kind)) or (issubclass(kind, Struct) and kind.__struct_config__.array_like)


def fields_of(annotation: Any) -> list[Field]:
    """Return the fields of a record that travel, in their order."""
    kind: Any = typing.get_origin(annotation) or annotation
    hints = _hints(annotation)
    if hasattr(kind, "__required_keys__"):
        names = hints or kind.__required_keys__ | kind.__optional_keys__
        found = [(name, hints.get(name, Any)) for name in names]
        return [Field(name, name, _bare(hint), _is_in(name, hint, kind.__required_keys__)) for name, hint in found]
    if issubclass(kind, Struct):
        told = msgspec.structs.fields(kind)
        return [Field(each.name, each.encode_name, hints.get(each.name, Any), each.required) for each in told]
    if names := named_tuple_fields(kind):
        return [Field(name, name, hints.get(name, Any), name not in kind._field_defaults) for name in names]
    if dataclasses.is_dataclass(kind):
        return [
            Field(each.name, each.name, hints.get(each.name, Any), each.init and not _has_default(each))
            for each in dataclasses.fields(kind)
        ]
    nothing = sys.modules["attr"].NOTHING
    return [
        Field(each.name, each.name, hints.get(each.name, Any), each.init and each.default is nothing)
        for each in kind.__attrs_attrs__
        if not each.name.startswith("_")
    ]


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


class RecordMaker:
    """Makes records of one class out of data."""

    def __init__(self, annotation: Any, converter: Callable[[Any], Convert]) -> None:
        self.kind: Any = typing.get_origin(annotation) or annotation
        self._is_dict = hasattr(self.kind, "__required_keys__")
        self._annotation = annotation
        self._converter = converter

    def __repr__(self) -> str:
        return f"<RecordMaker {self.kind.__qualname__}>"

    @functools.cached_property
    def _fields(self) -> list[tuple[Field, Convert]]:
        # Only when needed, because a class may have fields of its own type.
        return [(field, self._converter(field.annotation)) for field in fields_of(self._annotation)]

    def fit(self, value: Any) -> Any:
        """Return the record that the data describes; raise `ValueError` if it does not describe one."""
        if not self._is_dict and isinstance(value, self.kind):
            return value
        given = self._named(value)
        found: dict[str, Any] = {}
        wrong: list[tuple[str, str]] = []
        for field, convert in self._fields:
            if field.key in given:
                try:
                    found[field.name] = convert(given[field.key])
                except ValidationError as failure:
                    wrong += misfits_of(failure, given[field.key], f".{field.name}")
            elif field.is_required:
                wrong.append((f".{field.name}", "it is missing"))
        if wrong:
            raise Misfit(wrong)
        return found if self._is_dict else self._made(found)

    def _named(self, data: Any) -> Mapping[str, Any]:
        """Return the data as a mapping from names of fields."""
        value: Any = self._untagged(data)
        if not is_row(self.kind):
            if issubclass(_kind(value), Mapping):
                return value
            raise ValueError(f"Expected `object`, got `{type(value).__name__}`")
        if _kind(value) not in (list, tuple):
            raise ValueError(f"Expected `array`, got `{type(value).__name__}`")
        keys = [field.key for field, _ in self._fields]
        if len(value) > len(keys):
            raise ValueError(f"Expected `array` of at most length {len(keys)}, got {len(value)}")
        return dict(zip(keys, value, strict=False))

    def _untagged(self, value: Any) -> Any:
        """Return the data of a Struct without its tag; raise `ValueError` if it has the wrong tag."""
        config = getattr(self.kind, "__struct_config__", None)
        if config is None or config.tag is None:
            return value
        if is_row(self.kind):
            tag, rest = (value[0], value[1:]) if _kind(value) is list and value else (None, value)
        else:
            tag, rest = (value.get(config.tag_field) if _kind(value) is dict else None), value
        if tag != config.tag:
            raise ValueError(f"Invalid value {tag!r} of `{config.tag_field}`")
        return rest

    def _made(self, found: dict[str, Any]) -> Any:
        later = {name: found.pop(name) for name in _set_later(self.kind) if name in found}
        record = self.kind(**{_argument(self.kind, name): value for name, value in found.items()})
        for name, value in later.items():
            object.__setattr__(record, name, value)
        return record


def has_set_later(annotation: Any) -> bool:
    """Return whether a class has fields that its constructor does not take.

    msgspec would require them from the data and set them before `__post_init__`, which may set them to something else.
    """
    kind: Any = typing.get_origin(annotation) or annotation
    params = getattr(kind, "__dataclass_params__", None)
    is_constructed: bool = params is None or params.init
    return is_record(kind) and is_constructed and bool(_set_later(kind))


def _set_later(kind: Any) -> list[str]:
    """Return the fields that the constructor does not take."""
    is_dataclass = dataclasses.is_dataclass(kind)
    fields: Any = dataclasses.fields(kind) if is_dataclass else getattr(kind, "__attrs_attrs__", ())
    return [field.name for field in fields if not field.init]


def _argument(kind: Any, name: str) -> str:
    fields: Any = getattr(kind, "__attrs_attrs__", ())
    return next((field.alias for field in fields if field.name == name), name)


def _hints(annotation: Any) -> dict[str, Any]:
    """Return the annotations of a class, with its type parameters filled in."""
    kind: Any = typing.get_origin(annotation) or annotation
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001  a class may have names in its annotations that do not resolve
        return {}
    filled = dict(zip(getattr(kind, "__parameters__", ()), typing.get_args(annotation), strict=False))
    return {name: _filled(hint, filled) for name, hint in hints.items()}


def _filled(hint: Any, filled: Mapping[Any, Any]) -> Any:
    if isinstance(hint, typing.TypeVar):
        return filled.get(hint, Any)
    parameters = getattr(hint, "__parameters__", ())
    if not parameters or isinstance(hint, type):
        return hint
    return hint[tuple(filled.get(each, Any) for each in parameters)]


_KEYS: tuple[Any, ...] = (typing.Required, typing.NotRequired, getattr(typing, "ReadOnly", typing.Required))


def _is_in(key: str, hint: Any, required: frozenset[str]) -> bool:
    """Return whether a TypedDict requires a key. With `from __future__ import annotations` only the hint says so."""
    origin = typing.get_origin(hint)
    return origin is typing.Required or (key in required and origin is not typing.NotRequired)


def _bare(hint: Any) -> Any:
    while typing.get_origin(hint) in _KEYS:
        hint = typing.get_args(hint)[0]
    return hint
