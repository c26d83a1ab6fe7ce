"""Objects by reference: which methods of a class can be called, and how the codec names objects."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import pytest

import mob
from mob.errors import BadMessage
from mob.wire.codec import Codec
from mob.wire.extensions import CALLBACK, OBJECT
from mob.wire.methods import ByReference, methods_of
from mob.wire.references import ObjectReference, Reference, references_in
from mob.wire.walk import Walk
from tests.wire.samples import HUGE, Mob, over


class Base:
    def inherited(self) -> None: ...
    def hidden(self) -> None: ...


class Room(Base):
    attribute = 1
    factory = dict
    hidden = None  # type: ignore[assignment]

    class Inner: ...

    def add(self) -> None: ...
    async def aadd(self) -> None: ...
    def _private(self) -> None: ...
    def __len__(self) -> int:
        return 0

    @mob.export
    def __getitem__(self, key: Any) -> Any: ...
    @mob.export
    def _still_private(self) -> None: ...
    @property
    def size(self) -> int:
        return 1

    @functools.cached_property
    def cached(self) -> int:
        return 1

    @functools.lru_cache  # noqa: B019  what it keeps is of no interest
    def remembered(self) -> None: ...
    @staticmethod
    def static() -> None: ...
    @classmethod
    def of_class(cls) -> None: ...

    partial = functools.partialmethod(add)


def test_public_methods_and_decorated_special_ones_can_be_called() -> None:
    own = ("add", "aadd", "__getitem__", "remembered", "static", "of_class", "partial")
    assert methods_of(Room) == (*own, "inherited")
    assert "append" in methods_of(list)
    assert "__len__" not in methods_of(list)
    assert "fromkeys" in methods_of(dict)


class Thing(ByReference):
    """A stand-in for an object."""


class Plain:
    pass


class Called:
    def __call__(self) -> None: ...


class Objects:
    """A table of objects, for one process."""

    def __init__(self) -> None:
        self.lent: list[Any] = []
        self.borrowed: list[ObjectReference] = []

    def lend(self, value: Any) -> ObjectReference:
        self.lent.append(value)
        return ObjectReference(7, len(self.lent) - 1, False, "back.Thing", ("add",))

    def borrow(self, reference: ObjectReference) -> Any:
        self.borrowed.append(reference)
        return self.lent[reference.id]


def codec_of(objects: Objects | None, given_back: list[Any] | None = None) -> Codec:
    mob_ = Mob()
    return Codec(mob_.lend, mob_.borrow, None, None, (given_back if given_back is not None else []).append, objects)


@pytest.mark.parametrize("extra", [1, HUGE, len], ids=["quickly", "after a walk", "beside a function"])
def test_an_object_is_named_once_wherever_it_lies(extra: Any) -> None:
    objects, thing = Objects(), Thing()
    assert over(codec_of(objects), {"deep": [thing, extra]}) == {"deep": [thing, extra]}
    assert len(objects.lent) == len(objects.borrowed) == 1
    assert objects.borrowed[0] == ObjectReference(7, 0, False, "back.Thing", ("add",))


def test_objects_of_a_service_and_of_its_subclasses_are_named() -> None:
    objects = Objects()
    codec = codec_of(objects)
    with pytest.raises(BadMessage, match="not data"):
        codec.encode(Plain())
    codec.serve(Plain)
    codec.serve(Called)
    values = [Plain(), type("Sub", (Plain,), {})(), Called()]
    assert over(codec, values) == values == objects.lent


def test_a_registered_type_is_data_also_if_it_is_a_service() -> None:
    objects = Objects()
    codec = codec_of(objects)
    codec.serve(Plain)
    codec.register(Plain, lambda plain: 1, lambda data: data)
    assert over(codec, Plain()) == 1
    assert not objects.lent


def test_where_there_are_no_objects_none_is_sent_or_taken() -> None:
    with pytest.raises(BadMessage, match=r"args\.x|args"):
        codec_of(None).encode([Thing()])
    body = codec_of(Objects()).encode(Thing())
    with pytest.raises(BadMessage, match="this process cannot receive any"):
        codec_of(None).decode(body)


def test_a_name_says_what_is_known_of_the_object_and_is_found_unread() -> None:
    given_back: list[Any] = []
    codec = codec_of(Objects(), given_back)
    body = codec.encode([Thing(), len])
    first, second = msgspec.msgpack.decode(body)
    assert (first.code, msgspec.msgpack.decode(first.data)) == (OBJECT, [7, 0, False, "back.Thing", ["add"]])
    assert second.code == CALLBACK
    assert references_in(body) == [Reference(7, 0), Reference(7, id(len))]
    codec.discard(body)
    assert given_back == [Reference(7, 0), Reference(7, id(len))]


def test_the_typed_decoder_reads_an_object_once() -> None:
    objects, thing = Objects(), Thing()
    codec = codec_of(objects)
    assert codec.decoder(list[Thing])(codec.encode([thing])) == [thing]
    assert len(objects.borrowed) == 1


def test_the_walk_leaves_objects_as_they_are() -> None:
    codec, thing = codec_of(Objects()), Thing()
    assert Walk(codec._encoders).rewrite([thing, HUGE])[0] is thing
