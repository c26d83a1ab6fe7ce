"""The floors of mob, read from the imports of its source.

`complaints` is the whole checker: a pure function from sources to sentences. It parses and never imports, so it also
judges files that cannot run here. The first test gives it the real source; all others give it small made-up trees, so
that we know that the checker can complain.

A module is named by its path with dots: `mob.wire.frames`, and `mob.wire.__init__` for a package itself. So a name says
which file it is, and the part before its last dot is always the package in which relative imports start.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src"

FLOORS = {
    "environment": 0,
    "errors": 0,
    "imports": 0,
    "plan": 0,
    "serve": 0,
    "schedules": 0,
    "serve_options": 0,
    "sizes": 0,
    "spellings": 0,
    "templates": 0,
    "hiding": 1,
    "wire": 1,
    "core": 2,
    "rim": 3,
    # Shared by mobsters and clients.
    "peer": 4,
    "peer.results": 5,
    "peer.links": 6,
    "peer.references": 7,
    "peer.calls": 8,
    "peer.serving": 9,
    "peer.operating": 10,
    "peer.peer": 11,
    # One worker process.
    "mobster": 12,
    "mobster.debugger": 13,
    "mobster.health": 14,
    "mobster.http": 15,
    "mobster.life": 16,
    "mobster.__main__": 17,
    # The Kingpin. Mobsters do not import it. For what it must not import despite its floor see `_is_closed_to_kingpin`.
    "kingpin.output": 16,
    "kingpin": 17,
    "kingpin.kingpin": 18,
    "kingpin.program": 19,
    "kingpin.tied": 20,
    # Outside mobsters: clients. Pools are in both.
    "pools": 17,
    "stores": 17,
    "stores.worker": 20,
    "client": 18,
    "background": 18,
    "pools.hosting": 18,
    "pools.executor": 19,
    "beside": 20,
    "exposition": 20,
    "app": 20,
    "joblib": 20,
    "cluster": 20,
    "jobs": 20,
    "cli": 20,
    "dashboard": 20,
    "testing": 20,
    "__init__": 20,
    "__main__": 20,
}
"""The floor of each room, or of a module that is a room of its own: the longest name that fits counts."""
PURE = ("wire", "core")
IMPURE_MODULES = frozenset(
    {"asyncio", "os", "random", "select", "signal", "socket", "subprocess", "threading", "time", "uvloop"}
)
CODEC = tuple(
    f"mob.wire.{name}"
    for name in ("codec", "annotations", "arguments", "arrays", "kinds", "references", "sharing", "walk", "ways")
)
Graph = Mapping[str, Mapping[str, int]]  # importing module -> imported module -> line of the import


@dataclass(frozen=True)
class Import:
    """One imported name, at one line of one module."""

    importer: str
    line: int
    imported: str
    in_function: bool
    for_types_only: bool

    @property
    def is_ours(self) -> bool:
        return _top(self.imported) == "mob"

    def complaint(self, rule: str) -> str:
        return _complaint(self.importer, self.line, rule)


# --- the checker ------------------------------------------------------------------------------------------------------


def complaints(sources: Mapping[str, str]) -> list[str]:
    """Return the violations of the rules in `sources` (module -> source text): a sentence each, with file and line."""
    imports = [found for name in sorted(sources) for found in _imports(name, sources)]
    graph = _graph(imports)
    return [
        *_without_floor(sources),
        *_upwards(imports),
        *_inside_functions(imports),
        *_impure(imports),
        *_circles(graph),
        *_bodies_opened_by_kingpin(imports, graph, sources),
        *_names_of_two_things(sources),
    ]


def _without_floor(sources: Mapping[str, str]) -> Iterator[str]:
    for name in sources:
        if _floor(name) is None:
            yield _complaint(name, 1, f"{_part(name)!r} has no floor: give it one in FLOORS of tests/test_floors.py")


def _upwards(imports: list[Import]) -> Iterator[str]:
    for found in imports:
        if not found.is_ours or found.importer == "mob.__main__":
            continue
        here, there = _floor(found.importer), _floor(found.imported)
        if here is None or there is None:
            continue  # `_without_floor` reports it, or there is no such module
        if there > here:
            rule = "a file imports lower floors only"
        elif there == here and not _are_mates(found.importer, found.imported):
            rule = "packages of one floor never import each other"
        else:
            continue
        yield found.complaint(f"floor {here} imports {found.imported} of floor {there}; {rule}")


def _are_mates(importer: str, imported: str) -> bool:
    """Return whether both are in the same room, or `imported` is directly in `mob`, open to the rooms of its floor."""
    return _room(importer) == _room(imported) or _package(imported) == "mob"


def _inside_functions(imports: list[Import]) -> Iterator[str]:
    for found in imports:
        if found.is_ours and found.in_function:
            yield found.complaint(f"imports {found.imported} inside a function; imports of mob stand at the top")


def _impure(imports: list[Import]) -> Iterator[str]:
    for found in imports:
        if _part(found.importer) in PURE and _top(found.imported) in IMPURE_MODULES:
            part = _part(found.importer)
            yield found.complaint(f"imports {found.imported}; {part}/ does no I/O and knows no clock and no chance")


def _circles(graph: Graph) -> Iterator[str]:
    """Yield one complaint for each strongly connected component, showing a shortest way around it."""
    told: set[str] = set()
    for name in sorted(graph):
        if name in told or not (circle := _way(graph, name, name)):
            continue
        told |= {other for other in graph if _way(graph, name, other) and _way(graph, other, name)}
        yield _complaint(name, graph[name][circle[1]], f"imports form a circle: {' -> '.join(circle)}")


def _bodies_opened_by_kingpin(imports: list[Import], graph: Graph, sources: Mapping[str, str]) -> Iterator[str]:
    """Yield imports that lead the Kingpin to the codec or the mobster's side; it never opens bodies."""
    for found in imports:
        if _part(found.importer) == "kingpin" and _is_closed_to_kingpin(found.imported):
            yield found.complaint(f"imports {found.imported}; the Kingpin never opens a body")
    loads = _with_packages(graph, sources)
    for name in sources:
        if _part(name) != "kingpin":
            continue
        ways = [way for goal in loads if _is_closed_to_kingpin(goal) and (way := _way(loads, name, goal))]
        way = min(ways, key=len, default=[])
        if len(way) > 2 and _part(way[1]) != "kingpin":  # else reported above, or for the other file
            line = graph.get(name, {}).get(way[1], 1)
            yield _complaint(name, line, f"loads {way[-1]}; the Kingpin never opens a body: {' -> '.join(way)}")


