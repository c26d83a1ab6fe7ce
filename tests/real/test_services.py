"""Services between real processes: classes as exports, handles, `mob.ref`, and the effects of deaths."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import pydoc
from collections.abc import Iterator
from typing import Any, cast

import pytest

import mob
from tests.running import RunningApp, apps_in, wait_until

SIZES = """
import gc
from mob.mobster import api

def sizes():
    gc.collect()
    return api.current("sizes").statistics()
"""

BACK = '''
import asyncio
import dataclasses
import functools
import os
import mob
import sizes

def statistics():
    return sizes.sizes()

class Room:
    """A room with people in it."""

    kind = "room"

    def __init__(self, name: str, seats: int = 4):
        self.name = name
        self.seats = seats
        self.people = []
        self.inside = self.most = 0

    def add(self, *people):
        """Let people in."""
        self.people += people
        return len(self.people)

    async def aadd(self, person):
        await asyncio.sleep(0)
        return self.add(person)

    def each(self):
        yield from self.people

    async def aeach(self):
        for each in self.people:
            yield each

    def call(self, function, *args):
        return function(*args).result()

    async def acall(self, function, *args):
        return await function(*args)

    def typed(self, count: int, names: list[str] = []):
        return count, names

    def boom(self):
        raise LookupError("no such person")

    async def hang(self):
        await asyncio.Event().wait()

    @mob.export(concurrency=1)
    async def one_at_a_time(self):
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0.002)
        self.inside -= 1
        return self.most

    @mob.export
    def __len__(self):
        return len(self.people)

    @staticmethod
    def double(n):
        return 2 * n

    @classmethod
    def kind_of(cls):
        return cls.__name__

    def itself(self):
        return self

    def is_me(self, other):
        return other is self

    def seen_from(self, other):
        return [type(other).__name__, other.name, len(other.people)]

    @property
    def size(self):
        return len(self.people)

    def _secret(self):
        return "secret"

    def pid(self):
        return os.getpid()

    def die(self):
        os._exit(3)


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Broken:
    def __init__(self, why):
        raise ValueError(why)

    def use(self):
        pass


class _Session:
    def __init__(self, user):
        self.user = user
        self.items = {}

    def put(self, key, value):
        self.items[key] = value

    def get(self, key):
        return self.items[key]


def open_session(user):
    return mob.ref(_Session(user))

def a_list():
    return mob.ref([], methods=["append", "__len__", "__getitem__"])

rooms = {}

def room(name):
    if name not in rooms:
        rooms[name] = Room(name)
    return rooms[name]

def all_rooms():
    return {"rooms": list(rooms.values())}

def point():
    return Point(1, 2)

def tell_progress(progress):
    for n in range(3):
        progress.update(n).result()

async def meet(room: Room, other: "Room"):
    return type(room).__name__, type(other).__name__

class Prices:
    def __init__(self, factor):
        self.factor = factor

    def price(self, n):
        return n * self.factor

class Model:
    async def __call__(self, x: int):
        return x + 1

price = Prices(3).price
half = functools.partial(lambda factor, n: factor * n, 0.5)
predict = Model()
upper = mob
log = __import__("logging").getLogger("x").info
'''

FRONT = """
import mob
import sizes

back = mob.require("back")
kept = {}

def statistics():
    return sizes.sizes()

@mob.on("message")
async def handle(message):
    await message["room"].add("Ada")

def use(room, person):
    return room.add(person).result()

async def ause(room, person):
    return await room.add(person)

def keep(name, room):
    kept[name] = room

def kept_len(name):
    return kept[name].__len__().result()

def give(name):
    return kept[name]

def drop(name):
    del kept[name]

def are_equal(one, other):
    return one == other, hash(one) == hash(other), len({one, other})

def make(name):
    return back.Room(name).result()

class Progress:
    def __init__(self):
        self.seen = []

    def update(self, n):
        self.seen.append(n)

def blocked_while_its_object_is_used():
    progress = Progress()
    back.tell_progress(mob.ref(progress)).result()
    return progress.seen
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("services")) as apps:
        apps.write(sizes=SIZES)
        yield apps.start('.role("back", "back.py").role("front", "front.py")', back=BACK, front=FRONT)


@pytest.fixture(scope="module")
def client(app: RunningApp) -> mob.Client:
    return app.wait_ready()


@pytest.fixture
def back(client: mob.Client) -> mob.Proxy:
    return client.require("back")


