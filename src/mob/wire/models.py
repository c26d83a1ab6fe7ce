"""Pydantic models: what is sent for an instance, and how data becomes an instance again.

Strategy. A model is recognized by the attributes that pydantic 2 gives to its classes; it dumps and validates itself,
with one call into pydantic-core in each direction. What pydantic says about data that does not fit becomes a `Misfit`,
which keeps the places, so that the error of a call can name them starting from the argument.

* **Sent** is the dump in Python's types (bytes, dates, arrays and functions continue as mob sends them), by the names
  of the fields, and without computed fields: so it always validates again, whatever aliases and `extra` say.
* **Validated** is by name and by alias: a dict that was written by hand fits too.
* A strict model would refuse what MessagePack does not have, such as a list for a tuple, and so would a field of a type
  that pydantic does not know. So mob first converts the fields of such models to what they are annotated as, and is as
  strict.
* Excluded fields and private attributes are not sent, as in any dump; what a `SecretStr` hides is sent.

Limits. Does not import pydantic: one of its classes can be here only if the application imported it. Other annotations
go to pydantic only if it alone understands them (`Annotated[int, Field(gt=0)]`, `EmailStr`), while it is loaded.
"""

from __future__ import annotations

import datetime as dt
import functools
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from mob.wire.misfits import Convert, Misfit

_kind: Callable[[Any], type[Any]] = type

_BY_NAME = (2, 33)
"""First version of pydantic-core that can validate by name and by alias whatever a model says: pydantic 2.11."""

_PACKAGES = ("pydantic", "pydantic_core", "annotated_types")


def is_model(kind: Any) -> bool:
    """Return whether a class is a model or a dataclass of pydantic 2."""
    return isinstance(kind, type) and vars(kind).keys() >= {"__pydantic_core_schema__", "__pydantic_fields__"}


def is_base(kind: Any) -> bool:
    """Return whether a class is `BaseModel` itself: any model, so nothing in particular."""
    return isinstance(kind, type) and "__pydantic_core_schema__" in vars(kind) and not is_model(kind)


def encoder_of(kind: type[Any]) -> Convert | None:
    """Return a function that makes an instance of one of pydantic's types sendable; None if it is not such a type."""
    if hasattr(kind, "get_secret_value") and _is_of_pydantic(kind):
        return lambda secret: secret.get_secret_value()
    if is_textual(kind):
        return str
    if hasattr(kind, "__pydantic_serializer__"):
        dump = functools.partial(kind.__pydantic_serializer__.to_python, by_alias=not _knows_names(), round_trip=True)
        return _flat_way(frozenset(kind.__pydantic_fields__), dump) if _knows_names() and _is_flat(kind) else dump
    return None


def _flat_way(names: frozenset[str], dump: Convert) -> Convert:
    """Return a function that sends a flat model: its fields are its dump, unless something was added or left out."""

    def encoder(model: Any) -> Any:
        fields = model.__dict__
        return fields if fields.keys() == names else dump(model)

    return encoder


_FLAT = frozenset({int, float, bool, str, bytes, types.NoneType, dt.datetime, dt.date, dt.time, dt.timedelta})
_CONTAINERS = frozenset({list, dict, tuple, set, frozenset, typing.Union, types.UnionType})


def _is_flat(kind: Any) -> bool:
    """Return whether a model's dump equals its fields: plain values, and nothing that pydantic serializes."""
    decorators = kind.__pydantic_decorators__
    if is_root(kind) or _config(kind).get("extra") == "allow" or "__dataclass_fields__" in vars(kind):
        return False
    if decorators.field_serializers or decorators.model_serializers:
        return False
    return all(_is_plain_field(field) for _, field in _fields(kind))


def _is_plain_field(field: Any) -> bool:
    has_serializer = any(hasattr(each, "__get_pydantic_core_schema__") for each in field.metadata)
    is_left_out = field.exclude or getattr(field, "exclude_if", None)
    return not has_serializer and not is_left_out and _is_plain(field.annotation)


def _is_plain(annotation: Any) -> bool:
    if typing.get_origin(annotation) in _CONTAINERS:
        return all(_is_plain(part) for part in typing.get_args(annotation) if part is not ...)
    return annotation in _FLAT or typing.get_origin(annotation) is typing.Literal