def _is_closed_to_kingpin(module: str) -> bool:
    return module.startswith(("mob.mobster.", "mob.peer.")) or module in CODEC


def _names_of_two_things(sources: Mapping[str, str]) -> Iterator[str]:
    """Yield classes and named types whose name something else in the tree has, too."""
    homes: dict[str, str] = {}
    for module in sorted(sources):
        for name, line in _names_of_types(ast.parse(sources[module])):
            if home := homes.get(name):
                yield _complaint(module, line, f"{name} is the name of another type in {home}; a name means one thing")
            homes.setdefault(name, module)


def _names_of_types(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the classes in a node and the types that it names (`Key = tuple[str, int]`), with their lines.

    A stand-in for a class that only type checkers see counts as that class.
    """
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        children: Iterable[ast.AST] = node.body
    else:
        children = ast.iter_child_nodes(node)
    for child in children:
        if isinstance(child, ast.ClassDef):
            yield child.name, child.lineno
        elif isinstance(node, ast.Module) and isinstance(child, ast.Assign) and isinstance(child.targets[0], ast.Name):
            name = child.targets[0].id
            if name != name.upper() and name.lstrip("_")[0].isupper():
                yield name, child.lineno
        yield from _names_of_types(child)


# --- names ------------------------------------------------------------------------------------------------------------


def _top(module: str) -> str:
    return module.partition(".")[0]


def _package(module: str) -> str:
    return module.rpartition(".")[0]


def _part(module: str) -> str:
    """Return the part of mob that a module belongs to: "wire" for mob.wire.frames, "errors" for mob.errors."""
    return module.split(".")[1] if "." in module else "__init__"


def _room(module: str) -> str:
    """Return the longest name in FLOORS that the module has, or begins with; its part if there is none."""
    name = module.removeprefix("mob.")
    while name and name not in FLOORS:
        name = name.rpartition(".")[0]
    return name or _part(module)


def _floor(module: str) -> int | None:
    return FLOORS.get(_room(module))


def _complaint(module: str, line: int, rule: str) -> str:
    return f"src/{module.replace('.', '/')}.py:{line}: {rule}"


# --- imports ----------------------------------------------------------------------------------------------------------


def _imports(name: str, sources: Mapping[str, str]) -> list[Import]:
    collector = _Collector(name, sources)
    collector.visit(ast.parse(sources[name], filename=name))
    return collector.found


class _Collector(ast.NodeVisitor):
    """A visitor that keeps the imports of one module, with the surroundings of each."""

    def __init__(self, name: str, sources: Mapping[str, str]) -> None:
        self.found: list[Import] = []
        self._name = name
        self._sources = sources
        self._functions = 0
        self._type_checks = 0

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._keep(node, _module_named(alias.name, self._sources))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        origin = node.module or ""
        if node.level:
            start = self._name.split(".")[: -node.level]
            origin = ".".join([*start, origin] if origin else start)
        for alias in node.names:
            attribute = f"{origin}.{alias.name}"
            is_module = attribute in self._sources or f"{attribute}.__init__" in self._sources
            self._keep(node, _module_named(attribute if is_module else origin, self._sources))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._enter_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._enter_function(node)

    def visit_If(self, node: ast.If) -> None:
        is_type_check = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        self._type_checks += is_type_check
        for child in node.body:
            self.visit(child)
        self._type_checks -= is_type_check
        for child in node.orelse:
            self.visit(child)

    def _enter_function(self, node: ast.stmt) -> None:
        self._functions += 1
        self.generic_visit(node)
        self._functions -= 1

    def _keep(self, node: ast.stmt, imported: str) -> None:
        in_function, for_types_only = self._functions > 0, self._type_checks > 0
        self.found.append(Import(self._name, node.lineno, imported, in_function, for_types_only))


def _module_named(dotted: str, sources: Mapping[str, str]) -> str:
    package = f"{dotted}.__init__"
    return package if package in sources or dotted == "mob" else dotted


# --- the graph of modules ---------------------------------------------------------------------------------------------


def _graph(imports: list[Import]) -> dict[str, dict[str, int]]:
    """Return what each module imports when it runs. Imports only for types cannot make a circle."""
    graph: dict[str, dict[str, int]] = {}
    for found in imports:
        if found.is_ours and not found.for_types_only:
            graph.setdefault(found.importer, {}).setdefault(found.imported, found.line)
            graph.setdefault(found.imported, {})
    return graph


def _with_packages(graph: Graph, sources: Mapping[str, str]) -> Graph:
    """Add to the graph that Python runs a package before a module in it (`mob` itself is always there)."""
    return {
        name: {f"{package}.__init__": 1 for package in _packages(name) if f"{package}.__init__" in sources}
        | dict(graph.get(name, {}))
        for name in {*graph, *sources}
    }


def _packages(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(2, len(parts))]


def _way(graph: Graph, start: str, goal: str) -> list[str]:
    """Return the shortest chain of imports from `start` to `goal`, both included; empty if there is none."""
    chains = deque([[start]])
    seen: set[str] = set()
    while chains:
        chain = chains.popleft()
        for imported in graph.get(chain[-1], {}):
            if imported == goal:
                return [*chain, imported]
            if imported not in seen:
                seen.add(imported)
                chains.append([*chain, imported])
    return []


# --- the tests --------------------------------------------------------------------------------------------------------


def _sources_on_disk() -> dict[str, str]:
    files = sorted((SRC / "mob").rglob("*.py"))
    return {".".join(file.relative_to(SRC).with_suffix("").parts): file.read_text("utf-8") for file in files}


def test_the_source_of_mob_keeps_its_floors() -> None:
    sources = _sources_on_disk()
    assert "mob.errors" in sources, "the source of mob was not found"
    found = complaints(sources)
    assert not found, "\n".join(["", *found])


LOWER = "a file imports lower floors only"
APART = "packages of one floor never import each other"
CLOSED = "the Kingpin never opens a body"

FAULTS = {
    "a floor above": (
        {"mob.wire.frames": "import struct\nfrom mob.core import calls\n", "mob.core.calls": ""},
        "src/mob/wire/frames.py:2: floor 1 imports mob.core.calls of floor 2; a file imports lower floors only",
    ),
    "a floor above, relatively": (
        {"mob.core.calls": "from ..rim.link import Link\n", "mob.rim.link": ""},
        "src/mob/core/calls.py:1: floor 2 imports mob.rim.link of floor 3; a file imports lower floors only",
    ),
    "a floor above, for types": (
        {"mob.plan": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mob.app import App\n"},
        "src/mob/plan.py:3: floor 0 imports mob.app of floor 20; a file imports lower floors only",
    ),
    "the public names from below": (
        {"mob.rim.link": "import mob\n", "mob.__init__": ""},
        "src/mob/rim/link.py:1: floor 3 imports mob.__init__ of floor 20; a file imports lower floors only",
    ),
    "the other side": (
        {"mob.mobster.main": "from mob.kingpin.master import Kingpin\n"},
        "src/mob/mobster/main.py:1: floor 12 imports mob.kingpin.master of floor 17; a file imports lower floors only",
    ),
    "a neighbour on the top floor": (
        {"mob.cli.main": "from mob import dashboard\n", "mob.dashboard.__init__": ""},
        f"src/mob/cli/main.py:1: floor 20 imports mob.dashboard.__init__ of floor 20; {APART}",
    ),
    "a module without a floor": (
        {"mob.utils.misc": ""},
        "src/mob/utils/misc.py:1: 'utils' has no floor: give it one in FLOORS of tests/test_floors.py",
    ),
    "an import inside a function": (
        {"mob.rim.link": "async def f():\n    def g():\n        from mob import errors\n", "mob.errors": ""},
        "src/mob/rim/link.py:3: imports mob.errors inside a function; imports of mob stand at the top",
    ),
    "an import inside a method": (
        {"mob.rim.link": "class A:\n    def f(self):\n        from ..errors import LinkError\n"},
        "src/mob/rim/link.py:3: imports mob.errors inside a function; imports of mob stand at the top",
    ),
    "the OS in wire": (
        {"mob.wire.frames": "import os.path\n"},
        "src/mob/wire/frames.py:1: imports os.path; wire/ does no I/O and knows no clock and no chance",
    ),
    "the clock in core, out of sight": (
        {"mob.core.calls": "def now():\n    from time import monotonic\n    return monotonic()\n"},
        "src/mob/core/calls.py:2: imports time; core/ does no I/O and knows no clock and no chance",
    ),
    "a circle of two": (
        {"mob.core.a": "import struct\nfrom mob.core.b import x\n", "mob.core.b": "from . import a\n"},
        "src/mob/core/a.py:2: imports form a circle: mob.core.a -> mob.core.b -> mob.core.a",
    ),
    "a circle through a package": (
        {"mob.core.__init__": "from .calls import Call\n", "mob.core.calls": "from mob.core import Call\n"},
        "src/mob/core/__init__.py:1: imports form a circle: mob.core.__init__ -> mob.core.calls -> mob.core.__init__",
    ),
    "a larger circle, told once": (
        {
            "mob.core.a": "from . import b",
            "mob.core.b": "from . import c, d",
            "mob.core.c": "from . import a",
            "mob.core.d": "from . import b",
        },
        "src/mob/core/a.py:1: imports form a circle: mob.core.a -> mob.core.b -> mob.core.c -> mob.core.a",
    ),
    "the Kingpin with a mobster": (
        {"mob.kingpin.master": "from mob import mobster\n", "mob.mobster.__init__": ""},
        f"src/mob/kingpin/master.py:1: imports mob.mobster.__init__; {CLOSED}",
    ),
    "the Kingpin with a peer": (
        {"mob.kingpin.master": "from mob.peer.links import contacts\n", "mob.peer.links.contacts": ""},
        f"src/mob/kingpin/master.py:1: imports mob.peer.links.contacts; {CLOSED}",
    ),
    "a room above the own one": (
        {"mob.peer.links.contacts": "from mob.peer.calls import calling\n", "mob.peer.calls.calling": ""},
        "src/mob/peer/links/contacts.py:1: floor 6 imports mob.peer.calls.calling of floor 8; " + LOWER,
    ),
    "the Kingpin with a codec": (
        {"mob.kingpin.master": "from mob.wire.codec import decode\n"},
        f"src/mob/kingpin/master.py:1: imports mob.wire.codec; {CLOSED}",
    ),
    "the Kingpin with a codec, through another": (
        {
            "mob.kingpin.master": "import sys\nfrom mob.rim.link import Link\n",
            "mob.rim.link": "from mob.wire import codec\n",
            "mob.wire.codec": "",
        },
        (
            f"src/mob/kingpin/master.py:2: loads mob.wire.codec; {CLOSED}: "
            "mob.kingpin.master -> mob.rim.link -> mob.wire.codec"
        ),
    ),
    "the Kingpin with a codec, through a package": (
        {
            "mob.kingpin.master": "from mob.wire.frames import Frame\n",
            "mob.wire.__init__": "from mob.wire.codec import decode\n",
            "mob.wire.frames": "",
        },
        (
            f"src/mob/kingpin/master.py:1: loads mob.wire.codec; {CLOSED}: "
            "mob.kingpin.master -> mob.wire.frames -> mob.wire.__init__ -> mob.wire.codec"
        ),
    ),
    "a class with the name of another": (
        {"mob.core.a": "class A:\n    class B: ...\n", "mob.core.b": "def f():\n    class B: ...\n"},
        "src/mob/core/b.py:2: B is the name of another type in mob.core.a; a name means one thing",
    ),
    "a type with the name of a class": (
        {"mob.core.a": "class Key: ...\n", "mob.core.b": "LIMIT = 1\nKey = tuple[str, int]\n"},
        "src/mob/core/b.py:2: Key is the name of another type in mob.core.a; a name means one thing",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_complained_about_with_file_and_line(fault: str) -> None:
    sources, complaint = FAULTS[fault]
    assert complaints(sources) == [complaint]


@pytest.mark.parametrize("module", sorted(IMPURE_MODULES))
@pytest.mark.parametrize("part", PURE)
def test_no_impure_module_gets_into_wire_and_core(part: str, module: str) -> None:
    for statement in (f"import {module}", f"import {module} as m", f"from {module} import x"):
        (complaint,) = complaints({f"mob.{part}.x": statement})
        assert complaint.startswith(f"src/mob/{part}/x.py:1: imports {module}; ")


ALLOWED = {
    "lower floors": {"mob.core.calls": "from mob.wire.frames import Frame\nimport mob.errors\n"},
    "the own package": {"mob.rim.link": "from . import signals\nfrom .fds import close\n", "mob.rim.signals": ""},
    "plan and errors": {"mob.plan": "from mob.errors import PlanError, nearest\n"},
    "the way out of a circle": {
        "mob.core.a": "from mob.core.b import B\n",
        "mob.core.b": "import typing\nif typing.TYPE_CHECKING:\n    from mob.core.a import A\n",
    },
    "a package that gathers its modules": {
        "mob.core.__init__": "from .calls import Call\n",
        "mob.core.calls": "from .roster import Roster\n",
        "mob.core.roster": "",
    },
    "the open files of the top floor": {
        "mob.__init__": "from mob.app import start\nfrom mob.client import connect\n",
        "mob.__main__": "from mob.cli.main import main\n",
        "mob.app": "from mob.kingpin.master import Kingpin\nfrom mob.mobster.main import Mobster\n",
        "mob.client": "import asyncio\n",
        "mob.cli.main": "import click\nimport mob\nfrom mob.client import Client\n",
    },
    "a class that type checkers take for another": {
        "mob.core.a": "if TYPE_CHECKING:\n    class A(B): ...\nelse:\n    class A: ...\n"
    },
    "imports from elsewhere, anywhere": {"mob.rim.link": "import socket\ndef f():\n    import asyncio\n"},
    "names that only look alike": {"mob.core.calls": "import timeit\nimport mobile\nfrom oslo import os\n"},
}


@pytest.mark.parametrize("tree", ALLOWED)
def test_what_is_allowed_passes(tree: str) -> None:
    assert complaints(ALLOWED[tree]) == []