@pytest.fixture
def front(client: mob.Client) -> mob.Proxy:
    return client.require("front")


def settled(proxy: mob.Proxy) -> dict[str, int]:
    return {name: proxy.statistics().result()[name] for name in ("lent", "held")}


@pytest.fixture(autouse=True)
def nothing_leaks(client: mob.Client, back: mob.Proxy, front: mob.Proxy) -> Iterator[None]:
    before = [settled(back), settled(front)]
    yield
    wait_until(lambda: [settled(back), settled(front)] == before, "all handles are given back")


# ------------------------------------------------------------------------------------------------ the common case


def test_a_class_makes_an_object_in_one_worker(back: mob.Proxy) -> None:
    room: Any = back.Room("kitchen").result()
    assert room.add("Ada").result() == 1
    assert room.add("Ben", "Cid").result() == 3
    assert list(room.each()) == ["Ada", "Ben", "Cid"]
    assert back.Room("other").result().add("Dan").result() == 1


def test_methods_are_awaited_and_stream(back: mob.Proxy) -> None:
    async def use() -> None:
        room: Any = await back.Room("kitchen", seats=2)
        assert await room.aadd("Ada") == 1
        assert await room.add("Ben") == 2
        assert [each async for each in room.aeach()] == ["Ada", "Ben"]
        assert [each async for each in room.each()] == ["Ada", "Ben"]

    asyncio.run(use())


def test_methods_are_called_before_the_object_is_there(back: mob.Proxy) -> None:
    making: Any = back.Room("kitchen")
    calls = [making.add(number) for number in range(20)]
    assert [call.result() for call in calls] == list(range(1, 21))
    assert making.result().__len__().result() == 20
    calls = [making.add(number) for number in range(2)]
    assert [call.result() for call in calls] == [21, 22]


def test_one_line_makes_and_uses(back: mob.Proxy) -> None:
    async def use() -> int:
        making: Any = back.Room("kitchen")
        return await making.add("Ada")

    assert asyncio.run(use()) == 1


def test_class_methods_static_methods_and_special_methods(back: mob.Proxy) -> None:
    room: Any = back.Room("kitchen").result()
    assert room.double(4).result() == 8
    assert room.kind_of().result() == "Room"
    assert room.__len__().result() == 0


def test_functions_are_arguments_of_methods(back: mob.Proxy) -> None:
    room: Any = back.Room("kitchen").result()
    assert room.call(lambda n: n + 1, 4).result() == 5
    assert room.acall(lambda n: n + 1, 4).result() == 5


def test_concurrency_holds_for_each_object(back: mob.Proxy) -> None:
    async def use(room: Any) -> list[int]:
        return await asyncio.gather(*(room.one_at_a_time() for _ in range(10)))

    async def both() -> list[list[int]]:
        return list(await asyncio.gather(use(await back.Room("a")), use(await back.Room("b"))))

    assert asyncio.run(both()) == [[1] * 10, [1] * 10]


# ---------------------------------------------------------------------------------------------- callables as exports


def test_methods_partials_and_callable_objects_are_exports(back: mob.Proxy) -> None:
    assert back.price(5).result() == 15
    assert back.half(5).result() == 2.5
    assert back.predict(5).result() == 6
    with pytest.raises(mob.ArgumentError, match="x"):
        back.predict("five").result()
    with pytest.raises(mob.UnknownExport):
        _ = back.log


def test_classes_of_data_are_no_exports(back: mob.Proxy) -> None:
    with pytest.raises(mob.UnknownExport):
        _ = back.Point
    assert back.point().result() == {"x": 1, "y": 2}


# ---------------------------------------------------------------------------------------------------- passing on


def test_a_handle_goes_to_a_third_process(back: mob.Proxy, front: mob.Proxy) -> None:
    room: Any = back.Room("kitchen").result()
    assert front.use(room, "Ada").result() == 1
    assert front.ause(room, "Ben").result() == 2
    assert list(room.each()) == ["Ada", "Ben"]


def test_what_is_being_made_is_waited_for_when_it_is_passed_on(back: mob.Proxy, front: mob.Proxy) -> None:
    assert front.use(back.Room("kitchen"), "Ada").result() == 1
    assert front.use(room=back.Room("kitchen"), person="Ada").result() == 1


def test_a_third_process_keeps_an_object_whose_maker_drops_it(back: mob.Proxy, front: mob.Proxy) -> None:
    room: Any = back.Room("kitchen").result()
    room.add("Ada").result()
    front.keep("it", {"deep": [room]}["deep"][0]).result()
    del room
    back.statistics().result()
    assert front.kept_len("it").result() == 1
    given: Any = front.give("it").result()
    front.drop("it").result()
    assert given.__len__().result() == 1


