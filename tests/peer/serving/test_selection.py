"""Which names of a module are exports: the rule of `selection`, kind by kind."""

from __future__ import annotations

import functools
import inspect
import math
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

import mob
from mob.peer.serving.exports import Export
from mob.peer.serving.selection import code_of, exports_of
from mob.wire.codec import Codec
from mob.wire.encoders import as_function

PROLOGUE = """
import abc, asyncio, collections, dataclasses, enum, functools, http.server, logging, math, operator, threading, typing
import mob, msgspec
import numpy as np
from typing import Any, Generic, NamedTuple, NewType, Protocol, TypedDict, TypeVar
"""

EXPORTED: dict[str, str] = {
    "a function": "def it(n): return n",
    "a coroutine function": "async def it(n): return n",
    "a lambda": "it = lambda n: n",
    "a bound method": "class _C:\n    def m(self, n): return n\nit = _C().m",
    "a class method": "class _C:\n    @classmethod\n    def m(cls, n): return n\nit = _C.m",
    "a partial": "def _f(a, n): return n\nit = functools.partial(_f, 1)",
    "a partial of a partial": "def _f(a, b, n): return n\nit = functools.partial(functools.partial(_f, 1), 2)",
    "a partial of a method": "class _C:\n    def m(self, a, n): return n\nit = functools.partial(_C().m, 1)",
    "a callable object": "class _C:\n    def __call__(self, n): return n\nit = _C()",
    "a cached function": "@functools.lru_cache\ndef it(n): return n",
    "a single dispatch": "@functools.singledispatch\ndef it(n): return n",
    "a class": "class it:\n    def m(self): ...",
    "a generic class": "T = TypeVar('T')\nclass it(Generic[T]):\n    def m(self): ...",
    "a class of an own base": "class _B:\n    def m(self): ...\nclass it(_B): ...",
    "a class of an abstract base": "class _B(abc.ABC):\n    @abc.abstractmethod\n    def m(self): ...\n"
    "class it(_B):\n    def m(self): ...",
}
"""Code that defines the name `it`, which is an export."""

SKIPPED: dict[str, str] = {
    "a method of a foreign class": "it = logging.getLogger('x').info",
    "a method of a builtin": "it = [].append",
    "a partial of a foreign function": "it = functools.partial(logging.getLevelName, 10)",
    "a partial of a builtin": "it = functools.partial(int, base=2)",
    "an object of a foreign class": "it = operator.itemgetter(1)",
    "an object that calls foreign code": "class C(collections.Counter): ...\nit = functools.partial(C, 1)\nit = C()",
    "an ufunc": "it = np.add",
    "a vectorized function": "it = np.vectorize(lambda n: n)",
    "a builtin function": "from math import sqrt as it",
    "an imported function": "from os.path import join as it",
    "an imported class": "from threading import Thread as it",
    "a type variable": "it = TypeVar('it')",
    "an alias of a type": "it = list[int]",
    "an alias of typing": "it = typing.Optional[int]",
    "a new type": "it = NewType('it', int)",
    "a dataclass": "@dataclasses.dataclass\nclass it:\n    x: int",
    "a struct": "class it(msgspec.Struct):\n    x: int",
    "a named tuple": "class it(NamedTuple):\n    x: int",
    "a typed dict": "class it(TypedDict):\n    x: int",
    "an enum": "class it(enum.Enum):\n    A = 1",
    "an exception": "class it(Exception): ...",
    "a protocol": "class it(Protocol):\n    def m(self): ...",
    "an abstract class": "class it(abc.ABC):\n    @abc.abstractmethod\n    def m(self): ...",
    "a metaclass": "class it(type): ...",
    "a handler of a server": "class it(http.server.BaseHTTPRequestHandler): ...",
    "a thread": "class it(threading.Thread): ...",
    "a subclass of a builtin": "class it(dict): ...",
    "a subclass of str": "class it(str): ...",
    "a private function": "def _f(): ...\nit = None",
    "an object": "class _C: ...\nit = _C()",
    "a class without methods": "class it: ...",
    "a class with private methods": "class it:\n    x = 1\n    def _m(self): ...",
    "an object of an own class": "class _C:\n    def m(self): ...\nit = _C()",
}
"""Code that defines the name `it`, which is not an export unless the module says so."""


def run(code: str) -> types.ModuleType:
    module = sys.modules["a_role"] = types.ModuleType("a_role")
    exec(PROLOGUE + code, vars(module))
    return module


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a_role", types.ModuleType("a_role"))  # dataclasses look themselves up


def public(module: types.ModuleType) -> set[str]:
    return set(exports_of(module)) - {"T", "C"}


@pytest.mark.parametrize("kind", EXPORTED)
def test_what_is_defined_in_the_module_is_exported(kind: str) -> None:
    assert public(run(EXPORTED[kind])) == {"it"}


@pytest.mark.parametrize("kind", SKIPPED)
def test_what_is_defined_elsewhere_or_is_data_is_not(kind: str) -> None:
    assert public(run(SKIPPED[kind])) == set()


@pytest.mark.parametrize(
    "kind",
    [
        "a method of a foreign class",
        "a partial of a builtin",
        "an object of a foreign class",
        "an ufunc",
        "a builtin function",
        "an imported function",
        "a thread",
        "a handler of a server",
    ],
)
def test_all_takes_what_can_be_called_wherever_it_is_defined(kind: str) -> None:
    assert public(run(f"{SKIPPED[kind]}\n__all__ = ['it', 'nothing']")) == {"it"}


@pytest.mark.parametrize(
    "kind",
    [
        *("a dataclass", "a struct", "an enum", "an exception", "a protocol", "a named tuple", "an alias of a type"),
        *("a new type", "a type variable", "a typed dict", "a subclass of str", "an abstract class"),
    ],
)
def test_all_makes_no_service_of_data(kind: str) -> None:
    assert public(run(f"def other(): ...\n{SKIPPED[kind]}\n__all__ = ['it', 'other']")) == {"other"}


