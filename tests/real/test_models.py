"""Pydantic models and unions between real processes: arguments, results, streams, maps, callbacks, the command line."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
from pydantic import BaseModel, Field

import mob
from mob.errors import ArgumentError, CallError
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, mob_command, wait_until

SHAPES = """
from dataclasses import dataclass, field
from typing import Literal
from pydantic import BaseModel, Field

class Item(BaseModel):
    name: str
    price: float = Field(gt=0)
    count: int = 1

class Order(BaseModel):
    id: int
    items: list[Item] = []

class Quote(BaseModel):
    order: Order
    total: float

@dataclass(frozen=True)
class Cat:
    name: str

@dataclass(frozen=True)
class Dog:
    name: str

@dataclass
class Zoo:
    star: Cat | Dog
    all: list[Cat | Dog] = field(default_factory=list)
"""
BACK = """
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from shapes import Cat, Dog, Item, Order, Quote, Zoo

def quote(order: Order) -> Quote:
    return Quote(order=order, total=sum(item.price * item.count for item in order.items))

async def quote_all(orders: list[Order]) -> list[Quote]:
    return [quote(order) for order in orders]

def items(order: Order) -> Iterator[Item]:
    yield from order.items

def plain(order): return order
def wrong(): return {"order": {"id": "x"}, "total": 1}
def kind(pet: Cat | Dog) -> str: return type(pet).__name__
def kinds(*pets: Cat | Dog, **more: Cat | Dog) -> list[str]:
    return [type(pet).__name__ for pet in (*pets, *more.values())]
def same(pet: Cat | Dog) -> Cat | Dog: return pet
async def same_later(pet: Cat | Dog | None) -> Cat | Dog | None: return pet
def zoo(zoo: Zoo) -> Zoo: return zoo
def when(when: dt.datetime | str) -> dt.datetime | str: return when
def pets(count: int) -> Iterator[Cat | Dog]:
    for number in range(count):
        yield (Cat, Dog)[number % 2](str(number))
async def pets_later(count: int) -> AsyncIterator[Cat | Dog]:
    for pet in pets(count):
        yield pet
def pets_lazily(count: int) -> Iterator[Cat | Dog]: return iter(pets(count))
def undeclared(name): return Dog(name)
def unsendable() -> Cat | Dog: return [object()]
"""
FRONT = """
import mob
from shapes import Cat, Dog, Item, Order

back = mob.require("back")
early = [back.kind(Dog("a")), back.kind(Cat("a")), back.kinds(Cat("a"), x=Dog("b")), back.quote(Order(id=1))]

def first():
    return [call.result() for call in early]

async def ask():
    quote = await back.quote(Order(id=1, items=[Item(name="tea", price=2.5, count=2)]))
    return [quote, await back.kind(Dog("a"))]
