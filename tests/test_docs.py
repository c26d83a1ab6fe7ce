"""The documents about mob are true: tables, the map of the files, and every doctest. Code of the pages: tests/docs."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from mob.cli.apps import EXIT_CODES
from mob.cli.main import COMMANDS
from mob.exposition import exposition
from mob.plan import OPTIONS, Logs
from mob.wire.messages import Metrics

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
INTERNALS = {path.stem: path.read_text("utf-8") for path in (ROOT / "docs" / "internals").glob("*.md")}
DESIGN = INTERNALS["design"]
STATES = INTERNALS["states"]
CLI = (ROOT / "docs" / "cli.md").read_text("utf-8")
LOGS = (ROOT / "docs" / "logs.md").read_text("utf-8")
SUPERVISION = (ROOT / "docs" / "supervision.md").read_text("utf-8")

MODULES = sorted(SRC.glob("mob/**/*.py"))
WITH_DOCTESTS = [path for path in MODULES if ">>>" in path.read_text("utf-8")]


def dotted(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# --- docs/internals/ --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def maker() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "make_state_tables.py"))


def test_the_state_tables_are_those_of_the_code(maker: dict[str, Any]) -> None:
    assert maker["inserted"](STATES) == STATES, "run: python docs/make_state_tables.py --write"


def test_the_state_tables_say_what_is_in_the_tables(maker: dict[str, Any]) -> None:
    made = maker["markdown"]()
    assert made.count("### ") == 4
    assert "* **draining**: finishes what it has, gets nothing new\n" in made
    states = "when launching | when booting | when spare | when ready | when handing | when draining"
    assert f"| what happens | {states} |\n" in made
    assert "| forked | booting |  | spare | ready | handing | draining |\n" in made


def test_tables_are_put_between_the_markers_and_nowhere_else(maker: dict[str, Any]) -> None:
    begin, end = maker["BEGIN"], maker["END"]
    assert maker["inserted"](f"a\n{begin}old\n{end}b\n") == f"a\n{begin}\n{maker['markdown']()}{end}b\n"
    with pytest.raises(SystemExit, match="lacks the lines"):
        maker["inserted"](f"a\n{begin}b\n")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC / "mob")))
def test_every_file_is_on_the_map(path: Path) -> None:
    name = path.relative_to(SRC / "mob").as_posix()
    if path.name == "__init__.py" and path.parent.name != "mob":
        name = path.parent.name + "/"  # a package is the name of its part
    rows = [line for line in DESIGN.splitlines() if line.startswith("|")]
    assert any(f"`{name}`" in row or f"`{path.name}`" in row for row in rows), (
        f"say in a row of the map in docs/internals/design.md what one finds in {name}"
    )


def test_the_map_names_no_file_that_is_not_there() -> None:
    names = set(re.findall(r"`([\w/]+\.py)`", "".join(INTERNALS.values())))
    places = [ROOT, SRC / "mob", *(path.parent for path in MODULES)]
    assert {name for name in names if not any((place / name).is_file() for place in places)} == set()


ROWS = [line.split("|")[1] for line in INTERNALS["waiting"].splitlines() if line.startswith("| `")]
IS_INTERVAL = re.compile(r"(\w+_)?(LOOK|PAUSE|PERIOD|INTERVAL|HOUSEKEEPING|BEAT|PING|PROGRESS)")
NO_LOOP = {("plan.py", "PERIOD")}  # an option: the time in which restarts are counted


def said_of_intervals() -> tuple[set[str], set[tuple[str, str]]]:
    """Return the files in the table of intervals, and the constants with their files."""
    files: set[str] = set()
    constants: set[tuple[str, str]] = set()
    for row in ROWS:
        last: list[str] = []  # constants belong to the files just before them
        is_file_before = False
        for word in re.findall(r"`([\w/.]+)`", row):
            is_file = word.endswith(".py")
            if is_file:
                last = [*last, word] if is_file_before else [word]
                files.add(word)
            else:
                constants |= {(each, word) for each in last}
            is_file_before = is_file
    return files, constants


def constants_of(path: Path) -> set[str]:
    """Return the names that a module assigns at its top level."""
    targets = [
        each
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.Assign)
        for each in node.targets
    ]
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC / "mob")))
def test_every_interval_has_its_reason(path: Path) -> None:
    name = path.relative_to(SRC / "mob").as_posix()
    files, constants = said_of_intervals()
    own = {(name, each) for each in constants_of(path) if IS_INTERVAL.fullmatch(each)} - NO_LOOP
    assert own - constants == set(), (
        "wait for an event; if there is none, say why in the table of docs/internals/waiting.md"
    )
    loops = [
        node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, (ast.While, ast.AsyncFor))
    ]
    sleeps = [
        call for loop in loops for call in ast.walk(loop) if isinstance(call, ast.Call) and called(call) == "sleep"
    ]
    assert not sleeps or name in files, (
        f"line {sleeps[0].lineno} sleeps in a loop: wait for an event, or say why there is none"
    )


def called(call: ast.Call) -> str:
    """Return the last part of the name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def test_the_table_of_intervals_names_nothing_that_is_gone() -> None:
    _, constants = said_of_intervals()
    assert {(name, each) for name, each in constants if each not in constants_of(SRC / "mob" / name)} == set()


# --- docs/supervision.md ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_a_role_is_explained(option: str) -> None:
    rows = [line for line in SUPERVISION.splitlines() if line.startswith("| `")]
    assert any(f"`{option}`" in row.split("|")[1] for row in rows), "say it in the table of docs/supervision.md"


# --- docs/cli.md ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_a_section(name: str) -> None:
    headings = [line for line in CLI.splitlines() if line.startswith("## ")]
    assert any(f"`mob {name}`" in heading for heading in headings), "say it in docs/cli.md, with an example"


@pytest.mark.parametrize(("code", "meaning"), EXIT_CODES.items())
def test_the_exit_statuses_are_those_of_the_code(code: int, meaning: str) -> None:
    assert f"| {code} | {meaning} |\n" in CLI


def test_every_family_of_metrics_is_explained() -> None:
    families = re.findall(r"# TYPE (\w+)", exposition(Metrics("myapp", 1, 0.0, 0.0, 0, (), (), (), 0)))
    assert {family for family in families if f"`{family}`" not in CLI} == set()


# --- docs/logs.md -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", Logs.__struct_fields__)
def test_every_option_of_the_logs_is_explained(option: str) -> None:
    rows = [line for line in LOGS.splitlines() if line.startswith(f"| `{option}` ")]
    assert len(rows) == 1
    assert f"`--log-{option.replace('_', '-')}`" in rows[0]


# --- the source -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WITH_DOCTESTS, ids=dotted)
def test_examples_in_docstrings(path: Path) -> None:
    module = importlib.import_module(dotted(path))
    examples = [example for each in doctest.DocTestFinder().find(module) for example in each.examples]
    assert examples
    for example in examples:  # those that need a running app are not run, but they are Python
        compile(example.source, path.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_every_file_says_first_what_it_is(path: Path) -> None:
    assert re.match(r'r?"""[A-Za-z`].+[.!:]', path.read_text("utf-8"))
