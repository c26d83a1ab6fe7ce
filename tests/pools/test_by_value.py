"""Functions of a script in a worker: those of one `__main__` share their globals there, too."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from mob.pools import by_value, pickling

SCRIPT = """
import functools

model = None
count = 0

def initialize(value):
    global model
    model = value

def read():
    return model

def add(n=1):
    global count
    count += n
    return count

def fail():
    raise ValueError("no")

def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def is_even(n):
    return n == 0 or is_odd(n - 1)

def is_odd(n):
    return n != 0 and is_even(n - 1)

def twice(function):
    @functools.wraps(function)
    def called(*args):
        return 2 * function(*args)
    return called

@twice
def seven():
    "It is seven."
    return 7

@functools.lru_cache
def cached(n):
    return fib(n)

class Point:
    def __init__(self, x):
        self.x = x
    def __eq__(self, other):
        return isinstance(other, Point) and self.x == other.x
    def twice(self):
        return Point(2 * self.x)

def move(point):
    assert isinstance(point, Point)
    return point.twice()

def name():
    return __name__, __file__
"""


class Machine:
    """A script here, and what a worker gets of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self._home = by_value._program
        self.script = ModuleType("__main__")
        self.script.__file__ = "/home/somebody/script.py"
        self.worker = ModuleType("__main__")
        self.become(self.script)
        exec(compile(SCRIPT, "/home/somebody/script.py", "exec"), vars(self.script))
        monkeypatch.setattr(by_value, "_namespaces", {})
        monkeypatch.setattr(by_value, "_arrived", {})

    def become(self, main: ModuleType) -> None:
        self._patch.setitem(sys.modules, "__main__", main)
        self._patch.setattr(by_value, "_program", self._home + (main is self.worker))

    def __getitem__(self, name: str) -> Any:
        return vars(self.script)[name]

    def __setitem__(self, name: str, value: object) -> None:
        vars(self.script)[name] = value

    def send(self, value: Any) -> Any:
        """Return the value as it is in the worker."""
        self.become(self.script)
        data, buffers = pickling.dumps(value, "the function")
        self.become(self.worker)
        return pickling.loads(data, buffers)

    def send_back(self, value: Any) -> Any:
        data, buffers = pickling.dumps(value, "the result")
        self.become(self.script)
        return pickling.loads(data, buffers)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_what_an_initializer_sets_is_seen_by_tasks_that_come_later(machine: Machine) -> None:
    machine.send(machine["initialize"])("a model")
    assert machine.send(machine["read"])() == "a model"
    assert machine["read"]() is None


def test_what_an_initializer_sets_stays_although_the_script_has_a_value(machine: Machine) -> None:
    machine["model"] = "of the script"
    assert machine.send(machine["read"])() == "of the script"
    machine.send(machine["initialize"])("of the worker")
    assert machine.send(machine["read"])() == "of the worker"


def test_what_the_script_changes_arrives(machine: Machine) -> None:
    assert machine.send(machine["read"])() is None
    for value in (1, [2], None, 3):
        machine["model"] = value
        assert machine.send(machine["read"])() == value


def test_a_counter_of_the_worker_goes_on_counting(machine: Machine) -> None:
    assert [machine.send(machine["add"])() for _ in range(3)] == [1, 2, 3]
    assert machine["count"] == 0


def test_a_function_that_was_defined_again_arrives(machine: Machine) -> None:
    assert machine.send(machine["is_even"])(4)
    exec("def is_odd(n): return 'another'", vars(machine.script))
    assert machine.send(machine["is_even"])(4) == "another"


@pytest.mark.parametrize(
    ("name", "args", "result"),
    [("fib", (10,), 55), ("is_even", (10,), True), ("is_odd", (10,), False), ("seven", (), 14), ("cached", (10,), 55)],
)
def test_functions_that_call_others(machine: Machine, name: str, args: tuple[Any, ...], result: object) -> None:
    assert machine.send(machine[name])(*args) == result


def test_a_function_with_a_cache_keeps_its_size(machine: Machine) -> None:
    function = machine.send(machine["cached"])
    assert function(10) == function(10) == 55
    assert function.cache_info() == (1, 1, 128, 1)


def test_what_a_task_sends_on_has_the_globals_of_the_script_there(machine: Machine) -> None:
    machine.send(machine["initialize"])("here")
    function = machine.send(machine["read"])
    data, buffers = pickling.dumps(function, "the function")
    assert pickling.loads(data, buffers).__globals__ is function.__globals__


def test_a_decorated_function_keeps_its_name(machine: Machine) -> None:
    function: Callable[[], int] = machine.send(machine["seven"])
    assert (function.__name__, function.__doc__) == ("seven", "It is seven.")


def test_an_object_of_a_class_of_the_script_goes_and_comes_back(machine: Machine) -> None:
    function, point = machine.send((machine["move"], machine["Point"](3)))
    back = machine.send_back(function(point))
    assert isinstance(back, machine["Point"])
    assert back == machine["Point"](6)


def test_a_function_that_comes_back_has_the_globals_of_the_script(machine: Machine) -> None:
    back = machine.send_back(machine.send(machine["read"]))
    machine["model"] = 5
    assert back() == 5
    assert machine["count"] == 0
    assert back.__globals__ is vars(machine.script)


def test_functions_of_the_script_share_what_it_is_called(machine: Machine) -> None:
    assert machine.send(machine["name"])() == ("__main__", "/home/somebody/script.py")


def test_a_traceback_names_the_file_of_the_script(machine: Machine) -> None:
    with pytest.raises(ValueError, match="no") as caught:
        machine.send(machine["fail"])()
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (frame.filename, frame.name) == ("/home/somebody/script.py", "fail")


def test_a_script_without_a_file(machine: Machine) -> None:
    del machine.script.__file__
    exec(compile("def typed(): return 1", "<stdin>", "exec"), vars(machine.script))
    assert machine.send(machine["typed"])() == 1


def test_lambdas_and_closures(machine: Machine) -> None:
    exec("def outer(n):\n    return lambda x: x + n + count", vars(machine.script))
    function = machine["outer"](3)
    assert machine.send(function)(4) == 7
    machine["count"] = 10
    assert machine.send(function)(4) == 17


def test_two_scripts_do_not_share_their_globals(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.send(machine["initialize"])("of the first")
    monkeypatch.setattr(by_value, "_program", 0)
    other = ModuleType("__main__")
    exec(SCRIPT, vars(other))
    monkeypatch.setitem(sys.modules, "__main__", other)
    data, buffers = pickling.dumps(vars(other)["read"], "the function")
    machine.become(machine.worker)
    assert pickling.loads(data, buffers)() is None
    assert machine.send(machine["read"])() == "of the first"


def test_each_process_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_value, "_program", 0)
    by_value._name_program()
    assert by_value._program > 0
