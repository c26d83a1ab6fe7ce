"""The functions that application code calls in a mobster: `mob.require`, `mob.send`, `mob.on` and the rest.

They act on the one peer of this process. The Kingpin, and a process that only imported the module of a role, have none.
There the functions that modules call at the top level (`require`, `on`, `me`, `ready`, `listen`, targets) do nothing
and return an object that raises when it is used, so that importing is always possible. All other functions raise at
once.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from msgspec import Struct, ValidationError

from mob.errors import CallError, MobError
from mob.imports import import_at_rest
from mob.mobster.absent import Absent, note_unheard, refuse
from mob.peer.calls.durable import JOBS
from mob.peer.calls.proxy import Proxy, Target, proxy_of
from mob.peer.links import served
from mob.peer.peer import Peer
from mob.peer.serving.deliveries import DELIVERY, Delivery
from mob.peer.serving.handlers import check_event
from mob.wire import messages as m
from mob.wire.annotations import loosen
from mob.wire.misfits import said_of

if TYPE_CHECKING:
    from mob.peer.calls.jobs import Job

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_peer: Peer | None = None
_say_ready: Callable[[], None] | None = None

Seat = tuple[Peer, Callable[[], None]]
"""A peer, and the function with which it reports that it is ready."""


def _no_seat() -> Seat | None:
    return None


find_seat: Callable[[], Seat | None] = _no_seat
"""Return the mobster that asks, if one process holds several (`mob.testing`); used only outside of real mobsters."""


def _as_it_is(function: F) -> F:
    return function


class Me(Struct, frozen=True):
    """The identity of a process of the app: app, role, index, pid and generation; in a cluster also node and token."""

    app: str
    role: str
    index: int
    """Index within the role, from 0 to workers - 1; a successor has the index of its predecessor."""
    pid: int
    generation: int
    """Number of processes that have had this role and index, including this one."""
    node: str = ""
    """Name of its machine; "" if the app runs on one machine only."""
    token: int = 0
    """Fencing token of a singleton: it never decreases from worker to worker, and grows when the machine changes."""


def enter(peer: Peer, say_ready: Callable[[], None]) -> None:
    """Make this process a mobster."""
    global _peer, _say_ready
    _peer, _say_ready = peer, say_ready


def leave() -> None:
    """Make this process, the child of a mobster, an ordinary process."""
    global _peer, _say_ready
    _peer = _say_ready = None


def current(function: str) -> Peer:
    """Return this process's peer; `NotInMobster` names the function that needs one."""
    peer = find()
    return refuse(function) if peer is None else peer


def find() -> Peer | None:
    """Return this process's peer, or None if the process is not a mobster."""
    if _peer is not None:
        return _peer
    seat = find_seat()
    return None if seat is None else seat[0]


@overload
def require(role: str) -> Proxy: ...
@overload
def require(role: str, interface: Callable[..., T]) -> T: ...  # not type[T]: mypy does not accept a Protocol for that
def require(role: str, interface: Any = None) -> Any:
    """Return the proxy of a role: its exports as functions, each call sent to any one worker.

    Never blocks and needs no boot order: calls wait for the first ready worker (30 s by default, see `Proxy.options`).

    Args:
        role: Name of the role.
        interface: A `typing.Protocol` (or any class) whose methods are the exports. Editors and type checkers treat the
            proxy as an object of it, and each result is converted to the annotated return type; see docs/typed.md.

    Returns:
        The proxy: `proxy.export(...)` returns a call, to be awaited or asked for its `result()`.

    Raises:
        UnknownRole: The app has no such role; the message names the nearest one.

    Example:
        >>> back = mob.require("back")     # doctest: +SKIP
        >>> await back.foo(1)              # doctest: +SKIP
        >>> back = mob.require("back", Back)                   # doctest: +SKIP
    """
    peer = find()
    return Absent("require") if peer is None else proxy_of(peer, role, interface)


def send(obj: Any) -> None:
    """Send a message to every ready mobster, including this one.

    Args:
        obj: The message; handlers of `mob.on("message")` receive it.

    Raises:
        BadMessage: The object cannot be sent.
        Busy: Some mobsters read too slowly; the others have received the message.

    Example:
        >>> mob.send({"cache": "stale"})   # doctest: +SKIP
    """
    current("send").calling.send_to_all(obj)


def all(role: str) -> Target:
    """Return a target for all workers of a role that are ready when something is sent.

    Raises:
        UnknownRole: The app has no such role.

    Example:
        >>> mob.all("back").send("reopen")                      # doctest: +SKIP
        >>> mob.all("back").call.size().result()                # doctest: +SKIP
        {4711: 12, 4712: 9}
    """
    peer = find()
    return cast(Target, Absent("all")) if peer is None else Target(peer, role, "all")


