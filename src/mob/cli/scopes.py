"""What the source of a module says without running it: the names that it binds, and the functions that it exports.

Pure. What is exported is decided as in `peer/serving/selection.py`, but only from the text: what is decorated, else
what is in `__all__`, else the public functions and services defined here. Methods, partials and callable objects that
are bound to a name are not seen.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
STREAMS = ("AsyncGenerator", "AsyncIterable", "AsyncIterator", "Generator", "Iterable", "Iterator")
"""Names with which generators annotate their result."""


@dataclass(frozen=True)
class Binding:
    """Where a name comes from."""

    module: str = ""
    name: str = ""
    """The name in that module; "" if the module itself is bound."""
    is_guarded: bool = False
    """True if it is imported only under TYPE_CHECKING."""
    binds_top: bool = False
    """True if only the first part of the module's name is bound, as by `import a.b`."""

    @property
    def is_own(self) -> bool:
        """True if it is defined in this module."""
        return not self.module

    @property
    def target(self) -> str:
        """A key that is equal for all names of one thing."""
        return self.module.partition(".")[0] if self.binds_top else f"{self.module}.{self.name}".rstrip(".")


@dataclass
class Scope:
    """The names of a module."""

    bindings: dict[str, list[Binding]] = field(default_factory=dict[str, list[Binding]])
    functions: dict[str, FunctionNode] = field(default_factory=dict[str, FunctionNode])
    marked: list[str] = field(default_factory=list[str])
    batched: set[str] = field(default_factory=set[str])
    """Functions that take lists and are called with single values: `@mob.export(batch=...)`."""
    listed: list[str] | None = None
    """`__all__`, if it is defined."""
    services: dict[str, FunctionNode] = field(default_factory=dict[str, FunctionNode])
    """Constructor of each class whose objects live in a worker."""

    def exports(self) -> dict[str, FunctionNode | None]:
        """Return the exported functions by name; None for one that is defined elsewhere."""
        known = {**self.functions, **self.services}
        if self.marked:
            return {name: known[name] for name in known if name in self.marked}
        if self.listed is None:
            return {name: each for name, each in known.items() if not name.startswith("_")}
        own = {name for name, bindings in self.bindings.items() if bindings[0].is_own} - known.keys()
        return {name: known.get(name) for name in self.listed if name not in own}


def scope_of(tree: ast.Module, module: str = "") -> Scope:
    """Read the top level of a module, whose import string is `module`."""
    scope = Scope()
    for node, is_guarded in _statements(tree.body, False):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    binds_top = alias.asname is None
                    name = alias.asname or alias.name.partition(".")[0]
                    binding = Binding(alias.name, "", is_guarded, binds_top)
                    known = scope.bindings.get(name, [])
                    scope.bindings[name] = [*known, binding] if known and known[0].binds_top else [binding]
            case ast.ImportFrom(names=names):
                origin = _absolute(node, module)
                for alias in names:
                    scope.bindings[alias.asname or alias.name] = [Binding(origin, alias.name, is_guarded)]
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                _put(scope, name, node)
                marks = [each for each in node.decorator_list if _is_mark(each, scope)]
                if marks:
                    scope.marked.append(name)
                if any(_has_option(each, "batch") for each in marks):
                    scope.batched.add(name)
            case ast.ClassDef(name=name):
                _put(scope, name)
                is_marked = any(_is_mark(each, scope) for each in node.decorator_list)
                if is_marked or (not node.decorator_list and _has_own_bases_only(node, scope)):
                    scope.services[name] = _maker(node)
                if is_marked:
                    scope.marked.append(name)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    _assign(scope, target, value)
            case ast.AnnAssign(target=target, value=value):
                _assign(scope, target, value)
            case _:
                name = getattr(getattr(node, "name", None), "id", None)
                if type(node).__name__ == "TypeAlias" and isinstance(name, str):  # Python 3.12: `type Name = ...`
                    _put(scope, name)
    return scope


def _put(scope: Scope, name: str, function: FunctionNode | None = None) -> None:
    scope.bindings[name] = [Binding()]
    scope.functions.pop(name, None)
    scope.services.pop(name, None)
    scope.batched.discard(name)
    if function is not None:
        scope.functions[name] = function


def _has_own_bases_only(node: ast.ClassDef, scope: Scope) -> bool:
    """Return whether objects of a class can be exported as a service.

    It has public methods, is not abstract, and derives only from such classes of this module, `ABC` and `Generic`.
    """
    bases = [ast.unparse(base).partition("[")[0] for base in node.bases]
    methods = [each for each in node.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]
    decorators = [ast.unparse(mark) for each in methods for mark in each.decorator_list]
    is_public = any(not each.name.startswith("_") for each in methods) or any(base in scope.services for base in bases)
    is_abstract = any("abstractmethod" in each for each in decorators)
    is_own = all(base in scope.services or base.rpartition(".")[2] in ("ABC", "Generic") for base in bases)
    return is_public and is_own and not is_abstract and not node.keywords


