"""`mob stubs`: a `typing.Protocol` for every role, from its source, for `mob.require("back", Back)`.

Nothing is run: the main script and the roles' modules are parsed. `written` is the whole work, a pure function from
sources to text; `read` finds the sources. What the text of a module does not tell (a role named by a variable, a type
that comes from `import *`) is left out or `Any`, with a warning that says so.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from keyword import iskeyword
from pathlib import Path

from mob.cli.described import DASHBOARD_MODULE, described
from mob.cli.scopes import Binding, FunctionNode, item_of, says_what_it_yields, scope_of, yields
from mob.errors import PlanError

WIDTH = 110
"""Columns after which a signature takes a line for each parameter."""
TYPING = ("Any", "Protocol", "Self", "TYPE_CHECKING", "Unpack")
OURS = {"mob": "mob", **{name: f"typing.{name}" for name in TYPING}}
STREAMS = "    # A generator: iterate over the call, with `for` or `async for`.\n"
Import = tuple[str, str, str]
"""A module, a name in it ("" for the module itself), and what it is called here ("" if as there)."""


@dataclass(frozen=True)
class RoleSource:
    """A role and the text of its module."""

    role: str
    path: str
    """As people read it."""
    text: str
    module: str = ""
    """By which import string others can name it; "" if by none."""
    siblings: frozenset[str] = frozenset()
    """Modules that only this role can import by their bare names, for they lie beside it, elsewhere than the stubs."""


@dataclass
class Stubs:
    """The text of a module, and what could not be found out."""

    text: str = ""
    warnings: list[str] = field(default_factory=list[str])


def written(sources: Sequence[RoleSource], script: str = "main.py") -> Stubs:
    """The stubs of all roles of an app."""
    names = _class_names([source.role for source in sources])
    stubs, imports = Stubs(), _Imports(set(names))
    classes = [_Class(source, name, imports, stubs.warnings) for source, name in zip(sources, names, strict=True)]
    bodies = [each.text() for each in classes]
    if re.search(r"\bAny\b", "".join(bodies)):
        imports.add("typing", "Any")
    head = f'"""What the roles of {script} export. Written by `mob stubs {script}`: write it anew, do not edit it."""\n'
    stubs.text = "\n\n".join([f"{head}\nfrom __future__ import annotations\n\n{imports.text()}", *bodies])
    return stubs


def _class_names(roles: Sequence[str]) -> list[str]:
    """The class of each role: `ImageWorker` for "image-worker"."""
    names: list[str] = []
    for role in roles:
        words = "".join(char if char.isalnum() else " " for char in role).split()
        base = name = "".join(word[:1].upper() + word[1:] for word in words)
        number = 2
        while name in names or name in OURS or iskeyword(name):
            name, number = f"{base}{number}", number + 1
        names.append(name)
    return names


class _Imports:
    """What the stubs import: at run time what converts results, else for type checkers only."""

    def __init__(self, reserved: set[str]) -> None:
        self._taken = {**dict.fromkeys(reserved, ""), **OURS}
        self._found: dict[Import, bool] = {("mob", "", ""): True}
        self._found["typing", "Protocol", ""] = True

    def add(self, module: str, name: str = "", as_name: str = "", *, runtime: bool = True) -> None:
        key = (module, name, as_name)
        self._found[key] = self._found.get(key, False) or runtime

    def is_free(self, name: str, target: str) -> bool:
        """Whether a name means that thing, or nothing yet."""
        return self._taken.get(name, target) == target

    def take(self, name: str, target: str, prefix: str, avoid: set[str]) -> str:
        """By which name a thing is known in the stubs, where another may have its own already."""
        while name in avoid or not self.is_free(name, target):
            name = f"{prefix}{name}"
        self._taken[name] = target
        return name

    def text(self) -> str:
        guarded = [key for key, runtime in self._found.items() if not runtime]
        if guarded:
            self.add("typing", "TYPE_CHECKING")
        blocks = self._blocks([key for key, runtime in self._found.items() if runtime])
        if guarded:
            lines = "\n\n".join(self._blocks(guarded)).splitlines()
            blocks.append("\n".join(["if TYPE_CHECKING:", *(f"    {line}".rstrip() for line in lines)]))
        return "\n\n".join(blocks) + "\n"

    def _blocks(self, keys: Sequence[Import]) -> list[str]:
        """The standard library's first, then the others', as isort has it."""
        own = [key for key in keys if key[0].partition(".")[0] in sys.stdlib_module_names]
        return [_import_lines(part) for part in (own, [key for key in keys if key not in own]) if part]


def _import_lines(keys: Sequence[Import]) -> str:
    lines = [f"import {module}{f' as {alias}' if alias else ''}" for module, name, alias in sorted(keys) if not name]
    for module in sorted({module for module, name, _ in keys if name}):
        plain = [name for origin, name, alias in keys if origin == module and name and not alias]
        if plain:
            plain.sort(key=lambda name: (not name.isupper(), not name[0].isupper(), name))
            lines.append(f"from {module} import {', '.join(plain)}")
        renamed = sorted((name, alias) for origin, name, alias in keys if origin == module and name and alias)
        lines += [f"from {module} import {name} as {alias}" for name, alias in renamed]
    return "\n".join(lines)


class _Unknown(Exception):
    """An annotation uses a name of which nothing is known."""


class _Class:
    """The Protocol of one role."""

    def __init__(self, source: RoleSource, name: str, imports: _Imports, warnings: list[str]) -> None:
        self._source = source
        self._name = name
        self._imports = imports
        self._warnings = warnings
        try:
            self._scope = scope_of(ast.parse(source.text), source.module)
        except SyntaxError as error:
            raise PlanError(f"{source.path} is no Python: {error.msg} (line {error.lineno}).") from error
        self._exports = self._scope.exports()
        self._own: list[str] = []  # the types of the module itself in the result that is looked at

    def text(self) -> str:
        parts = [f'class {self._name}(Protocol):\n    """The exports of the role {self._source.role!r}."""\n']
        parts += [self._method(name, function) for name, function in self._exports.items()]
        if "options" in self._exports:
            self._warn("the export 'options' is hidden by the proxy's own `options`")
        else:
            for name in ("Self", "Unpack"):
                self._imports.add("typing", name)
            about = "A view of this proxy that calls with other options."
            parts.append(f'    def options(self, **changes: Unpack[mob.CallOptions]) -> Self:\n        """{about}"""\n')
        return "\n".join(parts)

    def _warn(self, text: str) -> None:
        self._warnings.append(f"{self._source.path}: {text}.")

    # -- methods -----------------------------------------------------------------------------------------------------

    def _method(self, name: str, function: FunctionNode | None) -> str:
        if function is None:
            self._warn(f"{name!r} is not defined in this file, so its signature is not known")
            return f"    def {name}(self, *args: Any, **kwargs: Any) -> mob.Call[Any]: ...\n"
        comment, result = self._result(name, function)
        parameters = list(self._parameters(name, function.args))
        head = f"    def {name}({', '.join(parameters)}) -> mob.Call[{result}]:"
        if len(head) > WIDTH:
            lines = "".join(f"        {parameter},\n" for parameter in parameters)
            head = f"    def {name}(\n{lines}    ) -> mob.Call[{result}]:"
        doc = None if isinstance(function, ast.Lambda) else ast.get_docstring(function)
        body = f"\n{_docstring(doc)}" if doc else " ..."
        return f"{comment}{head}{body}\n"

    def _result(self, name: str, function: FunctionNode) -> tuple[str, str]:
        streams = STREAMS if yields(function) else ""
        if streams and not says_what_it_yields(function):
            return streams, "Any"
        self._own.clear()
        result = "Any"
        if not isinstance(function, ast.Lambda):
            result = self._annotation(name, self._as_single(name, function.returns), is_result=True)
        if not self._own:
            return streams, result
        kinds = ", ".join(dict.fromkeys(self._own))
        self._warn(
            f"{name!r} returns {kinds} of this file, which callers do not run, hence its results arrive unconverted; "
            f"to have them converted, define {kinds} in a module that both import"
        )
        told = f"    # Arrives unconverted: {kinds} of {self._source.path} cannot be had without running it.\n"
        return streams + told, result

    def _parameters(self, name: str, args: ast.arguments) -> Iterator[str]:
        positional = [*args.posonlyargs, *args.args]
        every = [*positional, *args.kwonlyargs, *filter(None, (args.vararg, args.kwarg))]
        yield "_self" if any(each.arg == "self" for each in every) else "self"
        defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
        for index, (each, default) in enumerate(zip(positional, defaults, strict=True), 1):
            yield self._parameter(name, each, default)
            if index == len(args.posonlyargs):
                yield "/"
        if args.vararg:
            yield f"*{self._parameter(name, args.vararg, None)}"
        elif args.kwonlyargs:
            yield "*"
        for each, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            yield self._parameter(name, each, default)
        if args.kwarg:
            yield f"**{self._parameter(name, args.kwarg, None)}"

    def _parameter(self, name: str, arg: ast.arg, default: ast.expr | None) -> str:
        shown = f"{arg.arg}: {self._annotation(name, self._as_single(name, arg.annotation))}"
        if default is None:
            return shown
        return f"{shown} = {self._segment(default) if _is_literal(default) else '...'}"

    def _as_single(self, name: str, annotation: ast.expr | None) -> ast.expr | None:
        """Return an annotation as a call with single values has it, if the export takes lists."""
        return item_of(annotation) if name in self._scope.batched else annotation

    # -- annotations -------------------------------------------------------------------------------------------------

    def _segment(self, node: ast.expr) -> str:
        return ast.get_source_segment(self._source.text, node) or ast.unparse(node)

    def _annotation(self, export: str, node: ast.expr | None, *, is_result: bool = False) -> str:
        if node is None:
            return "Any"
        try:
            return self._rewritten(self._source.text, node, is_result)
        except _Unknown as unknown:
            self._warn(f"{export!r}: nothing is known of {unknown} in {self._segment(node)}, so Any stands for it")
            self._own.clear()
            return "Any"

    def _rewritten(self, text: str, node: ast.expr, is_result: bool) -> str:
        """The text of an annotation, with each name as the stubs know it, and what is quoted without its quotes."""
        data = text.encode()
        lines = data.split(b"\n")

        def place(line: int, column: int) -> int:
            return sum(len(each) + 1 for each in lines[: line - 1]) + column

        begin, end = place(node.lineno, node.col_offset), place(node.end_lineno or 0, node.end_col_offset or 0)
        pieces, at = list[bytes](), begin
        for part in _parts_of(node):
            start = place(part.lineno, part.col_offset)
            if isinstance(part, ast.Name):
                new = self._known_as(part.id, is_result)
            else:
                new = self._unquoted(str(part.value), is_result)
            pieces += [data[at:start], new.encode()]
            at = place(part.end_lineno or 0, part.end_col_offset or 0)
        return b"".join([*pieces, data[at:end]]).decode()

    def _unquoted(self, text: str, is_result: bool) -> str:
        try:
            return self._rewritten(text.strip(), ast.parse(text.strip(), mode="eval").body, is_result)
        except SyntaxError:
            raise _Unknown(repr(text)) from None

    def _known_as(self, name: str, is_result: bool) -> str:
        bindings = self._scope.bindings.get(name)
        if bindings is None or name in self._scope.functions:  # a function is no type
            return self._builtin(name)
        if bindings[0].is_own:
            self._own += [name] if is_result else []
            if not self._source.module:
                raise _Unknown(name)
            bindings = [Binding(self._source.module, name, is_guarded=True)]
        first = bindings[0]
        known = self._imports.take(name, first.target, self._name, set(self._exports))
        if known != name and first.binds_top:
            raise _Unknown(name)  # `import a.b` cannot be given another name
        for each in bindings:
            module, is_guarded = each.module, each.is_guarded
            if module.partition(".")[0] in self._source.siblings:
                module, is_guarded = f"{self._source.module.rpartition('.')[0]}.{module}", True
            alias = "" if each.binds_top or known == (each.name or module) else known
            self._imports.add(module, each.name, alias, runtime=is_result and not is_guarded)
        return known

    def _builtin(self, name: str) -> str:
        if not hasattr(builtins, name):
            raise _Unknown(name)
        if name not in self._exports and self._imports.is_free(name, f"builtins.{name}"):
            return self._imports.take(name, f"builtins.{name}", "", set())
        self._imports.add("builtins")  # within the class an export has that name
        return f"builtins.{name}"


def _parts_of(node: ast.expr) -> list[ast.Name | ast.Constant]:
    """The names and the quoted annotations in an annotation, in the order of the text."""
    found: list[ast.Name | ast.Constant] = []

    def look(node: ast.AST, in_data: bool) -> None:
        if isinstance(node, ast.Name) or (isinstance(node, ast.Constant) and type(node.value) is str and not in_data):
            found.append(node)
        elif isinstance(node, ast.Subscript):
            look(node.value, in_data)
            kind = ast.unparse(node.value).rpartition(".")[2]
            parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            for index, part in enumerate(parts):
                look(part, in_data or kind == "Literal" or (kind == "Annotated" and index > 0))
        else:
            for child in ast.iter_child_nodes(node):
                look(child, in_data or isinstance(node, ast.Call))

    look(node, False)
    return sorted(found, key=lambda part: (part.lineno, part.col_offset))


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def _docstring(doc: str) -> str:
    text = inspect.cleandoc(doc).replace("\\", "\\\\")
    if '"""' in text or text.endswith('"'):
        text = text.replace('"', '\\"')
    lines = [f"        {line}".rstrip() for line in f'"""{text}'.splitlines()]
    return "\n".join([f'{lines[0]}"""'] if len(lines) == 1 else [*lines, '        """'])