def validator(annotation: Any, restore: Callable[[Any], Convert]) -> Convert | None:
    """Return a function that makes data into what pydantic understands by an annotation; None if it is not pydantic's.

    The function raises `Misfit`. `restore(annotation)` returns a converter for the fields of strict models.
    """
    if is_model(annotation):
        return _of_model(annotation, restore)
    if is_base(annotation):
        return lambda value: value
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not _concerns_pydantic(annotation):
        return None
    try:
        adapter = pydantic.TypeAdapter(annotation)
    except Exception:  # noqa: BLE001  then it is not an annotation of pydantic's
        return None
    return _validating(_Adapted(adapter.validator))


def is_root(kind: Any) -> bool:
    """Return whether a model is a `RootModel`: its data is one value instead of fields."""
    return getattr(kind, "__pydantic_root_model__", False)


class _Adapted:
    """The validator of an annotation, in the shape of a model."""

    def __init__(self, validator: Any) -> None:
        self.__pydantic_validator__ = validator


def fields_of(kind: Any) -> dict[str, Any]:
    """Return the annotations of the fields of a model by name."""
    return {
        name: typing.Annotated[field.annotation, _TOLD] if field.discriminator else field.annotation
        for name, field in _fields(kind)
    }


class _Discriminated:
    """A replacement for pydantic's own note on a discriminated union, which may be unhashable."""

    discriminator = True


_TOLD = _Discriminated()


def is_discriminated(annotation: Any) -> bool:
    """Return whether an annotation is a union whose members pydantic tells apart."""
    return any(getattr(each, "discriminator", None) for each in getattr(annotation, "__metadata__", ()))


def keys_of(kind: Any) -> frozenset[str] | None:
    """Return the names that the fields of a model may have in data; None if it accepts any names, or nested paths."""
    if is_root(kind) or _config(kind).get("extra") == "allow":
        return None
    keys: set[str] = set()
    for name, field in _fields(kind):
        aliases = getattr(field.validation_alias, "choices", [field.validation_alias])
        if any(each is not None and not isinstance(each, str) for each in aliases):
            return None
        keys |= {name, *_keys(name, field), *filter(None, aliases)}
    return frozenset(keys)


def parts_of(model: Any) -> Any:
    """Return what is sent for a model whose parts are tagged one by one: its fields.

    Fields written by a serializer are taken from the dump, because only the serializer knows what to send.
    """
    kind: Any = _kind(model)
    if is_root(kind):
        return model.root
    dump = functools.partial(
        model.__pydantic_serializer__.to_python, model, by_alias=not _knows_names(), round_trip=True
    )
    if kind.__pydantic_decorators__.model_serializers:
        return dump()
    written = written_of(kind)
    kept = {name: getattr(model, name) for name, field in _fields(kind) if name not in written and _is_sent(field)}
    kept = {name: value for name, value in kept.items() if not _is_left_out(kind, name, value)}
    extra: dict[str, Any] = getattr(model, "__pydantic_extra__", None) or {}
    dumped: dict[str, Any] = dump(include=written) if written else {}
    return {**kept, **extra, **dumped}


def _is_sent(field: Any) -> bool:
    return not field.exclude and not getattr(field, "init_var", None)


def _is_left_out(kind: Any, name: str, value: Any) -> bool:
    decide = getattr(kind.__pydantic_fields__[name], "exclude_if", None)
    return decide is not None and decide(value)


@functools.lru_cache(1000)
def written_of(kind: Any) -> frozenset[str]:
    """Return the names of the fields of a model that a serializer writes: their parts are sent without tags."""
    decorators = kind.__pydantic_decorators__
    if decorators.model_serializers:
        return frozenset(name for name, _ in _fields(kind))
    told = {name for each in decorators.field_serializers.values() for name in each.info.fields}
    return frozenset(
        name
        for name, field in _fields(kind)
        if not told.isdisjoint({name, "*"})
        or any(map(_serializes, _within(typing.Annotated[field.annotation, *(field.metadata or [None])])))
    )


def is_textual(kind: Any) -> bool:
    """Return whether a class is one of pydantic's URLs."""
    return hasattr(kind, "unicode_string") and _is_of_pydantic(kind)


def _is_of_pydantic(kind: Any) -> bool:
    return any(base.__module__.partition(".")[0] in _PACKAGES for base in kind.__mro__)


def _config(kind: Any) -> Mapping[str, Any]:
    return getattr(kind, "model_config", None) or getattr(kind, "__pydantic_config__", None) or {}


_SILENT = ("pydantic.functional_validators",)
_CONDITIONS = frozenset(
    {"AllowInfNan", "Discriminator", "FailFast", "PathType", "StringConstraints", "Tag", "UuidVersion"}
)
"""Names of pydantic's notes that describe themselves but serialize nothing; `_SILENT` has modules of such notes."""


