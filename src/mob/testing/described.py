"""What is to be tested, as the test says it: a main script, an app that was described, or single roles.

A relative path is looked for in each of the given directories, the first one first: that of the test file, and the one
that pytest calls rootdir.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path

import msgspec

from mob import app as apps
from mob.app import App
from mob.errors import PlanError, nearest
from mob.plan import QUEUE_ENV, Plan, RolePlan, places_in, queue_role
from mob.rim.places import queue_file

SETUP = "mob.testing.injection:install"
"""What the kit has each mobster do first, so that it can be made to fail."""


class Described(msgspec.Struct, frozen=True):
    """An app that can be started, here or in another process."""

    name: str
    """The one that it gets for the test."""
    directory: str
    """Where its Kingpin is started."""
    script: str = ""
    """The main script; "" if there is a plan."""
    plan: Plan | None = None
    roles: str = ""
    """Which roles are to run, and how many workers each: "back=1,stats"; "" for all of them."""


class _Found(BaseException):
    """The script has said `run()`: what it describes is known. No `except Exception` of the script is to catch it."""

    def __init__(self, app: App) -> None:
        self.app = app


def described(
    what: str | PathLike[str] | App | None,
    roles: str,
    modules: Mapping[str, str | PathLike[str]],
    name: str,
    places: Sequence[Path],
) -> Described:
    """The app that a test asks for. `PlanError` tells what is wrong with it."""
    if what is None:
        if not modules:
            raise PlanError(
                "nothing to start. Wanted: a main script, an app, or roles, as in mob_app(back='./back.py')."
            )
        what = _app_of(modules, name, places)
    elif modules:
        raise PlanError(f"roles ({', '.join(modules)}) are for an app without a main script: leave out one of the two.")
    if isinstance(what, App):
        amend(what, name, roles)
        plan = what.hand_over()
        return Described(name, plan.base, plan=plan)
    script = _found(fspath(what), places)
    return Described(name, str(script.parent), script=str(script), roles=roles)


def amend(app: App, name: str, roles: str) -> None:
    """Changes an app as a test needs it: its name, which roles run, and that each mobster can be made to fail. Its
    durable jobs lie in a file of their own, which goes with the test."""
    own = tuple(_keeping_at(role, queue_file(name)) if role.keeps_jobs else role for role in app.plan.roles)
    app.amend(msgspec.structs.replace(app.plan, name=name, roles=own, setup=(SETUP, *app.plan.setup)))
    if roles:
        app.place(**places_in(roles, app.plan))


def _keeping_at(role: RolePlan, path: Path) -> RolePlan:
    """The role that keeps durable jobs, with another file."""
    place = f"{QUEUE_ENV}PATH"
    return msgspec.structs.replace(role, env={**role.env, place: queue_role(str(path)).env[place]})


def forget_jobs(name: str) -> None:
    """Remove the files of the durable jobs of an app under test, if it has made any."""
    with contextlib.suppress(OSError):
        path = queue_file(name)
        for suffix in ("", "-wal", "-shm", ".lock"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def plan_of(wanted: Described) -> Plan:
    """The plan, for which the script is run here, up to its `run()`."""
    if wanted.plan is not None:
        return wanted.plan
    hook = partial(_take, wanted)
    path, argv = sys.path[:], sys.argv
    apps.before_run.append(hook)
    sys.path.insert(0, wanted.directory)
    try:
        apps.run_script(wanted.script)
    except _Found as found:
        return found.app.hand_over()
    finally:
        apps.before_run.remove(hook)
        sys.path[:], sys.argv = path, argv
    raise PlanError(f"{wanted.script} has come to its end and started no app. Does it lack .run()?")


def _take(wanted: Described, app: App) -> None:
    amend(app, wanted.name, wanted.roles)
    raise _Found(app)


def _app_of(modules: Mapping[str, str | PathLike[str]], name: str, places: Sequence[Path]) -> App:
    app = apps.start(name).base(places[-1])
    for role, module in modules.items():
        text = fspath(module)
        app.role(role, _found(text, places) if text.endswith(".py") else text)
    return app


def _found(path: str, places: Sequence[Path]) -> Path:
    """A file, wherever it lies."""
    for place in places:
        if (there := place / path).is_file():
            return there.resolve()
    near = [each.name for place in places for each in (place / path).parent.glob("*.py")]
    where = ", nor in ".join(str(place) for place in dict.fromkeys(places))
    raise PlanError(f"there is no file {path!r} in {where}. {nearest(Path(path).name, near)}")
