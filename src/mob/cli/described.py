"""The plan of an app that is not running, read from its main script or its TOML file without executing anything.

Of a script only literals are known (`workers=4`, also `64 * 1024`); anything computed keeps its default, and a warning
says so. The result is good enough for advice and for a unit file, not for running the app.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec

from mob import sizes
from mob.cli import config
from mob.cli.here import starts_in
from mob.errors import PlanError
from mob.plan import Plan, RolePlan
from mob.rim import cores
from mob.serve import split

DASHBOARD, DASHBOARD_MODULE = 4777, "mob.dashboard.app"
"""The default port of the dashboard, and the module that its role runs."""
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}
FROM_ENVIRONMENT = ("os.environ.get", "os.getenv", "environ.get", "getenv")
"""Functions whose default, if given, is taken as the value."""


class AppDescription(msgspec.Struct, frozen=True):
    """What is known about an app."""

    plan: Plan
    warnings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """The warnings about roles that are missing from the plan, or that may run from another place than it says."""
    dashboard: int | None = None
    """Port of its dashboard; None if it has none."""


def described(path: Path) -> AppDescription:
    """Return the plan of the app that a main script or a TOML file describes. `PlanError` if it describes none."""
    return _from_toml(path) if path.suffix == ".toml" else _from_script(path)


def _from_toml(path: Path) -> AppDescription:
    app = config.described(path)
    app._has_run = True  # pyright: ignore[reportPrivateUsage]  it is not meant to run
    ports = [role.env["MOB_DASHBOARD_PORT"] for role in app.plan.roles if "MOB_DASHBOARD_PORT" in role.env]
    return AppDescription(app.plan, dashboard=int(ports[0]) if ports else None)


def _from_script(path: Path) -> AppDescription:
    try:
        tree = ast.parse(path.read_text("utf-8"), str(path))
    except SyntaxError as error:
        raise PlanError(f"{path} is not valid Python: {error.msg} (line {error.lineno}).") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is not UTF-8: {error.reason} at byte {error.start}.") from error
    reader = _Reader(path, starts_in(tree))
    for call in _calls(tree):
        reader.read(call)
    if not reader.name and not reader.roles and not reader.left_out:
        raise PlanError(
            f"{path} describes no app. Expected: a main script with "
            f'mob.start("myapp").role("back", "./back.py").run(), or a mob.toml.'
        )
    plan = Plan(
        reader.name or path.resolve().parent.name,
        str(reader.base),
        tuple(reader.roles),
        preload=tuple(reader.preload),
        **reader.options,
    )
    return AppDescription(plan, tuple(reader.warnings), tuple(reader.left_out), reader.dashboard)


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls in the order of the text; those of a chain begin where their names end."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    yield from sorted(found, key=lambda call: (call.func.end_lineno or 0, call.func.end_col_offset or 0))


class _Computed(Exception):
    """Raised for a value that is computed."""


class _Reader:
    """What was read from a script so far."""

    def __init__(self, path: Path, starts: list[ast.Call]) -> None:
        self._path = path
        self._starts = starts
        self.name = ""
        self.base = path.resolve().parent
        self.roles: list[RolePlan] = []
        self.preload: list[str] = []
        self.options: dict[str, Any] = {}
        self.dashboard: int | None = None
        self.warnings: list[str] = []
        self.left_out: list[str] = []

    def read(self, call: ast.Call) -> None:
        """Read one call."""
        match call.func:
            case _ if call in self._starts:
                self._read_start(call)
            case ast.Attribute(attr="role"):
                self._read_role(call)
            case ast.Attribute(attr="preload"):
                self.preload += [each for each in self._positional(call) if isinstance(each, str)]
            case ast.Attribute(attr="base"):
                self._read_base(call)
            case ast.Attribute(attr="dashboard"):
                given = self._keywords(call, ("port",))
                port = next(iter(self._positional(call)), given.get("port"))
                self.dashboard = port if isinstance(port, int) else DASHBOARD
                self.roles.append(RolePlan("dashboard", DASHBOARD_MODULE))
            case _:
                pass

    def _read_start(self, call: ast.Call) -> None:
        given = self._keywords(call, ("name", "grace", "frame_limit", "backlog", "strategy"))
        name = next(iter(self._positional(call)), given.pop("name", ""))
        if isinstance(name, str) and name:
            self.name = name
            self.options = self._settled(call, given, "")

    def _read_base(self, call: ast.Call) -> None:
        if call.args and ast.unparse(call.args[0]) != "__file__":
            told = self._positional(call)[0]
            if not isinstance(told, str):
                shown = ast.unparse(call)[-60:]
                self._warn(call, f"{shown}: the directory is computed, so unknown; using {self.base}", self.left_out)
                return
            place = Path(told).resolve()
            self.base = place if place.is_dir() else place.parent

    def _read_role(self, call: ast.Call) -> None:
        known = list(RolePlan.__struct_fields__)
        given = self._keywords(call, known)
        for key, value in zip(("name", "module"), self._positional(call), strict=False):
            given[key] = value
        name, module = given.get("name"), given.get("module")
        if not isinstance(name, str) or not isinstance(module, str):
            shown = ", ".join(map(ast.unparse, call.args))
            why = "its name and its module must be string literals, because the script is read and not run"
            self._warn(call, f".role({shown}) is ignored: {why}", self.left_out)
            return
        path, given["application"] = split(module)
        given["module"] = str((self.base / path).resolve()) if path.endswith(".py") else path
        given = {
            key: tuple(cast(list[Any], value)) if isinstance(value, list) else value for key, value in given.items()
        }
        given = self._settled(call, given, f"role {name!r}: ")
        try:
            self.roles.append(msgspec.convert(given, RolePlan, strict=False))
        except msgspec.ValidationError as error:
            raise PlanError(f"{self._path}:{call.func.end_lineno}: role {name!r}: {error}.") from error

    def _settled(self, call: ast.Call, given: dict[str, Any], whose: str) -> dict[str, Any]:
        """Return the options, with numbers in place of sizes and counts given as text."""
        try:
            return sizes.settled(given, cores.usable)
        except PlanError as error:
            raise PlanError(f"{self._path}:{call.func.end_lineno}: {whose}{error}") from None

    def _positional(self, call: ast.Call) -> list[Any]:
        values: list[Any] = []
        for each in call.args:
            try:
                values.append(_literal(each))
            except _Computed:
                values.append(None)
        return values

    def _keywords(self, call: ast.Call, known: tuple[str, ...] | list[str]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for each in call.keywords:
            if each.arg is None:
                self._warn(call, f"the options in **{ast.unparse(each.value)} are unknown")
            elif each.arg in known:
                try:
                    values[each.arg] = _literal(each.value)
                except _Computed:
                    self._warn(call, f"{each.arg}={ast.unparse(each.value)} is computed; using the default")
        return values

    def _warn(self, call: ast.Call, text: str, *more: list[str]) -> None:
        for warnings in (self.warnings, *more):
            warnings.append(f"{self._path}:{call.func.end_lineno}: {text}.")


def _literal(node: ast.expr) -> Any:
    """Return the value of a literal, of arithmetic with literals, or the default of an environment variable."""
    match node:
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            try:
                return ARITHMETIC[type(op)](_literal(left), _literal(right))
            except (TypeError, ArithmeticError) as error:
                raise _Computed from error
        case ast.Call(args=[_, default]) if ast.unparse(node.func) in FROM_ENVIRONMENT:
            return _literal(default)
        case _:
            try:
                return ast.literal_eval(node)
            except (ValueError, TypeError) as error:
                raise _Computed from error
