"""Unions: the member that a value is meant for.

Strategy. MessagePack has fewer types than Python: a date, a UUID and a path are text there, and every record is a map.
So a caller tags what it sends to an export with such a union among its annotations (`has_choice`; its `ExportInfo` says
so): each value that is not of MessagePack's own types is sent with the names of its class and of that class's bases
(`Tagging`). `Choice` then takes the member of that name. What comes without a tag, for example from a command line, is
decided by its shape: exactly one member must fit, with no field left over.

A tree of tags is settled before it is converted (`settling`): where the annotation is a union, it holds the chosen
value (`Settled`), and everywhere else tags are removed. So the code for other annotations need not know about tags.

Limits. Never guesses: data that fits two members equally well is refused. A tag is a name that is compared; nothing is
imported by it.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import datetime
import decimal
import enum
import functools
import pathlib
import re
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from msgspec import Raw, Struct, ValidationError
from msgspec.msgpack import Ext

from mob.wire import models, records
from mob.wire.encoders import TEXTUAL, as_array
from mob.wire.extensions import Foreign, Named, Tagged
from mob.wire.foreign import origin_of
from mob.wire.kinds import LEAVES, is_a
from mob.wire.misfits import Convert, Misfit, misfits_of
from mob.wire.originals import Converter
from mob.wire.sharing import LARGE_BUFFER, looked_at
from mob.wire.walk import Walk

_kind: Callable[[Any], type[Any]] = type
_CALLABLE: Any = typing.get_origin(Callable[[], None])


def members_of(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union; nothing for other annotations."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else ()


def bare(annotation: Any) -> Any:
    """Return an annotation without names for it (`NewType`, `type X = ...`), and without the notes of `Annotated`."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif (named := unnamed(annotation)) is not annotation:
            annotation = named
        else:
            return annotation


def unnamed(annotation: Any) -> Any:
    """Return what a `NewType` or a `type` statement names; other annotations unchanged."""
    origin = typing.get_origin(annotation)
    if hasattr(annotation, "__supertype__"):
        return annotation.__supertype__
    if _kind(annotation).__name__ == "TypeAliasType":
        return annotation.__value__
    if _kind(origin).__name__ == "TypeAliasType":
        return origin.__value__[typing.get_args(annotation)]
    return annotation


# -- what members travel as --------------------------------------------------------------------------------------------

_ANY = "any"
_NIL = frozenset({"nil"})
_DATES = (datetime.date, datetime.time, datetime.timedelta)
_TEXT = (str, *_DATES, uuid.UUID, decimal.Decimal, pathlib.PurePath, re.Pattern)
_ARRAYS = (list, tuple, set, frozenset, collections.deque)
_TRAVEL_AS: Sequence[tuple[tuple[type, ...], str]] = (
    ((types.NoneType,), "nil"),
    ((bool,), "bool"),
    ((int,), "int"),
    ((float,), "float"),
    (_TEXT, "text"),
    ((bytes, bytearray, memoryview), "binary"),
    (_ARRAYS, "array"),
    ((collections.abc.Mapping,), "map"),
    ((collections.abc.Iterable,), "array"),
)