def _serializes(annotation: Any) -> bool:
    """Return whether pydantic may serialize a value of an annotation as something else."""
    if typing.get_origin(annotation) is typing.Annotated:
        return any(
            hasattr(each, "__get_pydantic_core_schema__") and not _is_silent(_kind(each))
            for each in annotation.__metadata__
        )
    kind = typing.get_origin(annotation) or annotation
    return (
        hasattr(kind, "__get_pydantic_core_schema__") and not is_model(kind) and not hasattr(kind, "get_secret_value")
    )


def _is_silent(kind: type[Any]) -> bool:
    return kind.__module__ in _SILENT or (kind.__module__.startswith("pydantic") and kind.__name__ in _CONDITIONS)


def _within(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in typing.get_args(annotation)[: 1 if typing.get_origin(annotation) is typing.Annotated else None]:
        if not is_model(part):
            yield from _within(part)


def has_conditions(annotation: Any) -> bool:
    """Return whether an annotation is `Annotated` with something that pydantic alone understands."""
    return typing.get_origin(annotation) is typing.Annotated and _concerns_pydantic(annotation)


def _concerns_pydantic(annotation: Any) -> bool:
    """Return whether pydantic alone understands an annotation: its own conditions, or a type with a core schema."""
    if typing.get_origin(annotation) is typing.Annotated:
        return any(
            type(each).__module__.partition(".")[0] in _PACKAGES or hasattr(each, "__get_pydantic_core_schema__")
            for each in annotation.__metadata__
        )
    return hasattr(typing.get_origin(annotation) or annotation, "__get_pydantic_core_schema__")


def _of_model(kind: Any, restore: Callable[[Any], Convert]) -> Convert:
    validate = _validating(kind)
    if not _wants_types(kind, set()):
        return validate
    restored = functools.cache(functools.partial(_restorer, kind, restore))  # later, because a model may contain itself
    return lambda value: validate(restored()(value))


def _validating(kind: Any) -> Convert:
    """Return a function that validates with the validator that the model has when it is called.

    A model gets its validator when everything that it mentions is defined. On the hot path.
    """
    names = {"by_alias": True, "by_name": True} if _knows_names() else {}

    def validate(value: Any) -> Any:
        try:
            return kind.__pydantic_validator__.validate_python(value, **names)
        except ValueError as failure:
            raise _misfit(failure) from failure

    return validate


def _misfit(failure: ValueError) -> ValueError:
    """Return the error to raise for an error of pydantic's."""
    errors: Any = getattr(failure, "errors", None)
    if errors is None:
        return failure
    told = errors(include_url=False, include_context=False, include_input=False)
    return Misfit((_place(each["loc"]), each["msg"]) for each in told)


def _place(steps: Iterable[int | str]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


@functools.cache
def _knows_names() -> bool:
    version: str = sys.modules["pydantic_core"].__version__
    return tuple(int(part) for part in version.split(".")[:2]) >= _BY_NAME


# -- models that accept no data for an object --------------------------------------------------------------------------


def _fields(kind: Any) -> Iterable[tuple[str, Any]]:
    return kind.__pydantic_fields__.items()


def _wants_types(annotation: Any, seen: set[Any]) -> bool:
    """Return whether an annotation is, or contains, a model that accepts no data for an object.

    Such a model is strict, or has types that pydantic does not know.
    """
    if any(_wants_types(part, seen) for part in typing.get_args(annotation)):
        return True
    if not is_model(annotation) or annotation in seen:
        return False
    seen.add(annotation)
    config = _config(annotation)
    return bool(config.get("strict") or config.get("arbitrary_types_allowed")) or any(
        any(getattr(each, "strict", False) for each in field.metadata) or _wants_types(field.annotation, seen)
        for _, field in _fields(annotation)
    )


def _restorer(kind: Any, restore: Callable[[Any], Convert]) -> Convert:
    """Return a function that converts the data of a strict model to what it is annotated as, as far as it fits."""
    if is_root(kind):
        return functools.partial(_tried, restore(kind.__pydantic_fields__["root"].annotation))
    encoders = {key: restore(field.annotation) for name, field in _fields(kind) for key in _keys(name, field)}

    def restored(value: Any) -> Any:
        if _kind(value) is not dict:
            return value
        return {key: _tried(encoders[key], part) if key in encoders else part for key, part in value.items()}

    return restored


def _keys(name: str, field: Any) -> Sequence[str]:
    return [key for key in (name, field.alias, field.validation_alias) if isinstance(key, str)]


def _tried(encoder: Convert, value: Any) -> Any:
    try:
        return encoder(value)
    except msgspec.ValidationError:
        return value  # pydantic says what is wrong
