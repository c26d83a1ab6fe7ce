"""Functions and arguments as bytes: what is kept, what is pickled again, and the errors for the rest."""

from __future__ import annotations

import logging
import pickle
import re
import sys
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle
import pytest

from mob.pools import pickling
from mob.pools.pickling import LARGE, MOST_FUNCTIONS, CannotPickle, FunctionPickles, dumps, loads, name_of

LOG = logging.getLogger("pool")
PATTERN = re.compile("a+")
HOME = Path("/home")


def double(x: int) -> int:
    return 2 * x


@lru_cache
def cached(x: int) -> int:
    return 2 * x


class Evil:
    def __reduce__(self) -> Any:
        raise ValueError("no")


class Holder:
    def __init__(self, held: object) -> None:
        self.held = held

    def method(self) -> None: ...


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Another `__main__`, as of a script."""
    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


@pytest.fixture
def no_cloudpickle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickling, "has_cloudpickle", lambda: False)


@pytest.fixture
def by_value() -> Iterator[None]:
    """Send this module's functions by value."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def define(main: ModuleType, source: str, name: str = "f") -> FunctionType:
    exec(compile(source, "script.py", "exec"), vars(main))
    found: FunctionType = vars(main)[name]
    return found


# ------------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize("value", [None, 1, "a", [1, {"a": (2, 3)}], {1, 2}, Path("a"), "__main__", b"__main__"])
def test_a_value_comes_back(value: object) -> None:
    assert loads(*dumps(value, "the argument")) == value


def test_only_large_buffers_travel_beside_the_pickle() -> None:
    small, large = bytearray(LARGE - 1), bytearray(b"x" * LARGE)
    value = [pickle.PickleBuffer(small), pickle.PickleBuffer(large)]
    data, buffers = dumps(value, "the argument")
    assert [buffer.nbytes for buffer in buffers] == [LARGE]
    assert len(data) < 2 * LARGE
    assert loads(data, buffers)[1] == large


def test_a_buffer_with_gaps_travels_inside() -> None:
    np = pytest.importorskip("numpy")
    value = np.zeros((1000, 1000))[::2, ::2]
    data, buffers = dumps(value, "the argument")
    assert (loads(data, buffers) == value).all()


def test_an_array_travels_beside_and_can_be_written_to() -> None:
    np = pytest.importorskip("numpy")
    value = np.arange(100_000)
    data, buffers = dumps(value, "the argument")
    assert len(data) < 1000
    back = loads(data, buffers)
    assert (back == value).all()
    back[0] = 7


def test_a_lambda_is_sent_by_value() -> None:
    n = 3
    function = loads(*dumps(lambda x: x + n, "the function"))
    assert function(4) == 7


def test_a_large_buffer_is_named_once_if_cloudpickle_takes_over() -> None:
    """The first attempt found buffers before it failed."""
    value = [pickle.PickleBuffer(bytearray(LARGE)), lambda: 3]
    data, buffers = dumps(value, "the argument")
    assert len(buffers) == 1
    assert loads(data, buffers)[1]() == 3


@pytest.mark.usefixtures("by_value")
def test_a_module_that_is_sent_by_value() -> None:
    assert loads(*dumps(double, "the function")) is not double


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("value", "place", "kind"),
    [
        (threading.Lock(), "", "lock"),
        ([1, threading.Lock()], "[1]", "lock"),
        ({"a": [0, (threading.Lock(),)]}, "['a'][1][0]", "lock"),
        (Holder({"b": threading.Lock()}), "held['b']", "lock"),
        (Holder(threading.Lock()).method, "__self__.held", "lock"),
        ((i for i in ()), "", "generator"),
    ],
)
def test_the_part_that_cannot_be_pickled_is_named(value: object, place: str, kind: str) -> None:
    with pytest.raises(CannotPickle) as caught:
        dumps(value, "the argument")
    assert f"cannot send the argument to another process: {place or 'it'} is of type {kind!r}: " in str(caught.value)
    assert isinstance(caught.value, pickle.PicklingError)


