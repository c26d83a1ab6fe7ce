"""Pydantic models cross as their dumps, and become models again where they are annotated."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import ipaddress
import pathlib
import re
import sys
import types
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar

import msgspec
import pydantic
import pydantic_core
import pytest
from annotated_types import Gt
from pydantic import (
    AliasChoices,
    AliasPath,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    IPvAnyAddress,
    Json,
    PositiveInt,
    PrivateAttr,
    RootModel,
    SecretBytes,
    SecretStr,
    Strict,
    StringConstraints,
    ValidationInfo,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass as checked_dataclass
from typing_extensions import TypedDict

from mob.errors import ArgumentError, BadMessage
from mob.wire import models
from mob.wire.arguments import Parameters
from mob.wire.codec import Codec, Reference

T = TypeVar("T")
LENT: list[Callable[..., Any]] = []


def lend(function: Callable[..., Any]) -> Reference:
    LENT.append(function)
    return Reference(1, len(LENT) - 1)


CODEC = Codec(lend, lambda reference: LENT[reference.id])


class Item(BaseModel):
    price: float = Field(gt=0)
    tags: set[str] = set()


class Order(BaseModel):
    id: int
    items: list[Item] = []
    note: str | None = None


class Size(enum.Enum):
    SMALL = "s"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    left: int
    right: str


class Extent(TypedDict):
    width: int


@dataclass
class Point:
    x: int


class Kinds(BaseModel):
    """Fields of every kind in pydantic's documentation, as far as their values are data."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    yes: bool = True
    whole: int = 2**100
    real: float = 0.5
    text: str = "ü"
    raw: bytes = b"\xff\x00"
    array: bytearray = bytearray(b"\xff")
    items: list[int] = [1]
    row: tuple[int, str] = (1, "a")
    rows: tuple[int, ...] = (1, 2, 3)
    some: set[int] = {1}
    fixed: frozenset[str] = frozenset({"a"})
    queue: deque[int] = deque([1, 2])
    named: dict[str, dict[int, Item]] = {"a": {1: Item(price=1)}}
    pair: Pair = Pair(1, "a")
    extent: Extent = {"width": 1}
    point: Point = Point(1)
    size: Size = Size.SMALL
    access: Access = Access.READ | Access.WRITE
    literal: Literal["a", 1] = "a"
    at: dt.datetime = dt.datetime(2024, 1, 2, 3)
    aware: dt.datetime = dt.datetime(2024, 1, 2, 3, tzinfo=dt.UTC)
    day: dt.date = dt.date(2024, 1, 2)
    time: dt.time = dt.time(1, 2, 3)
    lasts: dt.timedelta = dt.timedelta(days=1, microseconds=5)
    number: uuid.UUID = uuid.UUID(int=5)
    money: decimal.Decimal = decimal.Decimal("1.10")
    path: pathlib.Path = pathlib.Path("/a/b")
    address: ipaddress.IPv4Address = ipaddress.IPv4Address("10.0.0.1")
    any_address: IPvAnyAddress = ipaddress.IPv6Address("::1")
    network: ipaddress.IPv4Network = ipaddress.IPv4Network("10.0.0.0/8")
    pattern: re.Pattern[str] = re.compile("a+")
    url: HttpUrl = HttpUrl("http://a.de/")
    secret: SecretStr = SecretStr("s")
    hidden: SecretBytes = SecretBytes(b"s")
    packed: Base64Bytes = b"eA=="
    parsed: Json[list[int]] = Field(default=[1])
    either: int | str = "1"
    unknown: Any = None
    complex_one: complex = 1j
    anything: dict[str, Any] = {"a": [1, None]}


def parameters(annotation: Any) -> Parameters:
    def quote(order: Any) -> None: ...

    quote.__annotations__ = {"order": annotation}
    return Parameters.of(quote, CODEC, "back.quote")


def arrived(value: Any, annotation: Any) -> Any:
    """Return the argument of a call, as a function with this annotation gets it."""
    by_position = parameters(annotation).decode(CODEC.encode((value,)), None)[0][0]
    by_name = parameters(annotation).decode(CODEC.encode(()), CODEC.encode({"order": value}))[1]["order"]
    assert by_name == by_position
    return by_position