def any(role: str) -> Target:
    """Return a target for any one worker of a role.

    Raises:
        UnknownRole: The app has no such role.

    Example:
        >>> mob.any("back").send({"order": 4711})               # doctest: +SKIP
    """
    peer = find()
    return cast(Target, Absent("any")) if peer is None else Target(peer, role, "any")


def pid(pid: int | str) -> Target:
    """Return a target for the mobster with that process id: `mob.pid(p).send(obj)`, `mob.pid(p).call.foo(1)`.

    Args:
        pid: A process id of this machine as a number; for another machine "node:pid".

    Raises:
        UnknownTarget: No mobster has this pid.

    Example:
        >>> mob.pid(4711).send("hello")                         # doctest: +SKIP
    """
    peer = find()
    return cast(Target, Absent("pid")) if peer is None else Target(peer, "", "pid", pid)


@overload
def on(event: str) -> Callable[[F], F]: ...
@overload
def on(event: str, handler: F) -> Callable[[F], F]: ...
def on(event: str, handler: Any = None) -> Any:
    """Register a handler of an event, `def` or `async def`: `@mob.on("message")`, or `mob.on("message", f)`.

    In a process that is not a mobster (a test, a child of multiprocessing) handlers are never run; in a main script the
    app then does not start (`PlanError`).

    Args:
        event: One of

            * `message`: another process sent an object, which the handler receives. Handlers begin in the order in
              which one process sent messages and calls; an `async def` handler gives way at its first `await` that
              waits.
            * `start`: runs on the loop after the import, before the mobster is ready.
            * `ready`: the mobster is ready.
            * `drain`: the mobster begins to stop; end whatever does not end by itself.
            * `stop`: all work is done.
            * `join`, `leave`: another mobster appeared or left; the handler receives it.
            * `crash`: another mobster crashed; the handler receives the report, a `Crash`.
            * `hand_over`: takes no arguments and returns what the successor gets from `mob.inherited()`; at most one
              handler per worker.
            * `error`: code of this mobster raised an exception; the handler receives the exception and an
              `ErrorContext`, and runs in a thread of its own.
        handler: The function; without it `on` returns a decorator.

    Returns:
        A decorator, which returns the function unchanged.

    Raises:
        ValueError: There is no such event.

    When a mobster stops, it waits for its handlers of `message` and `drain`. Handlers of `ready`, `join`, `leave` and
    `crash` that still run are cancelled, so they may run forever.

    Example:
        >>> @mob.on("message")                                  # doctest: +SKIP
        ... async def handle(obj): ...
    """
    peer = find()
    if peer is not None:
        return peer.handlers.add(event, handler)
    check_event(event)
    note_unheard(f"@mob.on({event!r})")
    return _as_it_is


def caller() -> Me | None:
    """Return the process that sent the message or made the call that is being served here.

    Returns:
        Its identity; the role of a client is "". None outside of messages and calls, and in a batch of calls from
        several processes.

    Example:
        >>> mob.caller().role                                   # doctest: +SKIP
        'front'
    """
    peer = current("caller")
    now = served.current()
    if now is None or not getattr(now[2], "has_one_caller", True):  # only a batch can have several callers
        return None
    contact = now[0]
    member = contact.member
    return Me(peer.context.app, member.role, member.index, member.pid, member.generation, contact.node, member.token)


def delivery() -> Delivery | None:
    """Return which durable message or call is being handled, and which attempt this is.

    Returns:
        `.key`, which is the same for each attempt, and `.attempt`, starting at 1. None outside of a durable message or
        call, and in a batch.

    Example:
        >>> if mob.delivery().attempt > 1: ...     # doctest: +SKIP
    """
    current("delivery")
    return DELIVERY.get()


def job(id: str) -> Job[Any]:
    """Return the durable job of this app with that id, whichever process created it; in a client use `app.job(id)`.

    This sends no request: the methods of the job fail with `UnknownJob` if the job is unknown.

    Example:
        >>> await mob.job(id)                      # doctest: +SKIP
    """
    found: Job[Any] = import_at_rest(JOBS).job_of(current("job"), id)
    return found


def cancelled() -> bool:
    """Return whether the caller of the running call cancelled it or exited, or its timeout has passed.

    For a long-running `def` export, which cannot be cancelled by others: check this regularly, and return if it is
    True.

    Example:
        >>> while not mob.cancelled(): ...     # doctest: +SKIP
    """
    return current("cancelled").serving.is_cancelled()


