"""Starts apps for a test, and checks what is left when they have ended."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Generator, Sequence
from pathlib import Path

import uvloop

from mob import testing
from mob.app import App
from mob.testing import leaks
from mob.testing.app import AppUnderTest, NotReady
from mob.testing.described import Described, described, forget_jobs
from mob.testing.hosts import Host, Processes
from mob.testing.leaks import Leak, Leaked
from mob.testing.one_process import OneProcess

What = str | os.PathLike[str] | App | None
running: list[AppUnderTest] = []
"""All apps that run now, by any starter: if a test fails, their output is shown."""
_numbers = itertools.count(1)


class Stage:
    """The apps of one test; `places`: the directories in which relative paths are looked for, in turn."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places
        uvloop.new_event_loop().close()  # the first one opens a pipe of libuv's, for the lifetime of the process
        self._before = leaks.descriptors()
        self.apps: list[AppUnderTest] = []

    def __repr__(self) -> str:
        return f"<Stage with {len(self.apps)} apps>"

    def start(
        self,
        what: What = None,
        *,
        roles: str = "",
        one_process: bool | None = None,
        wait: bool = True,
        **modules: str | os.PathLike[str],
    ) -> AppUnderTest:
        """Start an app under a name of its own, and wait until all of it is ready."""
        name = f"test-{os.getpid()}-{next(_numbers)}"
        wanted = described(what, roles, modules, name, self._places)
        host = _host(wanted, testing.in_one_process if one_process is None else one_process)
        try:
            app = AppUnderTest(host)
        except BaseException:
            host.end()
            raise
        self.apps.append(app)
        running.append(app)
        app.open()
        if wait:
            try:
                app.wait_ready()
            except NotReady as failed:
                raise app.give_up(failed.why) from None
        return app

    def end(self, allowed: Sequence[str] = ()) -> list[Leak]:
        """End all apps; return what they and the test left, except what is allowed."""
        kinds = leaks.check_kinds(allowed)
        found: list[Leak] = []
        for app in reversed(self.apps):
            left = app.leaks(*allowed)
            found += left + app.end(at_once=bool(left))  # leaked calls need not be finished
            forget_jobs(app.app)
            running.remove(app)
        self.apps.clear()
        found += leaks.settled(lambda: leaks.new_descriptors(self._before), kinds)
        return [leak for leak in found if leak.kind not in kinds]


def _host(wanted: Described, one_process: bool) -> Host:
    return OneProcess(wanted) if one_process else Processes(wanted)


@contextlib.contextmanager
def start(
    what: What = None,
    *,
    roles: str = "",
    one_process: bool | None = None,
    directory: str | os.PathLike[str] = ".",
    wait: bool = True,
    allow: Sequence[str] = (),
    **modules: str | os.PathLike[str],
) -> Generator[AppUnderTest, None, None]:
    """Run an app during a `with` block: for fixtures of your own, and without pytest.

    Args:
        what: A main script, or an `App` that was described and not run. Default: None, for single roles.
        roles: The roles that run, and their numbers of workers: "back=1,stats". Default: "", all.
        one_process: Run the app in this process. Default: False, unless pytest has the option `--mob-one-process`.
        directory: The directory in which relative paths are looked for. Default: the current one.
        wait: Wait until all is ready. Default: True.
        allow: Kinds of leaks to allow. Default: none.
        **modules: Roles by name, each with its module, instead of `what`, as in `start(back="./back.py")`.

    Raises:
        PlanError: The description is wrong.
        NotReady: The app does not come up.
        Leaked: Something was left at the end.

    Example:
        >>> with mob.testing.start("main.py") as app:             # doctest: +SKIP
        ...     assert app.require("back").foo(1).result() == 2
    """
    stage = Stage([Path(directory).absolute()])
    try:
        yield stage.start(what, roles=roles, one_process=one_process, wait=wait, **modules)
    except BaseException:
        stage.end()
        raise
    if left := stage.end(allow):
        raise Leaked(left)