def test_a_process_makes_an_object_for_another(front: mob.Proxy) -> None:
    room: Any = front.make("kitchen").result()
    assert room.add("Ada").result() == 1


def test_handles_of_one_object_are_equal(back: mob.Proxy, front: mob.Proxy) -> None:
    one: Any = back.Room("one").result()
    other: Any = back.Room("other").result()
    assert one != other
    assert one == one.itself().result()
    assert hash(one) == hash(one.options(timeout=4))
    assert len({one, other, one.itself().result()}) == 2
    assert front.are_equal(one, one.itself().result()).result() == [True, True, 1]
    assert front.are_equal(one, other).result()[0] is False


def test_at_home_a_handle_is_the_object(back: mob.Proxy) -> None:
    one: Any = back.Room("one").result()
    other: Any = back.Room("other").result()
    assert one.is_me(one).result() is True
    assert one.is_me(other).result() is False
    assert one.seen_from(other).result() == ["Room", "other", 0]
    assert back.meet(one, other=other).result() == ["Room", "Room"]


def test_an_export_returns_an_object_of_a_service(back: mob.Proxy) -> None:
    room: Any = back.room("hall").result()
    assert room.add("Ada").result() == 1
    assert back.room("hall").result() == room
    assert [each.__len__().result() for each in back.all_rooms().result()["rooms"]] == [1]


# ------------------------------------------------------------------------------------------------------- mob.ref


def test_any_object_is_sent_by_reference(back: mob.Proxy, front: mob.Proxy) -> None:
    session: Any = back.open_session("Ada").result()
    session.put("k", 1).result()
    assert session.get("k").result() == 1
    with pytest.raises(KeyError):
        session.get("nothing").result()
    numbers: Any = back.a_list().result()
    numbers.append(7).result()
    assert (numbers.__len__().result(), numbers.__getitem__(0).result()) == (1, 7)
    with pytest.raises(mob.UnknownExport, match="no method 'pop'"):
        numbers.pop()


def test_an_object_that_was_sent_is_called_while_its_owner_waits(front: mob.Proxy) -> None:
    assert front.blocked_while_its_object_is_used().result() == [0, 1, 2]


def test_a_client_sends_objects(back: mob.Proxy, client: mob.Client) -> None:
    class Progress:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def update(self, n: int) -> None:
            self.seen.append(n)

    progress = Progress()
    back.tell_progress(mob.ref(progress)).result()
    assert progress.seen == [0, 1, 2]


@pytest.mark.parametrize("value", [None, int, os, len, lambda: 1])
def test_what_has_no_methods_to_call_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"mob\.ref takes"):
        mob.ref(value)


def test_methods_that_are_none_are_refused() -> None:
    with pytest.raises(TypeError, match="no method 'push'"):
        mob.ref([], methods=["push"])
    with pytest.raises(TypeError, match="private"):
        mob.ref([], methods=["_x"])


# -------------------------------------------------------------------------------------------------------- errors


def test_what_is_no_method_is_told_with_the_nearest_name(back: mob.Proxy) -> None:
    room: Any = back.Room("kitchen").result()
    with pytest.raises(mob.UnknownExport, match=r"back.Room has no method 'ad'.*Did you mean 'a?add'\?"):
        room.ad(1)
    with pytest.raises(AttributeError, match="properties are not fetched"):
        _ = room.size
    with pytest.raises(AttributeError, match="private"):
        _ = room._secret
    with pytest.raises(AttributeError):
        _ = room.__getitem__
    making: Any = back.Room("kitchen")
    with pytest.raises(AttributeError, match=r"back\.Room has no method 'ad'"):
        making.ad(1)


def test_what_exports_and_methods_have_not_is_told(back: mob.Proxy) -> None:
    service: Any = back.Room
    room: Any = service("kitchen").result()
    for look, text in [
        (
            lambda: service.kind_of,
            r"^back\.Room has no attribute 'kind_of': .*\(await back\.Room\(.*\)\)\.kind_of\(",
        ),
        (lambda: service.duble, r"^back\.Room has no attribute 'duble': .*Did you mean 'double'\?"),
        (
            lambda: cast("Any", back.statistics).foo,
            r"^back\.statistics has no attribute 'foo': .*back\.statistics\.map\(",
        ),
        (
            lambda: cast("Any", back.statistics).delay,  # as with Celery
            r"^back\.statistics has no attribute 'delay': .*back\.options\(durable=True\)\.statistics\(",
        ),
        (lambda: room.add.map, r"^back\.Room\.add has no attribute 'map': .*can only be called"),
    ]:
        with pytest.raises(mob.UnknownExport, match=text):
            look()
    for each in (service, back.statistics, room.add):
        assert not hasattr(each, "__wrapped__")
        assert not hasattr(each, "foo")