def refused(value: Any, annotation: Any) -> str:
    with pytest.raises(ArgumentError) as caught:
        arrived(value, annotation)
    assert (caught.value.argument, caught.value.executed) == ("order", "no")
    return str(caught.value).split("): ", 1)[1]


def test_every_kind_of_field_survives_the_trip() -> None:
    sent = Kinds()
    found = arrived(sent, Kinds)
    assert {name: getattr(found, name) for name in Kinds.model_fields} == {
        name: getattr(sent, name) for name in Kinds.model_fields
    }
    assert [type(each) for _, each in found] == [type(each) for _, each in sent]


ORDER = Order(id=1, items=[Item(price=2, tags={"a"})])


class Page(BaseModel, Generic[T]):
    items: list[T]


class Prices(RootModel[list[float]]): ...


class ByName(RootModel[dict[str, Item]]): ...


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    lives: int = 1


class Node(BaseModel):
    value: int
    kids: list[Node] = []


class Aliased(BaseModel):
    plain: int = Field(alias="PLAIN")
    both: int = Field(validation_alias="in", serialization_alias="out")
    several: int = Field(validation_alias=AliasChoices("one", "two"))
    deep: int = Field(validation_alias=AliasPath("a", 0))


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    side: int

    @computed_field
    @property
    def area(self) -> int:
        return self.side**2


class Open(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    x: int


class Excluding(BaseModel):
    shown: int
    hidden: int = Field(default=7, exclude=True)
    _private: int = PrivateAttr(3)


class Written(BaseModel):
    at: dt.datetime

    @field_serializer("at")
    def write(self, at: dt.datetime) -> float:
        return at.timestamp()


class Checked(BaseModel):
    first: str
    second: str

    @field_validator("first")
    @classmethod
    def check(cls, value: str, info: ValidationInfo) -> str:
        if not value.isalpha():
            raise ValueError("must be letters")
        return value.title()

    @model_validator(mode="after")
    def differ(self) -> Checked:
        if self.first == self.second:
            raise ValueError("must differ")
        return self


@checked_dataclass
class Step:
    height: int = Field(gt=0)
    item: Item | None = None


@dataclass
class Basket:
    order: Order
    number: int = 0


@dataclass
class Stairs:
    steps: list[Step]
    limit: Annotated[int, Field(gt=0)] = 1


class Shelf(TypedDict):
    order: Order


class Box(msgspec.Struct):
    order: Order


class Row(NamedTuple):
    order: Order
    steps: tuple[Step, ...] = ()


BOTH = "order.steps[0].height: Input should be greater than 0; order.limit: Input should be greater than 0."
ALIASED = Aliased.model_validate({"PLAIN": 1, "in": 2, "two": 3, "a": [4]})
Dynamic = create_model("Dynamic", x=(int, 1), items=(list[Item], []))
Named = NewType("Named", Order)
Number = NewType("Number", int)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (ORDER, Order),
        ([ORDER], list[Order]),
        ({"a": ORDER}, dict[str, Order]),
        ((ORDER, ORDER), tuple[Order, ...]),
        (ORDER, Order | None),
        (None, Order | None),
        (ORDER, Annotated[Order, "a note"]),
        (ORDER, Annotated[Order, Field(description="a note")]),
        (ORDER, Named),
        ([ORDER], list[Named]),
        (ORDER, Order | int),
        (5, Order | int),
        (5, Annotated[int, Field(gt=0)]),
        (5, Annotated[int, Gt(0)]),
        (5, PositiveInt),
        ([5], list[PositiveInt]),
        ("A", Annotated[str, StringConstraints(pattern="[A-Z]")]),
        (2, Annotated[int, BeforeValidator(int)]),
        (HttpUrl("http://a.de/"), HttpUrl),
        (SecretStr("a"), SecretStr),
        (Page[Order](items=[ORDER]), Page[Order]),
        (Page[int](items=[1]), Page[int]),
        (Prices([1.5]), Prices),
        (ByName({"a": Item(price=1)}), ByName),
        ([Prices([1.5])], list[Prices]),
        (Dog(lives=2), Annotated[Cat | Dog, Field(discriminator="kind")]),
        ([Dog(), Cat()], list[Annotated[Cat | Dog, Field(discriminator="kind")]]),
        (Dog(lives=2), Cat | Dog),
        (Node(value=1, kids=[Node(value=2)]), Node),
        (ALIASED, Aliased),
        (Computed(side=2), Computed),
        (Open(x=1, y=[2], z={"a": 3}), Open),  # type: ignore[call-arg]
        (Excluding(shown=1), Excluding),
        (Written(at=dt.datetime(2024, 1, 2, tzinfo=dt.UTC)), Written),
        (Checked(first="Ann", second="Bob"), Checked),
        (Step(2, Item(price=1)), Step),
        ([Step(2)], list[Step]),
        (Basket(ORDER), Basket),
        (Stairs([Step(1)]), Stairs),
        ({"order": ORDER}, Shelf),
        (Box(ORDER), Box),
        (Row(ORDER, (Step(1),)), Row),
        (Row(ORDER), Row),
        (Dynamic(x=2, items=[Item(price=1)]), Dynamic),
    ],
)
def test_what_is_annotated_with_a_model_arrives_as_one(value: Any, annotation: Any) -> None:
    found = arrived(value, annotation)
    assert found == value
    assert type(found) is type(value)


