"""Starting apps for a test, and the look at what is left when they have ended."""

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
"""All that run at the moment, whoever has started them: when a test fails, what they have printed is shown."""
_numbers = itertools.count(1)


class Stage:
    """The apps of one test. `places`: where relative paths are looked for; the first one first."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places
        uvloop.new_event_loop().close()  # the first one opens a pipe of libuv's, for as long as the process lives
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
        """Starts an app under a name of its own, and waits until all of it is ready."""
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
        """Ends all of them; what they and the test have left, but for what is allowed."""
        kinds = leaks.check_kinds(allowed)
        found: list[Leak] = []
        for app in reversed(self.apps):
            left = app.leaks(*allowed)
            found += left + app.end(at_once=bool(left))  # what nobody waits for any more need not be finished
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
    """Runs an app for the time of a `with`: for fixtures of one's own, and without pytest.

    `what`: a main script, or an `App` that was described and not run; or roles by name, each with its module, as in
    `start(back="./back.py")`. `roles`: which of them run, and how many workers each: "back=1,stats". `one_process`:
    in this process (False, unless pytest was told `--mob-one-process`). `directory`: where relative paths are looked
    for. `wait`: until all is ready (True). `allow`: kinds of leaks that are meant. `PlanError` if the description is
    wrong, `NotReady` if the app does not come up, `Leaked` at the end if something was left.

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
