"""The tree of exceptions is the documented one, and each exception carries what it promises."""

from __future__ import annotations

import ast
import builtins
import errno
import inspect
import re
from pathlib import Path

import pytest

from mob import errors
from mob.errors import CallError, MobError, RemoteError, nearest

LINE = re.compile(r" {4}(?P<branches>[│├└─ ]*)(?P<name>\w+)(?: \((?P<built_in>\w+(?:, \w+)*)\))?(?: {2,}.*)?")


def drawn() -> dict[str, tuple[str, ...]]:
    """Return the tree at the head of errors.py: the bases of each class."""
    assert errors.__doc__ is not None
    bases: dict[str, tuple[str, ...]] = {}
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        found = LINE.fullmatch(line)
        if found is None:
            continue
        depth = len(found["branches"]) // 4
        path[depth:] = [found["name"]]
        built_in = (found["built_in"] or "").split(", ")
        bases[found["name"]] = tuple(filter(None, (path[depth - 1] if depth else "Exception", *built_in)))
    return bases


def real() -> dict[str, tuple[str, ...]]:
    classes = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, MobError)]
    return {each.__name__: tuple(base.__name__ for base in each.__bases__) for each in classes}


def test_the_tree_is_as_it_is_drawn() -> None:
    assert drawn() == real()


def test_the_classes_stand_in_the_order_in_which_they_are_drawn() -> None:
    tree = ast.parse(Path(errors.__file__).read_text("utf-8"))
    written = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert [name for name in written if name in real()] == list(drawn())


@pytest.mark.parametrize(
    ("name", "executed"),
    [
        ("CallError", "no"),
        ("Lost", "maybe"),
        ("Unavailable", "no"),
        ("Quarantined", "no"),
        ("Busy", "no"),
        ("Fenced", "no"),
        ("Forbidden", "no"),
        ("JobDropped", "maybe"),
        ("UnknownJob", "no"),
        ("QueueFailed", "no"),
        ("CallTimeout", "maybe"),
        ("Deadlock", "no"),
        ("UnknownExport", "no"),
        ("ArgumentError", "no"),
        ("RemoteError", "yes"),
    ],
)
def test_whether_the_function_ran(name: str, executed: errors.Executed) -> None:
    kind = getattr(errors, name)
    assert kind("text").executed == executed
    assert {kind("text", executed=each).executed for each in ("no", "maybe", "yes")} == {"no", "maybe", "yes"}
    assert kind.executed == executed  # changing one does not change the others


def test_of_every_call_error_it_is_said_whether_the_function_ran() -> None:
    (parametrized,) = test_whether_the_function_ran.pytestmark  # type: ignore[attr-defined]
    kinds = {name for name in real() if issubclass(getattr(errors, name), CallError)}
    assert {name for name, _ in parametrized.args[1]} == kinds


@pytest.mark.parametrize("name", real())
def test_an_error_says_what_it_was_told_and_is_an_error_of_mob(name: str) -> None:
    kind = getattr(errors, name)
    error = kind("text", {}, {}) if kind is errors.PartialFailure else kind("text")
    assert "text" in str(error)
    assert isinstance(error, MobError)
    for base in real()[name][1:]:
        assert isinstance(error, getattr(builtins, base, None) or getattr(errors, base))


def test_app_running_knows_who_runs() -> None:
    assert errors.AppRunning("it runs", 42).pid == 42
    assert errors.AppRunning("it runs").pid is None


def test_an_address_that_is_held_is_an_os_error_with_a_number() -> None:
    error = errors.AddressHeld(errno.EADDRINUSE, "held by nginx")
    assert (error.errno, error.strerror) == (errno.EADDRINUSE, "held by nginx")


def test_a_bad_message_knows_where() -> None:
    assert errors.BadMessage("cannot send it", "args[0].lock").where == "args[0].lock"
    assert errors.BadMessage("cannot send it").where == ""


def test_a_bad_argument_is_named() -> None:
    assert errors.ArgumentError("wrong", argument="x").argument == "x"
    assert errors.ArgumentError("wrong").argument is None


def test_a_partial_failure_keeps_both_halves() -> None:
    results: dict[int | str, str] = {1: "a"}
    failed: dict[int | str, BaseException] = {2: ValueError()}
    error = errors.PartialFailure("1 of 2 failed", results, failed)
    assert (str(error), error.results, error.errors) == ("1 of 2 failed", results, failed)
    results.clear()
    assert error.results == {1: "a"}


@pytest.mark.parametrize(("message", "text"), [("no such user", "KeyError: no such user"), ("", "KeyError")])
def test_a_remote_error_names_the_original(message: str, text: str) -> None:
    error = RemoteError(message)
    error.type_name = "KeyError"
    assert str(error) == text
    assert error.remote_args == ()


def test_a_remote_traceback_is_shown_as_a_block_of_its_own() -> None:
    assert str(errors.RemoteTraceback("Traceback (most recent call last):")) == "\nTraceback (most recent call last):"
    assert str(errors.RemoteTraceback()) == ""


@pytest.mark.parametrize(
    ("name", "names", "sentence"),
    [
        ("bakc", ["front", "back"], "Did you mean 'back'?"),
        ("Back", ["front", "back"], "Did you mean 'back'?"),
        ("x", ["front", "back"], "There are: 'back', 'front'."),
        ("x", [], "There are none."),
        ("foo", iter(["food"]), "Did you mean 'food'?"),
    ],
)
def test_the_nearest_name(name: str, names: list[str], sentence: str) -> None:
    assert nearest(name, names) == sentence