"""


class Item(BaseModel):
    name: str
    price: float = Field(gt=0)
    count: int = 1


class Order(BaseModel):
    id: int
    items: list[Item] = []


class Quote(BaseModel):
    order: Order
    total: float


@dataclass(frozen=True)
class Cat:
    name: str


@dataclass(frozen=True)
class Dog:
    name: str


@dataclass
class Zoo:
    star: Cat | Dog
    all: list[Cat | Dog] = field(default_factory=list)


class Back(Protocol):
    def quote(self, order: Order) -> mob.Call[Quote]: ...
    def quote_all(self, orders: list[Order]) -> mob.Call[list[Quote]]: ...
    def items(self, order: Order) -> Iterator[Item]: ...
    def wrong(self) -> mob.Call[Quote]: ...
    def same(self, pet: Cat | Dog) -> mob.Call[Cat | Dog]: ...
    def same_later(self, pet: Cat | Dog | None) -> mob.Call[Cat | Dog | None]: ...
    def zoo(self, zoo: Zoo) -> mob.Call[Zoo]: ...
    def when(self, when: dt.datetime | str) -> mob.Call[dt.datetime | str]: ...
    def pets(self, count: int) -> Iterator[Cat | Dog]: ...
    def pets_later(self, count: int) -> AsyncIterator[Cat | Dog]: ...
    def pets_lazily(self, count: int) -> Iterator[Cat | Dog]: ...
    def undeclared(self, name: str) -> mob.Call[Cat | Dog]: ...
    def kind(self, pet: Cat | Dog) -> mob.Call[str]: ...


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("models")) as apps:
        app = apps.start(
            '.role("front", "./front.py").role("back", "./back.py", workers=2)', shapes=SHAPES, back=BACK, front=FRONT
        )
        app.wait_ready()
        yield app


@pytest.fixture(scope="module")
def client(app: RunningApp) -> Iterator[mob.Client]:
    with mob.connect(app.name) as client:
        yield client


@pytest.fixture(scope="module")
def back(client: mob.Client) -> Any:
    return client.require("back", Back)


ORDER = Order(id=1, items=[Item(name="tea", price=2.5, count=2), Item(name="cake", price=3)])


def result(call: Any) -> Any:
    return call.result(patient(20))


def test_a_model_goes_there_and_comes_back(client: mob.Client, back: Any) -> None:
    assert result(back.quote(ORDER)) == Quote(order=ORDER, total=8)
    assert result(back.quote_all([ORDER, ORDER])) == [Quote(order=ORDER, total=8)] * 2
    assert list(back.items(ORDER)) == ORDER.items
    assert list(back.quote.map([ORDER] * 5)) == [Quote(order=ORDER, total=8)] * 5
    assert result(client.require("back").quote(ORDER)) == Quote(order=ORDER, total=8).model_dump()
    assert result(client.require("back").plain(ORDER)) == ORDER.model_dump()


def test_a_dict_is_validated_as_well(back: Any) -> None:
    assert result(back.quote({"id": "1"})) == Quote(order=Order(id=1), total=0)
    with pytest.raises(ArgumentError) as caught:
        result(back.quote({"id": 1, "items": [{"name": "tea", "price": 1}, {"name": "cake", "price": 0}]}))
    assert str(caught.value) == (
        "back.quote(order: shapes.Order): order.items[1].price: Input should be greater than 0."
    )
    assert (caught.value.argument, caught.value.executed) == ("order", "no")


def test_a_result_that_does_not_fit_says_where(back: Any) -> None:
    with pytest.raises(CallError, match=r"what Back\.wrong is not annotated to return: order\.id: Input should be"):
        result(back.wrong())


def test_the_command_line_takes_models(app: RunningApp) -> None:
    done = mob_command(
        app.directory, "call", "-a", app.name, "back.quote", '{"id": 1, "items": [{"name": "a", "price": 2}]}'
    )
    item = {"name": "a", "price": 2.0, "count": 1}
    assert json.loads(done.stdout) == {"order": {"id": 1, "items": [item]}, "total": 2.0}
    done = mob_command(app.directory, "call", "-a", app.name, "back.quote", '{"id": 1, "items": [{"name": "a"}]}')
    assert "order.items[0].price: Field required." in done.stderr
    done = mob_command(app.directory, "call", "-a", app.name, "back.kind", '{"name": "a"}')
    assert "this fits Cat and Dog equally well" in done.stderr


def test_roles_send_each_other_models_and_members(client: mob.Client) -> None:
    front = client.require("front")
    empty = {"order": {"id": 1, "items": []}, "total": 0.0}
    assert result(front.first()) == ["Dog", "Cat", ["Cat", "Dog"], empty]
    item = {"name": "tea", "price": 2.5, "count": 2}
    assert result(front.ask()) == [{"order": {"id": 1, "items": [item]}, "total": 5.0}, "Dog"]


def test_a_member_of_a_union_is_what_was_sent(client: mob.Client, back: Any) -> None:
    for pet in (Cat("a"), Dog("a")):
        assert result(back.kind(pet)) == type(pet).__name__
        assert result(back.same(pet)) == pet
        assert result(back.same_later(pet)) == pet
        assert result(back.zoo(Zoo(pet, [Dog("b"), Cat("c")]))) == Zoo(pet, [Dog("b"), Cat("c")])
        assert result(client.require("back").same(pet)) == {"name": "a"}
        assert list(result(client.all("back").call.kind(pet)).values()) == [type(pet).__name__] * 2
    assert result(back.same_later(None)) is None
    assert result(client.require("back").kinds(Cat("a"), Dog("b"), x=Dog("c"))) == ["Cat", "Dog", "Dog"]
    moment = dt.datetime(2024, 1, 2)
    assert result(back.when(moment)) == moment
    assert result(back.when(moment.isoformat())) == moment.isoformat()


def test_streams_and_maps_keep_members(back: Any) -> None:
    pets = [(Cat, Dog)[number % 2](str(number)) for number in range(5)]
    assert list(back.pets(5)) == pets
    assert list(back.pets_later(5)) == pets
    assert list(back.same.map(pets)) == pets
    assert list(back.kind.map(pets)) == ["Cat", "Dog", "Cat", "Dog", "Cat"]


def test_what_is_not_declared_at_the_other_end_is_refused_and_never_taken_for_another(back: Any) -> None:
    with pytest.raises(CallError, match="this fits Cat and Dog equally well"):
        result(back.undeclared("a"))
    with pytest.raises(CallError, match="this fits Cat and Dog equally well"):
        list(back.pets_lazily(1))


def test_what_cannot_be_sent_is_named(back: Any) -> None:
    with pytest.raises(mob.RemoteError, match=r"cannot send result\[0\]: an object of type object"):
        result(back.unsendable())


def test_unions_that_are_not_known_yet_are_tagged_too(apps: Apps) -> None:
    app = apps.start(
        '.role("front", "./front.py").role("back", "./back.py")',
        shapes=SHAPES,
        front=FRONT,
        back="import time\ntime.sleep(0.5)\n" + BACK,
    )
    app.wait_ready()
    with mob.connect(app.name) as client:
        assert result(client.require("front").first())[:3] == ["Dog", "Cat", ["Cat", "Dog"]]


ODD = """
from __future__ import annotations
from typing import TYPE_CHECKING
from pydantic import BaseModel
if TYPE_CHECKING:
    from shop import Order

