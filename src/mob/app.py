"""What an app's main script says: `mob.start("myapp").base(__file__).role(...).run()`.

Collects a `Plan`, checks it where the line that is wrong stands, and hands it to the Kingpin.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.util
import os
import re
import runpy
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack, cast

import msgspec

from mob import plan as plans, serve as serving, sizes, spellings, templates
from mob.errors import AppRunning, MobError, NotInMobster, PlanError, nearest
from mob.hiding import hidden_by
from mob.kingpin import early
from mob.plan import Plan, RoleOptions, RolePlan
from mob.rim import cores, devices, interpreter, places
from mob.rim.tie import KINGPIN, TiedApp
from mob.spellings import spelled

if TYPE_CHECKING:
    from mob.client import Client

TOKEN = "MOB_DASHBOARD_TOKEN"
CLUSTER = "MOB_CLUSTER"
NODE = "MOB_NODE"
ROLES = "MOB_ROLES"
UP_TIMEOUT = 60.0
"""Seconds that an app may take to come up."""
POOL = "mob.pools.worker"
"""The module of a pool's role."""
STORE = "mob.stores.worker"
"""The module of a store's role."""
STREAMS = 1_000_000
"""How many may hold a lock of a store, wait for one, or watch keys of it."""


before_run: list[Callable[[App], None]] = []
"""Called, in order, with an app that is about to run here, and may change it: `mob run` has options for that."""
_described: list[App] = []


def run_script(script: str | Path, *args: str) -> None:
    """Run a main script in this process, as `python SCRIPT ARGS` would."""
    sys.argv = [str(script), *args]
    sys.path[0] = str(Path(script).resolve().parent)
    runpy.run_path(str(script), run_name="__main__")


def forgotten() -> App | None:
    """Return an app that was described in this process, if none of those that were has run."""
    with_roles = [app for app in _described if app.plan.roles]
    return None if any(app.has_run for app in with_roles) else next(iter(with_roles), None)


