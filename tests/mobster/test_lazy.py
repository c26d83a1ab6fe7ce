"""Lazy globals of a role's module: the search for exports does not touch them, because that would evaluate them."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import pytest

from mob.peer.serving.exports import Export
from mob.peer.serving.selection import exports_of
from mob.wire.codec import Codec
from mob.wire.encoders import as_function


class Evaluated(BaseException):
    """Raised when a lazy object is evaluated."""


def fail(*args: object) -> Any:
    raise Evaluated


class LikeDjango:
    """Like `SimpleLazyObject` and `settings`."""

    __class__ = property(fail)  # type: ignore[assignment]
    __getattr__ = fail
    __repr__ = __str__ = __bool__ = __eq__ = __hash__ = __dir__ = fail  # type: ignore[assignment]


class Lookup:
    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else fail()


class LikeWerkzeug:
    """Like `LocalProxy`."""

    __class__ = __wrapped__ = __name__ = __dict__ = Lookup()  # type: ignore[assignment]
    __getattr__ = __call__ = __repr__ = __eq__ = __hash__ = fail  # type: ignore[assignment]


class LikeCelery:
    """Like `Proxy`, and `Proxy` of lazy_object_proxy."""

    __slots__ = ("__dict__",)
    __class__ = __wrapped__ = property(fail)  # type: ignore[assignment]
    __getattribute__ = __call__ = __repr__ = fail  # type: ignore[assignment]


class LikeWrapt:
    """Like `FunctionWrapper`: wraps a function, and binds as it does."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.__module__ = function.__module__

    @property
    def __class__(self) -> type[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return type(self.function)

    @property
    def __wrapped__(self) -> Any:
        return self.function

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)


LAZY: list[Callable[[], Any]] = [LikeDjango, LikeWerkzeug, LikeCelery]
CODE = """
def plain(): ...
def with_default(a, b=lazy, *, c=(1, lazy)): ...
@functools.lru_cache
def cached(): ...
@functools.wraps(plain)
def wraps(): ...
wrapped = Wrapper(plain)
other = lazy
"""


@pytest.mark.parametrize("kind", LAZY)
def test_a_lazy_global_is_not_evaluated(kind: Callable[[], Any]) -> None:
    module = types.ModuleType("a_role")
    vars(module).update(lazy=kind(), functools=functools, Wrapper=LikeWrapt)
    exec(CODE, vars(module))
    functions = exports_of(module)
    assert list(functions) == ["plain", "with_default", "cached", "wraps", "wrapped"]
    shown = Export(
        "back", "with_default", functions["with_default"], Codec(as_function, as_function)
    ).parameters.signature
    name = getattr(kind, "__qualname__", "")
    assert shown == f"(a, b=<{name}>, *, c=(1, <{name}>))"
