"""Typed proxies between real processes: results as the caller annotates them, misfits, and names that differ."""

from __future__ import annotations

import asyncio
import datetime
import enum
import shutil
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec
import pytest

import mob
from mob.peer.results.typed import Interface, TypedCall
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "typed"

SHAPES = """
from dataclasses import dataclass

@dataclass(frozen=True)
class User:
    name: str
    age: int = 0
"""
BACK = """
import datetime, enum, uuid
from decimal import Decimal
from shapes import User

class Color(enum.Enum):
    RED = "red"

def user(name): return User(name, 7)
def users(): return [User("Ann"), User("Bob", 8)]
def by_id(): return {uuid.UUID(int=5): User("Ann")}
def words(): return {"a"}
def pair(): return (1, "x")
def ident(): return uuid.UUID(int=5)
def price(): return Decimal("1.10")
def day(): return datetime.date(2024, 1, 2)
def color(): return Color.RED
def big(): return 2**70
def nothing(): return None
def maybe(): return None
async def later(): return {"b"}
def double(): return lambda number: number * 2
def anything(): return {1, 2}
def extra(): return {3}
def boom(): raise ValueError("bad thing")
def by_pair(): return {(1, 2): "x"}
def by_user(): return {User("Ann", 7): 1, User("Bob", 8): 2}
def users_by_user(): return {User("Ann", 7): [User("Bob", 8)]}
def with_function(): return {User("Ann", 7): lambda: 1}
def rows(count): yield from range(count)
async def arows(count):
    for number in range(count):
        yield User("Ann", number)
def words_of(text):
    try:
        yield from ({word} for word in text.split())
    finally:
        closed.append(text)
def how_closed(): return closed
closed = []
"""
FRONT = """
from typing import Protocol
import mob
from shapes import User

class Back(Protocol):
    def user(self, name: str) -> mob.Call[User]: ...
    async def words(self) -> set[str]: ...

back = mob.require("back", Back)

async def ask() -> str:
    return f"{await back.user('Ann')} {await back.words()}"
"""


@dataclass(frozen=True)
class User:
    name: str
    age: int = 0


class Color(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    number: int
    text: str


class Base(Protocol):
    def words(self) -> mob.Call[set[str]]: ...


class Back(Base, Protocol):
    def user(self, name: str) -> mob.Call[User]: ...
    def users(self) -> mob.Call[list[User]]: ...
    def by_id(self) -> mob.Call[dict[uuid.UUID, User]]: ...
    def pair(self) -> mob.Call[Pair]: ...
    def ident(self) -> mob.Call[uuid.UUID]: ...
    def price(self) -> mob.Call[Decimal]: ...
    def day(self) -> mob.Call[datetime.date]: ...
    def color(self) -> mob.Call[Color]: ...
    def big(self) -> mob.Call[int]: ...
    def nothing(self) -> mob.Call[None]: ...
    def maybe(self) -> mob.Call[User | None]: ...
    async def later(self) -> frozenset[str]: ...
    def double(self) -> mob.Call[Callable[[int], int]]: ...
    def anything(self): ...  # type: ignore[no-untyped-def]
    def boom(self) -> mob.Call[int]: ...
    def by_pair(self) -> mob.Call[dict[tuple[int, int], str]]: ...
    def by_user(self) -> mob.Call[dict[User, int]]: ...
    def users_by_user(self) -> mob.Call[dict[User, list[User]]]: ...
    def with_function(self) -> mob.Call[dict[User, Callable[[], int]]]: ...
    def rows(self, count: int) -> mob.Call[Iterator[int]]: ...


KINDS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "user": (("Ann",), User("Ann", 7)),
    "users": ((), [User("Ann"), User("Bob", 8)]),
    "by_id": ((), {uuid.UUID(int=5): User("Ann")}),
    "words": ((), {"a"}),
    "pair": ((), Pair(1, "x")),
    "ident": ((), uuid.UUID(int=5)),
    "price": ((), Decimal("1.10")),
    "day": ((), datetime.date(2024, 1, 2)),
    "color": ((), Color.RED),
    "big": ((), 2**70),
    "nothing": ((), None),
    "maybe": ((), None),
    "later": ((), frozenset({"b"})),
    "anything": ((), [1, 2]),
    "extra": ((), [3]),
    "by_pair": ((), {(1, 2): "x"}),
    "by_user": ((), {User("Ann", 7): 1, User("Bob", 8): 2}),
    "users_by_user": ((), {User("Ann", 7): [User("Bob", 8)]}),
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("typed")) as apps:
        app = apps.start(
            '.role("back", "./back.py").role("front", "./front.py")', shapes=SHAPES, back=BACK, front=FRONT
        )
        app.wait_ready()
        yield app