class Envelope(BaseModel):
    payload: BaseModel

class Desk:
    def lay(self, order: Order) -> str:
        return type(order).__name__

def any_model(x: BaseModel) -> str:
    return type(x).__name__

def envelope(x: Envelope) -> str:
    return type(x).__name__

def order(o: Order, count: int, more: list[Order]) -> str:
    return f"{type(o).__name__} {count}"
"""


def test_what_an_annotation_says_stops_no_worker(tmp_path: Path) -> None:
    with apps_in(tmp_path) as apps:
        app = apps.start('.role("odd", "./odd.py")', odd=ODD)
        odd: Any = app.wait_ready().require("odd")
        assert odd.any_model(BaseOrder(id=1)).result(patient(10)) == "dict"
        assert odd.envelope({"payload": {}}).result(patient(10)) == "Envelope"
        assert odd.order(BaseOrder(id=1), 2, []).result(patient(10)) == "dict 2"
        app.wait_for(
            r"arguments of odd\.order arrive unconverted and unchecked: annotations that cannot be evaluated \(o: "
            r"Order, more: list\[Order\]\)\. Import the names they use at run time too, not only under TYPE_CHECK"
        )
        app.wait_for(r"arguments of odd\.Desk\.lay arrive unconverted .*\(order: Order\)")
        assert app.output.count("arrive unconverted") == 2


class BaseOrder(BaseModel):
    id: int


DRAWING = """
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass

@dataclass
class Point:
    x: int

def total(points: Iterable[Point]) -> int:
    return sum(point.x for point in points)

def total_drawn(points: Iterator[Point]) -> int:
    return sum(point.x for point in points)

async def total_slowly(points: AsyncIterator[Point] | None = None) -> int:
    return sum([point.x async for point in points])
"""


def test_what_is_iterated_is_converted_as_it_is_read(tmp_path: Path) -> None:
    @dataclass
    class Point:
        x: int

    closed: list[str] = []

    def points(*values: Any) -> Iterator[Point]:
        try:
            yield from map(Point, values)
        finally:
            closed.append("closed")

    with apps_in(tmp_path) as apps:
        draw: Any = apps.start('.role("draw", "./draw.py")', draw=DRAWING).wait_ready().require("draw")
        assert draw.total([Point(1), Point(2)]).result(patient(10)) == 3
        with pytest.raises(ArgumentError, match=r"points\[0\]\.x: expected int, got str 'a'"):
            draw.total([Point("a")]).result(patient(10))  # type: ignore[arg-type]
        for sum_of in (draw.total, draw.total_drawn, draw.total_slowly):
            assert sum_of(points(1, 2)).result(patient(10)) == 3
            closed.clear()
            with pytest.raises(
                CallError, match=r"an item of <remote iterator, .*>: expected int, got str 'a' at \.x\."
            ):
                sum_of(points(1, "a", 3)).result(patient(10))
            wait_until(lambda: closed or None, "the iterator to be closed")