def test_arguments_of_constructors_and_methods_are_checked(back: mob.Proxy) -> None:
    with pytest.raises(mob.ArgumentError, match=r"back.Room\(seats: int\)"):
        back.Room("kitchen", "many").result()
    room: Any = back.Room("kitchen").result()
    assert room.typed(3, ["a"]).result() == [3, ["a"]]
    with pytest.raises(mob.ArgumentError, match=r"back.Room.typed\(count: int\)") as caught:
        room.typed("x").result()
    assert caught.value.argument == "count"
    del caught  # its traceback holds the handle
    with pytest.raises(mob.ArgumentError, match=r"back.Room.typed\(\) takes 1 to 2 arguments \(count, names\)"):
        room.typed(1, 2, 3).result()
    with pytest.raises(mob.ArgumentError, match="is missing the argument 'name'"):
        back.Room().result()


def test_an_exception_of_the_constructor_is_that_of_all_calls(back: mob.Proxy) -> None:
    making: Any = back.Broken("no luck")
    call = making.use()
    with pytest.raises(ValueError, match="no luck"):
        call.result()
    with pytest.raises(ValueError, match="no luck"):
        making.result()


def test_an_exception_of_a_method_arrives(back: mob.Proxy) -> None:
    room: Any = back.Room("kitchen").result()
    with pytest.raises(LookupError, match="no such person"):
        room.boom().result()


def test_a_timeout_of_a_handle(back: mob.Proxy) -> None:
    room: Any = back.Room("kitchen").result()
    with pytest.raises(mob.CallTimeout, match=r"Room\.hang"):
        room.options(timeout=0.05).hang().result()
    with pytest.raises(ValueError, match="timeout"):
        room.options(timeout=float("nan"))
    with pytest.raises(TypeError):
        room.options(timout=1)


def test_names_that_a_handle_has_itself_are_reached_too(front: mob.Proxy, back: mob.Proxy) -> None:
    numbers: Any = back.a_list().result()
    numbers.append(7).result()
    assert mob.RemoteMethod(numbers, "__len__")().result() == 1
    with pytest.raises(mob.UnknownExport, match="no method '__repr__'"):
        mob.RemoteMethod(numbers, "__repr__")


def test_a_handle_is_copied_as_itself_and_not_pickled(back: mob.Proxy) -> None:
    room: Any = back.Room("kitchen").result()
    assert copy.deepcopy([room]) == [copy.copy(room)] == [room]
    with pytest.raises(TypeError, match="cannot be pickled: send it as an argument"):
        pickle.dumps(room)


def test_handles_are_sent_as_messages_and_made_by_map(back: mob.Proxy, front: mob.Proxy, client: mob.Client) -> None:
    rooms: list[Any] = list(back.Room.map(["a", "b"]))
    client.any("front").send({"room": rooms[0]})
    wait_until(lambda: rooms[0].__len__().result() == 1, "the receiver of the message has called it")


def test_people_see_what_it_is(back: mob.Proxy, client: mob.Client) -> None:
    room: Any = back.Room("kitchen").result()
    assert repr(room).startswith("<handle of back.Room in back.0")
    assert repr(room.add) == "<back.Room.add(*people)>"
    assert {"add", "aadd", "options", "__len__"} <= set(dir(room))
    assert "size" not in dir(room)
    assert "Let people in." in pydoc.render_doc(room.add)
    assert "A room with people in it." in pydoc.render_doc(back.Room)
    assert repr(back.Room) == "<back.Room(name: str, seats: int = 4)>"
    assert repr(room.__len__) == "<back.Room.__len__()>"


def test_calls_of_methods_are_measured_by_name(back: mob.Proxy, client: mob.Client) -> None:
    room: Any = back.Room("kitchen").result()
    for _ in range(5):
        room.double(1).result()
    names = wait_until(
        lambda: {each.export: each.calls for each in client.metrics().exports}.get("Room.double"), "it is counted"
    )
    assert names >= 1
