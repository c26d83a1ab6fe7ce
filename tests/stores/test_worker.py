"""The module of a store's role is written with the public API, as that of any role."""

from __future__ import annotations

import ast
import inspect

from mob.stores import worker


def test_it_uses_nothing_of_mob_but_what_is_public() -> None:
    nodes = list(ast.walk(ast.parse(inspect.getsource(worker))))
    imported = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    ours = {name for name in imported if name.split(".")[0] == "mob"}
    assert {name for name in ours if not name.startswith("mob.stores")} == {"mob"}
