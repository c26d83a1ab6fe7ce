"""How the application reaches other processes: proxies of roles, and targets of messages.

A proxy is thin: it knows the name of a role and how to call it. It looks up the exports in the roster each time.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast, overload

from mob.core.calls import WAIT
from mob.errors import MobError, PartialFailure, UnknownExport, nearest, summary_of
from mob.imports import import_at_rest
from mob.peer.calls import durable as durable_messages
from mob.peer.calls.batches import Chunked, UndecidedChunk
from mob.peer.calls.mapping import Map
from mob.peer.calls.options import DEFAULTS, CallOptions, Options, changed
from mob.peer.calls.pipelining import Making, makes_objects
from mob.peer.results.call import Call
from mob.peer.results.typed import Interface, NewCall, UndecidedCall
from mob.rim.board import mark_of
from mob.wire.messages import MAP, ExportInfo, export_of

if TYPE_CHECKING:
    from mob.core.dispatch import Route
    from mob.peer.calls.jobs import DurableProxy, JobOptions
    from mob.peer.calls.outgoing import Outgoing
    from mob.peer.links.contact import Contact
    from mob.peer.results.maker import Maker

QUEUED = ("apply_async", "delay", "durable", "enqueue", "schedule", "send", "submit")
"""What task queues (Celery, Dramatiq, RQ, huey) call the start of a task: here, a durable call does that."""


class Proxy:
    """A role as its callers see it: each exported function is an attribute, and any one worker gets the call.

    An attribute that the role does not export raises `UnknownExport`, with the nearest name: at once if all exports of
    the role are known already, otherwise when the call ends. The `Call` reports all other errors.

    >>> back = mob.require("back")          # doctest: +SKIP
    >>> back.foo(1, x=2).result()           # doctest: +SKIP
    >>> await back.foo(1, x=2)              # doctest: +SKIP
    """

    def __init__(
        self, peer: Outgoing, role: str, options: Options = DEFAULTS, interface: Interface | None = None
    ) -> None:
        self._mob_peer = peer
        self._mob_interface = interface
        self._mob_role = role
        self._mob_options = options
        peer.contacts.route(role)  # asks for links now, so that they exist when the first call is made

    @overload
    def options(self, *, durable: Literal[True], **changes: Unpack[JobOptions]) -> DurableProxy: ...
    @overload
    def options(self, **changes: Unpack[CallOptions]) -> Proxy: ...
    def options(self, **changes: Any) -> Any:
        """Return a view of this proxy that calls with other options.

        Args:
            **changes: The options to change:

                * `wait`: seconds to wait for a ready worker (default 30).
                * `timeout`: seconds for the whole call (default None: no limit).
                * `pid`: call only the worker with this process id; on another machine, "node:pid".
                * `key`: always call the worker in the place that this key belongs to (rendezvous hashing).
                * `retries`: maximum number of times that a call of an idempotent export is repeated after a crash
                  (default 3).
                * `durable`: if True, the call is kept on disk until it is done, whatever crashes meanwhile, and
                  returns a `Job`; see docs/jobs.md. It has the options below instead of those above.

                Options of durable calls:

                * `delay`: seconds until the call may begin (default 0).
                * `at`: when it may begin: a datetime, or seconds since the epoch.
                * `priority`: calls with a higher priority go first (default 0).
                * `retries`: number of new attempts after the export raised (default 3).
                * `backoff`: seconds until the first new attempt; each later pause is five times as long, up to one hour
                  (default 1).
                * `key`: while a job of this export with this key waits or runs, another call returns that job.

        Returns:
            A `Proxy`, or with `durable=True` a `DurableProxy`.

        Raises:
            TypeError: There is no such option, or its value has the wrong type.
            ValueError: A number of seconds is not a number (nan) or is out of range.

        Example:
            >>> back.options(timeout=2, key="ada").greet("Ada")     # doctest: +SKIP
            >>> back.options(durable=True).resize("a.png")          # doctest: +SKIP
        """
        if changes.get("durable", False):
            view: DurableProxy = import_at_rest(durable_messages.JOBS).durable_view(self, changes)
            return view
        changes.pop("durable", None)
        options = changed(self._mob_options, cast(CallOptions, changes))
        return Proxy(self._mob_peer, self._mob_role, options, self._mob_interface)

    def __getattr__(self, name: str) -> RemoteExport:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # Python looks for a protocol, not the application for a function
        exports = _exports_of(self._mob_peer, self._mob_role)
        if exports is not None and name not in exports and self._mob_peer.context.roster.roles[self._mob_role].complete:
            raise unknown_export(self._mob_role, name, exports, self._mob_interface)
        export = RemoteExport(self._mob_peer, self._mob_role, name, self._mob_options, self._mob_interface)
        self.__dict__[name] = export
        return export

    def __dir__(self) -> Iterable[str]:
        return ["options", *(_exports_of(self._mob_peer, self._mob_role) or {})]

    def __repr__(self) -> str:
        exports = _exports_of(self._mob_peer, self._mob_role)
        shown = "no worker was ready yet" if exports is None else ", ".join(e.name for e in exports.values())
        return f"<proxy of {self._mob_role!r}: {shown or 'no exports'}>"


OWN = frozenset(name for name in vars(Proxy) if not name.startswith("_"))
"""Names that a proxy has itself; an export with such a name cannot be reached by a dot."""


def proxy_of(peer: Outgoing, role: str, interface: Any = None) -> Proxy:
    """Return the proxy of a role, typed if an interface is given; raise `UnknownRole` if the app has no such role."""
    peer.context.roster.check_role(role)
    declared = None if interface is None else Interface(peer.context, peer.encoder.codec, interface)
    return Proxy(peer, role, DEFAULTS, declared)


class RemoteExport:
    """One exported function of a role; calling it sends the call and returns a `Call`."""

    __slots__ = ("_call", "_peer", "label", "mark", "name", "new_call", "only_idle", "role", "route", "terms")

    def __init__(
        self, peer: Outgoing, role: str, name: str, options: Options, interface: Interface | None = None
    ) -> None:
        self._peer = peer
        self._call = peer.calling.call
        self.role: str = role
        self.name: str = name
        self.label: str = f"{role}.{name}"
        self.mark: int = mark_of(self.label)
        self.route: Route[Contact] = peer.contacts.route(role)
        self.terms: Options = options
        self.only_idle: bool = False
        """True if calls that are made during a call of the same role wait here for an idle worker."""
        self.new_call: NewCall = Call if interface is None else interface.new_call(name)
        if self.new_call is Call:
            self.new_call = self._new_undeclared

    def __call__(self, *args: Any, **kwargs: Any) -> Call[Any]:
        """Send the call."""
        return self._call(self, args, kwargs)

    @property
    def peer(self) -> Outgoing:
        """The process that calls."""
        return self._peer

    def new_kept_call(self) -> Callable[..., Call[Any]]:
        """Return the constructor of calls for stored results, as the interface of the proxy declares them."""
        return Call if self.new_call in (Making, self._new_undeclared) else self.new_call

    def _new_undeclared(self, peer: Maker, label: str, role: str) -> Call[Any]:
        """Make a call of an export that no interface declares.

        It asks the roster until it is known whether the export is a class, because a `Making` costs more than a `Call`.
        """
        is_class = makes_objects(self._peer.context.roster.roles.get(self.role), self.name)
        if is_class is not None:
            self.new_call = Making if is_class else Call
        return Call(peer, label, role) if is_class is False else Making(peer, label, role)

    def map(
        self,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        ahead: int | None = None,
        unordered: bool = False,
        chunk: int | None = None,
        return_exceptions: bool = False,
    ) -> Map[Any]:
        """Call the export for each item, on all workers, and iterate over the results.

        Several iterables provide several arguments, and the shortest one ends the map, as with the built-in `map`.
        Items are drawn only when they are needed, so they may be endless. They travel in chunks. If you leave the loop
        early, the calls that are under way are cancelled. The options of the proxy apply to each message.

        Args:
            *iterables: One iterable, or async iterable, for each argument of the export.
            ahead: Maximum number of items that are under way or unread. Default: enough to keep all workers busy.
            unordered: If True, yield results as they are ready instead of in the order of the items.
            chunk: Number of items in one message. Default: about 2 ms of work.
            return_exceptions: If True, yield the error of an item in its place and go on. By default the first error is
                raised and ends the map.

        Returns:
            An iterator over the results, for `for` and `async for`.

        Raises:
            TypeError: An argument is not iterable.
            ValueError: `ahead` or `chunk` is not a whole number of at least 1.

        Example:
            >>> for price in back.price.map(orders): ...                # doctest: +SKIP
            >>> total = sum(back.add.map([1, 2], [3, 4]))               # doctest: +SKIP
        """
        chunked = RemoteExport(self._peer, self.role, MAP + self.name, self.terms)
        is_undecided = getattr(self.new_call, "func", None) is UndecidedCall
        chunked.label, chunked.new_call = self.label, UndecidedChunk if is_undecided else Chunked
        return Map(
            self._peer,
            self,
            chunked,
            iterables,
            ahead=ahead,
            unordered=unordered,
            chunk=chunk,
            return_exceptions=return_exceptions,
        )

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Explain what an export can do, unless Python or a library looks for a protocol."""
            if name[:1] == "_" or name in RemoteExport.__slots__:
                raise AttributeError(name)
            raise UnknownExport(f"{self.label} has no attribute {name!r}: {self._what_to_do(name)}")

    def _what_to_do(self, name: str) -> str:
        info = self._info()
        if name in QUEUED:
            durable = f"{self.role}.options(durable=True).{self.name}(...)"
            return f"call it, as {self.label}(...), or for a durable call {durable}."
        if name == "options":
            return f"give the options before the name, as in {self.role}.options(durable=True).{self.name}(...)."
        if info is None or info.methods is None:
            return f"call it, as {self.label}(...), or for many items {self.label}.map(...)."
        how = f"class methods and static methods are called on an object, too: (await {self.label}(...)).{name}(...)."
        known = [each.name.rpartition(".")[2] for each in info.methods]
        return (
            how if name in known else f"a service has only methods, and this is not one of them. {nearest(name, known)}"
        )

    @property
    def __name__(self) -> str:
        return self.name

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        info = self._info()
        return info.doc if info else ""

    def __repr__(self) -> str:
        info = self._info()
        return f"<{self.label}{info.signature if info else '(...), no worker was ready yet'}>"

    def _info(self) -> ExportInfo | None:
        return (_exports_of(self._peer, self.role) or {}).get(self.name)


