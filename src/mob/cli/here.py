"""Which app the current directory is about: the one that its main.py or TOML file describes. Nothing of it is run."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any, cast

SCRIPT = "main.py"


def app_of(directory: Path) -> str:
    """Return the name of the app that is described in a directory, as far as it is written there as text; else ""."""
    return _of_script(directory / SCRIPT) or _of_toml(directory / "mob.toml", ()) or _of_project(directory)


def _of_project(directory: Path) -> str:
    return _of_toml(directory / "pyproject.toml", ("tool", "mob"))


def _of_script(path: Path) -> str:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ""
    modules, functions = _names_of_mob(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="start", value=ast.Name(id=module)), args=[ast.Constant(value=str(name)), *_]
            ) if module in modules:
                return name
            case ast.Call(func=ast.Name(id=function), args=[ast.Constant(value=str(name)), *_]) if (
                function in functions
            ):
                return name
            case _:
                pass
    return ""


def _names_of_mob(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Return under which names a script has imported mob, and its function `start`."""
    modules, functions = {"mob"}, set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {each.asname for each in node.names if each.name == "mob" and each.asname}
        elif isinstance(node, ast.ImportFrom) and node.module == "mob":
            functions |= {each.asname or each.name for each in node.names if each.name == "start"}
    return modules, functions


def _of_toml(path: Path, keys: tuple[str, ...]) -> str:
    try:
        table: Any = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):  # not there, or not TOML: `mob run` says so
        return ""
    for key in (*keys, "name"):
        table = cast(dict[str, Any], table).get(key) if isinstance(table, dict) else None
    return table if isinstance(table, str) else ""
