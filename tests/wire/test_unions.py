"""Unions lose nothing: what was sent arrives as its own member, or is refused."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import ipaddress
import pathlib
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
)

import attrs
import msgspec
import numpy as np
import pydantic.dataclasses
import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    HttpUrl,
    Json,
    PlainSerializer,
    RootModel,
    SecretStr,
    StringConstraints,
    Tag,
    field_serializer,
    model_serializer,
)
from typing_extensions import TypeAliasType

from mob.errors import ArgumentError, BadMessage, GarbageFrame
from mob.wire import records, unions
from mob.wire.arguments import Parameters
from mob.wire.codec import Codec, Reference
from mob.wire.extensions import TAGGED, WITH_TAGS, WithTags
from mob.wire.sharing import LARGE, LARGE_BUFFER, BufferLocation, inlined, looked_at

T = TypeVar("T")
LENT: list[Callable[..., Any]] = []


def lend(function: Callable[..., Any]) -> Reference:
    LENT.append(function)
    return Reference(1, len(LENT) - 1)


CODEC = Codec(lend, lambda reference: LENT[reference.id])


@dataclass(frozen=True)
class Cat:
    name: str
    lives: int = 9


@dataclass(frozen=True)
class Dog:
    name: str
    lives: int = 9


@dataclass(frozen=True)
class Puppy(Dog):
    age: int = 0


@dataclass(frozen=True)
class Fish:
    name: str
    fins: int = 2


@attrs.define
class Car:
    doors: int


@attrs.define
class Van:
    doors: int
    _code: int = 0
    wheels: int = attrs.field(default=4, init=False)


class Plain(msgspec.Struct):
    x: int


class Other(msgspec.Struct):
    x: int


class Circle(msgspec.Struct, tag=True):
    size: float


class Square(msgspec.Struct, tag=True):
    size: float


class Row(msgspec.Struct, array_like=True, tag="row"):
    size: float
    pet: Cat | Dog | None = None


class Line(msgspec.Struct, array_like=True, tag="line"):
    size: float
    pet: Cat | Dog | None = None


class Renamed(msgspec.Struct, rename="upper", tag="r"):
    pet: Cat | Dog


class Tiger(BaseModel):
    x: int


class Lion(BaseModel):
    x: int


class Told(BaseModel):
    kind: Literal["told"] = "told"
    x: int = 0


class Said(BaseModel):
    kind: Literal["said"] = "said"
    x: int = 0


class Keeper(BaseModel):
    model_config = ConfigDict(extra="allow")
    pet: Cat | Dog
    when: dt.datetime | str
    beast: Tiger | Lion
    more: list[Tiger | Lion] = []
    told: Told | Said = Field(default_factory=Said, discriminator="kind")


class Serialized(BaseModel):
    when: dt.datetime | str

    @field_serializer("when")
    def write(self, when: Any) -> str:
        return str(when)


class Packed(BaseModel):
    when: dt.datetime | str
    numbers: list[Json[int]] = []


class Conditions(BaseModel):
    beast: Tiger | Lion
    n: int = Field(default=1, gt=0)
    name: Annotated[str, AfterValidator(str.strip), StringConstraints(max_length=5)] = "a"
    secret: SecretStr = SecretStr("s")
    day: Annotated[dt.date, PlainSerializer(lambda day: day.isoformat())] = dt.date(2024, 1, 2)
    whims: list[Annotated[Told | Said, Field(discriminator="kind")]] = []


class Omitting(BaseModel):
    beast: Tiger | Lion
    n: int = Field(default=1, exclude_if=lambda n: n == 1)


class Whole(BaseModel):
    beast: Tiger | Lion

    @model_serializer
    def write(self) -> dict[str, Any]:
        return {"beast": {"x": self.beast.x}}


@pydantic.dataclasses.dataclass
class Lair:
    beast: Tiger | Lion
    n: int = Field(default=1, gt=0)
    unkept: dataclasses.InitVar[int] = 3


class Den(BaseModel):
    lair: Lair


class Wolf(BaseModel):
    kind: Literal["wolf"] = "wolf"
    prey: Tiger | Lion


class Bear(BaseModel):
    kind: Literal["bear"] = "bear"
    prey: Tiger | Lion


class Forest(BaseModel):
    beast: Wolf | Bear = Field(discriminator="kind")


class Woods(BaseModel):
    beasts: list[Annotated[Wolf | Bear, Field(discriminator="kind")]]


class Grove(BaseModel):
    beast: Annotated[Annotated[Wolf | Bear, Field(discriminator="kind")] | Told, Field(discriminator="kind")]


class Tagged(BaseModel):
    beast: Annotated[
        Annotated[Wolf, Tag("wolf")] | Annotated[Bear, Tag("bear")],
        Discriminator(lambda value: value["kind"] if isinstance(value, dict) else value.kind),
    ]


@dataclass
class Hole:
    beast: Tiger | Lion
    n: int = 1


class Rewritten(BaseModel):
    beast: Tiger | Lion

    @field_serializer("beast")
    def write(self, beast: Any) -> Any:
        return {"x": beast.x}


class Beast(RootModel[Tiger | Lion]): ...


class Chart(TypedDict):
    x: int


class Graph(TypedDict, total=False):
    x: int
    y: int


class Pair(NamedTuple):
    x: int


class Couple(NamedTuple):
    x: int


class Color(enum.Enum):
    RED = "red"


class Shape(enum.Enum):
    WIDE = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Name(str): ...


@dataclass
class Zoo:
    star: Cat | Dog
    all: list[Cat | Dog] = field(default_factory=list)
    anything: Any = None
    when: dt.datetime | str | None = None
    note: str = field(init=False)

    def __post_init__(self) -> None:
        self.note = self.star.name


@dataclass
class Node:
    pet: Cat | Dog
    kids: list[Node] = field(default_factory=list)


@dataclass
class Box(Generic[T]):
    inside: T
    many: list[T] = field(default_factory=list)


class Crate(TypedDict, total=False):
    pet: Cat | Dog


class Pen(NamedTuple):
    pet: Cat | Dog
    size: int = 1


@attrs.define
class Cage:
    pet: Cat | Dog
    _lock: int = 0
    doors: int = attrs.field(default=1, alias="exits")


@dataclass
class Pool:
    pet: Cat | Fish


@dataclass
class Mixed:
    pet: Cat | Dog
    n: int | None = None
    m: int | str = 3


class MixedRow(NamedTuple):
    pet: Cat | Dog
    n: int | None = None


class MixedStruct(msgspec.Struct):
    pet: Cat | Dog
    n: int | str | None = None


class MixedDict(TypedDict):
    pet: Cat | Dog
    n: int | None


@dataclass
class MixedItems:
    pets: list[Cat | Dog]
    pair: tuple[Cat | Dog, int | str] | None = None
    n: str | None = None


class MixedModel(BaseModel):
    pair: tuple[Tiger | Lion, int | str] | None = None


MIXED = [
    (Mixed(Dog("a"), 5, "q"), Mixed),
    (MixedRow(Dog("a"), 5), MixedRow),
    (MixedStruct(Dog("a"), "5"), MixedStruct),
    ({"pet": Dog("a"), "n": 5}, MixedDict),
    (MixedItems([Dog("a")], (Dog("b"), "5"), "s"), MixedItems),
    (MixedModel(pair=(Lion(x=1), "5")), MixedModel),
    ((Dog("a"), "5"), tuple[Cat | Dog, int | str]),
    ((Dog("a"), {"a": "5"}), tuple[Cat | Dog, dict[str, int | str]]),
]
Either = TypeAliasType("Either", Cat | Dog)
Pet = NewType("Pet", Cat)
LOST = "no member of the union has all of these fields: Tiger and Lion would lose z."
UNKNOWN = "expected Circle | Square | Cat, got dict {'size': 1, 'type': 'Line'}."
ALIKE = (
    "this fits Cat and Dog equally well. Send an instance, if the export is annotated with this union; "
    "plain data needs a field that tells them apart, such as kind: Literal[...]."
)
NOW = dt.datetime(2024, 1, 2)


def parameters(annotation: Any) -> Parameters:
    def keep(pet: Any, *rest: Any) -> None: ...

    keep.__annotations__ = {"pet": annotation, "rest": annotation}
    return Parameters.of(keep, CODEC, "back.keep")


def arrived(value: Any, annotation: Any) -> Any:
    """Return the argument of a call from a caller that tags, which it does if asked to."""
    wanted = parameters(annotation)

    def body(value: Any) -> bytes:
        return CODEC.encode(CODEC.tagged(value, "args") if wanted.takes_tags else value)

    found = wanted.decode(body([value]), None)[0][0]
    assert wanted.decode(body([value, value]), None)[0][1] == found
    assert wanted.decode(body([]), body({"pet": value}))[1] == {"pet": found}
    assert CODEC.decode(body(value)) == CODEC.decode(CODEC.encode(value))  # other code ignores tags
    return found


def untagged(value: Any, annotation: Any) -> Any:
    """Return the argument of a call without tags, for example from a command line."""
    return parameters(annotation).decode(CODEC.encode((value,)), None)[0][0]


def refused(value: Any, annotation: Any) -> str:
    with pytest.raises(ArgumentError) as caught:
        untagged(value, annotation)
    return str(caught.value).split("): ", 1)[1]


KEEPER = Keeper(pet=Dog("a"), when="2024-01-02T00:00:00", beast=Lion(x=1), more=[Lion(x=1), Tiger(x=2)], other=[1])  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Cat("a"), Cat | Dog),
        (Dog("a"), Cat | Dog),
        (Fish("a"), Cat | Dog | Fish),
        (Dog("a"), Cat | Dog | None),
        (None, Cat | Dog | None),
        (Dog("a"), Optional[Cat | Dog]),  # noqa: UP045
        (Dog("a"), Annotated[Cat | Dog, "a note"]),
        (Dog("a"), Pet | Dog),
        ([Dog("a"), Cat("b")], list[Cat | Dog]),
        ((Dog("a"), 1), tuple[Cat | Dog, int]),
        ((Dog("a"), Cat("a")), tuple[Cat | Dog, ...]),
        ({"a": [Dog("a")]}, dict[str, list[Cat | Dog]]),
        ({"a": Dog("a")}, Mapping[str, Cat | Dog]),
        ([Dog("a")], Sequence[Cat | Dog]),
        ({Dog("a")}, set[Cat | Dog]),
        ([Dog("a")], list[Cat] | list[Dog]),
        ([Cat("a")], list[Cat] | list[Dog]),
        ({"a": Dog("a")}, dict[str, Cat] | dict[str, Dog]),
        ([Cat("a")], list[Cat | Dog] | None),
        (Car(1), Car | Van),
        (Van(1), Car | Van),
        (Plain(1), Plain | Other),
        (Other(1), Plain | Other),
        (Square(1.5), Circle | Square),
        (Square(1.5), Circle | Square | Cat),
        (Line(1.5, Dog("a")), Row | Line),
        (Renamed(Dog("a")), Renamed),
        (Lion(x=1), Tiger | Lion),
        (Tiger(x=1), Tiger | Lion),
        (Said(), Told | Said),
        (Said(), Annotated[Told | Said, Field(discriminator="kind")]),
        (KEEPER, Keeper),
        ([KEEPER], list[Keeper]),
        (Keeper(pet=Cat("a"), when=NOW, beast=Tiger(x=1)), Keeper),
        (Beast(Lion(x=1)), Beast),
        (Packed(when="x"), Packed),
        ({"x": 1}, Chart | Graph),
        ({"y": 1}, Chart | Graph),
        ({"x": 1}, Chart | Cat),
        (Pair(1), Pair | Couple),
        (Couple(1), Pair | Couple),
        (Pair(1), Pair | tuple[int]),
        ((1,), Pair | tuple[int]),
        (NOW, dt.datetime | str),
        (NOW, str | dt.datetime),
        ("2024-01-02T00:00:00", dt.datetime | str),
        ("x", dt.datetime | str),
        (dt.datetime(2024, 1, 2, tzinfo=dt.UTC), dt.datetime | str),
        (dt.date(2024, 1, 2), dt.date | dt.datetime),
        (NOW, dt.date | dt.datetime),
        (dt.timedelta(1), dt.timedelta | str),
        (dt.time(1), dt.time | dt.date),
        (pathlib.PurePosixPath("a"), pathlib.PurePosixPath | str),
        ("a", pathlib.PurePosixPath | str),
        (uuid.UUID(int=1), uuid.UUID | str),
        (str(uuid.UUID(int=1)), uuid.UUID | str),
        (decimal.Decimal("1.1"), decimal.Decimal | str),
        (decimal.Decimal("1.5"), decimal.Decimal | float),
        (1.5, decimal.Decimal | float),
        ("1.1", decimal.Decimal | str),
        (ipaddress.IPv4Address("1.1.1.1"), ipaddress.IPv4Address | str),
        ("1.1.1.1", ipaddress.IPv4Address | str),
        (HttpUrl("http://a.de/"), HttpUrl | str),
        ("http://a.de/", HttpUrl | str),
        (re.compile("a"), re.Pattern | str),
        ([1], list | tuple),
        ((1,), list | tuple),
        ({1}, set | list),
        ([1], set | list),
        ([1], set[int] | list[int]),
        (frozenset({1}), set[int] | frozenset[int]),
        ({Cat("a")}, set[Cat] | list[Cat]),
        (collections.deque([1]), collections.deque[int] | list[int]),
        (("a", 1), tuple[int, str] | tuple[str, int]),
        ([NOW], list[dt.datetime] | list[str]),
        (["2024-01-02T00:00:00"], list[dt.datetime] | list[str]),
        (b"a", bytes | str),
        ("a", bytes | str),
        (bytearray(b"a"), bytes | bytearray),
        (b"a", bytearray | bytes),
        (Cat("a"), Cat | dict),
        ({"name": "x"}, Cat | dict),
        ({"name": "x"}, Cat | dict[str, Any]),
        (1, int | float),
        (1.0, int | float),
        (1, int | bool | Level),
        (True, int | bool | Level),
        (2**100, int | str | uuid.UUID),
        (Level.LOW, Level | int),
        (1, Level | int),
        (Color.RED, Color | str),
        ("red", Color | str),
        ("red", Color | Literal["red"]),
        (Name("a"), Name | str),
        ("a", Name | str),
        (np.float32(0.5), np.float32 | float),
        (0.5, np.float32 | float),
        (5, Cat | int),
        (Cat("a"), Cat | int),
        (1j, complex | Cat | Dog),
        (len, Callable | Cat | Dog),
        (Zoo(Dog("s"), [Dog("a"), Cat("b")], when=NOW), Zoo),
        ([Zoo(Dog("s"), when="2024-01-02T00:00:00")], list[Zoo]),
        (Node(Dog("s"), [Node(Cat("x"), [Node(Dog("y"))])]), Node),
        (Box[Cat | Dog](Dog("a"), [Cat("a")]), Box[Cat | Dog]),
        ({"pet": Dog("a")}, Crate),
        ({}, Crate),
        (Pen(Dog("a")), Pen),
        (Cage(Dog("a"), 0, 3), Cage),
        (Conditions(beast=Lion(x=1), whims=[Said()]), Conditions),
        (Omitting(beast=Lion(x=1)), Omitting),
        (Omitting(beast=Lion(x=1), n=2), Omitting),
        (Lair(Lion(x=1)), Lair),
        (Den(lair=Lair(Lion(x=1))), Den),
        (Forest(beast=Bear(prey=Lion(x=1))), Forest),
        (Woods(beasts=[Bear(prey=Lion(x=1))]), Woods),
        (Grove(beast=Bear(prey=Lion(x=1))), Grove),
        (Tagged(beast=Bear(prey=Lion(x=1))), Tagged),
        (Bear(prey=Lion(x=1)), Optional[Annotated[Wolf | Bear, Field(discriminator="kind")]]),  # noqa: UP045
        (Lair(Lion(x=1)), Lair | Hole),
        (Hole(Lion(x=1)), Lair | Hole),
        *MIXED,
        *((value, annotation | None) for value, annotation in MIXED),
        *(([value], list[annotation]) for value, annotation in MIXED),
        ([Dog("a")], Annotated[list[Cat | Dog], Field(min_length=1)]),
        (Dog("a"), Either | None),
        (Dog("a"), Either | Fish),
        ([["2024-01-02"]], list[list[dt.date] | None] | list[list[str] | None]),
        (5, int | Any),
    ],
)
def test_what_was_sent_arrives_as_it_was(value: Any, annotation: Any) -> None:
    found = arrived(value, annotation)
    assert type(found) is type(value)
    assert found == value
    assert repr(found) == repr(value)


def test_a_subclass_arrives_as_the_nearest_member() -> None:
    assert arrived(Grandchild(1, 2, 3), Base | Child | Grandchild) == Grandchild(1, 2, 3)
    assert arrived(Twin(1, 2), Base | Child) == Child(1, 2)
    assert arrived(Puppy("a", 3, 1), Cat | Dog | Puppy) == Puppy("a", 3, 1)


def test_a_class_is_known_by_its_name_if_its_module_has_another() -> None:
    elsewhere = dataclasses.make_dataclass("Dog", [("name", str), ("lives", int)])
    elsewhere.__module__ = "elsewhere"
    assert arrived(elsewhere("a", 3), Cat | Dog) == Dog("a", 3)


def test_what_is_of_no_member_is_decided_by_its_shape() -> None:
    assert arrived(Car(2), Van | Cat) == Van(2)
    assert arrived(pathlib.PurePosixPath("a"), uuid.UUID | str) == "a"
    assert arrived((1, 2), list[int] | set[int]) == [1, 2]
    with pytest.raises(ArgumentError, match="this fits Cat and Dog equally well"):
        arrived(Fish("x", 1) and {"name": "x"}, Cat | Dog)
    with pytest.raises(ArgumentError, match=re.escape("expected Cat | Dog, got")):
        arrived(5, Cat | Dog)
    with pytest.raises(ArgumentError, match="expected int"):
        arrived({"pet": Dog("a"), "number": "x"}, Numbered)


class Numbered(TypedDict):
    pet: Cat | Dog
    number: int


def test_what_is_not_annotated_arrives_without_tags() -> None:
    def keep(pet: Cat | Dog, other: Any, *rest: Any, **more: Any) -> None: ...

    decode = Parameters.of(keep, CODEC, "back.keep").decode
    args = CODEC.encode(CODEC.tagged([Dog("a"), {"b": (Dog("b"), NOW)}, {1}], "args"))
    found, named = decode(args, CODEC.encode(CODEC.tagged({"x": Cat("c")}, "kwargs")))
    assert list(found) == [Dog("a"), {"b": [{"name": "b", "lives": 9}, "2024-01-02T00:00:00"]}, [1]]
    assert named == {"x": {"name": "c", "lives": 9}}
    assert arrived(Zoo(Dog("a"), anything=[Dog("b"), (1,)]), Zoo).anything == [{"name": "b", "lives": 9}, [1]]


def test_a_function_without_unions_takes_what_is_tagged() -> None:
    def keep(pet: Cat, when: dt.datetime) -> None: ...

    wanted = Parameters.of(keep, CODEC, "back.keep")
    assert not wanted.takes_tags
    body = CODEC.encode(CODEC.tagged([Cat("a"), NOW], "args"))
    assert list(wanted.decode(body, None)[0]) == [Cat("a"), NOW]


@pytest.mark.parametrize(
    "annotation",
    [
        Cat,
        Cat | None,
        int | str | None,
        int | float | bool,
        bytes | str,
        list[Cat] | None,
        Circle | Square,
        Told | Said,
        Annotated[Told | Said, Field(discriminator="kind")],
        Literal["a"] | str,
        Callable[[int], int] | None,
        Callable[[int], int] | str,
        dt.datetime | int,
        Any,
        np.ndarray | str,
        Chart,
        dict[str, int | str],
    ],
)
def test_only_what_needs_tags_takes_them(annotation: Any) -> None:
    assert not unions.has_choice(annotation)


@pytest.mark.parametrize(
    ("value", "annotation", "found"),
    [
        ({"name": "x", "fins": 3}, Cat | Fish, Fish("x", 3)),
        ({"name": "x", "lives": 3}, Cat | Fish, Cat("x", 3)),
        ({"name": "x", "extra": 1}, Cat | int, Cat("x")),
        ({"name": "x"}, Cat | dict, Cat("x")),
        ({"other": "x"}, Cat | dict, {"other": "x"}),
        ({"name": "x", "other": 1}, Cat | dict, {"name": "x", "other": 1}),
        ({"x": 1}, Chart | Graph, {"x": 1}),
        ({"kind": "said"}, Told | Said, Said()),
        ({"type": "Square", "size": 1.5}, Circle | Square | Cat, Square(1.5)),
        ("2024-01-02T00:00:00", dt.datetime | str, NOW),
        ("2024-01-02T00:00:00", str | dt.datetime, NOW),
        ("x", dt.datetime | str, "x"),
        (str(uuid.UUID(int=1)), uuid.UUID | str, uuid.UUID(int=1)),
        ([1], set | list, [1]),
        (["a"], list[int] | set[str], {"a"}),
        ("red", Color | str, Color.RED),
        (1, float | Cat | Dog, 1.0),
        ({"pet": {"name": "x", "fins": 1}}, Pool, Pool(Fish("x", 1))),
    ],
)  # fmt: skip
def test_what_comes_without_tags_is_decided_by_its_shape(value: Any, annotation: Any, found: Any) -> None:
    assert untagged(value, annotation) == found


@pytest.mark.parametrize(
    ("value", "annotation", "text"),
    [
        (
            {"name": "x"},
            Cat | Dog,
            ALIKE,
        ),
        (
            {"name": "x", "z": 1},
            Cat | Fish,
            "no member of the union has all of these fields: Cat and Fish would lose z.",
        ),
        ({"x": 1, "z": 1}, Tiger | Cat | Lion, LOST),
        (5, Cat | Dog | None, "expected Cat | Dog | None, got int 5."),
        ({"type": "Line", "size": 1}, Circle | Square | Cat, UNKNOWN),
        (None, Tiger | Lion, "expected Tiger | Lion, got None."),
        ({"pet": 5}, Pen, "expected list, got dict {'pet': 5}."),
        ([5], Pen, "pet.pet: expected Cat | Dog, got int 5."),
        ([{"name": "x", "lives": 1}, 2, 3], Pen, "expected array of at most length 2, got 3."),
        ({"pet": 1}, Crate, "pet.pet: expected Cat | Dog, got int 1."),
        (5, Zoo, "expected dict, got int 5."),
        ({}, Cage, "pet.pet: it is missing."),
        ({"type": "q", "PET": 5}, Renamed, "invalid value 'q' of type."),
        ([], Row, "invalid value None of type."),
    ],
)  # fmt: skip
def test_what_fits_no_member_or_several_is_refused(value: Any, annotation: Any, text: str) -> None:
    assert refused(value, annotation) == text


def test_models_with_serializers_of_their_own_send_what_these_say() -> None:
    assert arrived(Serialized(when=NOW), Serialized).when == "2024-01-02 00:00:00"
    assert CODEC.decode(CODEC.encode(CODEC.tagged(Packed(when="x", numbers=["1"]), "args")))["numbers"] == ["1"]  # type: ignore[list-item]


@pytest.mark.parametrize("annotation", [Bear, Bear | None, Wolf | Bear, Wolf | Bear | Lair])
def test_an_instance_within_plain_data_arrives_as_what_it_is(annotation: Any) -> None:
    assert arrived({"kind": "bear", "prey": Lion(x=1)}, annotation) == Bear(prey=Lion(x=1))
    with pytest.raises(ArgumentError):
        arrived({"kind": "bear", "prey": {"x": 1}}, annotation)


def test_an_instance_that_does_not_fit_is_not_taken_for_one_of_another_member() -> None:
    broken = Lair(Lion(x=1))
    broken.beast = {"x": 1}  # type: ignore[assignment]
    with pytest.raises(ArgumentError, match="this fits Tiger and Lion equally well"):
        arrived(broken, Lair | Hole)


@pytest.mark.parametrize("kind", [Rewritten, Whole])
def test_what_a_serializer_has_written_is_refused_if_it_fits_two_members(kind: Any) -> None:
    with pytest.raises(ArgumentError, match=f"equally well.*{kind.__name__}.beast is sent as its serializer writes it"):
        arrived(kind(beast=Lion(x=1)), kind)


def test_what_cannot_be_sent_is_named_by_its_place() -> None:
    with pytest.raises(BadMessage, match=re.escape("cannot send args[0].anything['a']: a module")):
        CODEC.tagged([Zoo(Cat("a"), anything={"a": re})], "args")


def test_registered_types_keep_their_way() -> None:
    codec = Codec(lend, lambda reference: LENT[reference.id])
    codec.register(Fish, lambda fish: fish.name, Fish)

    def keep(pet: Cat | Dog | Fish) -> None: ...

    decode = Parameters.of(keep, codec, "back.keep").decode
    for pet in (Fish("a"), Dog("b")):
        assert decode(codec.encode(codec.tagged([pet], "args")), None)[0][0] == pet


def test_functions_and_large_buffers_travel_within() -> None:
    memory: list[bytearray] = []

    def share(length: int, fill: Callable[[memoryview], None]) -> BufferLocation:
        memory.append(bytearray(length))
        fill(memoryview(memory[-1]))
        return BufferLocation(1, len(memory) - 1, 0, length)

    codec = Codec(lend, lambda reference: LENT[reference.id], lambda place: memoryview(memory[place.number]))
    value = codec.tagged([Zoo(Dog("a"), anything=[bytes(LARGE), len])], "args")
    assert isinstance(value, WithTags)

    def keep(zoo: Zoo) -> None: ...

    body = codec.encode_sharing(value, share)
    assert len(body) < LARGE
    (found,) = Parameters.of(keep, codec, "back.keep").decode(body, None)[0]
    assert found.star == Dog("a")
    assert found.anything[1] is len
    assert bytes(found.anything[0]) == bytes(LARGE)


def packed_tag(names: Any, value: Any, code: int = TAGGED) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, msgspec.msgpack.encode((names, value)))


def body_of(args: Any) -> bytes:
    return msgspec.msgpack.encode(packed_tag(None, args, WITH_TAGS))


@pytest.mark.parametrize("names", [None, 5, "x", [], [5], [None], [[1]], {}, b"q", [b"q"]])
def test_a_tag_that_is_no_list_of_names_is_garbage(names: Any) -> None:
    with pytest.raises(GarbageFrame, match="a tag is no list of names"):
        parameters(Cat | Dog).decode(body_of([packed_tag(names, {"name": "a"})]), None)


@pytest.mark.parametrize("holder", [None, 5, [], [None], [None, [], 3], {"a": 1}])
@pytest.mark.parametrize("code", [TAGGED, WITH_TAGS])
def test_an_extension_for_tags_without_its_two_parts_is_garbage(holder: Any, code: int) -> None:
    body = msgspec.msgpack.encode(msgspec.msgpack.Ext(code, msgspec.msgpack.encode(holder)))
    with pytest.raises(GarbageFrame, match=f"the extension {code} of a body is malformed"):
        parameters(Cat | Dog).decode(body, None)


def test_named_arguments_without_tags_beside_others_with_tags() -> None:
    wanted = parameters(Cat | Fish)
    cat = msgspec.msgpack.encode({"pet": {"name": "a", "lives": 1}})
    assert wanted.decode(body_of([]), cat) == ([], {"pet": Cat("a", 1)})
    with pytest.raises(GarbageFrame, match="are not an array and a map"):
        wanted.decode(msgspec.msgpack.encode([]), body_of({"pet": 1}))


@pytest.mark.parametrize("annotation", [Cat | Dog, Zoo, list[Zoo], dict[str, Zoo], Row | Line, Keeper])
@pytest.mark.parametrize("names", [["x"], ["Dog"], ["x", "Zoo"]])
def test_tags_in_places_where_nobody_puts_them_are_refused(annotation: Any, names: list[str]) -> None:
    twice = packed_tag(names, packed_tag(["y"], {"name": 1}))
    for value in (twice, [twice], {"pet": twice}, {"a": {"pet": twice}}, packed_tag(names, twice)):
        with pytest.raises(ArgumentError):
            parameters(annotation).decode(body_of([value]), None)


def test_what_is_nested_too_deeply_to_be_settled_is_refused() -> None:
    tree: Any = {"pet": packed_tag(["Cat"], {"name": "a"}), "kids": []}
    for _ in range(250):
        tree = {"pet": packed_tag(["Cat"], {"name": "a"}), "kids": [tree]}
    wanted = parameters(Node)
    with pytest.raises(ArgumentError):
        wanted.decode(body_of([tree]), None)


def test_a_tag_in_a_key_is_refused() -> None:
    key = msgspec.msgpack.encode(packed_tag(["x"], 1))
    body = msgspec.msgpack.encode(packed_tag(None, [{}], WITH_TAGS))
    whole = msgspec.msgpack.Ext(WITH_TAGS, b"\x92\xc0\x91\x81" + key + b"\x01")
    assert parameters(dict[str, Cat | Dog]).decode(body, None) == ([{}], {})
    with pytest.raises(ArgumentError):
        parameters(dict[str, Cat | Dog]).decode(msgspec.msgpack.encode(whole), None)


def test_what_is_nested_in_tags_is_found_by_who_gives_it_back() -> None:
    given: list[Any] = []
    codec = Codec(lend, lambda reference: LENT[reference.id], give_back=given.append)
    codec.discard(codec.encode(codec.tagged([Zoo(Dog("a"), anything=len)], "args")))
    assert len(given) == 1
    assert repr(unions.Choice((Cat, None, list[int]), codec.converter)) == "<Choice of Cat | None | list[int]>"


# --- less common annotations ------------------------------------------------------------------------------------------

Tame = TypeAliasType("Tame", Cat | Dog)
Many = TypeAliasType("Many", list[T], type_params=(T,))


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: int


class Deep(BaseModel):
    x: int = Field(validation_alias=AliasPath("a", 0))


class Aliases(BaseModel):
    y: int = Field(validation_alias=AliasChoices("Y", "why"))


@dataclass
class Unresolved:
    x: int
    pet: NoSuchName  # type: ignore[name-defined]  # pyright: ignore[reportUndefinedVariable] # noqa: F821


class Strictly(TypedDict):
    pet: Required[Cat | Dog]
    other: NotRequired[Cat | Dog]


class Unresolvable(TypedDict):
    x: NoSuchName  # type: ignore[name-defined]  # pyright: ignore[reportUndefinedVariable] # noqa: F821


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Dog("a"), Tame),
        ([Dog("a")], list[Tame]),
        ([1, 2], Many[int]),
        ([Dog("a")], Many[Tame]),
        (Loose(x=1, y=2), Loose | Cat),  # type: ignore[call-arg]
        (Aliases(why=1), Aliases | Cat),  # type: ignore[call-arg]
        ({"pet": Dog("a")}, Strictly),
        ({"pet": Dog("a"), "other": Cat("b")}, Strictly),
        (Dog("a"), Annotated[Cat | Dog, []]),
        ("x", Annotated[int | str, "a note"] | uuid.UUID),
        (None, list[int | None] | Cat | Dog | None),
        ([None, 1], list[int | None] | tuple[int | None, ...]),
        ({}, Strictly | dict),
        (Unresolved(1, {"a": 1}), Unresolved),
        ({"x": [1]}, Unresolvable),
        ([[Dog("a")], [Cat("a")]], list[list[Cat | Dog] | list[Fish]]),
        ([[Fish("a")]], list[list[Cat | Dog] | list[Fish]]),
    ],
)
def test_names_and_keys_and_what_does_not_resolve(value: Any, annotation: Any) -> None:
    assert arrived(value, annotation) == value


def test_data_that_fits_one_of_several_models() -> None:
    assert untagged({"x": 1, "more": 2}, Loose | Cat) == Loose(x=1, more=2)  # type: ignore[call-arg]
    assert untagged({"a": [5]}, Deep | Cat) == Deep(a=[5])  # type: ignore[call-arg]
    assert untagged({"why": 5}, Aliases | Cat) == Aliases(Y=5)  # type: ignore[call-arg]
    assert refused({"pet": 5}, Strictly) == "pet.pet: expected Cat | Dog, got int 5."
    assert refused({}, Strictly) == "pet.pet: it is missing."
    assert untagged({"name": "x", "other": 1}, Cat | pathlib.PurePosixPath) == Cat("x")
    assert refused("x", Shape | None) == "expected Shape | None, got str 'x'."
    assert refused("x", Cat | None | Callable[[], None] | int) == "expected Cat | None | a function | int, got str 'x'."


def test_trees_that_do_not_have_the_shape_of_their_annotation() -> None:
    for value in ((Cat("a"),), (Cat("a"), 1, 2), 5, {"a": 1}):
        with pytest.raises(ArgumentError):
            arrived(value, tuple[Cat | Dog, int])
    for value in ([1], (1,), 5):
        with pytest.raises(ArgumentError):
            arrived(value, dict[str, Cat | Dog])
    for value in ({"a": 1}, 5):
        with pytest.raises(ArgumentError):
            arrived(value, list[Cat | Dog])
    with pytest.raises(ArgumentError):
        arrived([1], Keeper)


def test_an_instance_that_is_there_already_is_welcome() -> None:
    zoo = Zoo(Cat("a"))
    assert CODEC.converter(Zoo)(zoo) is zoo
    maker = records.RecordMaker(Zoo, CODEC.converter)
    assert repr(maker) == "<RecordMaker Zoo>"
    assert maker.fit(zoo) is zoo


@pytest.mark.parametrize("value", [np.ones(LARGE, "u1"), np.ones((2, LARGE))[:, ::2], memoryview(bytes(LARGE))])
def test_a_large_buffer_among_what_is_tagged_is_shared(value: Any) -> None:
    seen: list[Any] = []

    def find(memory: memoryview, sent: Any) -> BufferLocation:
        seen.append(sent)
        return BufferLocation(1, 0, 0, memory.nbytes)

    def share(length: int, fill: Callable[[memoryview], None]) -> BufferLocation:
        seen.append(value)
        return BufferLocation(1, 0, 0, length)

    tagged = CODEC.tagged([value, Dog("a")], "args")
    assert looked_at(tagged) == LARGE_BUFFER
    assert len(CODEC.encode_sharing(tagged, share, find)) < 200
    assert seen[0] is value
    found = parameters(Any).decode(CODEC.encode(tagged), None)[0]  # not shared, it is within
    assert (type(found[0]), bytes(found[0])) == (type(value), bytes(value))


def test_a_body_for_another_machine_has_its_buffers_within() -> None:
    memory = bytearray(b"m" * LARGE)

    def share(length: int, fill: Callable[[memoryview], None]) -> BufferLocation:
        return BufferLocation(1, 0, 0, length)

    body = CODEC.encode_sharing(CODEC.tagged([Zoo(Dog("a"), anything=bytes(LARGE))], "args"), share)
    (found,) = parameters(Zoo).decode(inlined(body, lambda place: memoryview(memory)), None)[0]
    assert (found.star, bytes(found.anything)) == (Dog("a"), bytes(memory))


@dataclass
class Base:
    a: int


@dataclass
class Child(Base):
    b: int = 0


@dataclass
class Grandchild(Child):
    c: int = 0


@dataclass
class Twin(Child):
    """A class without fields of its own."""


@dataclass
class Stranger:
    a: int
    b: int
    c: int


class Form(BaseModel):
    a: int


class LongForm(Form):
    b: int = 0


class Free(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Freer(Free):
    b: int = 0


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (Base | Child, Grandchild(1, 2, 3), "a Grandchild would lose c as a Child: add Grandchild to the union"),
        (Base | Stranger, Grandchild(1, 2, 3), "a Grandchild would lose b, c as a Base"),
        (list[Base | Form], [LongForm(a=1, b=2)], "a LongForm would lose b as a Form"),
    ],
)
def test_a_subclass_loses_no_field_in_a_union(annotation: Any, value: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        arrived(value, annotation)


@pytest.mark.parametrize(
    ("annotation", "value", "found"),
    [
        (Base | Child, Twin(1, 2), Child(1, 2)),
        (Base | Free, Freer(a=1, b=2), Free(a=1, b=2)),  # type: ignore[call-arg]
        (Base | dt.date | str, Child(1, 2), Base(1)),
    ],
)
def test_a_subclass_arrives_as_the_member_that_has_all_of_it(annotation: Any, value: Any, found: Any) -> None:
    assert arrived(value, annotation) == found