def test_an_instance_arrives_as_its_dump_where_nothing_is_annotated() -> None:
    assert CODEC.decode(CODEC.encode([ORDER])) == [{"id": 1, "items": [{"price": 2.0, "tags": ["a"]}], "note": None}]
    assert CODEC.decode(CODEC.encode(Excluding(shown=1))) == {"shown": 1}
    assert CODEC.decode(CODEC.encode(Prices([1.5]))) == [1.5]


class Flat(BaseModel):
    x: int = Field(1, ge=0)
    text: str | None = Field(None, alias="TEXT")
    more: dict[str, list[int]] = {}
    rows: tuple[int, ...] = ()

    @functools.cached_property
    def twice(self) -> int:
        return 2 * self.x


def test_a_flat_model_is_sent_by_its_fields() -> None:
    flat = Flat(x=2, TEXT="a", more={"a": [1]}, rows=(1, 2))
    data = {"x": 2, "text": "a", "more": {"a": [1]}, "rows": [1, 2]}
    assert CODEC.decode(CODEC.encode(flat)) == data
    assert flat.twice == 4  # which pydantic does not dump, though it is stored with the fields
    assert CODEC.decode(CODEC.encode(flat)) == data
    assert arrived(flat, Flat) == flat


def test_the_dump_keeps_what_mob_can_send() -> None:
    class Job(BaseModel):
        data: bytes
        done: Callable[[], int]

    def done() -> int:
        return 3

    found = arrived(Job(data=b"\xff", done=done), Job)
    assert (found.data, found.done()) == (b"\xff", 3)


def test_what_cannot_be_sent_is_named_by_its_place() -> None:
    class Holder(BaseModel):
        inside: Any

    with pytest.raises(BadMessage, match=re.escape("cannot send args[0]['inside']: a module")):
        CODEC.encode((Holder(inside=re),))


@pytest.mark.parametrize(
    ("value", "annotation", "found"),
    [
        ({"id": "1"}, Order, Order(id=1)),
        ({"id": 1, "items": [{"price": 1}]}, Order, Order(id=1, items=[Item(price=1)])),
        ([{"id": 1}], list[Order], [Order(id=1)]),
        ({"PLAIN": 1, "in": 2, "two": 3, "a": [4]}, Aliased, ALIASED),
        ({"first": "ann", "second": "b"}, Checked, Checked(first="Ann", second="b")),
        ({"kind": "dog"}, Annotated[Cat | Dog, Field(discriminator="kind")], Dog()),
        ({"order": {"id": 1}}, Basket, Basket(Order(id=1))),
        ([1.5], Prices, Prices([1.5])),
        ({"x": 1, "more": 2}, Open, Open(x=1, more=2)),  # type: ignore[call-arg]
    ],
)
def test_plain_data_is_validated(value: Any, annotation: Any, found: Any) -> None:
    assert arrived(value, annotation) == found