@pytest.fixture
def client(app: RunningApp) -> Iterator[mob.Client]:
    with mob.connect(app.name) as client:
        yield client


@pytest.fixture
def back(client: mob.Client) -> Any:
    return client.require("back", Back)


@pytest.mark.parametrize("name", KINDS)
def test_a_result_arrives_as_annotated(back: Any, name: str) -> None:
    args, expected = KINDS[name]
    found = getattr(back, name)(*args).result(patient(10))
    assert found == expected
    assert type(found) is type(expected)


def test_a_function_arrives_as_one(back: Any) -> None:
    assert back.double().result(patient(10))(21).result(patient(10)) == 42


def test_awaited_results_are_converted_too(back: Any) -> None:
    async def ask() -> Any:
        return await back.user("Ann"), await asyncio.gather(back.words(), back.ident())

    assert asyncio.run(ask()) == (User("Ann", 7), [{"a"}, uuid.UUID(int=5)])


def test_mobsters_have_typed_proxies(client: mob.Client) -> None:
    assert client.require("front").ask().result(patient(10)) == "User(name='Ann', age=7) {'a'}"


def test_a_dict_whose_keys_arrive_as_dicts_needs_an_annotation(client: mob.Client, back: Any) -> None:
    untyped = client.require("back")
    with pytest.raises(mob.CallError, match=r"^back\.by_user answered, but the answer cannot be read: a dict in the"):
        untyped.by_user().result(patient(10))
    with pytest.raises(mob.CallError, match="has keys that arrive as dicts: annotate it"):
        back.with_function().result(patient(10))  # a body that contains functions is decoded untyped first


class Streams(Protocol):
    def rows(self, count: int) -> mob.Call[Iterator[float]]: ...
    def arows(self, count: int) -> AsyncIterator[User]: ...
    def words_of(self, text: str) -> Generator[frozenset[str], None, None]: ...


class Either(Protocol):
    def rows(self, count: int) -> Iterable[float]: ...
    def words(self) -> mob.Call[Iterable[str]]: ...


class Loose(Protocol):
    def rows(self, count: int) -> mob.Call[str]: ...
    def arows(self, count: int) -> mob.Call[Any]: ...
    def words_of(self, text: str) -> Iterator[Any]: ...


STREAMS: dict[str, tuple[type, tuple[Any, ...], list[Any]]] = {
    "rows": (Streams, (3,), [0.0, 1.0, 2.0]),
    "arows": (Streams, (200,), [User("Ann", number) for number in range(200)]),
    "words_of": (Streams, ("a b",), [frozenset("a"), frozenset("b")]),
    "rows, of an iterable": (Either, (2,), [0.0, 1.0]),
    "rows, none": (Streams, (0,), []),
    "rows, not said to stream": (Loose, (3,), [0, 1, 2]),
    "arows, said to be anything": (Loose, (1,), [{"name": "Ann", "age": 0}]),
    "words_of, of anything": (Loose, ("a",), [["a"]]),
}


@pytest.mark.parametrize("name", STREAMS)
def test_what_a_generator_yields_arrives_as_annotated(client: mob.Client, name: str) -> None:
    interface, args, expected = STREAMS[name]
    call = getattr(client.require("back", interface), name.partition(",")[0])(*args)
    found = list(call)
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))


def test_an_iterable_may_be_a_value(client: mob.Client) -> None:
    assert client.require("back", Either).words().result(patient(10)) == ["a"]


def test_what_is_read_by_async_code_is_converted_too(client: mob.Client) -> None:
    async def read() -> list[User]:
        return [user async for user in client.require("back", Streams).arows(3)]

    assert asyncio.run(read()) == [User("Ann", number) for number in range(3)]


def test_an_item_that_does_not_fit_ends_the_stream_at_both_ends(client: mob.Client) -> None:
    class Wrong(Protocol):
        def words_of(self, text: str) -> Iterator[int]: ...
        def arows(self, count: int) -> Iterator[dict[str, str | int]]: ...

    back: Any = client.require("back", Wrong)
    assert [user["age"] for user in back.arows(2)] == [0, 1]
    text = "x " * 1000
    with pytest.raises(mob.CallError) as caught:
        list(back.words_of(text))
    assert str(caught.value) == (
        "back.words_of yielded what Wrong.words_of is not annotated to yield: expected int, got list ['x']."
    )
    assert caught.value.executed == "yes"
    wait_until(lambda: text in back.how_closed().result(patient(10)), "it is closed")


def test_items_before_one_that_does_not_fit_are_read(client: mob.Client) -> None:
    class Small(Protocol):
        def rows(self, count: int) -> Iterator[Annotated[int, msgspec.Meta(lt=3)]]: ...

    seen: list[int] = []
    with pytest.raises(mob.CallError, match=r"yielded what Small\.rows is not annotated to yield: expected int <"):
        seen.extend(client.require("back", Small).rows(1000))
    assert seen == [0, 1, 2]


