"""What a module does only as a script: its block for `__main__`, and the server that it starts there.

A mobster imports the module of its role, so such a block does not run. One log line says so: how to serve the
application instead if the block starts a server, else what to do in general. This is decided from the source, which is
read once and only if it contains `__main__`; nothing of it is run.

Limits: names are followed through imports, plain assignments and functions of the module itself, and no further.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec

from mob.plan import RolePlan

HARMLESS = frozenset({"print", "pprint", "doctest", "unittest", "pytest", "logging"})
"""What a block for `__main__` may call without a warning."""
SERVED = frozenset(
    {"bottle", "connexion", "fastapi", "flask", "granian", "gunicorn", "hypercorn", "quart", "starlette", "uvicorn"}
    | {"waitress", "werkzeug", "wsgiref"}
)
"""Packages that serve an ASGI or WSGI application, as `serve=` does."""
SERVERS = SERVED | {
    *("aiohttp", "bjoern", "cheroot", "cherrypy", "dash", "eventlet", "flask_socketio", "gevent", "grpc", "http"),
    *("robyn", "sanic", "socketserver", "tornado", "twisted", "websockets", "xmlrpc"),
}
"""Packages that contain servers."""
STARTS = frozenset(
    {"listen", "quickstart", "run", "run_app", "run_server", "run_simple", "run_task", "serve", "server", "start"}
    | {"serve_forever", "start_server", "start_unix_server", "wait_for_termination"}
)
"""Names of functions and methods of these packages that start a server."""
ALWAYS = frozenset({"serve_forever", "start_server", "start_unix_server"})
"""Names that start a server whatever they belong to."""
EXITS = frozenset({"exit", "quit", "SystemExit", "sys.exit"})
"""Calls around a server call that are ignored."""
WHERE = frozenset({"host", "port"})
"""Keywords that identify a `run` of unknown origin as a server."""
ARGUMENTS = re.compile(r"\(.*\)", re.DOTALL)
PORTS = {"flask": 5000, "quart": 5000, "bottle": 8080, "waitress": 8080}
"""Default port of a package; 8000 for all others."""


class Block(msgspec.Struct, frozen=True):
    """A block for `__main__` that would do something.

    `server` is the call that starts a server, `root` its package, `through` the call in the block that leads to it.
    """

    line: int
    names: ModuleNames
    server: ast.Call | None = None
    root: str = ""
    through: str = ""


class ModuleNames(msgspec.Struct):
    """What the names of a module stand for, as far as its source shows."""

    module: ModuleType
    imports: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    values: dict[str, ast.expr] = msgspec.field(default_factory=dict[str, ast.expr])
    functions: dict[str, ast.AST] = msgspec.field(default_factory=dict[str, ast.AST])
    calls: dict[str, ast.Call] = msgspec.field(default_factory=dict[str, ast.Call])
    """The first call of each dotted name."""

    def read(self, tree: ast.Module) -> None:
        """Collect all imports and assignments, and the functions at the top level."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for each in node.names:
                    self.imports[each.asname or each.name.partition(".")[0]] = each.name if each.asname else ""
            elif isinstance(node, ast.ImportFrom):
                for each in node.names:
                    self.imports[each.asname or each.name] = f"{node.module or ''}.{each.name}"
            elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                self.values.setdefault(node.targets[0].id, node.value)
            elif isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name):
                self.values.setdefault(node.optional_vars.id, node.context_expr)
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.functions[node.name] = node
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                self.calls.setdefault(self.dotted(node.func), node)

    def dotted(self, node: ast.expr, depth: int = 8) -> str:
        """Return the original dotted name of an expression, such as `uvicorn.Server.run`; "" if unknown."""
        if depth == 0:
            return ""
        if isinstance(node, (ast.Call, ast.Await)):
            return self.dotted(node.func if isinstance(node, ast.Call) else node.value, depth - 1)
        if isinstance(node, ast.Attribute):
            return f"{self.dotted(node.value, depth - 1)}.{node.attr}"
        if not isinstance(node, ast.Name):
            return ""
        if kind := _kind(self.module.__dict__.get(node.id)):
            return kind
        if node.id in self.imports:
            return self.imports[node.id] or node.id
        value = self.values.get(node.id)
        return node.id if value is None else self.dotted(value, depth - 1)


def _kind(value: object) -> str:
    """Return the dotted class name of an object, or of its base class from a package of servers; else ""."""
    if isinstance(value, (ModuleType, type)):
        return ""
    for each in type(value).__mro__:
        if str(each.__module__).partition(".")[0] in SERVERS:
            return f"{each.__module__}.{each.__qualname__}"
    return ""


def message_of(module: ModuleType, role: RolePlan, base: str, is_busy: bool) -> str:
    """Return the line about the block for `__main__` of a role's module; "" if there is nothing to report.

    `is_busy`: the module listens, has handlers that start something, or marks its exports. Then a server in the block
    is only for trying the module out.
    """
    block = block_of(module)
    if block is None:
        return ""
    file = Path(module.__file__ or "").name
    if block.server is None:
        return (
            f'the block under `if __name__ == "__main__":` ({file}:{block.line}) does not run in a worker, because '
            f"a worker imports the module, as {module.__name__!r}. Move code that must run to the top level or "
            f'to a function under @mob.on("start"); serve a web application with .role({role.name!r}, ..., '
            f'serve="127.0.0.1:8000").'
        )
    if is_busy:
        return ""
    elsewhere = f"call {block.through}(...) outside of that block"
    application, address = _application(block, module)
    if application:
        served = f'.role("{role.name}", "{_place(role.module, base)}:{application}", serve="{address}")'
        elsewhere = f"use {served}, or {elsewhere}"
    return (
        f'{file} starts its server only as a script (`if __name__ == "__main__":`, line {block.line}), but a worker '
        f"imports it, so nothing is served: {elsewhere}."
    )