def _all(kinds: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset(each for some in kinds for each in some)


def travels_as(annotation: Any) -> frozenset[str]:
    """Return the MessagePack types of the values of an annotation. Each extension is a type of its own."""
    annotation = bare(annotation)
    if members := members_of(annotation):
        return _all(map(travels_as, members))
    kind: Any = typing.get_origin(annotation) or annotation
    if kind is typing.Literal:
        return _all(travels_as(_kind(value)) for value in typing.get_args(annotation))
    if not isinstance(kind, type) or kind in (object, Any) or is_a(kind, "numpy.generic") or models.is_base(kind):
        return frozenset({_ANY})
    if issubclass(kind, enum.Enum):
        return _all(travels_as(_kind(each.value)) for each in kind)
    if models.is_model(kind):
        return travels_as(models.fields_of(kind)["root"]) if models.is_root(kind) else frozenset({"map"})
    if records.is_record(kind):
        return frozenset({"array" if records.is_row(kind) else "map"})
    if any(is_a(kind, base) for base in TEXTUAL) or models.is_textual(kind):
        return frozenset({"text"})
    found = next((name for bases, name in _TRAVEL_AS if issubclass(kind, bases)), f"{kind.__module__}.{kind.__name__}")
    return frozenset({found})


def is_open(members: Sequence[Any]) -> bool:
    """Return whether the choice between members of a union may remain open for what arrives."""
    several = [each for each in members if travels_as(each) != _NIL]
    return any(_overlap(several[at], other) for at in range(len(several)) for other in several[at + 1 :])


def _overlap(one: Any, other: Any) -> bool:
    if _tag(one) != _tag(other):
        return False  # Structs carry their own tag
    if all(bare(each) in (str, int) or typing.get_origin(bare(each)) is typing.Literal for each in (one, other)):
        return False  # their values are equal
    if _are_told_apart(bare(one), bare(other)):
        return False
    both = travels_as(one), travels_as(other)
    return _ANY in both[0] | both[1] or bool(both[0] & both[1])


def _are_told_apart(one: Any, other: Any) -> bool:
    """Return whether two records differ in a literal field: `kind: Literal["cat"]` and `kind: Literal["dog"]`."""
    fields, others = _parts(one), _parts(other)
    values = [
        (set(typing.get_args(fields[name])), set(typing.get_args(others[name])))
        for name in fields.keys() & others.keys()
        if typing.get_origin(fields[name]) is typing.get_origin(others[name]) is typing.Literal
    ]
    return any(not own & foreign for own, foreign in values)


def _tag(annotation: Any) -> Any:
    kind = bare(annotation)
    return kind.__struct_config__.tag if isinstance(kind, type) and issubclass(kind, Struct) else None


def has_choice(annotation: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """Return whether an annotation, or a field of its records, has a union that what arrives cannot decide."""
    is_told = models.is_discriminated(annotation)
    annotation = bare(annotation)
    members = members_of(annotation)
    if members and not is_told and is_open(members):
        return True
    if any(has_choice(part, seen) for part in typing.get_args(annotation) if not isinstance(part, list)):
        return True
    kind = typing.get_origin(annotation) or annotation
    if kind is typing.Literal or not isinstance(kind, type) or annotation in seen:
        return False
    return any(has_choice(each, seen | {annotation}) for each in _parts(annotation).values())


def _parts(annotation: Any) -> dict[str, Any]:
    """Return the annotations of the fields of a record or a model, by their names in data."""
    if models.is_model(annotation):
        return models.fields_of(annotation)
    found = records.fields_of(annotation) if records.is_record(annotation) else []
    return {each.key: each.annotation for each in found}


# -- sending -----------------------------------------------------------------------------------------------------------

_NATIVE = frozenset({types.NoneType, bool, int, float, str, bytes, list, dict, Named, Foreign, Ext})

_IN_ONE_PIECE = LEAVES | {memoryview, bytearray}


def names_of(kind: type[Any]) -> list[str]:
    """Return the names of a class and of its bases, nearest first.

    >>> names_of(datetime.datetime)
    ['datetime.datetime', 'datetime.date']
    """
    return [f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__[:-1] if base is not typing.Generic]


@functools.lru_cache(1000)
def _has_choice(kind: Any) -> bool:
    return has_choice(kind)


class Tagging(Walk):
    """A walk that rewrites a value so that whatever MessagePack does not tell apart is tagged."""

    def rewrite(self, value: Any) -> Any:
        """Return a value with tags."""
        kind = _kind(value)
        if kind in _NATIVE:
            return super().rewrite(value)
        if looked_at(value) == LARGE_BUFFER and (kind is memoryview or self.encoders.of(value) is as_array):
            return value  # it needs no tag, and stays whole, because it may go to, or be in, shared memory
        if models.is_model(kind) and _has_choice(kind) and not self.encoders.registration(kind):
            result = self.rewrite(models.parts_of(value))
        else:
            result = super().rewrite(value)
        if _kind(result) in (Named, Foreign, Ext, Raw) or (result is value and kind not in _IN_ONE_PIECE):
            return result  # its type arrives unchanged, or the packer handles it
        return Tagged(names_of(kind), result)

    def key(self, key: Any) -> Any:
        """Return a key without tags."""
        return Walk(self.encoders).key(key)  # a tagged value cannot be a key


# -- receiving ---------------------------------------------------------------------------------------------------------


class Settled:
    """A value in a tree whose annotation is a union: the chosen member, already made."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value: Any = value


def plain(tree: Any) -> Any:
    """Return a tree without tags: what would have arrived without them."""
    kind = _kind(tree)
    if kind is Tagged:
        return plain(tree.data)
    if kind is list:
        return [plain(each) for each in tree]
    if kind is dict:
        return {plain(key): plain(each) for key, each in tree.items()}
    return tree


def opened(tree: Any) -> Any:
    """Return a tree with each `Settled` replaced by its value."""
    kind = _kind(tree)
    if kind is Settled:
        return tree.value
    if kind is list:
        return [opened(each) for each in tree]
    if kind is dict:
        return {opened(key): opened(each) for key, each in tree.items()}
    return tree


Settle = Callable[[Any, bool], Any]
"""(tree, exactly) -> the settled tree. With `exactly`, it raises `ValidationError` if a value is not of the annotated
class, even if its data would fit."""


def settling(annotation: Any, converter: Converter) -> Settle:
    """Return a function that settles the tags in a tree, by its annotation."""
    try:
        return _settling(annotation, converter)
    except TypeError:  # unhashable, like Annotated[int, []]
        return _settling.__wrapped__(annotation, converter)


@functools.lru_cache(1000)
def _settling(annotation: Any, converter: Converter) -> Settle:
    while (named := unnamed(annotation)) is not annotation:
        annotation = named
    settle = _settling_bare(bare(annotation), has_choice(annotation), converter)
    # pydantic's validators do not know `Settled`
    return functools.partial(_settle_for_pydantic, settle) if models.has_conditions(annotation) else settle


def _settling_bare(annotation: Any, needs_tags: bool, converter: Converter) -> Settle:
    if members := members_of(annotation):
        choice = Choice(members, converter)
        return choice.settle if needs_tags and Any not in members else choice.check
    kind: Any = typing.get_origin(annotation) or annotation
    within = _settling_within(annotation, kind, converter)

    def settle(tree: Any, exactly: bool) -> Any:
        if exactly and not _is_own(kind, tree):
            raise ValidationError(f"Expected `{_shown(annotation)}`, got `{_seen(tree)}`")
        tree = tree.data if _kind(tree) is Tagged else tree
        return within(tree, exactly) if _kind(tree) in (list, dict, Tagged) else tree

    return settle


def _settling_within(annotation: Any, kind: Any, converter: Converter) -> Settle:
    args = typing.get_args(annotation)
    if not isinstance(kind, type):
        return lambda tree, exactly: plain(tree)
    if models.is_model(kind):
        return functools.partial(_settle_model, kind, converter)
    if records.is_record(kind):
        return functools.partial(_settle_fields, annotation, converter)
    if issubclass(kind, tuple) and args and args[-1] is not ...:
        return functools.partial(_settle_row, args, converter)
    if args and issubclass(kind, collections.abc.Mapping):
        return functools.partial(_settle_map, args, converter)
    if args and issubclass(kind, collections.abc.Iterable):
        return functools.partial(_settle_items, args[0], converter)
    return lambda tree, exactly: plain(tree)


def _settle_items(item: Any, converter: Converter, tree: Any, exactly: bool) -> Any:
    settle = settling(item, converter)
    return [settle(each, exactly) for each in tree] if _kind(tree) is list else plain(tree)


def _settle_row(items: Sequence[Any], converter: Converter, tree: Any, exactly: bool) -> Any:
    if _kind(tree) is not list or len(tree) != len(items):
        return plain(tree)
    return [settling(item, converter)(each, exactly) for item, each in zip(items, tree, strict=True)]


def _settle_map(args: Sequence[Any], converter: Converter, tree: Any, exactly: bool) -> Any:
    if _kind(tree) is not dict:
        return plain(tree)
    settle = settling(args[-1], converter)
    return {plain(key): settle(each, exactly) for key, each in tree.items()}


def _settle_fields(annotation: Any, converter: Converter, tree: Any, exactly: bool) -> Any:
    parts = _parts(annotation)
    if _kind(tree) is list:  # a row, whose own tag may come before its fields
        parts = {"": Any, **parts} if _tag(annotation) is not None else parts
        return [settling(part, converter)(each, exactly) for part, each in zip(parts.values(), tree, strict=False)] + [
            plain(each) for each in tree[len(parts) :]
        ]
    if _kind(tree) is not dict:
        return plain(tree)
    return {
        key: settling(parts[key], converter)(each, exactly) if key in parts else plain(each)
        for key, each in tree.items()
    }


def _settle_for_pydantic(settle: Settle, tree: Any, exactly: bool) -> Any:
    return opened(settle(tree, exactly))


def _settle_model(kind: Any, converter: Converter, tree: Any, exactly: bool) -> Any:
    if not _has_choice(kind):
        return plain(tree)
    if models.is_root(kind):
        return opened(settling(models.fields_of(kind)["root"], converter)(tree, exactly))
    if _kind(tree) is not dict:
        return plain(tree)
    written = models.written_of(kind)
    untagged = {key: _settle_written(kind, key, converter, part) for key, part in tree.items() if key in written}
    tagged = {key: part for key, part in tree.items() if key not in written}
    return opened({**_settle_fields(kind, converter, tagged, exactly), **untagged})


def _settle_written(kind: Any, key: str, converter: Converter, tree: Any) -> Any:
    """Settle what a serializer of the model wrote. It has no tags, and no class that could be required exactly."""
    try:
        return settling(models.fields_of(kind)[key], converter)(tree, False)
    except ValidationError as failure:
        told = f"{kind.__qualname__}.{key} is sent as its serializer writes it, without the classes of its parts."
        raise ValidationError(f"{failure}. {told}") from failure.__cause__


def _is_own(kind: Any, tree: Any) -> bool:
    """Return whether a value was of a class, or of one that derives from it."""
    if not isinstance(kind, type) or kind in (object, Any):
        return True
    if _kind(tree) is Tagged:
        return f"{kind.__module__}.{kind.__qualname__}" in tree.name or kind.__module__ == "collections.abc"
    if hasattr(kind, "__required_keys__"):  # a TypedDict
        return _kind(tree) is dict
    return isinstance(tree, kind) or (kind is float and _kind(tree) is int)


class _Member:
    """One member of a union."""

    def __init__(self, annotation: Any, converter: Converter) -> None:
        self.annotation = annotation
        inner = bare(annotation)
        self.kind: Any = typing.get_origin(inner) or inner
        self.is_record: bool = models.is_model(self.kind) or records.is_record(inner)
        self._converter = converter

    @functools.cached_property
    def convert(self) -> Convert:
        return self._converter(self.annotation)

    @functools.cached_property
    def keys(self) -> frozenset[str] | None:
        """Names that its fields have in data; None if it accepts others, too."""
        if models.is_model(self.kind):
            return models.keys_of(self.kind)
        config = getattr(self.kind, "__struct_config__", None)
        tag = () if config is None or config.tag is None else (config.tag_field,)
        return frozenset(_parts(bare(self.annotation))) | frozenset(tag)

    def is_class_of(self, tree: Tagged) -> bool:
        """Return whether a value was an instance of exactly this class."""
        return getattr(self.kind, "__name__", "") == _seen(tree)

    def takes_all(self, value: Any) -> bool:
        """Return whether a value that fits would lose nothing."""
        return self.keys is None or _kind(value) is not dict or self.keys.issuperset(value)

    def settle(self, tree: Any, exactly: bool) -> Any:
        return self.convert(settling(self.annotation, self._converter)(tree, exactly))


class Choice:
    """A union that finds the member a value is meant for."""

    def __init__(self, members: Iterable[Any], converter: Converter) -> None:
        self._members = [_Member(each, converter) for each in _flat(members)]

    def __repr__(self) -> str:
        return f"<Choice of {self._name}>"

    @property
    def _name(self) -> str:
        return " | ".join(_shown(each.annotation) for each in self._members)

    def settle(self, tree: Any, exactly: bool) -> Settled:
        """Return a tagged value as the member of its class; a value of MessagePack's own types as what it is."""
        found = self._of_class(tree)
        self._refuse_to_lose(tree, found)
        said = ValidationError(f"Expected `{self._name}`, got `{_seen(tree)}`")
        for is_exact in (True,) if exactly else (True, False):
            for member in found:
                try:
                    return Settled(member.settle(tree, is_exact))
                except ValidationError as failure:
                    said = failure
        if exactly or (found and _kind(tree) is Tagged):
            raise said
        try:
            return Settled(self._by_shape(plain(tree), lambda member: member.settle(tree, False)))
        except ValueError as failure:
            raise ValidationError(str(failure)) from failure

    def check(self, tree: Any, exactly: bool) -> Any:
        """Return a value without tags, for a union that needs none: its converter, possibly msgspec's, decides."""
        if exactly:
            self.settle(tree, exactly)
        return plain(tree)

    def _refuse_to_lose(self, tree: Any, found: Sequence[_Member]) -> None:
        """Refuse an instance of a subclass of members if each member lacks one of its fields.

        If there is only one class of records, fields are dropped as they are without a union.
        """
        if _kind(tree) is not Tagged or sum(each.is_record for each in self._members) < 2:
            return
        if found and not any(each.takes_all(tree.data) or each.is_class_of(tree) for each in found):
            lost = ", ".join(str(key) for key in tree.data if key not in (found[0].keys or ()))
            name, base = _seen(tree), _shown(found[0].annotation)
            raise ValidationError(f"a {name} would lose {lost} as a {base}: add {name} to the union")

    def _of_class(self, tree: Any) -> list[_Member]:
        """Return the members of which a value was an instance, the nearest class first."""
        if _kind(tree) is not Tagged:
            return [each for each in self._members if _is_own(each.kind, tree)]
        found = [(name, each) for name in tree.name for each in self._members if name == _name_of(each.kind)]
        if found:
            return [each for name, each in found if name == found[0][0]]
        short = {name.rpartition(".")[2] for name in tree.name}  # a role's module may have another name elsewhere
        found_by_name = [each for each in self._members if getattr(each.kind, "__qualname__", "") in short]
        return (
            found_by_name
            if len(found_by_name) == 1
            else [each for each in self._members if _is_own(each.kind, tree) and not each.is_record]
        )

    def fit(self, value: Any) -> Any:
        """Return what a value without tags is, by its shape; raise `ValueError` if that is ambiguous, or fits none."""
        if _kind(value) is Settled:
            return value.value
        return self._by_shape(value, lambda member: member.convert(value))

    def _by_shape(self, value: Any, made: Callable[[_Member], Any]) -> Any:
        fits: list[tuple[_Member, Any]] = []
        for member in self._members:
            with contextlib.suppress(ValidationError):
                fits.append((member, made(member)))
        if not fits:
            raise self._none_fits(value)
        if not _is_made(value):  # a table is made of plain data only if no other member is plain data
            fits = [each for each in fits if origin_of(each[0].kind) is None] or fits
        if (of_records := [(each, found) for each, found in fits if each.is_record]) and not _is_made(value):
            return self._record_among(of_records, fits, value)
        own = [found for each, found in fits if each.kind is _kind(value) and each.kind is not str]
        other = [found for each, found in fits if each.kind is not str and isinstance(each.kind, type)]
        return (*own, *other, fits[0][1])[0]

    def _record_among(self, fits: list[tuple[_Member, Any]], others: list[tuple[_Member, Any]], value: Any) -> Any:
        """Return the record that uses all of the data."""
        whole = [(each, found) for each, found in fits if each.takes_all(value)]
        if len(whole) == 1 or (whole and _are_same([found for _, found in whole])):
            return whole[0][1]
        if len(whole) > 1:
            names = " and ".join(_shown(each.annotation) for each, _ in whole)
            raise ValueError(
                f"This fits {names} equally well. Send an instance, if the export is annotated with this union; "
                f"plain data needs a field that tells them apart, such as kind: Literal[...]"
            )
        if plain_ones := [found for each, found in others if not each.is_record]:
            return plain_ones[0]
        if sum(each.is_record for each in self._members) == 1:
            return fits[0][1]  # as without a union
        unknown = sorted({str(key) for each, _ in fits for key in value if key not in (each.keys or ())})
        names = " and ".join(_shown(each.annotation) for each, _ in fits)
        raise ValueError(f"No member of the union has all of these fields: {names} would lose {', '.join(unknown)}")

    def _none_fits(self, value: Any) -> ValueError:
        """Return the error. If there is only one member that it may be for, pydantic's words explain it best."""
        likely = [each for each in self._members if each.kind is not types.NoneType]
        if len(likely) == 1 and value is not None:
            try:
                likely[0].convert(value)
            except ValidationError as reason:
                if isinstance(reason.__cause__, Misfit):
                    return Misfit(misfits_of(reason, value, ""))
        return ValueError(f"Expected `{self._name}`, got `{_kind(value).__name__}`")


def _flat(members: Iterable[Any]) -> Iterator[Any]:
    """Yield the members of a union, including those of unions with a name or a note among them."""
    for member in members:
        if (inner := members_of(bare(member))) and (
            models.is_discriminated(member) or not models.has_conditions(member)
        ):
            yield from _flat(inner)
        else:
            yield member


def _is_made(value: Any) -> bool:
    """Return whether a value is an object rather than plain data."""
    return _kind(value) not in (dict, list)


def _are_same(found: Sequence[Any]) -> bool:
    return all(_kind(each) is dict and each == found[0] for each in found)


def _name_of(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}" if isinstance(kind, type) else ""


def _shown(annotation: Any) -> str:
    if annotation is types.NoneType:
        return "None"
    if (typing.get_origin(annotation) or annotation) is _CALLABLE:
        return "a function"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")


def _seen(tree: Any) -> str:
    return tree.name[0].rpartition(".")[2] if _kind(tree) is Tagged else _kind(tree).__name__