def test_a_view_with_other_options_is_typed_too(back: Any) -> None:
    assert back.options(timeout=10).words().result(patient(10)) == {"a"}


def test_the_exception_of_a_typed_call_is_the_callees(back: Any) -> None:
    with pytest.raises(ValueError, match="bad thing"):
        back.boom().result(patient(10))


class Wrong(Protocol):
    def words(self) -> mob.Call[set[int]]: ...
    def ident(self) -> mob.Call[int]: ...
    def user(self, name: str) -> mob.Call[None]: ...
    def nothing(self) -> int: ...
    def price(self) -> Awaitable[Color]: ...
    def day(self) -> Coroutine[Any, Any, bool]: ...


MISFITS = {
    "words": "expected int, got str 'a' at [0].",
    "ident": "expected int, got str '00000000-0000-0000-0000-000000000005'.",
    "user": "expected None, got dict {'age': 7, 'name': 'Ann'}.",
    "nothing": "expected int, got None.",
    "price": "invalid enum value '1.10'.",
    "day": "expected bool, got str '2024-01-02'.",
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_result_that_does_not_fit_fails_the_call(client: mob.Client, name: str) -> None:
    back: Any = client.require("back", Wrong)
    with pytest.raises(mob.CallError) as caught:
        getattr(back, name)(*KINDS[name][0]).result(patient(10))
    assert str(caught.value) == f"back.{name} returned what Wrong.{name} is not annotated to return: {MISFITS[name]}"
    assert caught.value.executed == "yes"
    assert isinstance(caught.value.__cause__, msgspec.ValidationError)


class Dreamt(Protocol):
    def usr(self, name: str) -> mob.Call[User]: ...


def test_a_method_that_the_role_does_not_export_is_told_with_the_nearest(client: mob.Client) -> None:
    back: Any = client.require("back", Dreamt)
    with pytest.raises(mob.UnknownExport) as caught:
        back.usr("Ann")
    assert str(caught.value) == "'back' exports no function 'usr', though Dreamt declares it. Did you mean 'user'?"


def test_a_name_that_neither_has(back: Any) -> None:
    with pytest.raises(mob.UnknownExport, match=r"^'back' exports no function 'wrods'\. Did you mean 'words'\?$"):
        back.wrods()


def test_an_interface_is_a_class(client: mob.Client) -> None:
    with pytest.raises(
        TypeError, match=r"the interface of a role must be a class \(a typing.Protocol .*, not 'Back'\."
    ):
        client.require("back", "Back")  # type: ignore[call-overload]


class Unresolved(Protocol):
    def words(self) -> mob.Call[Missing]: ...  # type: ignore[name-defined]  # noqa: F821


def test_an_annotation_that_cannot_be_evaluated_is_told_once(
    client: mob.Client, caplog: pytest.LogCaptureFixture
) -> None:
    back: Any = client.require("back", Unresolved)
    assert back.words().result(patient(10)) == ["a"]
    assert back.options(timeout=10).words().result(patient(10)) == ["a"]
    (record,) = caplog.records
    assert record.getMessage() == (
        "results of Unresolved.words arrive unconverted: its annotation 'mob.Call[Missing]' cannot be evaluated. "
        "The names in it must be imported at run time, too, not only under TYPE_CHECKING."
    )


def test_what_says_nothing_of_its_result_costs_nothing(client: mob.Client) -> None:
    interface = Interface(client._peer.context, client._peer.encoder.codec, Back)
    assert interface.new_call("anything") is mob.Call
    assert interface.new_call("extra") is mob.Call
    assert repr(interface) == "<Interface Back>"
    back: Any = client.require("back", Back)
    assert type(back.words()) is TypedCall
    assert type(back.extra()) is mob.Call


def test_the_example(apps: Apps) -> None:
    """The example runs as it is, except its name, which may be in use on this machine."""
    shutil.copytree(EXAMPLE, apps.directory, dirs_exist_ok=True)
    name = f"typed-{apps.directory.name[-20:]}".replace("_", "-")
    main = apps.directory / "main.py"
    main.write_text(main.read_text().replace('mob.start("typed")', f'mob.start("{name}")'))
    apps.run(name, [sys.executable, "main.py"]).wait_for(r"Ordered tea for 2\.50\.")


def test_any_class_will_do(client: mob.Client) -> None:
    class Plain:
        @staticmethod
        def words() -> set[str]: ...

        @classmethod
        def ident(cls) -> uuid.UUID: ...

    back: Any = client.require("back", Plain)
    assert back.words().result(patient(10)) == {"a"}
    assert back.ident().result(patient(10)) == uuid.UUID(int=5)
