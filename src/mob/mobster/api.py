"""The functions that application code calls in a mobster: `mob.require`, `mob.send`, `mob.on` and the rest.

They speak for the one peer that this process is. In the Kingpin, and in a process that has only imported the module of
a role, there is none. There what modules say at their top (`require`, `on`, `me`, `ready`, `listen`, targets) does
nothing and gives an object that complains when it is used, so that importing is free. All else complains at once.
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
"""A peer, and how it says that it is ready."""


def _nobody() -> Seat | None:
    return None


find_seat: Callable[[], Seat | None] = _nobody
"""Who asks, where one process holds several mobsters (`mob.testing`); asked in a process that is no mobster itself."""


def _as_it_is(function: F) -> F:
    return function


class Me(Struct, frozen=True):
    """Who a process of the mob is: the app, role, index and pid, the generation, and in a cluster node and token."""

    app: str
    role: str
    index: int
    """0 to workers - 1; a successor takes its predecessor's."""
    pid: int
    generation: int
    """How many processes have had this role and index, this one counted."""
    node: str = ""
    """The name of its machine; nothing if the app runs on one only."""
    token: int = 0
    """Of a singleton: its fencing token. Each one that follows, wherever, has at least this; another machine's more."""


def enter(peer: Peer, say_ready: Callable[[], None]) -> None:
    """This process is a mobster from now on."""
    global _peer, _say_ready
    _peer, _say_ready = peer, say_ready


def leave() -> None:
    """This process is no mobster any more (it is the child of one)."""
    global _peer, _say_ready
    _peer = _say_ready = None


def current(function: str) -> Peer:
    """This process's peer; `NotInMobster` names the function that needs one."""
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
def require(role: str, interface: Callable[..., T]) -> T: ...  # not type[T]: mypy takes no Protocol for one
def require(role: str, interface: Any = None) -> Any:
    """The proxy of a role: its exports as functions, each call sent to any one worker.

    Never blocks and needs no boot order: calls wait for the first ready worker (30 s, see `Proxy.options`). Raises
    `UnknownRole` at once if the app has no such role, with the nearest name.

    `interface`: a `typing.Protocol` (or any class) whose methods are the exports. Editors and type checkers take the
    proxy for one, and each result is converted to what its method is annotated to return; see docs/typed.md.

    >>> back = mob.require("back")     # doctest: +SKIP
    >>> await back.foo(1)              # doctest: +SKIP
    >>> back = mob.require("back", Back)                   # doctest: +SKIP
    """
    peer = find()
    return Absent("require") if peer is None else proxy_of(peer, role, interface)


def send(obj: Any) -> None:
    """Sends a message to every ready mobster, this one too. Raises `BadMessage` if it cannot be sent, and `Busy` if
    there were some that read too slowly, when the others have it.

    >>> mob.send({"cache": "stale"})   # doctest: +SKIP
    """
    current("send").calling.send_to_all(obj)


def all(role: str) -> Target:
    """All ready workers of a role, at the moment of sending. `UnknownRole` if there is no such role.

    >>> mob.all("back").send("reopen")                      # doctest: +SKIP
    >>> mob.all("back").call.size().result()                # doctest: +SKIP
    {4711: 12, 4712: 9}
    """
    peer = find()
    return cast(Target, Absent("all")) if peer is None else Target(peer, role, "all")


def any(role: str) -> Target:
    """Any one worker of a role. `UnknownRole` if there is no such role.

    >>> mob.any("back").send({"order": 4711})               # doctest: +SKIP
    """
    peer = find()
    return cast(Target, Absent("any")) if peer is None else Target(peer, role, "any")


def pid(pid: int | str) -> Target:
    """The mobster with that process id: `mob.pid(p).send(obj)`, `.call.foo(1)`; `UnknownTarget` if there is none.

    A number is a process of this machine; one of another is "node:pid".

    >>> mob.pid(4711).send("hello")                         # doctest: +SKIP
    """
    peer = find()
    return cast(Target, Absent("pid")) if peer is None else Target(peer, "", "pid", pid)


