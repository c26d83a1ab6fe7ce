"""Finds the app of the current directory: the one that its main.py or TOML file describes. Runs nothing of it."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any, cast

SCRIPT = "main.py"


def app_of(directory: Path) -> str:
    """Return the name of the app described in a directory, if it is written there as text; else ""."""
    return _of_script(directory / SCRIPT) or _of_toml(directory / "mob.toml", ()) or _of_project(directory)


def _of_project(directory: Path) -> str:
    return _of_toml(directory / "pyproject.toml", ("tool", "mob"))


def _of_script(path: Path) -> str:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ""
    names = (call.args[0] if call.args else None for call in starts_in(tree))
    return next((each.value for each in names if isinstance(each, ast.Constant) and isinstance(each.value, str)), "")


def starts_in(tree: ast.AST) -> list[ast.Call]:
    """Return the calls of `mob.start` in a script, under any name it was imported as."""
    modules, functions, calls = {"mob"}, set[str](), list[ast.Call]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {each.asname for each in node.names if each.name == "mob" and each.asname}
        elif isinstance(node, ast.ImportFrom) and node.module in ("mob", "mob.app"):
            functions |= {each.asname or "start" for each in node.names if each.name in ("start", "*")}
        elif isinstance(node, ast.Call):
            calls.append(node)
    return [call for call in calls if _is_one_of(call.func, modules, functions)]


def _is_one_of(function: ast.expr, modules: set[str], functions: set[str]) -> bool:
    match function:
        case ast.Attribute(attr="start", value=ast.Name(id=module)):
            return module in modules
        case ast.Name(id=name):
            return name in functions
        case _:
            return False


def _of_toml(path: Path, keys: tuple[str, ...]) -> str:
    try:
        table: Any = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):  # missing, or not TOML: `mob run` reports it
        return ""
    for key in (*keys, "name"):
        table = cast(dict[str, Any], table).get(key) if isinstance(table, dict) else None
    return table if isinstance(table, str) else ""