class Target:
    """The workers that `mob.all`, `mob.any` and `mob.pid` return: you can send to them and call them.

    >>> mob.all("back").send("reopen")          # doctest: +SKIP
    >>> mob.pid(4242).call.stats().result()     # doctest: +SKIP
    """

    def __init__(self, peer: Outgoing, role: str, kind: str, pid: int | str = 0) -> None:
        self._peer = peer
        self._role = role
        self._kind = kind
        self._pid = pid
        if kind != "pid":
            peer.context.roster.check_role(role)
        peer.contacts.want_role(role or "*")

    def __repr__(self) -> str:
        return f"<pid {self._pid}>" if self._kind == "pid" else f"<{self._kind} {self._role!r}>"

    @overload
    def send(self, obj: Any) -> None: ...
    @overload
    def send(self, obj: Any, *, durable: Literal[True]) -> Call[None]: ...
    def send(self, obj: Any, *, durable: bool = False) -> Any:
        """Send a message to all workers of the role, to any one of them, or to the process.

        Args:
            obj: The message.
            durable: Keep the message on disk until a worker has handled it, even if processes crash meanwhile; it may
                be handled more than once. Only for any one worker of a role (`mob.any`). The message is kept in a file
                of the app (docs/jobs.md), in a cluster on the NATS server (docs/cluster.md). Default: False.

        Returns:
            None, or with `durable=True` a `Call` that is done when the message is stored.

        Raises:
            BadMessage: The message cannot be sent.
            Busy: Some receivers read too slowly; all others have the message.
            ValueError: `durable=True` with a target other than `mob.any`.

        Example:
            >>> mob.any("back").send({"order": 4711}, durable=True)     # doctest: +SKIP
        """
        calling = self._peer.calling
        if durable:
            if self._kind != "any":
                raise ValueError(
                    f"{self!r}: a durable message can go only to any one worker of a role, as in "
                    f"mob.any('back').send(obj, durable=True), because those that run now may have exited by then."
                )
            return durable_messages.store(self._peer, self._role, obj)
        match self._kind:
            case "all":
                calling.send(self._peer.contacts.hearing(self._role), obj)
            case "any":
                calling.send_any(self._role, obj)
            case _:
                calling.send([self._peer.contacts.of_pid(self._pid)], obj)
        return None

    @property
    def call(self) -> Calls:
        """Calls of the target's exports: `target.call.foo(1)`.

        On all workers of a role the result is `{pid: value}`, with "node:pid" for a worker on another machine.
        """
        return Calls(self)

    def start_call(self, name: str, /, *args: Any, **kwargs: Any) -> Call[Any]:
        """Call an export of the target."""
        peer = self._peer
        match self._kind:
            case "all":
                return _Broadcast(peer, self._role, name, args, kwargs).call
            case "any":
                return RemoteExport(peer, self._role, name, DEFAULTS)(*args, **kwargs)
            case _:
                contact = peer.contacts.of_pid(self._pid)
                return peer.calling.call_one(contact, f"{contact.member.role}.{name}", name, args, kwargs)


