"""The calls of methods of services: each runs as a call of an export, `Room.add`, bound to its object.

Strategy. A service is an export that is a class. Each of its methods also becomes an export, so that everything that is
measured, limited, traced, validated or quarantined by export is so by method, too. A call of a method arrives with the
number of its object as target; here it becomes a call of that export.

Limits. The `timeout` of a method applies to each call, its `concurrency` to each object separately.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from time import monotonic
from types import MethodType
from typing import TYPE_CHECKING, Any

from msgspec import Raw, structs
from msgspec.msgpack import Decoder

from mob.errors import UnknownExport
from mob.peer.references.objects import HostedService, no_method
from mob.peer.serving import limits
from mob.peer.serving.exports import Export
from mob.peer.serving.limiters import Limiter
from mob.wire import messages as m
from mob.wire.methods import methods_of

if TYPE_CHECKING:
    from mob.core.callbacks import Function
    from mob.peer.links.contact import Contact
    from mob.peer.serving.serving import Serving
    from mob.rim.link import Link

_split: Callable[[Raw], tuple[str, Raw]] = Decoder(tuple[str, Raw]).decode
"""Splits the arguments of a call into the name of a method and its own arguments."""


class Method(Export):
    """One method of a service."""

    __slots__ = ()


def offer(serving: Serving, role: str, name: str, kind: type[Any]) -> Mapping[str, Method]:
    """Make exports of the methods of a class, and let its objects cross by reference."""
    methods: dict[str, Method] = {}
    for each in methods_of(kind):
        export = methods[each] = serving.limited(Method, role, f"{name}.{each}", _without_self(kind, each))
        export.function = _refuse_unbound(export.label)
        serving.exports[export.name] = export
    serving.references.objects.serve(kind, f"{role}.{name}", methods)
    serving.encoder.codec.serve(kind)
    return methods


def start(serving: Serving, link: Link, contact: Contact, call: m.Invoke, service: HostedService) -> None:
    """Run a call of a method, or let it wait for its turn; an exception ends the call."""
    name, args = _split(call.args)
    export: Method | None = service.exports.get(name)
    if export is None:
        serving.encoder.discard(call)
        raise no_method(service.label, name, service.methods)
    as_callback, call = call, structs.replace(call, target=export.name, args=args)
    function: Function = serving.limited_calls.limited(export, getattr(service.__self__, name))
    if serving.context.tracing is not None:
        function = serving.traced(function, export.label, call, contact)
    values, named = export.decode(args, call.kwargs[0] if call.kwargs else None)
    if call.times is not None and monotonic() >= call.times[1]:
        raise limits.expired(call, serving.context.name)
    if serving.quarantined and serving.quarantined.get(export.name, serving.context.uid) != serving.context.uid:
        raise limits.quarantined(export.label)
    if serving.reactor.driving:  # the loop waits for this
        serving.invoke(link, contact, as_callback, function, values, named)
        return
    if export.limiter is not None:
        export = _gated(serving, export, service)
    serving.admit(export, (link, contact, call, function, values, named))


def _gated(serving: Serving, export: Method, service: HostedService) -> Method:
    """Return an export with a limiter and a batcher of its own for one object."""
    own: Method | None = service.gated.get(export.name)
    if own is None:
        assert export.limiter is not None
        own = service.gated[export.name] = copy.copy(export)
        own.limiter = Limiter(export.limiter.limit)
        if export.singles is not None:
            function = getattr(service.__self__, export.name.rpartition(".")[2])
            own.batcher = serving.batcher_of(own, serving.limited_calls.limited(export, function))
    return own


def _without_self(kind: type[Any], name: str) -> Callable[..., Any]:
    """Return a method as an object of the class would have it: with its signature, docstring and code."""
    stored = inspect.getattr_static(kind, name)
    found = getattr(kind, name)
    return found if isinstance(stored, (staticmethod, classmethod)) else MethodType(found, kind)


def _refuse_unbound(label: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise UnknownExport(f"{label} is a method: call it on an object, which {label.rpartition('.')[0]}(...) makes.")

    return refuse