def test_all_takes_private_names() -> None:
    assert public(run("def _f(): ...\nclass _C:\n    def m(self): ...\n__all__ = ['_f', '_C']")) == {"_f", "_C"}


@pytest.mark.parametrize("kind", [*EXPORTED, "a dataclass", "a thread", "a struct"])
def test_what_is_decorated_is_all_that_is_exported(kind: str) -> None:
    code = f"def other(): ...\n{ {**EXPORTED, **SKIPPED}[kind] }\nit = mob.export(concurrency=3)(it)"
    module = run(code)
    assert public(module) == {"it"}
    export = Export("back", "it", exports_of(module)["it"], Codec(as_function, as_function))
    assert export.options.concurrency == 3


@pytest.mark.parametrize(
    "kind", ["a method of a foreign class", "an ufunc", "a builtin function", "a partial of a builtin"]
)
def test_what_is_defined_elsewhere_can_be_decorated(kind: str) -> None:
    assert public(run(f"def other(): ...\n{SKIPPED[kind]}\nit = mob.export(it)")) == {"it"}


def test_a_mark_is_not_inherited() -> None:
    code = "@mob.export\nclass A:\n    def m(self): ...\n    def __call__(self): ...\nclass B(A): ...\nit = A()"
    assert public(run(code)) == {"A"}


def test_what_cannot_bear_a_mark_comes_back_as_one_that_does() -> None:
    sqrt: Any = mob.export(math.sqrt)
    assert sqrt(4) == 2
    assert code_of(sqrt) is math.sqrt


@pytest.mark.parametrize("value", [1, "text", Exception, object()])
def test_what_cannot_be_called_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"@mob\.export takes"):
        mob.export(value)


@pytest.mark.parametrize(
    ("code", "is_async"),
    [
        ("class C:\n    async def __call__(self, n): ...\nit = C()", True),
        ("class C:\n    async def m(self, n): ...\nit = C().m", True),
        ("async def f(a, n): ...\nit = functools.partial(f, 1)", True),
        ("class C:\n    async def __call__(self, n): ...\nit = mob.export(functools.partial(C()))", True),
        ("class C:\n    def __call__(self, n): ...\nit = C()", False),
    ],
)
def test_what_runs_as_a_task_is_told_from_its_code(code: str, is_async: bool) -> None:
    export = Export("back", "it", exports_of(run(code))["it"], Codec(as_function, as_function))
    assert export.is_async is is_async
    assert export.parameters.signature == "(n)"


def test_the_code_of_what_cannot_be_called_is_none() -> None:
    assert code_of(1) is None
    assert code_of(inspect) is None


def test_a_function_is_its_own_code() -> None:
    def own() -> None: ...

    made: Callable[[], None] = functools.partial(own)
    assert code_of(made) is own


@pytest.mark.parametrize("special", ["__eq__", "__hash__", "__getattr__", "__getattribute__", "__instancecheck__"])
def test_a_class_that_refuses_to_be_looked_at_does_not_break_the_import(special: str) -> None:
    module = run("class Own:\n    def get(self): ...\ndef f(): ...\n")

    def refuses(*args: object) -> Any:
        raise RuntimeError

    odd: Any = type.__new__(type("Meta", (type,), {special: refuses}), "Odd", (), {"get": refuses})
    vars(module)["Odd"] = odd
    assert "f" in exports_of(module)
    assert "Odd" not in exports_of(module)


REFUSED_OPTIONS: dict[str, tuple[dict[str, Any], Any, type[Exception], str]] = {
    "no batch": ({"batch": 0}, len, ValueError, r"batch=0\): expected the maximum number of calls .* at least 1"),
    "a fraction": ({"batch": 2.5}, len, ValueError, r"batch=2\.5\)"),
    "yes or no": ({"batch": True}, len, ValueError, r"batch=True\)"),
    "within the past": ({"batch": 2, "within": -1}, len, ValueError, r"within=-1\): expected seconds, 0 or more"),
    "within forever": ({"batch": 2, "within": math.inf}, len, ValueError, r"within=inf\)"),
    "within a text": ({"batch": 2, "within": "1s"}, len, ValueError, r"within='1s'\)"),
    "within nothing": ({"within": 1}, len, ValueError, r"within=1\): .* it needs batch="),
    "a class": ({"batch": 2}, types.SimpleNamespace, TypeError, r"is a class\. .* of a class, mark a method"),
    "a generator that is killed": ({"kill_after": 2}, lambda numbers: (yield), TypeError, r"is a generator function"),
    "killed at once": ({"kill_after": 0}, len, ValueError, r"kill_after=0\): expected the seconds"),
    "killed at no time": ({"kill_after": "1"}, len, ValueError, r"kill_after='1'\): expected the seconds"),
    "a generator": ({"batch": 2}, lambda numbers: (yield), TypeError, r"is a generator function"),
}


@pytest.mark.parametrize("case", REFUSED_OPTIONS)
def test_options_that_do_not_fit_are_refused(case: str) -> None:
    options, function, kind, text = REFUSED_OPTIONS[case]
    with pytest.raises(kind, match=text):
        mob.export(**options)(function)


def test_the_lane_of_an_export_that_takes_batches_has_room_for_one_more() -> None:
    def double(numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]

    codec = Codec(as_function, as_function)
    export = Export("back", "double", mob.export(batch=8, concurrency=3)(double), codec, threads=2)
    assert (export.lane.width, export.lane.is_beside) == (24, True)
    assert export.info().signature == "(numbers: int) -> int"
    assert export.function is double