def test_what_a_function_refers_to_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(CannotPickle, match=r"cannot send f to another process: lock is of type 'lock'"):
        dumps(lambda: lock, "f")


def test_a_global_that_a_function_of_the_script_mentions_is_named(main: ModuleType) -> None:
    function = define(main, "import threading\nlock = threading.Lock()\ndef f(): return lock")
    with pytest.raises(CannotPickle, match=r"lock is of type 'lock'"):
        dumps(function, "f")


def test_the_parts_are_called_as_whoever_sends_them_says() -> None:
    with pytest.raises(CannotPickle, match=r"args\[1\]\['x'\] is of type 'lock'"):
        dumps(threading.Lock(), "a", lambda: iter([("args[1]", {"x": threading.Lock()})]))


def test_what_a_class_raises_itself_comes_through_with_a_note() -> None:
    with pytest.raises(ValueError, match="no") as caught:
        dumps(Evil(), "the arguments of f")
    assert caught.value.__notes__ == [
        "This was raised while pickling the arguments of f, which a mob.Pool sends to another process."
    ]


def test_a_list_that_is_too_deep() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(CannotPickle, match="recursion"):
        dumps(deep, "the argument")
    while deep:  # otherwise freeing it recurses as deep
        deep = deep[0]


# ------------------------------------------------------------------------------------------- without cloudpickle


@pytest.mark.usefixtures("no_cloudpickle")
def test_without_cloudpickle_a_lambda_says_what_to_install() -> None:
    with pytest.raises(CannotPickle, match=r"cloudpickle \(pip install 'mobsters\[pool\]'\) can send more\."):
        dumps(lambda: 3, "the function")


@pytest.mark.usefixtures("no_cloudpickle")
def test_without_cloudpickle_a_function_of_the_script_says_what_to_install(main: ModuleType) -> None:
    function = define(main, "def f(): ...")
    with pytest.raises(CannotPickle, match="it belongs to __main__, which a worker cannot import") as caught:
        dumps(function, "the function")
    assert str(caught.value).count("pip install") == 1


@pytest.mark.usefixtures("no_cloudpickle")
def test_without_cloudpickle_a_function_of_the_script_is_found_anywhere(main: ModuleType) -> None:
    function = define(main, "def f(): ...")
    other = define(main, "def g(): ...", "g")
    for value in (["__main__", double, other], [function, double, "x", other], {"a": [(1, "__main__"), function]}):
        with pytest.raises(CannotPickle, match="it belongs to __main__"):
            dumps(value, "the argument")


@pytest.mark.usefixtures("no_cloudpickle")
@pytest.mark.parametrize("value", ["__main__", b"__main__", ["__main__", double, len], {"__main__": 1}])
def test_without_cloudpickle_the_word_alone_is_no_reason(value: object) -> None:
    assert loads(*dumps(value, "the argument")) == value


# ------------------------------------------------------------------------------------------- functions that are kept


@pytest.mark.parametrize("function", [double, cached, len, Holder])
def test_an_importable_function_is_pickled_once(function: object) -> None:
    pickles = FunctionPickles()
    first = pickles.dumps(function)
    assert first.variant
    assert pickles.dumps(function) is first
    assert repr(pickles) == "<FunctionPickles, 1 pickled>"