@overload
def on(event: str) -> Callable[[F], F]: ...
@overload
def on(event: str, handler: F) -> Callable[[F], F]: ...
def on(event: str, handler: Any = None) -> Any:
    """Registers a handler, `def` or `async def`: `@mob.on("message")`, or `mob.on("message", f)`.

    Handlers of messages begin in the order in which one process has sent messages and calls; an `async def` one gives
    way at its first `await` that waits.

    Events: `message` (gets the object), `start` (runs on the loop after the import, before the mobster is ready),
    `ready`, `drain` (the mobster begins to end: end what has no end of its own), `stop` (all work is done), `join` and
    `leave` (get the other mobster), `crash` (gets the report, a `Crash`, of another mobster that died out of order),
    `hand_over` (takes nothing, and returns what the successor gets by `mob.inherited()`; a worker has one), `error`
    (gets an exception that the code of this mobster has raised, and an `ErrorContext`; runs in a thread of its own).
    `ValueError` for any other. In a process that is no mobster (a test, a child of multiprocessing) no handler is ever
    run; in a main script the app does not start then (`PlanError`).

    A mobster that ends waits for its handlers of messages and of `drain`. One of `ready`, `join`, `leave` or `crash`
    that still runs is cancelled then, so it may go on for ever.

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
    """Who sent the message or made the call that is being served here; None outside of one, and in a batch of calls
    from several processes. A client's role is "".

    >>> mob.caller().role                                   # doctest: +SKIP
    'front'
    """
    peer = current("caller")
    now = served.current()
    if now is None or not getattr(now[2], "has_one_caller", True):  # only a batch may have several
        return None
    contact = now[0]
    member = contact.member
    return Me(peer.context.app, member.role, member.index, member.pid, member.generation, contact.node, member.token)


def delivery() -> Delivery | None:
    """Which durable message or call is being handled here, and for which time: `.key`, the same each time, and
    `.attempt`, 1 at first. None outside of one, and in a batch.

    >>> if mob.delivery().attempt > 1: ...     # doctest: +SKIP
    """
    current("delivery")
    return DELIVERY.get()


def job(id: str) -> Job[Any]:
    """The durable job of that id, of this app, whichever process has made it; in a client it is `app.job(id)`.

    Nothing is asked yet: what the job's methods give fails with `UnknownJob` if nothing is known of it.

    >>> await mob.job(id)                      # doctest: +SKIP
    """
    found: Job[Any] = import_at_rest(JOBS).job_of(current("job"), id)
    return found


def cancelled() -> bool:
    """Whether the caller of the running call has given it up, has died, or its time is over.

    For a `def` export that takes long, which cannot be cancelled from outside: it asks now and then, and returns.

    >>> while not mob.cancelled(): ...     # doctest: +SKIP
    """
    return current("cancelled").serving.is_cancelled()


def me() -> Me:
    """Who this process is.

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
    """Says that this mobster may be given work, before its module has finished importing.

    Without it a mobster is ready when its module has been imported, or when the module blocks and waits for
    connections. Call it in a module that goes on for ever in another way: a consumer of a queue, or a server in a
    thread while the main thread sleeps in a loop.

    >>> mob.ready()                                         # doctest: +SKIP
    """
    if _say_ready is not None:
        _say_ready()
    elif (seat := find_seat()) is not None:
        seat[1]()


def exit(status: int = 0) -> None:
    """End this mobster in order, with that exit status: it takes no new calls, finishes those in hand, and runs the
    handlers of `stop`, as when the app stops. Returns at once; the call that says so is answered.

    `sys.exit()` in an export does not do this: it fails the call, and the mobster goes on. Whether another one comes in
    its place is said by `restart` and `stop_exit_codes` of the role. `ValueError` if the status is not in 0 to 255.

    >>> mob.exit(3)                                         # doctest: +SKIP
    """
    if not isinstance(status, int) or not 0 <= status <= 255:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"mob.exit({status!r}): the exit status must be a whole number from 0 to 255.")
    current("exit").end_in_order(status)


def scale(change: int) -> str:
    """Makes the own role larger (+1) or smaller (-1), between `workers` and `max_workers`; what was done.

    `MobError` if the role would leave these limits.

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
    """Return what the worker that was in this place before has left: what its handler of "hand_over" has returned.

    None if there was none before, if that one had no such handler, or if it died (`kill -9`, a crash): what must
    survive that belongs into a file or a database. `kind`: the class or annotation that the data is converted to, as
    arguments are; without it dataclasses arrive as dicts, sets as lists.

    `mob.MobError` before the handlers of "start" run, for until then the one before still serves calls; `mob.CallError`
    if the data does not fit `kind`.

    >>> @mob.on("start")                                    # doctest: +SKIP
    ... def start(): sessions.update(mob.inherited() or {})
    """
    peer = current("inherited")
    if not peer.may_ask_inherited:
        raise MobError(
            "mob.inherited() is known in the handlers of 'start', and later; while the module is imported, the worker "
            "before this one still serves calls."
        )
    value = peer.inherited
    if kind is None or value is None:
        return value
    try:
        return peer.encoder.codec.converter(loosen(kind))(value)
    except ValidationError as error:
        text = f"what {peer.context.name} has inherited is not {kind!r}: {said_of(error, value)}"
        raise CallError(text, executed="yes") from error


def last_error() -> str:
    """The report of the last crash of a worker of the own role: why, where it stood, what it printed; "" if none.

    Reports outlive the app: `mob crashes` shows them.

    >>> print(mob.last_error())                             # doctest: +SKIP
    """
    crash: m.CrashIs = current("last_error").control.request("last_error", m.WantCrash).result()
    return crash.text


def listen(host: str, port: int, *, backlog: int = 1024) -> socket.socket:
    """The listening TCP socket of an address, shared with all mobsters that ask for it.

    `OSError` (`mob.AddressHeld`) tells who has the address if it cannot be had.

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