@pytest.mark.parametrize(
    ("value", "annotation", "text"),
    [
        (
            {"id": 1, "items": [{"price": 1}, {"price": 1}, {"price": 0}]},
            Order,
            "order.items[2].price: Input should be greater than 0.",
        ),
        ([{"id": []}], list[Order], "order[0].id: Input should be a valid integer."),
        ({"id": 1, "items": [{"price": 0}]}, Order | None, "order.items[0].price: Input should be greater than 0."),
        ({"order": {}}, Basket, "order.order.id: Field required."),
        ({"order": {}}, Box, "order.order.id: Field required."),
        ({"steps": [{"height": 0}], "limit": 0}, Stairs, BOTH),
        ({}, Stairs, "order.steps: it is missing."),
        ({"steps": 5}, Stairs, "order.steps: expected list, got int 5."),
        ({"steps": [5]}, Stairs, "order.steps[0]: Input should be a dictionary or an instance of Step."),
        (-5, Annotated[int, Field(gt=0)], "order: Input should be greater than 0."),
        ({"side": 2, "area": 4}, Computed, "order.area: Extra inputs are not permitted."),
        ({"first": "1", "second": "a"}, Checked, "order.first: Value error, must be letters."),
        ({"first": "Ann", "second": "Ann"}, Checked, "order: Value error, must differ."),
        ({"kind": "cow"}, Cat | Dog, "expected Cat | Dog, got dict {'kind': 'cow'}."),
        (
            [{"price": 0}] * 7,
            RootModel[list[Item]],
            "; ".join(f"order[{at}].price: Input should be greater than 0" for at in range(5)) + "; and 2 more.",
        ),
    ],
)  # fmt: skip
def test_a_misfit_names_the_place_and_says_what_pydantic_says(value: Any, annotation: Any, text: str) -> None:
    assert refused(value, annotation) == text


# --- strict models ----------------------------------------------------------------------------------------------------


class StrictItem(BaseModel):
    model_config = ConfigDict(strict=True)
    row: tuple[int, ...]
    at: dt.datetime
    number: uuid.UUID
    size: Size
    some: set[int]
    money: decimal.Decimal
    raw: bytes = b"\xff"
    path: pathlib.Path = pathlib.Path("a")
    kids: list[StrictItem] = []
    inner: Item | None = None
    whole: int = Field(1, alias="WHOLE")


@dataclass
class Tree:
    value: int
    kids: list[Tree] = dataclasses.field(default_factory=list)


@dataclass
class Rules:
    number: Number
    limit: Annotated[int, Field(gt=0)]


class Several(BaseModel):
    items: list[StrictItem]


class Loose(BaseModel):
    item: StrictItem
    row: Annotated[tuple[int, ...], Strict()] = ()
    count: int = 1


class StrictRow(RootModel[tuple[int, int]]):
    model_config = ConfigDict(strict=True)


def strict_item(**more: Any) -> StrictItem:
    return StrictItem(
        row=(1, 2, 3),
        at=dt.datetime(2024, 1, 2),
        number=uuid.UUID(int=1),
        size=Size.SMALL,
        some={1},
        money=decimal.Decimal("1.1"),
        **more,
    )


def test_strict_models_arrive_though_the_wire_has_fewer_types() -> None:
    sent = strict_item(kids=[strict_item()], inner=Item(price=1), WHOLE=2)
    assert arrived(sent, StrictItem) == sent
    assert arrived([sent], list[StrictItem]) == [sent]
    assert arrived(Loose(item=sent, row=(1,)), Loose) == Loose(item=sent, row=(1,))
    assert arrived(StrictRow((1, 2)), StrictRow) == StrictRow((1, 2))
    assert arrived(Several(items=[sent]), Several) == Several(items=[sent])


def test_a_dataclass_whose_fields_have_conditions_of_pydantics() -> None:
    assert arrived(Rules(Number(1), 2), Rules) == Rules(Number(1), 2)
    assert refused({"number": 1, "limit": 0}, Rules) == "order.limit: Input should be greater than 0."
    assert arrived(Tree(1, [Tree(2)]), Tree) == Tree(1, [Tree(2)])


def test_strict_models_are_still_strict() -> None:
    data = CODEC.decode(CODEC.encode(strict_item()))
    assert refused({**data, "WHOLE": "1"}, StrictItem) == "order.WHOLE: Input should be a valid integer."
    assert refused({**data, "row": ["1"]}, StrictItem).startswith("order.row: Input should be a valid tuple")
    assert refused(5, StrictItem) == "order: Input should be a valid dictionary or instance of StrictItem."
    assert arrived({"item": data, "count": "2"}, Loose).count == 2


# --- what is no model, and what pydantic cannot say -------------------------------------------------------------------


