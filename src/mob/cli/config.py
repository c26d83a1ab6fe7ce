"""Apps described by a TOML file: a `mob.toml`, or the table `[tool.mob]` of a `pyproject.toml`.

The keys are the options declared in `plan.py`, under the same names; no list is repeated here, and values are checked
by the same code as those of a main script. An error names the file and the key. None, which TOML cannot express, is
written as `false`, as in `boot_timeout = false`. Relative paths start at `base`, by default the file's own directory.

    name = "myapp"                 # in a pyproject.toml all of it stands below [tool.mob]
    grace = 10

    [roles.back]
    module = "./back.py"
    workers = 4
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, cast, get_args

import msgspec
from msgspec.structs import fields

from mob import sizes
from mob.app import App
from mob.errors import MobError, PlanError, nearest
from mob.plan import OPTIONS, Cluster, Logs, Plan, RolePlan
from mob.rim import places

OWN = "mob.toml"
SHARED = "pyproject.toml"
TomlTable = Mapping[str, Any]


def find(start: Path) -> Path:
    """Return the file that describes the app, in this directory or the nearest one above, or raise `PlanError`."""
    for place in (start, *start.parents):
        if (place / OWN).is_file():
            return place / OWN
        if (place / SHARED).is_file() and _own_table(_parsed(place / SHARED)) is not None:
            return place / SHARED
    raise PlanError(
        f"there is no {OWN}, and no {SHARED} with a table [tool.mob], in {start} or above. "
        f"Name the app's main script, as in `mob run main.py`, or write a {OWN}."
    )


def described(path: Path) -> App:
    """Return the app that a file describes. `PlanError` says what is wrong, and where."""
    whole = _parsed(path)
    table = _own_table(whole) if path.name == SHARED else whole
    if table is None:
        raise PlanError(f"{path} has no table [tool.mob], so it describes no app.")
    try:
        return _app(table, Path(places.spelled(str(path))).parent)
    except MobError as error:
        raise PlanError(f"{path}: {error}") from error


def _parsed(path: Path) -> TomlTable:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is not UTF-8, which TOML requires: {error.reason} at byte {error.start}.") from error
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{path} is not valid TOML: {error}.") from error


def _own_table(whole: TomlTable) -> TomlTable | None:
    tool = whole.get("tool")
    table = cast(TomlTable, tool).get("mob") if isinstance(tool, dict) else None
    return cast(TomlTable, table) if isinstance(table, dict) else None


def _app(table: TomlTable, home: Path) -> App:
    """Return an `App` built from the table, each key passed to the method of its name."""
    if "name" not in table:
        raise PlanError('the app has no name. Expected: name = "myapp".')
    ways = {"base", "preload", "logs", "trace", "titles", "roles", "cluster"}  # fields of Plan that have a method
    options = {field.name: field.type for field in fields(Plan)}
    extra = {"dashboard", "place", "queue", "store"}  # methods without a field of that name in Plan
    _check_keys(table, [*options, *extra], "")
    plain = {key: _value(key, value, options[key]) for key, value in table.items() if key not in {*ways, *extra}}
    app = App(**plain).base(home / _value("base", table.get("base", "."), str))
    app.preload(*_value("preload", table.get("preload", []), options["preload"]))
    if "logs" in table:
        app.logs(**_values("logs", table["logs"], {field.name: field.type for field in fields(Logs)}))
    if "titles" in table:
        app.titles(table["titles"])
    for name, role in _table("roles", table.get("roles", {})).items():
        _add_role(app, name, _table(f"roles.{name}", role))
    for name, store in _table("store", table.get("store", {})).items():
        settings = _table(f"store.{name}", store)
        _check_keys(settings, [each for each in _parameters(app.store) if each != "name"], f" in [store.{name}]")
        app.store(name, **settings)
    if table.get("queue", False) is not False:
        own: TomlTable = {} if table["queue"] is True else _table("queue", table["queue"])
        app.queue(**_values("queue", own, {"path": str, "keep": float, "in_hand": int}))
    if "cluster" in table:
        _add_cluster(app, table["cluster"])
    if "place" in table:
        app.place(**_value("place", table["place"], dict[str, int]))
    if table.get("trace", False) is not False:
        app.trace("" if table["trace"] is True else _value("trace", table["trace"], str))
    if table.get("dashboard", False) is not False:
        settings: TomlTable = {} if table["dashboard"] is True else _table("dashboard", table["dashboard"])
        _check_keys(settings, _parameters(app.dashboard), " in [dashboard]")
        app.dashboard(**settings)
    return app


def _add_role(app: App, name: str, table: TomlTable) -> None:
    options = {field.name: field.type for field in fields(RolePlan) if field.name in ("module", *OPTIONS)}
    _check_keys(table, options, f" in [roles.{name}]")
    if "module" not in table:
        raise PlanError(
            f'[roles.{name}] has no module. Expected: the file that its workers run, module = "./{name}.py".'
        )
    app.role(name, **{key: _none_if_false(value, options[key]) for key, value in table.items()})


def _add_cluster(app: App, table: object) -> None:
    options = {field.name: field.type for field in fields(Cluster) if field.name != "is_named"}  # derived from `node`
    settings = _values("cluster", table, options)
    app.cluster(*settings.pop("servers", ()), **settings)


def _check_keys(table: TomlTable, known: Iterable[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise PlanError(f"unknown option {key!r}{where}. {nearest(key, known)}")


def _values(where: str, table: object, types: Mapping[str, Any]) -> dict[str, Any]:
    _check_keys(_table(where, table), types, f" in [{where}]")
    return {key: _value(f"{where}.{key}", value, types[key]) for key, value in _table(where, table).items()}


def _value(key: str, value: Any, kind: Any) -> Any:
    """Return the value if it has that type, or if it is a size as text."""
    if isinstance(value, str) and key.rpartition(".")[2] in sizes.SIZES:
        return value  # the receiving method parses it
    try:
        return msgspec.convert(_none_if_false(value, kind), kind)
    except msgspec.ValidationError as error:
        told = str(error)
        raise PlanError(f"{key} = {_shown(value)}: {told[0].lower()}{told[1:].replace('`', '')}.") from error


def _none_if_false(value: Any, kind: Any) -> Any:
    return None if value is False and NoneType in get_args(kind) else value


def _shown(value: object) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


def _table(key: str, value: object) -> TomlTable:
    if not isinstance(value, dict):
        raise PlanError(f"{key} = {_shown(value)} is not a table. Expected: [{key}], and its options below it.")
    return cast(TomlTable, value)


def _parameters(method: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(method).parameters)