def block_of(module: ModuleType) -> Block | None:
    """Return the block for `__main__` at the top level of a module, if it would start something.

    A block that only prints or runs tests does not matter in a mobster.
    """
    try:
        source = inspect.getsource(module)
        tree = ast.parse(source) if "__main__" in source else None
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    if tree is None:
        return None
    found = list(_branches(tree))
    names = ModuleNames(module)
    names.read(tree)
    for node in found:
        for call in (each for statement in node.body for each in _calls(statement)):
            if names.dotted(call.func) in EXITS:
                continue
            if (server := _server(call, names)) is not None:
                root = names.dotted(server.func).partition(".")[0]
                return Block(node.lineno, names, server, root, ARGUMENTS.sub("(...)", ast.unparse(call.func)))
    lines = [node.lineno for node in found if any(map(_starts_something, node.body))]
    return Block(lines[0], names) if lines else None


def _branches(tree: ast.Module) -> Iterator[ast.If]:
    """Yield each `if` or `elif` for `__main__`."""
    for node in tree.body:
        branch: ast.stmt | None = node
        while isinstance(branch, ast.If):
            if _asks_for_main(branch.test):
                yield branch
            branch = branch.orelse[0] if len(branch.orelse) == 1 else None


def _asks_for_main(test: ast.expr) -> bool:
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return any(map(_asks_for_main, test.values))
    if not isinstance(test, ast.Compare) or len(test.ops) != 1 or not isinstance(test.ops[0], ast.Eq):
        return False
    sides = {ast.unparse(test.left), ast.unparse(test.comparators[0])}
    return sides == {"__name__", "'__main__'"}


def _starts_something(statement: ast.stmt) -> bool:
    """Return whether a statement calls anything except functions that print or test."""
    for node in ast.walk(statement):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Await):
            value = value.value
        if isinstance(value, ast.Call) and ast.unparse(value.func).partition(".")[0] not in HARMLESS:
            return True
    return False


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """Return the calls in a statement or function, outer ones first."""
    return (each for each in ast.walk(node) if isinstance(each, ast.Call))


def _server(node: ast.AST, names: ModuleNames, seen: frozenset[str] = frozenset()) -> ast.Call | None:
    """Return the call in a node that starts a server, also if it is in a function of the module that the node calls."""
    for call in _calls(node):
        if _starts_server(call, names):
            return call
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        if name in names.functions and name not in seen:
            inner = _server(names.functions[name], names, seen | {name})
            if inner is not None:
                return inner
    return None


def _starts_server(call: ast.Call, names: ModuleNames) -> bool:
    dotted = names.dotted(call.func)
    root, _, last = dotted.partition(".")[0], *dotted.rpartition(".")[1:]
    if last in ALWAYS:
        return True
    if isinstance(call.func, ast.Attribute) and last == "run" and WHERE & {each.arg for each in call.keywords}:
        return True
    return last in STARTS and root in SERVERS


def _application(block: Block, module: ModuleType) -> tuple[str, str]:
    """Return the application as `serve=` takes it (`app` or `make_app()`), and its address; ("", "") if unknown."""
    call = block.server
    assert call is not None
    if block.root in SERVERS - SERVED:
        return "", ""
    makers = [block.names.calls[name] for name in ("uvicorn.Config", "granian.Granian") if name in block.names.calls]
    for each in (call, *makers):
        candidates = [*each.args[:1], *(word.value for word in each.keywords if word.arg in ("app", "target"))]
        if each is call and isinstance(call.func, ast.Attribute):
            candidates.append(call.func.value)
        name = next(filter(None, (_name_of(candidate, module) for candidate in candidates)), "")
        if name:
            is_factory = any(word.arg == "factory" for word in each.keywords) and not name.endswith(")")
            return f"{name}()" if is_factory else name, _address(each, block.root)
    return "", ""


def _name_of(node: ast.expr, module: ModuleType) -> str:
    """Return the name of an application in the module, if it is callable there."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
        return node.value.partition(":")[2]
    suffix = ""
    if isinstance(node, ast.Call) and not node.args and not node.keywords:
        node, suffix = node.func, "()"
    if not isinstance(node, ast.Name):
        return ""
    value = module.__dict__.get(node.id)
    return node.id + suffix if callable(value) and not (isinstance(value, type) and not suffix) else ""


def _address(call: ast.Call, root: str) -> str:
    """Return where a call serves, as far as it is written there."""
    said = {each.arg: each.value.value for each in call.keywords if isinstance(each.value, ast.Constant)}
    host, port = said.get("host") or "127.0.0.1", said.get("port") or PORTS.get(root, 8000)
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _place(module: str, base: str) -> str:
    """Return the module of a role as its author may have written it."""
    path = Path(module)
    if not module.endswith(".py") or not path.is_relative_to(base):
        return module
    return f"./{path.relative_to(base)}"
