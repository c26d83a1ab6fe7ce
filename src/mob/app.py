"""The description of an app in its main script: `mob.start("myapp").base(__file__).role(...).run()`.

Collects a `Plan`, checks each part in the line that states it, and hands the whole to the Kingpin.
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
"""Maximum number of streams of a store: holders of locks, those that wait for one, and watchers of keys."""


before_run: list[Callable[[App], None]] = []
"""Functions called, in order, with an app before it runs here; they may change it, as the options of `mob run` do."""
_described: list[App] = []


def run_script(script: str | Path, *args: str) -> None:
    """Run a main script in this process, as `python SCRIPT ARGS` would."""
    sys.argv = [str(script), *args]
    sys.path[0] = str(Path(script).resolve().parent)
    runpy.run_path(str(script), run_name="__main__")


def forgotten() -> App | None:
    """Return an app with roles that was described in this process, if no app with roles ran in it."""
    with_roles = [app for app in _described if app.plan.roles]
    return None if any(app.has_run for app in with_roles) else next(iter(with_roles), None)


class App:
    """An app that is being described. Each method changes the app and returns it, so calls can be chained."""

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
        self._urls: list[str] = []  # of its dashboards
        self._queue_path = ""  # if a path was given
        atexit.register(self._complain_unless_run)

    def __repr__(self) -> str:
        roles = ", ".join(f"{role.name} x {role.workers}" for role in self._plan.roles)
        return f"<App {self._plan.name!r}: {roles or 'no roles yet'}>"

    @property
    def has_run(self) -> bool:
        """True if `run` was called, or the plan was handed over."""
        return self._has_run

    @property
    def plan(self) -> Plan:
        """The description of the app so far."""
        return self._plan

    def base(self, path: str | os.PathLike[str]) -> App:
        """Set the directory from which role paths are resolved. Call it before `role`.

        Symbolic links in it are kept, so if you repoint a link such as `current` to a new release, a reload runs that
        release.

        Args:
            path: The directory, or a file in it, such as the main script. In a zip archive (`python app.pyz`) it is
                the directory of the archive; import strings such as "back" name the roles inside the archive.

        Returns:
            This app.

        Raises:
            PlanError: There is no such file or directory.

        Example:
            >>> mob.start("myapp").base(__file__)        # doctest: +SKIP
        """
        place = Path(places.spelled(os.fspath(path)))
        if not place.exists():  # a file inside an archive: use the archive
            place = next((each for each in place.parents if each.is_file()), place)
        if not place.exists():
            raise PlanError(f"base({str(path)!r}): no such file or directory: {place}.")
        self._plan = msgspec.structs.replace(self._plan, base=str(place if place.is_dir() else place.parent))
        return self

    def preload(self, *modules: str) -> App:
        """Import modules once, in the fork server, and share their memory with all mobsters (copy on write).

        Use it for big modules that only define things: `numpy`, your own models. The Kingpin does not import them; a
        reload imports them again. Modules that start threads when they are imported must not be preloaded.

        Args:
            *modules: Import strings, such as "numpy" or "pkg.models".

        Returns:
            This app.

        Raises:
            PlanError: A module cannot be found.

        Example:
            >>> app.preload("numpy", "mymodels")         # doctest: +SKIP
        """
        for module in modules:
            if not all(part.isidentifier() for part in str(module).split(".")):
                raise PlanError(f"preload({module!r}): not an import string. Expected: 'numpy' or 'pkg.models', say.")
            if not _can_find(module.partition(".")[0], self._plan.base):
                raise PlanError(
                    f"preload({module!r}): no such module, neither in {self._plan.base} nor among the "
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
        """Set the destination and the form of what the mobsters print.

        Args:
            format: "text" (lines with a prefix, the default) or "json" (one object for each line).
            file: The file to write to instead of the terminal; a relative path is below the base. Default: none.
            max_bytes: Size in bytes, or as text ("100M"), at which the file is rotated to file.1. Default: 64 MiB.
            keep: Number of rotated files to keep. Default: 5.
            mode: Permissions of new files. Default: 0o600, readable by their owner only.
            raw: True if a terminal gets every byte that was printed. By default colors are kept, and sequences that
                move the cursor or set the title or the clipboard are removed. Files and pipes always get every byte.

        Returns:
            This app.

        Raises:
            PlanError: An option has no valid value.

        Example:
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
        """Set the style of the process titles in ps(1), top and pgrep, and of the Kingpin's in `mob ps`.

        Use it where the words "Kingpin" and "mobster" are unwelcome or might confuse, as in the logs of a service
        manager. The environment variable `MOB_TITLES` overrides it.

        Args:
            style: "plain": "myapp: supervisor", "myapp: back.0"; "mob", the style without this method:
                "myapp (kingpin)", "myapp - back (mobster)".

        Returns:
            This app.

        Raises:
            PlanError: The style is unknown.

        Example:
            >>> app.titles("plain")                          # doctest: +SKIP
        """
        if style not in plans.TITLES:
            raise PlanError(f"titles({style!r}): unknown style. {nearest(str(style), plans.TITLES)}")
        self._plan = msgspec.structs.replace(self._plan, titles=style)
        return self

    def trace(self, setup: str = "") -> App:
        """Trace every call with OpenTelemetry: each gets a span, and the context travels with it.

        Args:
            setup: A function, as "module:function", that sets up OpenTelemetry in each mobster before the role's
                module is imported. Default: set it up by the OTEL_ environment variables, with the app and the role
                as the names of the service.

        Returns:
            This app.

        Raises:
            PlanError: OpenTelemetry is not installed, or `setup` is not of that form.

        Example:
            >>> app.trace("tracing:setup")                        # doctest: +SKIP
        """
        if importlib.util.find_spec("opentelemetry") is None:
            raise PlanError("trace(): OpenTelemetry is not installed. Try: pip install 'mobsters[trace]'")
        module, colon, function = setup.partition(":")
        if setup and not (colon and function.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise PlanError(f"trace({setup!r}): expected a function as 'module:function', such as 'tracing:setup'.")
        self._plan = msgspec.structs.replace(self._plan, trace=setup)
        return self

    def role(self, name: str, module: str | os.PathLike[str], **options: Unpack[RoleOptions]) -> App:
        """Add a role: a name, the module that its mobsters (worker processes) run, and options.

        Args:
            name: The name under which `mob.require` finds the role: a letter, then up to 63 letters, digits, "_", "."
                or "-".
            module: A file that ends in `.py`, relative to the base, or an import string such as `pkg.module`. If the
                role serves HTTP, followed by a colon and the name of the application: "shop:app".
            **options: The options below. Sizes are in bytes, or text such as "500M".

        The common options:

        * `workers`: number of processes; or "cores", "cores*2". Default: 1.
        * `threads`: number of plain `def` exports that run at once. Default: 1, on the event loop. For a WSGI
          application the number of requests at once. Default: 10.
        * `concurrency`: number of `async def` exports that run at once. Default: 100.
        * `queue`: maximum number of calls that wait in one worker; more raise `Busy`. Default: 10,000.
        * `serve`: address at which the module's ASGI or WSGI application is served over HTTP, such as
          "127.0.0.1:8000" or "unix:./web.sock"; `serve_options` are those of uvicorn. See docs/http.md.
        * `loop`: "uvloop" (the default), or "asyncio" for libraries that patch asyncio's own loop.
        * `shared_memory`: maximum total size of a mobster's large buffers that are in transit or still in use by
          others. Default: 256 MiB. 0 sends them through the sockets.

        The others: docs/places.md explains `gpus`, and templates in `env`; docs/supervision.md explains `restart`,
        `intensity`, `period`, `stop_exit_codes`, `needs`, `essential`; `boot_timeout`, `boot_tries`, `hang_timeout`;
        `max_calls`, `max_age`, `max_memory`; `max_workers`, `spare`; `singleton`; `callers`; `env`, `nice`, `cpus`,
        `limits`.

        Returns:
            This app.

        Raises:
            PlanError: The module cannot be found, an option is unknown, or its value is not valid.

        Example:
            >>> app.role("back", "./background_worker.py", workers=4)                        # doctest: +SKIP
            >>> app.role("web", "./shop.py:app", workers=2, serve="127.0.0.1:8000")          # doctest: +SKIP
        """
        for option in options:
            if option not in plans.OPTIONS:
                help = spellings.instead(option, spellings.ROLE, plans.OPTIONS)
                raise PlanError(f"role {name!r}: unknown option {option!r}. {help}")
        if not _is_path(module):
            raise PlanError(
                f"role {name!r}: {module!r} is not a module. Expected: a file ending in .py, as in "
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
        """Add a role that runs any function that a mobster or client on this machine submits to `mob.pool(name)`.

        The functions are pickled, so any process that may call the role can run any code in its workers. These are the
        processes of the same user on this machine; `callers` restricts them to some roles. See docs/pool.md.

        Args:
            name: The name of the role and of the pool.
            **options: The options of `role`; `workers` defaults to "cores", as many as this process may use.

        Returns:
            This app.

        Raises:
            PlanError: An option is unknown, or its value is not valid.

        Example:
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
        """Add a store: keys and values, counters, locks and rate limits that all processes of the app share.

        It is a role of one worker, which `mob.store(name)` uses; in a cluster there is one for all machines. See
        docs/store.md.

        Args:
            name: The name of the role and of the store.
            max_memory: Maximum size of keys and values, in bytes or as text ("500M"); beyond it the least recently
                used ones are dropped. Default: no limit.
            file: A file that also keeps them, so that they survive the end of the store and of the app; a relative
                path is below the base. Default: memory only.
            callers: Names of the roles that may use the store, and "client" for clients. Default: all may.

        Returns:
            This app.

        Raises:
            PlanError: An option has no valid value.

        Example:
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
            callers=(*callers, name) if callers else (),  # a new worker of a store calls the previous one
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
        """Set where and how durable jobs are kept. Without it they are kept in the user's state directory.

        Durable jobs are calls with `options(durable=True)` and messages with `send(durable=True)`; see docs/jobs.md.
        They are kept by one more process, of the role "queue". In a cluster they are kept in JetStream.

        Args:
            path: The SQLite file for them, relative to the base. Default: `~/.local/state/mob/queues/APP.db`. Not
                allowed in a cluster.
            keep: Seconds for which a result is kept. Default: 86,400 (a day).
            in_hand: Maximum number of jobs that one worker has at a time. Default: 4.

        Returns:
            This app.

        Raises:
            PlanError: An option has no valid value, or this method was called before.

        Example:
            >>> app.queue("jobs.db", keep=3600)                   # doctest: +SKIP
        """
        try:
            file = places.queue_file(self._plan.address) if path is None else Path(self._plan.base, path).absolute()
        except FileNotFoundError as error:
            raise PlanError(f"queue(): {error.strerror}. Say where the jobs are kept: queue(path).") from error
        if path is not None and (file.is_dir() or not file.parent.is_dir()):
            what = "is a directory" if file.is_dir() else f"cannot be created: there is no directory {file.parent}"
            raise PlanError(f"queue({str(path)!r}): {file} {what}. Expected: the file in which jobs are kept.")
        role = plans.queue_role(str(file), keep, in_hand)
        for each in self._plan.roles:
            if each.keeps_jobs:
                raise PlanError("queue() was called twice: an app has one queue. Put all options into one queue(...).")
            if each.name == plans.QUEUE:
                raise PlanError(plans.NAME_TAKEN)
        self._plan = msgspec.structs.replace(self._plan, roles=(role, *self._plan.roles))  # first, so it ends last
        self._queue_path = "" if path is None else str(path)
        return self

    def _find_queue(self) -> None:
        """Add the queue if the app left jobs when it last ran, even if it makes none today."""
        if not any(role.name == plans.QUEUE for role in self._plan.roles):
            where = places.queue_file if self._plan.cluster is None else places.queue_mark
            with contextlib.suppress(OSError):
                if where(self._plan.address).exists():
                    self.queue()

    @spelled({"address": "'host'"}, PlanError)
    def dashboard(self, port: int = 4777, host: str = "127.0.0.1", token: str | None = None) -> App:
        """Add the web dashboard: a role named "dashboard" that serves a page at this address.

        On a loopback address any user of this machine may view it; on any other, viewing needs the token. Actions
        (reload, scale, restart, stacks) always need it. See docs/dashboard.md.

        Args:
            port: The TCP port. Default: 4777.
            host: The name or address to listen on. Default: "127.0.0.1".
            token: The token, at least 8 characters. Default: a random one for each start; the page's URL, which
                contains it, is printed.

        Returns:
            This app.

        Raises:
            PlanError: An option has no valid value, or starlette or uvicorn is not installed.

        Example:
            >>> app.dashboard(port=4777)                          # doctest: +SKIP
        """
        missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
        if missing:
            raise PlanError(
                f"dashboard(): {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed. "
                f"Try: pip install 'mobsters[web]'"
            )
        # Kept in the environment, so that an upgraded Kingpin, which is the same process, uses the same token.
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
        """Make this machine one of several that run the app; they communicate over NATS.

        See docs/cluster.md.

        Args:
            *servers: Addresses of the NATS servers, such as "nats://10.0.0.1:4222".
            node: The name of this machine, unique in the cluster. Default: MOB_NODE, or the host name.
            credentials: The file with the credentials for NATS, made by `nsc`.
            nkey: The file with the seed of an nkey for NATS.
            user: The user name for NATS, with `password`.
            password: The password for NATS.
            token: The token for NATS.
            ca: The file with the CA certificates that verify the server's certificate. Default: the system's.
            cert: The file with this machine's certificate, if the server requires one.
            key: The file with the private key of that certificate.
            gateways: Number of processes that exchange data with other machines. Default: 1.

        Returns:
            This app.

        Raises:
            PlanError: An option has no valid value, or nats-py is not installed.

        Example:
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
            roles=(gateway, *others),  # first, so that it ends last: other roles may still have answers to send
        )
        return self

    def place(self, **workers: int) -> App:
        """Run only these roles on this machine, each with this number of workers.

        Args:
            **workers: The number of workers, by the name of the role.

        Returns:
            This app.

        Raises:
            PlanError: There is no such role, or the number is not valid.

        Example:
            >>> app.place(back=8)                                 # doctest: +SKIP
        """
        self._plan = plans.placed(self._plan, workers)
        return self

    def hand_over(self) -> Plan:
        """Return the checked plan, for code that runs it instead of `run`."""
        self._has_run = True
        return self._complete()

    def _complete(self) -> Plan:
        """Return the checked plan, completed with what is known only where the app is started."""
        if self._queue_path and self._plan.cluster is not None:
            raise PlanError(
                f"queue(path={self._queue_path!r}): in a cluster durable jobs are kept in JetStream, not in a file. "
                f"Leave out path= or .cluster(). Jobs left in the file are not moved there: let them finish first."
            )
        self._plan = devices.assigned(plans.check_limits(self._plan))
        if any(role.module == STORE for role in self._plan.roles):
            importlib.import_module("mob.stores.settings").check_files(self._plan, STORE)
        if (absent := sys.modules.get("mob.mobster.absent")) is not None:
            absent.check_unheard(self._plan)
        return self._plan

    def amend(self, plan: Plan) -> App:
        """Replace the plan with another one: for tools that run the apps of others."""
        self._plan = plan
        return self

    def run(self) -> None:
        """Become the Kingpin (the supervisor): launch the mobsters, and return when the app has stopped.

        Raises:
            PlanError: There is nothing to run, or the description is wrong.
            AppRunning: An app with that name is already running.
            MobError: It was called in a thread, or where an event loop is running (a coroutine, a notebook).
            SystemExit: The app ended with another status than 0: 1 (it failed, or the stop had to be forced), 3 (a role
                could not start).
        """
        self._has_run = True
        if "mob.mobster.api" in sys.modules and sys.modules["mob.mobster.api"]._peer is not None:
            raise NotInMobster("run() was called in a mobster (a worker). An app is started once, by its main script.")
        interpreter.check()
        if self._plan.cluster is None and os.environ.get(CLUSTER):
            self.cluster(*os.environ[CLUSTER].split(","))
        if os.environ.get(ROLES):
            self.place(**plans.places_in(os.environ[ROLES], self._plan))
        for hook in before_run:  # after the environment, because the command line takes precedence
            hook(self)
        self._find_queue()
        self._complete()
        _check_place(self._plan.name)
        self._say_first()
        is_successor = early.UPGRADE in os.environ  # the app's name is already taken by it
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
        """Start the app next to this script and wait until it is up; return a client. Closing the client stops the app.

        The app is up when every worker has been ready once. Its mobsters print to this script's output. It ends with
        the `with` block, with `close()`, and at the latest with this process, however that ends. `up` can be called
        from any thread, where an event loop is running, in a notebook, and in a mobster of another app; several apps
        with different names may run at once. MOB_ROLES and MOB_CLUSTER, which change what `run` starts, have no effect
        here.

        Args:
            timeout: Seconds that the start may take. Default: 60.

        Returns:
            A client of the app.

        Raises:
            PlanError: There is nothing to run, or the description is wrong.
            AppRunning: An app with that name is already running.
            MobError: The app does not come up in time; at once, with the traceback, if a role cannot be started.

        Example:
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
        """Print warnings about the app before it is started."""
        for role in self._plan.roles:
            if hides := hidden_by(role, self._plan.base, sys.path):
                print(f"mob: {hides}", file=sys.stderr, flush=True)
        if self._plan.cluster is not None and self._plan.cluster.is_open:
            where = ", ".join(self._plan.cluster.addresses)
            print(
                f"mob: NATS at {where} requires no authentication: anyone who can reach it can call, control and stop "
                f"this app. See 'Who may do what' in docs/cluster.md.",
                file=sys.stderr,
            )

    def _say_urls(self, _address: str = "") -> None:
        """Print where the dashboard is, as soon as it is certain that no other app has the name."""
        for url in self._urls:  # not by the mobster: its output is a log, which others may read
            print(f"dashboard: {url}", flush=True)

    def _existing(self, name: str, file: str | os.PathLike[str]) -> Path:
        path = Path(self._plan.base, file).absolute()
        if not path.is_file():
            raise PlanError(f"cluster: {name}: there is no file {path}.")
        return path

    def _served(self, role: RolePlan, address: str) -> RolePlan:
        """Return the role with what it needs to serve; raise `PlanError` if something is missing."""
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
                f"(names separated by dots)."
            )
        if not _can_find(top, self._plan.base):
            raise PlanError(
                f"role {name!r}: there is no module {top!r} to import {module!r} from, neither in {self._plan.base} "
                f"nor among the installed packages. Is it a file? Then write './{module.replace('.', '/')}.py'."
            )
        return module

    def _complain_unless_run(self) -> None:
        was_stopped_by_an_error = getattr(sys, "last_value", None) is not None  # the interpreter showed that one
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
    """Begin to describe an app.

    Args:
        name: The name of the app, which `mob.connect` takes and every process title contains: a letter, then up to 63
            letters, digits, "_", "." or "-".
        grace: Seconds that a graceful stop may take. Default: 30.
        frame_limit: Maximum size of a message, in bytes or as text ("64M"). Default: 256 MiB.
        backlog: Maximum size of the calls that wait in one process for workers, in bytes or as text; a call beyond it
            raises `Busy`. Default: 64 MiB.
        strategy: Which workers are restarted after one dies: only that one ("one_for_one", the default), or also the
            roles declared after its own ("rest_for_one").
        metrics: True if calls are counted and timed. Default: True.

    Returns:
        The app, to be completed with `role` and others, and then `run`.

    Raises:
        PlanError: The name or an option is not valid.

    Example:
        >>> import mob
        >>> mob.start("myapp")
        <App 'myapp': no roles yet>
    """
    return App(name, grace=grace, frame_limit=frame_limit, backlog=backlog, strategy=strategy, metrics=metrics)


def _flush_output() -> None:
    """Flush the output of the main script, so that it precedes the output of the app."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # missing, closed, or nothing reads it
            stream.flush()


def _show_in_one_line(error: MobError) -> None:
    """Show this error, if the main script does not catch it, without the frames of mob that it came through.

    A hook that the script set stays.
    """
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
    """Raise `MobError` where a Kingpin cannot run: it handles its process's signals, and has its own event loop."""
    instead = (
        f"Call it at the top level of the main script (`python main.py`), or start that script as a separate process: "
        f'subprocess.Popen([sys.executable, "-m", "mob", "run", "main.py"]), then mob.connect({name!r}).'
    )
    if threading.current_thread() is not threading.main_thread():
        raise MobError(
            f"run() was called in the thread {threading.current_thread().name!r}, but the Kingpin handles the signals "
            f"of its process, and only the main thread can do that. {instead}"
        )
    asyncio = sys.modules.get("asyncio")  # a process that runs a loop imported it
    if asyncio is None or asyncio._get_running_loop() is None:
        return
    raise MobError(
        f"run() was called where an event loop is already running (in a coroutine or a notebook), but the Kingpin runs "
        f"a loop of its own. {instead}"
    )


def _machine_name() -> str:
    """Return the host name of this machine, changed to a valid name if necessary."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64]
    return name if name[:1].isalpha() else f"node-{name}"[:64]


def _frozen(value: Any) -> Any:
    """Return a list as the tuple that the plan needs; other values unchanged."""
    return tuple(cast(list[Any], value)) if isinstance(value, list) else value


def _is_path(module: object) -> bool:
    """Return whether a value is text, or an object that stands for a path of text."""
    return isinstance(module, str) or (isinstance(module, os.PathLike) and isinstance(module.__fspath__(), str))


def _can_find(top: str, base: str) -> bool:
    """Return whether a top-level module can be found, without importing anything."""
    if Path(base, top).is_dir() or Path(base, f"{top}.py").is_file():
        return True
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False