class Calls:
    """The exports of a target."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return partial(self._target.start_call, name)

    def __repr__(self) -> str:
        return f"<calls to {self._target!r}>"


class _Broadcast:
    """A call on every ready worker of a role, gathered into one.

    While no worker is ready it waits for the first one, as a call of any one worker does.
    """

    def __init__(self, peer: Outgoing, role: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._peer = peer
        self._role = role
        self._label = f"{role}.{name}"
        self._what = name, args, kwargs
        self._results: dict[int | str, Any] = {}
        self._errors: dict[int | str, BaseException] = {}
        self._missing = 0
        self.call: Call[dict[int | str, Any]] = Call(peer, f"all {self._label}", "")
        self._until = monotonic() + WAIT
        self._is_waiting = False
        self._timer: int | None = None
        self._context = copy_context()  # has the deadline and the trace of the call that is being served
        contacts = peer.contacts.ready(role)
        if contacts:
            self._begin(contacts)
        elif error := peer.parking.why_none(self.call.label, role):
            self.call.fail(error)
        else:
            self._is_waiting = True
            peer.control.changes.listeners.append(self._look)
            peer.context.reactor.call(self._look_again)
            self.call.when_done(lambda _: peer.context.reactor.call(self._look))  # it may be cancelled

    def _begin(self, contacts: Sequence[Contact]) -> None:
        self._missing = len(contacts)
        for contact in contacts:
            call = self._peer.calling.call_one(contact, self._label, *self._what)
            call.when_done(partial(self._handle_done, contact.address))

    def _look_again(self) -> None:
        """Set the timer, and look for changes that came before the listener was added; on the loop's thread."""
        if self._is_waiting:
            self._timer = self._peer.context.reactor.call_at(self._until, self._look)
        self._look()

    def _look(self) -> None:
        """Handle a change of the roster, or the end of the waiting time; on the loop's thread."""
        if not self._is_waiting:
            return
        peer, call = self._peer, self.call
        contacts = peer.contacts.ready(self._role)
        error = None if contacts else peer.parking.why_none(call.label, self._role)
        if not contacts and error is None and monotonic() >= self._until:
            error = peer.parking.too_late(call.label, self._role)
        if not contacts and error is None and not call.done():
            return
        self._is_waiting = False
        if self._timer is not None:
            peer.context.reactor.cancel(self._timer)
        peer.control.changes.listeners.remove(self._look)
        if call.done():  # cancelled meanwhile
            return
        if error is not None:
            call.fail(error)
            return
        try:
            self._context.run(self._begin, contacts)
        except MobError as error:  # the arguments cannot be sent
            call.fail(error)

    def _handle_done(self, pid: int | str, call: Call[Any]) -> None:
        error = call.exception()
        if error is None:
            self._results[pid] = call.result()
        else:
            self._errors[pid] = error
        self._missing -= 1
        if self._missing == 0:
            if self._errors:
                which = "; ".join(f"{pid}: {summary_of(error)}" for pid, error in self._errors.items())
                count = f"{len(self._errors)} of {len(self._errors) + len(self._results)}"
                self.call.fail(
                    PartialFailure(f"{self._label} failed in {count} workers: {which}", self._results, self._errors)
                )
            else:
                self.call.settle(self._results)


def unknown_export(role: str, name: str, exports: Iterable[str], interface: Interface | None = None) -> UnknownExport:
    """Return the error for a function that a role does not export."""
    service, _, method = name.partition(".")
    if method and service in exports:
        how = f"Make an object of it, and call that: await (await {role}.{service}(...)).{method}(...)."
        return UnknownExport(f"{role}.{name} is a method of a service. {how}")
    declared = f", though {interface.name} declares it" if interface is not None and interface.has(name) else ""
    found = nearest(name, filter(_is_function, exports))
    rule = (
        " A module that marks functions with @mob.export exports no others." if found.startswith("There are:") else ""
    )
    return UnknownExport(f"{role!r} exports no function {name!r}{declared}. {found}{rule}")


def _is_function(name: str) -> bool:
    """Return True if users may call an export; the others are internal to mob, or methods."""
    return export_of(name) == name and "." not in name


def _exports_of(peer: Outgoing, role: str) -> dict[str, ExportInfo] | None:
    info = peer.context.roster.roles.get(role)
    return None if info is None or info.exports is None else {export.name: export for export in info.exports}