SOURCES = {
    "nothing": "def f(): return 1",
    "an int": "a = 1\ndef f(): return a",
    "itself": "def f(n): return n and f(n - 1)",
    "another": "b = 2\ndef g(): return b\ndef f(): return g()",
    "a module": "import os\ndef f(): return os.getpid()",
    "a path": "from pathlib import Path\nhome = Path('a')\ndef f(): return home",
    "a pattern": "import re\npattern = re.compile('a')\ndef f(): return pattern",
    "a logger": "import logging\nlog = logging.getLogger('x')\ndef f(): log.info('a')",
    "a default": "def f(a=1, *, b=2): return a + b",
    "a class of a module": "from collections import Counter\ndef f(): return Counter()",
    "a builtin": "def f(x): return len(x)",
    "an inner function": "a = 1\ndef f():\n    def g(): return a\n    return g()",
}
CHANGING = {
    "a list": "a = []\ndef f(): return a",
    "a dict as a default": "def f(a={}): return a",
    "a closure": "def outer():\n    n = 1\n    def g(): return n\n    return g\nf = outer()",
    "an attribute": "def f(): return f.x\nf.x = 1",
    "its own class": "class A:\n    x = 1\ndef f(): return A.x",
    "a function that mentions a list": "a = []\ndef g(): return a\ndef f(): return g()",
    "an inner function that mentions a list": "a = []\ndef f():\n    def g(): return a\n    return g()",
    "a partial": "import functools\nf = functools.partial(print, [])",
    "a decorated one": "import functools\ndef d(h):\n    @functools.wraps(h)\n    def g(): return h()\n    return g\n"
    "@d\ndef f(): return 1",
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_function_of_the_script_that_mentions_such_is_pickled_once(main: ModuleType, source: str) -> None:
    function = define(main, source)
    pickles = FunctionPickles()
    first = pickles.dumps(function)
    assert first.variant
    assert pickles.dumps(function) is first


@pytest.mark.parametrize("source", CHANGING.values(), ids=CHANGING)
def test_a_function_that_may_change_is_pickled_each_time(main: ModuleType, source: str) -> None:
    function = define(main, source)
    pickles = FunctionPickles()
    first = pickles.dumps(function)
    assert not first.variant
    assert pickles.dumps(function) is not first
    assert repr(pickles) == "<FunctionPickles, 0 pickled>"


def set_value(main: ModuleType) -> None:
    vars(main)["b"] = 3


def set_function(main: ModuleType) -> None:
    define(main, "def g(): return 3", "g")


def add_later(main: ModuleType) -> None:
    vars(main)["later"] = 3


@pytest.mark.parametrize("change", [set_value, set_function, add_later])
def test_a_changed_global_is_sent(main: ModuleType, change: Callable[[ModuleType], None]) -> None:
    function = define(
        main, "b = 2\ndef g(): return b\ndef f():\n    try: return later\n    except NameError: return g()"
    )
    pickles = FunctionPickles()
    first = pickles.dumps(function)
    change(main)
    second = pickles.dumps(function)
    assert second.data != first.data
    assert second.variant not in ("", first.variant)
    assert pickles.dumps(function) is second


def test_no_more_than_so_many_are_kept() -> None:
    pickles = FunctionPickles()
    functions = [eval("lambda: 1") for _ in range(MOST_FUNCTIONS + 1)]
    for function in functions:
        assert pickles.dumps(function).variant
    assert repr(pickles) == "<FunctionPickles, 1 pickled>"


@pytest.mark.usefixtures("by_value")
def test_a_module_that_is_sent_by_value_is_looked_at_as_the_script_is() -> None:
    pickles = FunctionPickles()
    assert pickles.dumps(double).variant
    assert not pickles.dumps(define_holder).variant  # it mentions a class that is sent by value


def define_holder() -> Holder:
    return Holder(1)


def test_a_large_buffer_is_not_kept() -> None:
    np = pytest.importorskip("numpy")
    large = np.zeros(100_000)
    pickles = FunctionPickles()
    data, buffers, variant = pickles.dumps(lambda: large)
    assert len(buffers) == 1
    assert not variant
    assert (loads(data, buffers)() == large).all()


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (double, f"{__name__}.double"),
        (len, "builtins.len"),
        (Holder(1).method, f"{__name__}.Holder.method"),
        (3, "3"),
    ],
)
def test_how_people_call_a_function(function: object, name: str) -> None:
    assert name_of(function) == name