def test_a_model_that_is_defined_later_is_found_when_it_is_called() -> None:
    class Early(BaseModel):
        late: Late  # type: ignore[name-defined]

    decode = parameters(Early).decode

    class Late(BaseModel):
        x: int

    Early.model_rebuild(_types_namespace={"Late": Late})
    assert decode(CODEC.encode((Early(late=Late(x=1)),)), None)[0][0] == Early(late=Late(x=1))


class Letter(BaseModel):
    name: str


class Envelope(BaseModel):
    payload: BaseModel


@dataclass
class Parcel:
    payload: BaseModel


@pytest.mark.parametrize(
    "annotation", [BaseModel, list[BaseModel], BaseModel | None, BaseModel | int, Annotated[BaseModel, "any"]]
)
def test_any_model_asks_for_nothing(annotation: Any) -> None:
    value = [{"price": 1}] if annotation == list[BaseModel] else {"price": 1}
    assert parameters(annotation).decode(CODEC.encode((value,)), None)[0][0] == value


def test_any_model_beside_others_of_a_union() -> None:
    found = parameters(BaseModel | Parcel)
    assert found.takes_tags
    body = CODEC.encode(CODEC.tagged([Parcel(Letter(name="x"))], "args"))
    (parcel,), _ = found.decode(body, None)
    assert type(parcel) is Parcel
    assert parcel.payload == {"name": "x"}


def test_any_model_within_a_dataclass_asks_for_nothing() -> None:
    assert parameters(Parcel).decode(CODEC.encode((Parcel(Letter(name="x")),)), None)[0][0] == Parcel({"name": "x"})  # type: ignore[arg-type]


def test_any_model_within_a_model_is_left_to_pydantic() -> None:
    (found,), _ = parameters(Envelope).decode(CODEC.encode(({"payload": {}},)), None)
    assert type(found) is Envelope
    assert type(found.payload) is BaseModel


def test_what_pydantic_does_not_understand_is_left_to_msgspec() -> None:
    class Odd:
        @classmethod
        def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
            raise TypeError("not now")

    assert models.validator(Odd, lambda _: lambda value: value) is None
    assert models.validator(int, lambda _: lambda value: value) is None


def test_nothing_is_asked_of_pydantic_where_it_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pydantic")
    assert models.validator(Annotated[int, Field(gt=0)], lambda _: lambda value: value) is None


def test_what_a_validator_raises_itself_is_not_taken_for_a_misfit() -> None:
    class Angry(BaseModel):
        x: int

        @model_validator(mode="before")
        @classmethod
        def check(cls, value: Any) -> Any:
            raise ZeroDivisionError("oh")

    assert "eroDivisionError: oh" in refused({"x": 1}, Angry)


def test_an_older_pydantic_is_asked_without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    core = types.SimpleNamespace(**{**vars(pydantic_core), "__version__": "2.14.6"})  # the rest is imported later
    monkeypatch.setitem(sys.modules, "pydantic_core", core)  # type: ignore[arg-type]
    models._knows_names.cache_clear()  # pyright: ignore[reportPrivateUsage]
    try:
        codec = Codec(lend, lambda reference: LENT[reference.id])

        class Old(BaseModel):
            x: int = Field(alias="X")

        assert codec.decode(codec.encode(Old(X=1))) == {"X": 1}
        assert codec.decoder(Old)(codec.encode(Old(X=1))) == Old(X=1)
    finally:
        models._knows_names.cache_clear()  # pyright: ignore[reportPrivateUsage]


def test_what_a_validator_raises_without_places_passes() -> None:
    class Mute:
        def validate_python(self, value: Any, **names: bool) -> Any:
            raise ValueError("no errors told")

    mute = type("M", (), {"__pydantic_core_schema__": {}, "__pydantic_fields__": {}, "__pydantic_validator__": Mute()})
    assert refused(1, mute) == "no errors told."


def test_a_registered_model_goes_as_it_was_registered() -> None:
    codec = Codec(lend, lambda reference: LENT[reference.id])
    codec.register(Cat, lambda cat: cat.lives, lambda lives: Cat(lives=lives))
    assert codec.decode(codec.encode(Cat(lives=3))) == Cat(lives=3)


def test_that_the_models_are_those_of_pydantic_2() -> None:
    assert pydantic.VERSION.startswith("2.")
    assert models.is_model(Order)
    assert not models.is_model(Point)
    assert not models.is_model(ORDER)
