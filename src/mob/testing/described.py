"""The app to test, as the test describes it: a main script, an `App`, or single roles.

A relative path is looked for in each of the given directories in turn: that of the test file, then the rootdir of
pytest.
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
"""The set-up function of each mobster, which makes faults possible."""


class Described(msgspec.Struct, frozen=True):
    """An app that can be started, here or in another process."""

    name: str
    """Its name for the test."""
    directory: str
    """The directory in which its Kingpin starts."""
    script: str = ""
    """The main script; "" if there is a plan."""
    plan: Plan | None = None
    roles: str = ""
    """The roles that run, and their numbers of workers: "back=1,stats"; "" for all."""


class _Found(BaseException):
    """Raised by `run()` of the script when its app is known; no `except Exception` of the script can catch it."""

    def __init__(self, app: App) -> None:
        self.app = app


def described(
    what: str | PathLike[str] | App | None,
    roles: str,
    modules: Mapping[str, str | PathLike[str]],
    name: str,
    places: Sequence[Path],
) -> Described:
    """Return the app that a test asks for; raise `PlanError` if the description is wrong."""
    if what is None:
        if not modules:
            raise PlanError(
                "nothing to start. Expected: a main script, an app, or roles, as in mob_app(back='./back.py')."
            )
        what = _app_of(modules, name, places)
    elif modules:
        raise PlanError(f"roles ({', '.join(modules)}) cannot be combined with a main script or an app: leave out one.")
    if isinstance(what, App):
        amend(what, name, roles)
        plan = what.hand_over()
        return Described(name, plan.base, plan=plan)
    script = _found(fspath(what), places)
    return Described(name, str(script.parent), script=str(script), roles=roles)


def amend(app: App, name: str, roles: str) -> None:
    """Change an app for a test: its name, its roles, and the set-up for faults.

    Its durable jobs are in a file of their own, which is removed with the test.
    """
    own = tuple(_keeping_at(role, queue_file(name)) if role.keeps_jobs else role for role in app.plan.roles)
    app.amend(msgspec.structs.replace(app.plan, name=name, roles=own, setup=(SETUP, *app.plan.setup)))
    if roles:
        app.place(**places_in(roles, app.plan))


def _keeping_at(role: RolePlan, path: Path) -> RolePlan:
    """Return the role that keeps durable jobs, with another file."""
    place = f"{QUEUE_ENV}PATH"
    return msgspec.structs.replace(role, env={**role.env, place: queue_role(str(path)).env[place]})


def forget_jobs(name: str) -> None:
    """Remove the files of the durable jobs of an app under test, if there are any."""
    with contextlib.suppress(OSError):
        path = queue_file(name)
        for suffix in ("", "-wal", "-shm", ".lock"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def plan_of(wanted: Described) -> Plan:
    """Return the plan; a script is run for it here, up to its `run()`."""
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
    raise PlanError(f"{wanted.script} ended without starting an app. Does it lack .run()?")


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
    """Return a file from the first directory that has it."""
    for place in places:
        if (there := place / path).is_file():
            return there.resolve()
    near = [each.name for place in places for each in (place / path).parent.glob("*.py")]
    where = ", nor in ".join(str(place) for place in dict.fromkeys(places))
    raise PlanError(f"there is no file {path!r} in {where}. {nearest(Path(path).name, near)}")