def _maker(node: ast.ClassDef) -> FunctionNode:
    """Return a function as callers see the class: with the arguments of `__init__` and the doc of the class."""
    found = (each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__")
    made = copy.deepcopy(next(found, ast.FunctionDef("__init__", _NO_ARGUMENTS, [], [])))
    if made.args.posonlyargs:
        del made.args.posonlyargs[0]
    elif made.args.args:
        del made.args.args[0]
    doc = ast.get_docstring(node)
    made.returns, made.body = None, [ast.Expr(ast.Constant(doc))] if doc else [ast.Pass()]
    return made


_NO_ARGUMENTS = ast.arguments([], [], None, [], [], None, [])


def _assign(scope: Scope, target: ast.expr, value: ast.expr | None) -> None:
    if not isinstance(target, ast.Name):
        return
    _put(scope, target.id, value if isinstance(value, ast.Lambda) else None)
    if target.id == "__all__" and isinstance(value, (ast.List, ast.Tuple)):
        scope.listed = [str(each.value) for each in value.elts if isinstance(each, ast.Constant)]


def _statements(body: Iterable[ast.stmt], is_guarded: bool) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield all statements that run in the module itself, and whether only type checkers see them."""
    for node in body:
        if isinstance(node, ast.If):
            test = ast.unparse(node.test)
            if "__name__" not in test:  # a role's module is never the main one
                yield from _statements(node.body, is_guarded or test.rpartition(".")[2] == "TYPE_CHECKING")
            yield from _statements(node.orelse, is_guarded)
        elif isinstance(node, (ast.Try, ast.With, ast.For, ast.While)):
            yield from _statements(node.body, is_guarded)
            for handler in getattr(node, "handlers", []):
                yield from _statements(handler.body, is_guarded)
            yield from _statements(getattr(node, "orelse", []), is_guarded)
            yield from _statements(getattr(node, "finalbody", []), is_guarded)
        else:
            yield node, is_guarded


def yields(function: FunctionNode) -> bool:
    """Return whether a function is a generator; a `yield` in a nested function does not count."""
    todo: list[ast.AST] = [function.body] if isinstance(function, ast.Lambda) else list(function.body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            todo += ast.iter_child_nodes(node)
    return False


def says_what_it_yields(function: FunctionNode) -> bool:
    """Return whether a generator is annotated as one: `-> Iterator[int]` and the like, also in quotes."""
    returns = None if isinstance(function, ast.Lambda) else function.returns
    text = "" if returns is None else returns.value if isinstance(returns, ast.Constant) else ast.unparse(returns)
    kind, bracket, _ = str(text).partition("[")
    return bool(bracket) and kind.rpartition(".")[2] in STREAMS


def _absolute(node: ast.ImportFrom, module: str) -> str:
    if not node.level:
        return node.module or ""
    package = module.split(".")[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def _is_mark(decorator: ast.expr, scope: Scope) -> bool:
    """Return whether a decorator is `mob.export`, under any name."""
    if isinstance(decorator, ast.Call):
        decorator = decorator.func
    match decorator:
        case ast.Attribute(value=ast.Name(id=name), attr="export"):
            return any(each.target == "mob" for each in scope.bindings.get(name, []))
        case ast.Name(id=name):
            return any(each.target == "mob.export" for each in scope.bindings.get(name, []))
        case _:
            return False


def _has_option(decorator: ast.expr, option: str) -> bool:
    given = decorator.keywords if isinstance(decorator, ast.Call) else []
    return any(each.arg == option for each in given)


def item_of(annotation: ast.expr | None) -> ast.expr | None:
    """Return the annotation of a list's items: `int` for `list[int]`, also in quotes; None if it does not say."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return _item_of_quoted(annotation)
    if not isinstance(annotation, ast.Subscript):
        return None
    kind, inside = ast.unparse(annotation.value).rpartition(".")[2], annotation.slice
    if kind == "Annotated" and isinstance(inside, ast.Tuple):
        return item_of(inside.elts[0])
    return inside.elts[0] if kind in ("tuple", "Tuple") and isinstance(inside, ast.Tuple) else inside


def _item_of_quoted(annotation: ast.Constant) -> ast.expr | None:
    try:
        found = item_of(ast.parse(str(annotation.value).strip(), mode="eval").body)
    except SyntaxError:
        return annotation  # reported unchanged
    return None if found is None else ast.copy_location(ast.Constant(ast.unparse(found)), annotation)