def me() -> Me:
    """Return the identity of this process.

    Example:
        >>> mob.me().role, mob.me().index                       # doctest: +SKIP
        ('back', 0)
    """
    peer = find()
    if peer is None:
        return cast(Me, Absent("me"))
    member = peer.context.roster.get(peer.context.uid)
    token = 0 if member is None else member.token
    return Me(
        peer.context.app,
        peer.context.role,
        peer.context.index,
        peer.context.pid,
        peer.context.generation,
        peer.context.roster.node_name(peer.context.uid),
        token,
    )


def ready() -> None:
    """Report that this mobster can be given work before its module has finished importing.

    Without it a mobster is ready when the import of its module ends, or when the module blocks and waits for
    connections. Call it in a module that runs forever in another way: a consumer of a queue, or a server in a thread
    while the main thread sleeps in a loop.

    Example:
        >>> mob.ready()                                         # doctest: +SKIP
    """
    if _say_ready is not None:
        _say_ready()
    elif (seat := find_seat()) is not None:
        seat[1]()


def exit(status: int = 0) -> None:
    """End this mobster gracefully: it accepts no new calls, finishes those in hand, and runs the handlers of `stop`.

    Returns at once; a call in which it is used is still answered. `sys.exit()` in an export does not end the mobster:
    it fails the call. The options `restart` and `stop_exit_codes` of the role decide whether a new worker replaces it.

    Args:
        status: Exit status of the process, from 0 to 255 (default 0).

    Raises:
        ValueError: The status is not a whole number from 0 to 255.

    Example:
        >>> mob.exit(3)                                         # doctest: +SKIP
    """
    if not isinstance(status, int) or not 0 <= status <= 255:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"mob.exit({status!r}): the exit status must be a whole number from 0 to 255.")
    current("exit").end_in_order(status)


def scale(change: int) -> str:
    """Change the number of workers of this role, within `workers` and `max_workers`.

    Args:
        change: Number of workers to add, or to remove if negative.

    Returns:
        A sentence with the new number.

    Raises:
        MobError: The role would leave its limits.

    Example:
        >>> mob.scale(+1)                  # doctest: +SKIP
        'back: 5 workers.'
    """
    peer = current("scale")
    request = peer.control.request("scale", lambda number: m.Scale(number, peer.context.role, change, relative=True))
    done: m.Done = request.result()
    if done.error:
        raise MobError(done.error)
    return done.text


@overload
def inherited() -> Any: ...
@overload
def inherited(kind: type[T]) -> T | None: ...
def inherited(kind: Any = None) -> Any:
    """Return what the previous worker in this place returned from its handler of "hand_over".

    Args:
        kind: Class or annotation to which the data is converted, like an argument of a call. Without it dataclasses
            arrive as dicts, and sets as lists.

    Returns:
        The data. None if there was no previous worker, if it had no such handler, or if it was killed or crashed: data
        that must survive that belongs in a file or a database.

    Raises:
        MobError: The handlers of "start" have not begun: until then the previous worker still serves calls.
        CallError: The data does not fit `kind`.

    Example:
        >>> @mob.on("start")                                    # doctest: +SKIP
        ... def start(): sessions.update(mob.inherited() or {})
    """
    peer = current("inherited")
    if not peer.may_ask_inherited:
        raise MobError(
            "mob.inherited() is available in handlers of 'start' and later: while the module is imported, the "
            "previous worker still serves calls."
        )
    value = peer.inherited
    if kind is None or value is None:
        return value
    try:
        return peer.encoder.codec.converter(loosen(kind))(value)
    except ValidationError as error:
        text = f"the data inherited by {peer.context.name} is not {kind!r}: {said_of(error, value)}"
        raise CallError(text, executed="yes") from error


def last_error() -> str:
    """Return the report of the last crash of a worker of this role: reason, traceback and last output, or "".

    Reports outlive the app: `mob crashes` shows them.

    Example:
        >>> print(mob.last_error())                             # doctest: +SKIP
    """
    crash: m.CrashIs = current("last_error").control.request("last_error", m.WantCrash).result()
    return crash.text


def listen(host: str, port: int, *, backlog: int = 1024) -> socket.socket:
    """Return a listening TCP socket that all mobsters share that listen on the same address.

    Args:
        host: IP address or host name.
        port: Port number; 0 for any free port.
        backlog: Maximum number of connections that wait to be accepted (default 1,024).

    Raises:
        AddressHeld: Another process holds the address; the error, an `OSError`, names it.
        OSError: The address cannot be bound for another reason.

    Example:
        >>> sock = mob.listen("127.0.0.1", 1337)     # doctest: +SKIP
    """
    if find() is None:
        return cast(socket.socket, Absent("listen"))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.bind((host, port))
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock
