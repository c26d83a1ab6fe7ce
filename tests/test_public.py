"""The public names: whatever a public call takes or returns is public too, and documented.

Public names are listed twice: `mob.__all__` and `mob.testing.__all__` have the names, and the pages of `docs/api` their
members. The walk reads both, and reports the first type in an annotation that a user could not name.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import pytest
import yaml

import mob
import mob.testing

API = Path(__file__).resolve().parent.parent / "docs" / "api"
ENTRY = re.compile(r"^::: (mob\.[\w.]+)\n(?:    options:\n((?:      .+\n)+))?", re.M)
KNOWN = sys.stdlib_module_names | {"_pytest"}  # pytest calls the fixture
PUBLIC = {getattr(package, name) for package in (mob, mob.testing) for name in package.__all__}


def documented() -> dict[str, dict[str, Any]]:
    """Return what the API pages show, each with the options by which they choose its members."""
    text = "".join(f"{page.read_text('utf-8')}\n" for page in sorted(API.glob("*.md")))
    return {name: yaml.safe_load(options or "{}") for name, options in ENTRY.findall(text)}


DOCUMENTED = documented()


def found(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return inspect.unwrap(getattr(importlib.import_module(module), name))


def members(kind: type, options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the members of a class that its page shows, as defined in the classes of mob."""
    ours = [each for each in reversed(kind.__mro__) if each.__module__.split(".")[0] == "mob"]
    every = {name: value for each in ours for name, value in vars(each).items()}
    hidden = [re.compile(pattern.removeprefix("!")) for pattern in options.get("filters", ["!^_"])]
    shown = options.get("members")
    for name, value in every.items():
        if name in shown if shown is not None else not any(pattern.search(name) for pattern in hidden):
            yield name, value


@functools.cache
def namespace(module: str) -> dict[str, Any]:
    """Return the names of a module, including those that it imports only for type checkers."""
    names = dict(vars(sys.modules[module]))
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), module, "exec"), names)
    return names


def hints(what: Any) -> dict[str, Any]:
    return get_type_hints(what, namespace(what.__module__))


def annotated(path: str) -> Iterator[tuple[str, Any]]:
    """Yield each annotation that a user of that name meets, and where it is."""
    what = found(path)
    if not isinstance(what, type):
        yield from signatures(path, what)
        return
    options = DOCUMENTED[path]
    for name, value in members(what, options):
        yield from signatures(f"{path}.{name}", value)
    if issubclass(what, msgspec.Struct) or typing.is_typeddict(what):
        for name, hint in hints(what).items():
            yield f"{path}.{name}", hint
    for name, hint in attributes(what):
        if not name.startswith("_") and "members" not in options:
            yield f"{path}.{name}", hint


def signatures(path: str, what: Any) -> Iterator[tuple[str, Any]]:
    what = what.fget if isinstance(what, property) else what
    if isinstance(what, FunctionType):
        for each in typing.get_overloads(what) or [what]:
            for name, hint in hints(each).items():
                yield f"{path}({name})", hint


def attributes(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the annotated attributes that the `__init__` of a class sets."""
    init = vars(kind).get("__init__")
    if isinstance(init, FunctionType):
        for node in ast.walk(ast.parse(inspect.getsource(init).strip())):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
                yield node.target.attr, eval(ast.unparse(node.annotation), namespace(kind.__module__))


def strangers(hint: Any) -> Iterator[Any]:
    """Yield the types in an annotation that are neither public nor of the standard library."""
    if isinstance(hint, list | tuple):
        for each in hint:
            yield from strangers(each)
    elif get_origin(hint) is typing.Literal or isinstance(hint, TypeVar) or hint in (Any, None, NoneType, ...):
        return
    elif get_origin(hint) is not None:
        yield from strangers([get_origin(hint), *get_args(hint)])
    elif hint not in PUBLIC and getattr(hint, "__module__", "").split(".")[0] not in KNOWN:
        yield hint


@pytest.mark.parametrize("path", DOCUMENTED)
def test_what_a_public_name_takes_and_returns_is_public(path: str) -> None:
    complaints = [f"{where}: {stranger}" for where, hint in annotated(path) for stranger in strangers(hint)]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("path", DOCUMENTED)
def test_what_is_public_says_what_it_is(path: str) -> None:
    what = found(path)
    shown = [(path, what)]
    if isinstance(what, type):
        shown += [(f"{path}.{name}", value) for name, value in members(what, DOCUMENTED[path]) if callable(value)]
        assert set(DOCUMENTED[path].get("members", ())) <= {name for name, _ in members(what, DOCUMENTED[path])}
    assert [name for name, value in shown if not value.__doc__] == []


def test_every_name_of_the_kit_is_documented() -> None:
    shown = {path.rpartition(".")[2] for path in DOCUMENTED if path.startswith("mob.testing.")}
    assert shown == {*mob.testing.__all__, "mob_app"}


@pytest.mark.parametrize("package", [mob, mob.testing], ids=lambda package: package.__name__)
def test_type_checkers_see_the_names_that_are_loaded_when_first_used(package: Any) -> None:
    tree = ast.parse(inspect.getsource(package))
    blocks = [node.body for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    told = {alias.asname for body in blocks for node in body for alias in getattr(node, "names", ())}
    assert told == set(package.__all__)


def test_the_walk_complains() -> None:
    def call(name: str, peer: list[mob.Row | inspect.Signature]) -> dict[str, msgspec.Raw]: ...

    assert [each for hint in hints(call).values() for each in strangers(hint)] == [msgspec.Raw]
