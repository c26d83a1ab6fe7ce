"""Helpers for the tests of the codec: types of all sorts, and the two ends of a trip.

`Mob` plays the processes: it keeps lent functions by number and counts, so that a test can check that every reference
in the bytes was lent once and borrowed once.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypedDict, TypeVar, runtime_checkable

import attrs
import msgspec

from mob.rim import descriptors
from mob.rim.link import Descriptor
from mob.wire.codec import Codec, Reference
from mob.wire.references import Handle

HUGE = 2**200


class Mob:
    def __init__(self) -> None:
        self.functions: dict[int, Callable[..., Any]] = {}
        self.lent: list[int] = []
        self.borrowed: list[int] = []
        self.codec = Codec(self.lend, self.borrow)

    def lend(self, function: Callable[..., Any]) -> Reference:
        self.functions[id(function)] = function
        self.lent.append(id(function))
        return Reference(7, id(function))

    def borrow(self, reference: Reference) -> Callable[..., Any]:
        assert reference.owner == 7
        self.borrowed.append(reference.id)
        return self.functions[reference.id]


def over(codec: Codec, value: Any) -> Any:
    return codec.decode(codec.encode(value))


@dataclasses.dataclass
class User:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)
    extra: Any = None


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int


@attrs.define
class Car:
    doors: int
    owner: User | None = None


class Circle(msgspec.Struct, tag=True, rename="camel"):
    outer_radius: float
    data: Any = None


class Square(msgspec.Struct, tag=True):
    side: float


class Row(msgspec.Struct, array_like=True, tag="row"):
    id: int
    data: Any = None


class Pair(NamedTuple):
    left: Any
    right: Any


class Options(TypedDict, total=False):
    retries: int


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Ratio(enum.Enum):
    HALF = 0.5
    SIZE = (1, 2)


class Name(str):
    pass


class Count(int):
    pass


class Share(float):
    pass


class Blob(bytes):
    pass


class Moment(dt.datetime):
    pass


class Names(list[str]):
    pass


class Caller:
    def __call__(self) -> str:
        return "called"

    def method(self) -> str:
        return "method"


class Quacks(Protocol):
    def quack(self) -> str: ...


@runtime_checkable
class Closes(Protocol):
    def close(self) -> None: ...


class Stranger:
    pass


T = TypeVar("T")
CALLER = Caller()
UTC = dt.UTC


class Money:
    def __init__(self, cents: Any, unit: str = "EUR") -> None:
        self.cents = cents
        self.unit = unit

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(self.unit)


class Cash(Money):
    pass


def register_money(codec: Codec) -> None:
    codec.register(Money, lambda money: (money.cents, money.unit), lambda data: Money(*data))


def short(value: object) -> str:
    """Return the id of a test: the value, shortened, without addresses, which differ from process to process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))[:50]


class Duplicates:
    """Sockets and files that cross within one process: each is duplicated when sent, and opened on arrival."""

    def __init__(self) -> None:
        self.under_way: dict[int, Descriptor] = {}
        self.count = 0

    def check(self, value: Any) -> None:
        descriptors.check(value)

    def duplicate(self, value: Any) -> Handle:
        descriptor, (kind, details) = descriptors.duplicate(value)
        self.count += 1
        self.under_way[self.count] = descriptor
        return Handle(7, self.count, kind, details)

    def open(self, handle: Handle) -> Any:
        descriptor = self.under_way.pop(handle.number)
        return descriptors.opened(handle.kind, handle.details, os.dup(descriptor.fileno()))