class App:
    """An app that is being described. Each method changes it and returns it, so the lines can be chained."""

    def __init__(
        self,
        name: str,
        *,
        grace: float = plans.GRACE,
        frame_limit: int | str = plans.FRAME_LIMIT,
        backlog: int | str = plans.BACKLOG,
        strategy: plans.Strategy = "one_for_one",
        metrics: bool = True,
    ) -> None:
        plan = Plan(
            plans.check_app_name(name),
            places.here(),
            grace=grace,
            **sizes.settled({"frame_limit": frame_limit, "backlog": backlog}, cores.usable),
            strategy=strategy,
            metrics=metrics,
        )
        self._plan = plan
        self._has_run = False
        _described.append(self)
        self._urls: list[str] = []  # of the dashboard
        self._queue_path = ""  # if one was said
        atexit.register(self._complain_unless_run)

    def __repr__(self) -> str:
        roles = ", ".join(f"{role.name} x {role.workers}" for role in self._plan.roles)
        return f"<App {self._plan.name!r}: {roles or 'no roles yet'}>"

    @property
    def has_run(self) -> bool:
        """Whether `run` was called, or its plan was handed over."""
        return self._has_run

    @property
    def plan(self) -> Plan:
        """What was said so far."""
        return self._plan

    def base(self, path: str | os.PathLike[str]) -> App:
        """The directory from which role paths are resolved; of a file, the one it lies in. Say it before `role`.

        In a zip archive (`python app.pyz`) that is the directory of the archive; import strings such as "back" name the
        roles that lie in it.

        Symbolic links in it are kept: where `current` is pointed to another release, a reload runs that.

        >>> mob.start("myapp").base(__file__)        # doctest: +SKIP
        """
        place = Path(places.spelled(os.fspath(path)))
        if not place.exists():  # a file within an archive lies below one that is there, and no directory
            place = next((each for each in place.parents if each.is_file()), place)
        if not place.exists():
            raise PlanError(f"base({str(path)!r}): there is no such file or directory ({place}).")
        self._plan = msgspec.structs.replace(self._plan, base=str(place if place.is_dir() else place.parent))
        return self

    def preload(self, *modules: str) -> App:
        """Modules that are imported once, in the fork server, and shared by all mobsters (copy on write).

        For what is big and does nothing but define things: `numpy`, your own models. The Kingpin imports none of it; a
        reload imports it anew. A module that starts threads at import does not belong here.

        >>> app.preload("numpy", "mymodels")         # doctest: +SKIP
        """
        for module in modules:
            if not all(part.isidentifier() for part in str(module).split(".")):
                raise PlanError(f"preload({module!r}): wanted are import strings, such as 'numpy' or 'pkg.models'.")
            if not _can_find(module.partition(".")[0], self._plan.base):
                raise PlanError(
                    f"preload({module!r}): there is no such module, neither in {self._plan.base} nor among the "
                    f"installed packages."
                )
        self._plan = msgspec.structs.replace(self._plan, preload=(*self._plan.preload, *modules))
        return self

    @spelled(spellings.LOGS, PlanError)
    def logs(
        self,
        *,
        format: plans.LogFormat = "text",
        file: str | os.PathLike[str] | None = None,
        max_bytes: int | str = plans.Logs().max_bytes,
        keep: int = plans.Logs().keep,
        mode: int = plans.Logs().mode,
        raw: bool = plans.Logs().raw,
    ) -> App:
        """Where what the mobsters print goes, and in which form.

        `format`: "text" (lines with a prefix) or "json" (an object for each line). `file`: it goes there and not to
        the terminal; a relative path is below the base. At `max_bytes` (64 MiB; also as
        text, "100M") the file is put aside as file.1, and
        `keep` (5) of those are kept. `mode`: the permissions of files that are made (0o600: nobody else may read them).
        `raw`: a terminal gets every byte that was printed; else colours stay, and what moves the cursor, sets titles or
        the clipboard is left out. Files and pipes always get every byte. `PlanError` tells what does not fit.

        >>> app.logs(format="json", file="app.log")          # doctest: +SKIP
        """
        path = None if file is None else str(Path(self._plan.base, file).absolute())
        try:
            size = sizes.settled({"max_bytes": max_bytes}, cores.usable)["max_bytes"]
        except PlanError as error:
            raise PlanError(f"logs: {error}") from None
        logs = plans.check_logs(plans.Logs(format, path, size, keep, mode, raw))
        self._plan = msgspec.structs.replace(self._plan, logs=logs)
        return self

    def titles(self, style: plans.TitleStyle = "plain") -> App:
        """Choose how the processes are titled in ps(1), top, pgrep, and the Kingpin in `mob ps`.

        For places where the words "Kingpin" and "mobster" are unwelcome or might confuse, as in the logs of a service
        manager. The environment variable `MOB_TITLES` overrides it.

        Args:
            style: "plain": "myapp: supervisor", "myapp: back.0"; "mob", which is used without this method:
                "myapp (kingpin)", "myapp - back (mobster)".

        Raises:
            PlanError: when the style is unknown.

        Example:
            >>> app.titles("plain")                          # doctest: +SKIP
        """
        if style not in plans.TITLES:
            raise PlanError(f"titles({style!r}): unknown style. {nearest(str(style), plans.TITLES)}")
        self._plan = msgspec.structs.replace(self._plan, titles=style)
        return self

    def trace(self, setup: str = "") -> App:
        """Has every call traced by OpenTelemetry: a span for each, and the context goes along with it.

        `setup`: a function, as "module:function", that sets OpenTelemetry up in each mobster, before the role's module
        is imported. Without it that is done as the OTEL_ variables of the environment say, with the app and the role as
        the names of the service. `PlanError` if OpenTelemetry is not installed, or if the function cannot be one.

        >>> app.trace("tracing:setup")                        # doctest: +SKIP
        """
        if importlib.util.find_spec("opentelemetry") is None:
            raise PlanError("trace(): OpenTelemetry is not installed. Try: pip install 'mobsters[trace]'")
        module, colon, function = setup.partition(":")
        if setup and not (colon and function.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise PlanError(f"trace({setup!r}): wanted is a function as 'module:function', such as 'tracing:setup'.")
        self._plan = msgspec.structs.replace(self._plan, trace=setup)
        return self

    def role(self, name: str, module: str | os.PathLike[str], **options: Unpack[RoleOptions]) -> App:
        """Adds a role: its name, the module that its mobsters run, and options.

        `module`: a file ending in `.py`, relative to the base, or an import string such as `pkg.module`. `serve`: the
        address, "127.0.0.1:8000" or "unix:./web.sock", at which the ASGI or WSGI application of the module is served
        over HTTP; its name stands behind a colon, "shop:app", and `serve_options` are those of uvicorn; see
        docs/http.md. `workers`: how many mobsters (1), or "cores", "cores*2". `threads`: how many plain `def` exports
        run at once (1, on the loop), or requests of a WSGI application (10). `concurrency`: how many `async def`
        exports run at once (100). `loop`: "uvloop", or "asyncio" for libraries that change asyncio's own loop. `queue`:
        how many calls may wait in one worker (10,000). `shared_memory`: how many bytes of large buffers each mobster
        may have on their way to others, or looked at by them (256 MiB); 0 sends them through the sockets. Sizes may be
        text, "500M". docs/places.md tells of `gpus` and of templates in `env`, docs/supervision.md of the others:
        `restart`, `intensity`, `period`, `stop_exit_codes`, `needs`, `essential`; `boot_timeout`, `boot_tries`,
        `hang_timeout`; `max_calls`, `max_age`, `max_memory`; `max_workers`; `singleton`; `callers`; `env`, `nice`,
        `cpus`, `limits`. `PlanError` tells what does not fit.

        >>> app.role("back", "./background_worker.py", workers=4)                        # doctest: +SKIP
        >>> app.role("web", "./shop.py:app", workers=2, serve="127.0.0.1:8000")          # doctest: +SKIP
        """
        for option in options:
            if option not in plans.OPTIONS:
                raise PlanError(f"role {name!r}: there is no option {option!r}. {nearest(option, plans.OPTIONS)}")
        if not _is_path(module):
            raise PlanError(
                f"role {name!r}: {module!r} is no module. Wanted: a file ending in .py, as in "
                f'.role("back", "./background_worker.py"), or an import string such as "pkg.module".'
            )
        try:
            frozen = {key: _frozen(value) for key, value in sizes.settled(options, cores.usable).items()}
        except PlanError as error:
            raise PlanError(f"role {name!r}: {error}") from None
        path, application = serving.split(os.fspath(module))
        role = plans.check_role(RolePlan(name, path, application=application, **frozen), self._plan.roles)
        role = msgspec.structs.replace(role, module=self._resolve(name, role.module))
        if role.serve is not None:
            role = self._served(role, role.serve)
        self._plan = msgspec.structs.replace(self._plan, roles=(*self._plan.roles, role))
        return self

    def pool(self, name: str, **options: Unpack[RoleOptions]) -> App:
        """Adds a role that runs any function that a mobster or client of this machine submits to `mob.pool(name)`.

        The functions are pickled, so whoever may call the role may run any code in its workers: processes of the same
        user on this machine. `callers` names the roles that may. The options are those of `role`; `workers`: by default
        "cores", as many as this process may use. See docs/pool.md.

        >>> app.pool("crunch", workers=4)                                                # doctest: +SKIP
        """
        options.setdefault("workers", "cores")
        self.role(name, POOL, **options)
        *others, role = self._plan.roles
        role = msgspec.structs.replace(role, pool=True)
        self._plan = msgspec.structs.replace(self._plan, roles=(*others, role))
        return self

    @spelled(spellings.STORE, PlanError)
    def store(
        self,
        name: str,
        *,
        max_memory: int | str | None = None,
        file: str | os.PathLike[str] | None = None,
        callers: Sequence[str] = (),
    ) -> App:
        """Adds a store: a role of one worker, with keys and values, counters, locks and rate limits that all processes
        of the app share, as `mob.store(name)`.

        `max_memory`: bytes that keys and values may take, as a number or as text ("500M"); beyond it the least recently
        used ones are dropped. None: no bound. `file`: where they are kept as well, so that they survive the death of
        the store and of the app; a relative path is below the base. None: nowhere. `callers`: the roles that may use
        it, "client" for processes from outside; none: everybody may. In a cluster there is one store in all.
        `PlanError` tells what does not fit. See docs/store.md.

        >>> app.store("cache", max_memory="500M")                                        # doctest: +SKIP
        """
        stores = importlib.import_module("mob.stores.settings")
        path = None if file is None else str(Path(self._plan.base, file).absolute())
        settings = stores.settings_of(name, max_memory, path)
        return self.role(
            name,
            STORE,
            singleton=True,
            concurrency=STREAMS,
            callers=(*callers, name) if callers else (),  # the next worker of a store asks the one before
            env=stores.variable_of(name, settings),
        )

    @spelled(spellings.QUEUE, PlanError)
    def queue(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        keep: float = plans.QUEUE_KEEP,
        in_hand: int = plans.QUEUE_IN_HAND,
    ) -> App:
        """Says where durable jobs are kept, and how. Without it they are kept in the state directory of the user.

        Jobs are calls with `options(durable=True)` and messages with `send(durable=True)`; see docs/jobs.md. `path`:
        the SQLite file that they lie in, relative to the base (`~/.local/state/mob/queues/APP.db`). `keep`: seconds for
        which a result can be asked for (86,400: a day). `in_hand`: jobs that one worker is given at a time (4). One
        process more, of the role "queue", keeps them. In a cluster they lie in JetStream, and `path` is refused. Say it
        once. `PlanError` tells what does not fit.

        >>> app.queue("jobs.db", keep=3600)                   # doctest: +SKIP
        """
        try:
            file = places.queue_file(self._plan.address) if path is None else Path(self._plan.base, path).absolute()
        except FileNotFoundError as error:
            raise PlanError(f"queue(): {error.strerror}. Say where the jobs are kept: queue(path).") from error
        if path is not None and (file.is_dir() or not file.parent.is_dir()):
            what = "is a directory" if file.is_dir() else f"cannot be made: there is no directory {file.parent}"
            raise PlanError(f"queue({str(path)!r}): {file} {what}. Wanted: the file in which jobs are kept.")
        role = plans.queue_role(str(file), keep, in_hand)
        for each in self._plan.roles:
            if each.keeps_jobs:
                raise PlanError("queue() was said already: an app has one queue. Put all options into one queue(...).")
            if each.name == plans.QUEUE:
                raise PlanError(plans.NAME_TAKEN)
        self._plan = msgspec.structs.replace(self._plan, roles=(role, *self._plan.roles))  # first, so it ends last
        self._queue_path = "" if path is None else str(path)
        return self

    def _find_queue(self) -> None:
        """Jobs that were left by the app when it last ran are done, whether or not it makes any today."""
        if not any(role.name == plans.QUEUE for role in self._plan.roles):
            where = places.queue_file if self._plan.cluster is None else places.queue_mark
            with contextlib.suppress(OSError):
                if where(self._plan.address).exists():
                    self.queue()

    @spelled({"address": "'host'"}, PlanError)
    def dashboard(self, port: int = 4777, host: str = "127.0.0.1", token: str | None = None) -> App:
        """Adds the web dashboard: a role of its own, named "dashboard", which serves a page on that address.

        On the loopback whoever has an account on this machine may look at it; on any other host it needs the token.
        Actions (reload, scale, restart, stacks) always do. Without `token` one is made up at each start, and the page's
        URL, with the token, is printed. `PlanError` if starlette or uvicorn are not installed. See docs/dashboard.md.

        >>> app.dashboard(port=4777)                          # doctest: +SKIP
        """
        missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
        if missing:
            raise PlanError(
                f"dashboard(): {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed. "
                f"Try: pip install 'mobsters[web]'"
            )
        # Kept in the environment, so that a Kingpin with new code, which is the same process, does not make up another.
        secret = token if token is not None else os.environ.setdefault(TOKEN, secrets.token_urlsafe(24))
        plans.check_dashboard(port, host, secret)
        shown = f"[{host}]" if ":" in host else host
        self._urls.append(f"http://{shown}:{port}/" + ("" if token else f"#token={secret}"))
        env = {"MOB_DASHBOARD_HOST": host, "MOB_DASHBOARD_PORT": str(port), TOKEN: templates.escaped(secret)}
        return self.role("dashboard", "mob.dashboard.app", env=env)

    @spelled({}, PlanError)
    def cluster(
        self,
        *servers: str,
        node: str | None = None,
        credentials: str | os.PathLike[str] | None = None,
        nkey: str | os.PathLike[str] | None = None,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        gateways: int = 1,
    ) -> App:
        """Has this machine be one of several that run the app, and meet over NATS at these addresses.

        `node`: what it is called; no two machines have one name (that of the machine). `credentials`, `nkey`: the files
        that NATS knows this machine by; or `user` and `password`, or `token`. `ca`: the certificates that the server's
        is checked against; `cert` and `key`: this machine's own. `gateways`: how many processes carry what goes to
        other machines (1). `PlanError` tells what does not fit. See docs/cluster.md.

        >>> app.cluster("nats://10.0.0.1:4222")               # doctest: +SKIP
        """
        if importlib.util.find_spec("nats") is None:
            raise PlanError("cluster(): nats-py is not installed. Try: pip install 'mobsters[cluster]'")
        files = {"credentials": credentials, "nkey": nkey, "ca": ca, "cert": cert, "key": key}
        paths = {name: None if file is None else str(self._existing(name, file)) for name, file in files.items()}
        given = node if node is not None else os.environ.get(NODE)
        cluster = plans.Cluster(
            servers,
            given or _machine_name(),
            user=user,
            password=password,
            token=token,
            is_named=given is not None,
            gateways=gateways,
            **paths,
        )
        gateway = RolePlan(plans.GATEWAY, "mob.cluster.gateway", workers=gateways)
        others = tuple(role for role in self._plan.roles if role.name != plans.GATEWAY)
        self._plan = msgspec.structs.replace(
            self._plan,
            cluster=plans.check_cluster(cluster),
            roles=(gateway, *others),  # first, so that it ends last: the others may still have answers to send
        )
        return self

    def place(self, **workers: int) -> App:
        """Runs so many workers of these roles on this machine, and none of the others.

        >>> app.place(back=8)                                 # doctest: +SKIP
        """
        self._plan = plans.placed(self._plan, workers)
        return self

    def hand_over(self) -> Plan:
        """The checked plan, for somebody who runs it in the place of `run`."""
        self._has_run = True
        return self._complete()

    def _complete(self) -> Plan:
        """The checked plan, with what is only known where the app is started."""
        if self._queue_path and self._plan.cluster is not None:
            raise PlanError(
                f"queue(path={self._queue_path!r}): in a cluster durable jobs lie in JetStream, not in a file. Leave "
                f"out path= or .cluster(). Jobs that are left in the file do not move there: have them done first."
            )
        self._plan = devices.assigned(plans.check_limits(self._plan))
        if any(role.module == STORE for role in self._plan.roles):
            importlib.import_module("mob.stores.settings").check_files(self._plan, STORE)
        if (absent := sys.modules.get("mob.mobster.absent")) is not None:
            absent.check_unheard(self._plan)
        return self._plan

    def amend(self, plan: Plan) -> App:
        """Put another plan in the place of this one: for tools that run the apps of others."""
        self._plan = plan
        return self

    def run(self) -> None:
        """Becomes the Kingpin: launches the mobsters and returns when the app has stopped in order.

        `PlanError` if there is nothing to run, `AppRunning` if an app of that name runs already, `MobError` in a thread
        and where an event loop runs (a coroutine, a notebook). A stop that had to be forced ends the process with
        status 1.
        """
        self._has_run = True
        if "mob.mobster.api" in sys.modules and sys.modules["mob.mobster.api"]._peer is not None:
            raise NotInMobster("run() was called in a mobster. An app is started by its main script, once.")
        interpreter.check()
        if self._plan.cluster is None and os.environ.get(CLUSTER):
            self.cluster(*os.environ[CLUSTER].split(","))
        if os.environ.get(ROLES):
            self.place(**plans.places_in(os.environ[ROLES], self._plan))
        for hook in before_run:  # after the environment: who types a line means it
            hook(self)
        self._find_queue()
        self._complete()
        _check_place(self._plan.name)
        self._say_first()
        is_successor = early.UPGRADE in os.environ  # which has its name already
        if is_successor:
            self._say_urls()
        _flush_output()
        try:
            status = early.run(self._plan, None if is_successor else self._say_urls)
        except AppRunning as error:
            _show_in_one_line(error)
            raise
        if status:
            raise SystemExit(status)

    def up(self, timeout: float = UP_TIMEOUT) -> Client:
        """Starts the app beside this script and waits until it is up; a client of it, whose end stops the app.

        It is up when every worker was ready once. `timeout`: seconds that this may take. What the mobsters print is
        printed where this script prints. The app ends with the `with` block, with `close()`, and at the latest with
        this process, by whatever way that ends. It can be called from any thread, where an event loop runs, in a
        notebook, and in a mobster of another app; several apps may run at once, each under a name of its own. MOB_ROLES
        and MOB_CLUSTER, which change what `run` starts, do nothing here.

        `PlanError` if there is nothing to run, `AppRunning` if an app of that name runs already, `MobError` if the app
        does not come up: at once if a role cannot be started, with its traceback.

        >>> with mob.start("myapp").role("back", "./back.py").up() as app:       # doctest: +SKIP
        ...     app.require("back").foo(1).result()
        """
        self._has_run = True
        interpreter.check()
        self._find_queue()
        self._complete()
        self._say_first()
        tied = TiedApp(KINGPIN, self._plan)
        try:
            background = importlib.import_module("mob.background")  # while the Kingpin starts
            if self._urls:
                tied.wait_listening()
                self._say_urls()
        except BaseException:  # Ctrl-C
            tied.end(self._plan.grace)
            raise
        return background.up(self._plan, tied, timeout)

    def _say_first(self) -> None:
        """Says what is to be known of the app before it is started."""
        for role in self._plan.roles:
            if hides := hidden_by(role, self._plan.base, sys.path):
                print(f"mob: {hides}", file=sys.stderr, flush=True)
        if self._plan.cluster is not None and self._plan.cluster.is_open:
            where = ", ".join(self._plan.cluster.addresses)
            print(
                f"mob: NATS at {where} asks this machine for nothing: whoever reaches it can call, steer and stop this "
                f"app. See 'Who may do what' in docs/cluster.md.",
                file=sys.stderr,
            )

    def _say_urls(self, _address: str = "") -> None:
        """Says where the dashboard is, as soon as it is known that no other app has the name."""
        for url in self._urls:  # not by the mobster: what it prints is a log, which is shown to whoever may read
            print(f"dashboard: {url}", flush=True)

    def _existing(self, name: str, file: str | os.PathLike[str]) -> Path:
        path = Path(self._plan.base, file).absolute()
        if not path.is_file():
            raise PlanError(f"cluster: {name}: there is no file {path}.")
        return path

    def _served(self, role: RolePlan, address: str) -> RolePlan:
        """The role, where all that it needs to serve is there."""
        missing = [name for name in ("uvicorn", "httptools") if importlib.util.find_spec(name) is None]
        if missing:
            raise PlanError(
                f"role {role.name!r}: serve={address!r} needs {' and '.join(missing)}. Try: pip install 'mobsters[web]'"
            )
        where, options = serving.below(self._plan.base, address, role.serve_options)
        return msgspec.structs.replace(role, serve=where, serve_options=options)

    def _resolve(self, name: str, module: str) -> str:
        if module.endswith(".py") or "/" in module:
            path = Path(places.spelled(os.path.join(self._plan.base, module)))
            path = path.resolve() if path.is_symlink() else path  # as Python does with a script
            if not path.is_file():
                near = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
                raise PlanError(
                    f"role {name!r}: there is no file {path}. {nearest(path.name, near)} "
                    f"Role files are looked up from the base; .base(__file__) makes it the main script's directory."
                )
            return str(path)
        top = module.partition(".")[0]
        if not all(part.isidentifier() for part in module.split(".")):
            raise PlanError(
                f"role {name!r}: {module!r} is neither a file (it would end in .py) nor an import string "
                f"(names with dots between)."
            )
        if not _can_find(top, self._plan.base):
            raise PlanError(
                f"role {name!r}: there is no module {top!r} to import {module!r} from, neither in {self._plan.base} "
                f"nor among the installed packages. Is it a file? Then write './{module.replace('.', '/')}.py'."
            )
        return module

    def _complain_unless_run(self) -> None:
        was_stopped_by_an_error = getattr(sys, "last_value", None) is not None  # the interpreter has shown that one
        if not self._has_run and self._plan.roles and not was_stopped_by_an_error:
            print(
                f"mob: the app {self._plan.name!r} was described but never run. Did you forget .run() at the end?",
                file=sys.stderr,
            )


@spelled({}, PlanError)
def start(
    name: str,
    *,
    grace: float = plans.GRACE,
    frame_limit: int | str = plans.FRAME_LIMIT,
    backlog: int | str = plans.BACKLOG,
    strategy: plans.Strategy = "one_for_one",
    metrics: bool = True,
) -> App:
    """Begins to describe an app. Its name prefixes every process title and is what `mob.connect` takes.

    `grace`: seconds that an orderly stop may take (30). `frame_limit`: the longest message in bytes (256 MiB).
    `backlog`: bytes of calls that may wait in one process for workers (64 MiB); a call beyond that raises `Busy`. Both
    may be text, "64M". `strategy`: who is restarted when a worker has died: only it ("one_for_one"), or the roles
    declared after its own as well ("rest_for_one"). `metrics`: whether calls are counted and timed (True). `PlanError`
    if the name cannot be one.

    >>> import mob
    >>> mob.start("myapp")
    <App 'myapp': no roles yet>
    """
    return App(name, grace=grace, frame_limit=frame_limit, backlog=backlog, strategy=strategy, metrics=metrics)


def _flush_output() -> None:
    """Have what the main script has printed come before what the app prints, and not when the script ends."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # there is none, it is closed, or nobody reads
            stream.flush()


def _show_in_one_line(error: MobError) -> None:
    """Have this error, if the main script does not catch it, shown without the frames of mob that it came through. A
    hook that the script has set stays."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = partial(_show_uncaught, error)


def _show_uncaught(
    expected: MobError, kind: type[BaseException], error: BaseException, tb: TracebackType | None
) -> None:
    if error is expected:
        print(f"mob: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, tb)


def _check_place(name: str) -> None:
    """Raise `MobError` where a Kingpin cannot be: it handles the signals of its process, and runs a loop of its own."""
    instead = (
        f"Call it at the top level of the main script (`python main.py`), or start that script as a process of its "
        f'own: subprocess.Popen([sys.executable, "-m", "mob", "run", "main.py"]), then mob.connect({name!r}).'
    )
    if threading.current_thread() is not threading.main_thread():
        raise MobError(
            f"run() was called in the thread {threading.current_thread().name!r}, and the Kingpin handles the signals "
            f"of its process, which only the main thread can. {instead}"
        )
    asyncio = sys.modules.get("asyncio")  # who runs a loop has imported it
    if asyncio is None or asyncio._get_running_loop() is None:
        return
    raise MobError(
        f"run() was called where an event loop runs already (in a coroutine, or in a notebook), and the Kingpin has "
        f"a loop of its own. {instead}"
    )


def _machine_name() -> str:
    """What this machine is called, made a name if it is none."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64]
    return name if name[:1].isalpha() else f"node-{name}"[:64]


def _frozen(value: Any) -> Any:
    """A list as the tuple that the plan wants."""
    return tuple(cast(list[Any], value)) if isinstance(value, list) else value


def _is_path(module: object) -> bool:
    """Whether it is text, or an object that stands for a path of text."""
    return isinstance(module, str) or (isinstance(module, os.PathLike) and isinstance(module.__fspath__(), str))


def _can_find(top: str, base: str) -> bool:
    """Whether a top-level module can be found, without importing anything."""
    if Path(base, top).is_dir() or Path(base, f"{top}.py").is_file():
        return True
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False