# -- finding the sources ----------------------------------------------------------------------------------------------


def read(script: Path) -> tuple[list[RoleSource], list[str]]:
    """The roles that a main script describes with literals, and warnings about the others."""
    known = described(script)
    sources, warnings = list[RoleSource](), list(known.left_out)
    for role in known.plan.roles:
        if (path := _file_of(role.module, Path(known.plan.base))) is None:
            warnings.append(f"{script}: role {role.name!r} is left out: {role.module!r} is not found.")
        elif role.module != DASHBOARD_MODULE:
            sources.append(_source(role.name, role.module, path, script.resolve().parent))
    return sources, warnings


def _file_of(module: str, base: Path) -> Path | None:
    if module.endswith(".py") or "/" in module:
        places = [base / module]
    else:
        stem = module.replace(".", "/")
        places = [Path(root, stem + end) for root in (str(base), *sys.path) for end in (".py", "/__init__.py")]
    return next((place.resolve() for place in places if place.is_file()), None)


def _source(role: str, module: str, path: Path, home: Path) -> RoleSource:
    siblings = frozenset[str]()
    shown = path.relative_to(home).as_posix() if path.is_relative_to(home) else path.name
    if module.endswith(".py"):
        parts = path.relative_to(home).with_suffix("").parts if path.is_relative_to(home) else ("",)
        module = ".".join(parts) if all(part.isidentifier() for part in parts) else ""
        if path.parent != home and module:
            siblings = frozenset(each.stem for each in path.parent.glob("*.py")) - {
                each.stem for each in home.glob("*.py")
            }
    return RoleSource(role, shown, path.read_text("utf-8"), module, siblings)
