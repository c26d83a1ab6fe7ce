"""The description of an app: its name, its roles, their options. Frozen, validated, and free of code.

A plan names modules by import string or by file; it never holds a function or a module, so it can be sent to another
process and shown by a tool. Options are declared here and nowhere else. Floor 0.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict, cast, get_args
from urllib.parse import urlsplit

import msgspec

from mob import environment, serve as serving, templates
from mob.errors import PlanError, nearest

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
CLIENT = "client"
"""Name for clients where the name of a role is expected."""
KINGPIN = "kingpin"
"""Name for the Kingpin where the name of a role is expected."""
GATEWAY = "gateway"
"""Role of the processes that exchange data with other machines."""
QUEUE = "queue"
"""Role of the process that keeps durable jobs. An app without jobs may have its own role with that name."""
KEEPER = "mob.jobs.keeper"
"""Module of the role that keeps durable jobs."""
RESERVED = frozenset({KINGPIN, "mobster", CLIENT, "mob", GATEWAY})

MIB = 1024 * 1024
FRAME_LIMIT = 256 * MIB
SHARED_MEMORY = 256 * MIB
BACKLOG = 64 * MIB
LARGEST_FRAME = 2**32 - 1  # its length has four bytes
GRACE = 30.0  # seconds; gunicorn's graceful_timeout
BOOT_TIMEOUT = 60.0  # seconds
PERIOD = 60.0  # seconds
RestartPolicy = Literal["permanent", "transient", "temporary"]  # the names are Erlang/OTP's
EventLoop = Literal["uvloop", "asyncio"]
Strategy = Literal["one_for_one", "rest_for_one"]
LogFormat = Literal["text", "json"]
TitleStyle = Literal["mob", "plain"]
RESTART, LOOPS, STRATEGIES, LOG_FORMATS, TITLES = (
    cast(tuple[str, ...], get_args(words)) for words in (RestartPolicy, EventLoop, Strategy, LogFormat, TitleStyle)
)
SCHEMES = ("nats", "tls", "ws", "wss")
CUDA_VARIABLE = "CUDA_VISIBLE_DEVICES"
"""Variable in which CUDA, and what is built on it, finds the GPUs that it may use. ROCm reads it too."""


class RolePlan(msgspec.Struct, frozen=True):
    """One role: the module that its mobsters run, their number, and how they work."""

    name: str
    module: str
    """Import string (`pkg.module`) or absolute path of a `.py` file."""
    workers: int = 1
    threads: int | None = None
    """Number of plain `def` exports that run at once; 1 or None runs them on the event loop, one at a time.

    For a WSGI application the number of requests that are answered at once; None: 10.
    """
    concurrency: int = 100
    """Number of `async def` exports that run at once."""
    queue: int = 10_000
    """Number of calls that may wait in one worker before it answers `Busy`."""
    shared_memory: int = SHARED_MEMORY
    """Bytes of large buffers that each mobster may have sent and that others still use.

    Beyond it they travel through the sockets. 0 turns shared memory off.
    """
    max_workers: int | None = None
    """Number of workers up to which the role grows by itself when calls queue; None: it does not grow."""
    singleton: bool = False
    """True if there is one process of the role in the whole cluster, on the machine that has its lease."""
    restart: str = "permanent"
    """Which workers are restarted: "permanent" all, "transient" those that failed, "temporary" none.

    A worker failed if a signal killed it or its exit status is not 0.
    """
    stop_exit_codes: tuple[int, ...] = ()
    """Exit statuses that mean "I am done": such a worker is not restarted."""
    intensity: int | None = None
    """Number of restarts within `period` that are tolerated; one more, and the role gives up. None: it never does."""
    period: float = PERIOD
    """Seconds in which restarts are counted."""
    needs: tuple[str, ...] = ()
    """Roles that must have a ready worker before this one is started, and that are stopped after it."""
    essential: bool = False
    """True if the app stops, with status 1, when the role gives up."""
    boot_timeout: float | None = BOOT_TIMEOUT
    """Seconds from launch to ready; a worker that takes longer is killed. None: no limit."""
    boot_tries: int | None = None
    """Number of failed starts in one place after which the app stops, with status 3.

    It stops only if no worker of the role was ever ready. None: it keeps trying.
    """
    hang_timeout: float | None = None
    """Seconds for which a worker's event loop may be blocked before the worker is killed. None: no limit."""
    max_calls: int | None = None
    """Calls after which a worker is replaced; None: no limit."""
    max_age: float | None = None
    """Seconds after which a worker is replaced; None: no limit."""
    max_memory: int | None = None
    """Bytes of resident memory beyond which a worker is replaced; None: no limit."""
    callers: tuple[str, ...] = ()
    """Roles whose mobsters may call it and send to it, and "client" for clients; empty: all may."""
    env: dict[str, str] = {}
    """Environment variables of its mobsters, added to those of the Kingpin.

    `{index}` and other names in braces are filled in for each mobster (`mob.templates`).
    """
    gpus: float = 0
    """Number of GPUs of each mobster, by its place; a part of one, such as 0.5, is shared. 0: no GPUs are assigned."""
    spare: int = 0
    """Number of additional processes that boot and then wait to replace one that dies."""
    nice: int = 0
    """Niceness of its mobsters: -20 to 19."""
    cpus: tuple[int, ...] = ()
    """CPU cores on which its mobsters run; empty: all."""
    limits: dict[str, int] = {}
    """Limits of the operating system, by their names in getrlimit(2) without RLIMIT_: {"nofile": 4096}."""
    loop: str = "uvloop"
    """Event loop of its mobsters: "uvloop", or "asyncio" for libraries that patch asyncio's own."""
    application: str = ""
    """Name of the application in the module of a role that serves HTTP, given behind a colon.

    With "()" at its end it is a function that makes the application.
    """
    serve: str | None = None
    """Address at which the application is served: "127.0.0.1:8000", ":8000", "[::1]:8000", "unix:/run/web.sock".

    Port 0 is any free one. None: nothing is served.
    """
    serve_options: dict[str, Any] = {}
    """Options of uvicorn, the server: {"access_log": True}."""
    pool: bool = False
    """True if it runs any function that other processes of this machine send, pickled (see `App.pool`).

    Crashes that a task causes do not count against the role.
    """
    devices: tuple[str, ...] = ()
    """GPUs that its places share, by CUDA's names; known when the app is started."""

    @property
    def places_per_device(self) -> int:
        """Number of places that share a GPU.

        >>> RolePlan("infer", "infer", gpus=0.25).places_per_device
        4
        """
        return int(1 / self.gpus + 1e-9) if 0 < self.gpus < 1 else 1

    @property
    def most_with_devices(self) -> int | None:
        """Number of places for which there are GPUs; None if the role has none."""
        if not self.devices:
            return None
        return len(self.devices) * self.places_per_device if self.gpus < 1 else len(self.devices) // round(self.gpus)

    def devices_of(self, index: int) -> tuple[str, ...]:
        """Return the GPUs of a place.

        >>> RolePlan("infer", "infer", gpus=2, devices=("0", "1", "2", "3")).devices_of(1)
        ('2', '3')
        """
        first, count = (index // self.places_per_device, 1) if self.gpus < 1 else (index * round(self.gpus), self.gpus)
        return self.devices[first : first + round(count)]

    @property
    def keeps_jobs(self) -> bool:
        """True if this is the role that keeps the durable jobs of the app. It never has more than one process."""
        return self.name == QUEUE and self.module == KEEPER


OPTIONS = tuple(
    field for field in RolePlan.__struct_fields__ if field not in ("name", "module", "application", "pool", "devices")
)
"""Names of the options of a role, other than its name and its module."""


class RoleOptions(TypedDict, total=False):
    """The options of `App.role`, by name, for editors and type checkers; `RolePlan` documents each.

    They are declared twice, because type checkers take the names of keyword arguments only from here; a test keeps the
    two equal.

    Example:
        >>> options: mob.RoleOptions = {"workers": 4, "restart": "transient"}    # doctest: +SKIP
        >>> app.role("back", "./back.py", **options)                             # doctest: +SKIP
    """

    workers: int | str
    threads: int | None
    concurrency: int
    queue: int
    shared_memory: int | str
    max_workers: int | str | None
    singleton: bool
    restart: RestartPolicy
    stop_exit_codes: tuple[int, ...] | list[int]
    intensity: int | None
    period: float
    needs: tuple[str, ...] | list[str]
    essential: bool
    boot_timeout: float | None
    boot_tries: int | None
    hang_timeout: float | None
    max_calls: int | None
    max_age: float | None
    max_memory: int | str | None
    callers: tuple[str, ...] | list[str]
    env: dict[str, str]
    gpus: float
    spare: int
    nice: int
    cpus: tuple[int, ...] | list[int]
    limits: dict[str, int]
    loop: EventLoop
    serve: str | None
    serve_options: dict[str, Any]


class Logs(msgspec.Struct, frozen=True):
    """The destination and the form of what the mobsters print."""

    format: str = "text"
    """Form: "text" is lines with a prefix, "json" one object for each line."""
    file: str | None = None
    """Absolute path of a file to write to instead of the terminal."""
    max_bytes: int = 64 * MIB
    """Size in bytes at which the file is rotated."""
    keep: int = 5
    """Number of rotated files to keep: file.1 is the latest."""
    mode: int = 0o600
    """Permissions of new files, as for chmod(2)."""
    raw: bool = False
    """True if a terminal gets every byte that was printed, instead of only text and colors."""

    @property
    def is_shown(self) -> bool:
        """True if the output is text for a person, where the app was started."""
        return self.format == "text" and self.file is None


class Cluster(msgspec.Struct, frozen=True):
    """The part of this machine in a cluster of several."""

    servers: tuple[str, ...]
    """Addresses of the NATS servers: `nats://host:4222`, `tls://...`, one or several."""
    node: str
    """Name of this machine, unique in the cluster."""
    credentials: str | None = None
    """Path of a file with a JWT and the seed of a key (made by `nsc`)."""
    nkey: str | None = None
    """Path of a file with the seed of an nkey."""
    user: str | None = None
    password: str | None = None
    token: str | None = None
    ca: str | None = None
    """Path of the certificates against which that of the server is checked; None: the system's."""
    cert: str | None = None
    """Path of this machine's own certificate, if the server requires one."""
    key: str | None = None
    """Path of the private key of that certificate."""
    is_named: bool = False
    """True if the name was given, rather than taken from the host: several nodes may run on one machine."""
    gateways: int = 1
    """Number of processes of this machine that exchange data with others."""

    def __repr__(self) -> str:
        """Return a text without secrets, because plans are printed in tests and while debugging."""
        return f"<Cluster at {', '.join(self.addresses)}, node {self.node!r}>"

    @property
    def addresses(self) -> tuple[str, ...]:
        """The servers without the user and password that may precede the host, so that they may be shown.

        >>> Cluster(("nats://me:secret@host:4222",), "a").addresses
        ('nats://host:4222',)
        """
        return tuple(
            f"{scheme}://{rest.rpartition('@')[2]}"
            for scheme, _, rest in (each.partition("://") for each in self.servers)
        )

    @property
    def is_open(self) -> bool:
        """True if anyone may be able to take part: others can reach a server, and it requires no authentication."""
        asks = any((self.credentials, self.nkey, self.user, self.password, self.token, self.cert))
        hosts = [urlsplit(address).hostname or "" for address in self.addresses]
        return not asks and "@" not in "".join(self.servers) and not all(map(is_loopback, hosts))


NAME_TAKEN = (
    f"durable jobs are kept by a role named {QUEUE!r}, but this app has its own role with that name. Give that role "
    f"another name."
)
QUEUE_ENV = "MOB_QUEUE_"
"""Prefix of the environment variables that hold the options of the keeper of durable jobs."""
QUEUE_KEEP = 86400.0  # seconds; Celery's result_expires
QUEUE_IN_HAND = 4  # jobs; Celery's worker_prefetch_multiplier
QUEUE_HANG = 15.0  # seconds; half the time that callers wait for the keeper, so that the next one can answer


def queue_role(path: str, keep: float = QUEUE_KEEP, in_hand: int = QUEUE_IN_HAND) -> RolePlan:
    """Return the role that keeps durable jobs in that file; raise `PlanError` if an option is not valid.

    >>> queue_role("/var/lib/shop/jobs.db").keeps_jobs
    True
    """
    if not _is_seconds(keep):
        raise PlanError(f"queue: keep={keep!r} is not a number of seconds above 0.")
    if not _is_count(in_hand):
        raise PlanError(f"queue: in_hand={in_hand!r} is not a whole number of at least 1.")
    settings = {"PATH": templates.escaped(path), "KEEP": repr(float(keep)), "IN_HAND": str(in_hand)}
    env = {QUEUE_ENV + name: value for name, value in settings.items()}
    most = 1_000_000  # calls that wait for the end of a job count as in hand
    return RolePlan(
        QUEUE, KEEPER, singleton=True, concurrency=most, queue=most, hang_timeout=QUEUE_HANG, boot_timeout=None, env=env
    )


class Plan(msgspec.Struct, frozen=True):
    """An app, as described by `mob.start(...)` and the lines after it."""

    name: str
    base: str
    """Directory from which role files and modules are found."""
    roles: tuple[RolePlan, ...] = ()
    grace: float = GRACE
    """Seconds that a graceful stop may take before the remaining processes are killed."""
    frame_limit: int = FRAME_LIMIT
    """Maximum size of a frame in bytes; a longer one closes its link."""
    backlog: int = BACKLOG
    """Bytes of calls that may wait in one process for workers; a call beyond that raises `Busy`."""
    strategy: str = "one_for_one"
    """Which workers are restarted after one died: only that one, or also the roles declared after its own."""
    preload: tuple[str, ...] = ()
    """Modules that the fork server imports once, so that the mobsters share their memory."""
    logs: Logs = Logs()
    direct: bool = False
    """True if mobsters print to the Kingpin's own stdout and stderr, without a prefix and without news of the app.

    This is for apps hidden in a script: `logs` has no effect.
    """
    metrics: bool = True
    """True if calls are counted and timed."""
    titles: str = ""
    """The style of the process titles, "mob" or "plain"; "": as the environment says (`rim.titles`)."""
    trace: str | None = None
    """How OpenTelemetry is set up in each mobster, as "module:function"; "": by the OTEL_ environment variables.

    None: calls are not traced.
    """
    setup: tuple[str, ...] = ()
    """Functions, as "module:function", that each mobster calls with its `Peer` before its role's module is imported."""
    cluster: Cluster | None = None
    """Its part in a cluster of machines; None: it runs on one machine."""

    @property
    def address(self) -> str:
        """Name by which the app is found on this machine: its own, and that of the node if one was given."""
        return f"{self.name}@{self.cluster.node}" if self.cluster is not None and self.cluster.is_named else self.name

    def role(self, name: str) -> RolePlan:
        """Return the role with that name; raise `KeyError` if there is none."""
        for role in self.roles:
            if role.name == name:
                return role
        raise KeyError(name)


def check_app_name(name: object) -> str:
    """Return a valid name of an app; raise `PlanError` for others. It is in process titles and socket names."""
    if not isinstance(name, str) or not _is_name(name):
        raise PlanError(
            f"{name!r} cannot name an app. Expected: a letter, then up to 63 letters, digits, '_', '.' or '-', "
            f'as in mob.start("myapp").'
        )
    return name


LEAST_MEMORY = MIB
"""Minimum of `max_memory` in bytes: every Python process takes more, so each worker would be replaced at once."""


def check_role(role: RolePlan, others: tuple[RolePlan, ...]) -> RolePlan:
    """Return the role if it is valid next to the others; raise `PlanError` for the first thing that is not."""
    if not _is_name(role.name):
        raise PlanError(
            f"{role.name!r} cannot name a role. Expected: a letter, then up to 63 letters, digits, '_', '.' or '-', "
            f'as in .role("back", "./background_worker.py").'
        )
    if role.name in RESERVED:
        raise PlanError(f"{role.name!r} cannot name a role: mob uses that name itself. Choose another one.")
    for other in others:
        if other.name == role.name:
            raise PlanError(
                f"the role {role.name!r} is declared twice: first with {other.module!r}, then with {role.module!r}. "
                f"Give each role its own name; for more processes of one role use workers=."
            )
    for option, (is_fine, wanted) in _WANTED.items():
        value = getattr(role, option)
        if not is_fine(value):
            meant = _meant(value) if option == "max_memory" else ""
            raise PlanError(f"role {role.name!r}: {option}={value!r} is not {wanted}.{meant}")
    for variable in role.env:
        if why := environment.why_refused(variable):
            raise PlanError(
                f"role {role.name!r}: env={{{variable!r}: ...}} would have no effect: {why}. Set it for the whole app "
                f"when you start it: {variable}=... mob run main.py."
            )
    templates.check(role.name, role.env)
    if role.spare:
        _check_spare(role)
    if role.max_workers is not None and templates.mentions(role.env, templates.OF_THE_SIZE):
        raise PlanError(
            f"role {role.name!r}: env has {{workers}} and max_workers={role.max_workers}, so the role would be "
            f"reloaded each time it grows or shrinks by itself. Leave one of the two out."
        )
    try:
        serving.check(role.module, role.application, role.serve, role.serve_options)
    except PlanError as error:
        raise PlanError(f"role {role.name!r}: {error}") from None
    if role.max_workers is not None and role.max_workers < role.workers:
        raise PlanError(
            f"role {role.name!r}: max_workers={role.max_workers} is less than workers={role.workers}, with which the "
            f"role starts."
        )
    if role.singleton and (role.workers > 1 or (role.max_workers or 1) > 1):
        raise PlanError(
            f"role {role.name!r}: singleton=True means one process in the whole cluster, so workers={role.workers} and "
            f"max_workers={role.max_workers} are not possible. Leave both out, or leave singleton out."
        )
    return role


def _check_spare(role: RolePlan) -> None:
    """Raise `PlanError` if a process that has no place yet cannot do what the role requires."""
    why = ""
    if role.singleton:
        why = "singleton=True allows one process of the role"
    elif role.restart == "temporary":
        why = "restart='temporary' never replaces a worker"
    elif role.gpus:
        why = f"gpus={role.gpus:g} depends on the place of a worker, and a spare loads its module before it has one"
    elif templates.mentions(role.env, templates.OF_A_PLACE):
        why = "{index} in env depends on the place of a worker, and a spare loads its module before it has one"
    if why:
        raise PlanError(f"role {role.name!r}: spare={role.spare}, but {why}. Leave one of the two out.")


def place_name(role: str, index: int) -> str:
    """Return the name of a place for people; spares have negative indexes.

    >>> place_name("back", 2), place_name("back", -1), place_name("back", -2)
    ('back.2', 'back.spare', 'back.spare2')
    """
    if index >= 0:
        return f"{role}.{index}"
    return f"{role}.spare" if index == -1 else f"{role}.spare{-index}"


def _meant(size: object) -> str:
    """Return a hint about what a too small number of bytes may have meant.

    >>> _meant(500), _meant(2048), _meant(0)
    (" Did you mean '500M'?", " Did you mean '2M'?", '')
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        return ""
    return f" Did you mean '{size if size % 1024 else size // 1024}M'?"


def check_limits(plan: Plan) -> Plan:
    """Return the plan if its numbers are valid and there is something to run."""
    if not any(not _is_mobs_own(role) for role in plan.roles):
        raise PlanError(
            f'the app {plan.name!r} has no role, so there is nothing to run. Add one: .role("back", "./worker.py").'
        )
    if not _is_number(plan.grace, (int, float), 0, math.inf):
        raise PlanError(f"grace={plan.grace!r} is not a number of seconds.")
    if not _is_number(plan.frame_limit, int, 4096, math.inf):
        raise PlanError(
            f"frame_limit={plan.frame_limit!r} is not a number of bytes of at least 4096.{_meant(plan.frame_limit)}"
        )
    if plan.frame_limit > LARGEST_FRAME:
        raise PlanError(f"frame_limit={plan.frame_limit!r} exceeds the largest possible frame: {LARGEST_FRAME:,}.")
    if not _is_number(plan.backlog, int, 0, math.inf):
        raise PlanError(f"backlog={plan.backlog!r} is not a number of bytes of at least 0.")
    if plan.strategy not in STRATEGIES:
        raise PlanError(f"unknown strategy {plan.strategy!r}. {nearest(str(plan.strategy), STRATEGIES)}")
    check_logs(plan.logs)
    names = [role.name for role in plan.roles]
    for role in plan.roles:
        for needed in role.needs:
            if needed not in names:
                raise PlanError(f"role {role.name!r} needs {needed!r}, which is not a role. {nearest(needed, names)}")
        for caller in role.callers:
            if caller not in (*names, CLIENT) or caller == GATEWAY:
                known = [*(name for name in names if name != GATEWAY), CLIENT]
                raise PlanError(
                    f"role {role.name!r}: callers={caller!r} is neither a role nor 'client'. {nearest(caller, known)}"
                )
    in_order_of_need(plan.roles)
    return plan


def placed(plan: Plan, workers: Mapping[str, int]) -> Plan:
    """Return the plan for a machine that runs only these roles, with these numbers of workers."""
    names = [role.name for role in plan.roles if not _is_mobs_own(role)]
    for name, count in workers.items():
        if name not in names:
            raise PlanError(f"roles: there is no role {name!r}. {nearest(name, names)}")
        if not _is_number(count, int, 0, math.inf):
            raise PlanError(f"roles: {name}={count!r} is not a whole number.")
        if plan.role(name).singleton and count > 1:
            raise PlanError(
                f"roles: {name}={count!r}, but {name!r} is a singleton: one process in the whole cluster. Expected: "
                f"{name}=1 on the machines where it may run."
            )

    def place(role: RolePlan) -> RolePlan:
        if _is_mobs_own(role):
            return role
        count = workers.get(role.name, 0)
        most = None if role.max_workers is None else max(count, role.max_workers)
        return msgspec.structs.replace(role, workers=count, max_workers=most if count else None)

    return msgspec.structs.replace(plan, roles=tuple(place(role) for role in plan.roles))


def _is_mobs_own(role: RolePlan) -> bool:
    """Return whether a role is there wherever the app runs, because it holds no code of the app."""
    return role.name == GATEWAY or role.keeps_jobs


def places_in(text: str, plan: Plan) -> dict[str, int]:
    """Return the numbers of workers in `--roles` or MOB_ROLES: `back=8,front` is 8 of back, and front's own number."""
    workers: dict[str, int] = {}
    own = {role.name: role.workers for role in plan.roles}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, mark, count = part.partition("=")
        if mark and not (count.isascii() and count.isdigit()):
            raise PlanError(f"roles: {part!r} gives no number of workers. Expected: back=8,front=2.")
        workers[name] = int(count) if mark else own.get(name, 1)
    if not workers:
        raise PlanError(f"roles: {text!r} names no role. Expected: back=8,front=2.")
    return workers


def check_cluster(cluster: Cluster) -> Cluster:
    """Return the options of a cluster if they are valid."""
    if not cluster.servers:
        raise PlanError('cluster(): no server was given. Expected: an address such as "nats://host:4222".')
    for server in cluster.servers:
        scheme, mark, place = server.partition("://")
        if not mark or scheme not in SCHEMES or not place:
            shown = f"{scheme}{mark}{place.rpartition('@')[2]}"
            raise PlanError(f"cluster: {shown!r} is not a NATS address. Expected: one such as 'nats://host:4222'.")
    if not _is_name(cluster.node):
        raise PlanError(
            f"cluster: node={cluster.node!r} cannot name a machine. Expected: a letter, then up to 63 letters, digits, "
            f"'_', '.' or '-'."
        )
    if not _is_count(cluster.gateways):
        raise PlanError(f"cluster: gateways={cluster.gateways!r} is not a whole number of at least 1.")
    return cluster


def check_logs(logs: Logs) -> Logs:
    """Return the options of the logs if they are valid."""
    if logs.format not in LOG_FORMATS:
        raise PlanError(f"logs: unknown format {logs.format!r}. {nearest(str(logs.format), LOG_FORMATS)}")
    if not _is_number(logs.max_bytes, int, 1024, math.inf):
        raise PlanError(
            f"logs: max_bytes={logs.max_bytes!r} is not a number of bytes of at least 1024.{_meant(logs.max_bytes)}"
        )
    if not _is_number(logs.keep, int, 0, 1000):
        raise PlanError(f"logs: keep={logs.keep!r} is not a whole number from 0 to 999.")
    if not _is_number(logs.mode, int, 0, 0o1000):
        raise PlanError(f"logs: mode={logs.mode!r} is not a file mode from 0 to 0o777, such as 0o640.")
    if logs.raw not in (True, False):
        raise PlanError(f"logs: raw={logs.raw!r} is neither True nor False.")
    return logs


def check_dashboard(port: object, host: object, token: object) -> None:
    """Raise `PlanError` if an option of the dashboard is not valid."""
    if not _is_number(port, int, 1, 65536):
        raise PlanError(f"dashboard: port={port!r} is not a whole number from 1 to 65535.")
    if not isinstance(host, str) or not host:
        raise PlanError(f"dashboard: host={host!r} is neither a name nor an address, such as '127.0.0.1'.")
    if token is not None and not (
        isinstance(token, str) and len(token) >= 8 and token.isascii() and token.isprintable()
    ):
        raise PlanError("dashboard: the token must have at least 8 characters, all of them printable ASCII.")


def in_order_of_need(roles: tuple[RolePlan, ...]) -> list[RolePlan]:
    """Return the roles in the order of their declaration, each after those it needs; raise `PlanError` for a circle."""
    order: list[RolePlan] = []
    left = list(roles)
    while left:
        there = {role.name for role in order}
        free = next((role for role in left if there.issuperset(role.needs)), None)
        if free is None:
            circle = ", ".join(f"{role.name} needs {' and '.join(role.needs)}" for role in left)
            raise PlanError(f"these roles need each other, so none can be started first: {circle}.")
        left.remove(free)
        order.append(free)
    return order


def is_loopback(host: str) -> bool:
    """Return whether a host is certainly a name or an address of this machine alone.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "[::1]", "127.example.com")]
    [True, True, True, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _is_name(name: object) -> bool:
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def _is_number(value: Any, kind: type | tuple[type, ...], least: float, beyond: float) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and least <= value < beyond


def _is_count(value: Any) -> bool:
    return _is_number(value, int, 1, math.inf)


def _is_seconds(value: Any) -> bool:
    return _is_number(value, (int, float), 0, math.inf) and value > 0


def _or_none(question: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or question(value)


def _is_tuple_of(question: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(map(question, cast(tuple[Any, ...], value)))


def _is_dict_of(is_key: Callable[[Any], bool], is_value: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def question(value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        known = cast(dict[Any, Any], value)
        return all(map(is_key, known)) and all(map(is_value, known.values()))

    return question


def _is_variable(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "=" not in value


def _is_gpus(value: Any) -> bool:
    return _is_number(value, (int, float), 0, math.inf) and (value < 1 or value == round(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_COUNT = (_is_count, "a whole number of at least 1")
_COUNT_OR_NONE = (_or_none(_is_count), "a whole number of at least 1, or None")
_SECONDS = (_is_seconds, "a number of seconds above 0")
_SECONDS_OR_NONE = (_or_none(_is_seconds), "a number of seconds above 0, or None")

_WANTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "workers": _COUNT,
    "threads": _COUNT_OR_NONE,
    "concurrency": _COUNT,
    "loop": (lambda value: value in LOOPS, f"one of {', '.join(map(repr, LOOPS))}"),
    "queue": _COUNT,
    "shared_memory": (lambda value: _is_number(value, int, 0, math.inf), "a number of bytes; 0 means none"),
    "max_workers": _COUNT_OR_NONE,
    "singleton": (lambda value: isinstance(value, bool), "True or False"),
    "restart": (lambda value: value in RESTART, f"one of {', '.join(map(repr, RESTART))}"),
    "stop_exit_codes": (
        _is_tuple_of(lambda value: _is_number(value, int, 0, 256)),
        "a tuple of exit statuses, 0 to 255",
    ),
    "intensity": (_or_none(lambda value: _is_number(value, int, 0, math.inf)), "a whole number, or None"),
    "period": _SECONDS,
    "needs": (_is_tuple_of(_is_name), "a tuple of names of roles"),
    "callers": (_is_tuple_of(_is_name), "a tuple of names of roles, and 'client'"),
    "essential": (lambda value: isinstance(value, bool), "True or False"),
    "boot_timeout": _SECONDS_OR_NONE,
    "boot_tries": _COUNT_OR_NONE,
    "hang_timeout": _SECONDS_OR_NONE,
    "max_calls": _COUNT_OR_NONE,
    "max_age": _SECONDS_OR_NONE,
    "max_memory": (
        _or_none(lambda value: _is_number(value, int, LEAST_MEMORY, math.inf)),
        "a number of bytes of at least 1 MiB, or None",
    ),
    "env": (_is_dict_of(_is_variable, _is_text), "a dict of names and texts"),
    "gpus": (_is_gpus, "a whole number, or a part of one GPU such as 0.5"),
    "spare": (lambda value: _is_number(value, int, 0, 1000), "a whole number from 0 to 999"),
    "nice": (lambda value: _is_number(value, int, -20, 20), "a whole number from -20 to 19"),
    "cpus": (_is_tuple_of(lambda value: _is_number(value, int, 0, math.inf)), "a tuple of numbers of cores"),
    "limits": (
        _is_dict_of(_is_text, lambda value: _is_number(value, int, 0, math.inf)),
        "a dict of names and whole numbers",
    ),
}
"""The check of each option of a role, and the description of a valid value."""
