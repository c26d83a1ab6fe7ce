"""Objects that are sent by reference: those that live here and are known elsewhere, and handles of others' objects.

Strategy. An object is lent like a function: `functions` counts a `Hosted`, which stands for the object and the names of
its methods, so an object is kept and freed as a function is. A reference to it carries its label and these names, so a
handle knows what can be called wherever it arrives. In its own process it becomes the object itself again.

A call of a method goes to the number of the object, with the name before the arguments. An object that was sent with
`mob.ref` runs it as a callback; one of a service (a class that its role exports) runs it as an export of the role
(`serving.methods`).

Limits. It does not know how calls are made or run.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, cast

from mob.errors import BadMessage, UnknownExport, nearest
from mob.peer.references.functions import RemoteFunction
from mob.peer.results.checking import check_seconds
from mob.wire.messages import ExportInfo
from mob.wire.methods import ByReference, methods_of
from mob.wire.references import ObjectReference, Reference

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.references.functions import Functions
    from mob.peer.results.call import Call

CallMethod = Callable[["RemoteObject", str, Sequence[Any], Mapping[str, Any]], "Call[Any]"]
"""(handle, name, args, kwargs) -> the call of a method in the process that holds the object."""

_exposures: dict[tuple[str, ...], tuple[str, ...]] = {}  # each tuple once, because an object is lent once for each


# -------------------------------------------------------------------------------------------------- at its owner


class Ref(ByReference):
    """The result of `mob.ref`: an object to be sent by reference."""

    __slots__ = ("methods", "target")

    def __init__(self, target: Any, methods: tuple[str, ...] | None = None) -> None:
        self.target: Any = target
        self.methods: tuple[str, ...] | None = methods

    def __repr__(self) -> str:
        return f"<reference to a {type(self.target).__qualname__}>"


def ref(obj: Any, methods: Iterable[str] | None = None) -> Any:
    """Return a stand-in for an object in arguments, results and messages, so that it is sent by reference.

    The object stays in this process. Other processes receive a handle, a `mob.RemoteObject`, whose methods run here,
    like those of a function that was sent; the object is kept until the last handle is dropped. A handle that comes
    back to this process arrives as the object itself.

    Args:
        obj: The object.
        methods: Names of the methods that can be called, which may include special ones (`__getitem__`). Default: all
            public methods.

    Raises:
        TypeError: `obj` has no methods of its own to call: a function (send it as it is), a class, a module or None; or
            a name in `methods` begins with one underscore, or is not one of its methods.

    Example:
        >>> def open_session(user):                                # doctest: +SKIP
        ...     return mob.ref(Session(user))
        >>> back.watch(mob.ref(self, methods=["handle_price"]))    # doctest: +SKIP
    """
    if isinstance(obj, ByReference):
        return obj
    if obj is None or isinstance(obj, (type, ModuleType)):
        raise TypeError(f"mob.ref takes an object with methods to call, not {obj!r}.")
    if isinstance(obj, (FunctionType, MethodType, BuiltinFunctionType, RemoteFunction)):
        raise TypeError(f"mob.ref takes objects, and {obj!r} is a function: send it as it is.")
    return Ref(obj, None if methods is None else _exposure(obj, methods))


def _exposure(obj: Any, methods: Iterable[str]) -> tuple[str, ...]:
    names = (methods,) if isinstance(methods, str) else tuple(methods)
    kind = cast("type[Any]", type(obj))
    for name in names:
        is_special = name.startswith("__") and name.endswith("__")
        if name.startswith("_") and not is_special:
            raise TypeError(f"mob.ref(methods=): {name!r} is private, because it begins with an underscore.")
        if not callable(inspect.getattr_static(kind, name, None)) and name not in methods_of(kind):
            raise TypeError(f"mob.ref(methods=): a {kind.__qualname__} has no method {name!r}.")
    return _exposures.setdefault(names, names)


def made_by(kind: type[Any]) -> Callable[..., Ref]:
    """Return a function that makes an object of a service, to be sent by reference."""

    def create(*args: Any, **kwargs: Any) -> Ref:
        return Ref(kind(*args, **kwargs))

    return create


class Hosted:
    """An object of this process that is lent; called with a method's name, its arguments, and the named ones."""

    __slots__ = ("__self__", "label", "methods")

    def __init__(self, target: Any, label: str, methods: tuple[str, ...]) -> None:
        self.__self__: Any = target
        self.label: str = label
        self.methods: tuple[str, ...] = methods

    @property
    def __func__(self) -> tuple[str, ...]:
        """The part that decides equality besides the object: `core.callbacks` reads it as of a bound method."""
        return self.methods

    def __call__(self, name: str, values: Sequence[Any], /, **named: Any) -> Any:
        """Call a method of the object."""
        if name not in self.methods:
            raise no_method(self.label, name, self.methods)
        return getattr(self.__self__, name)(*values, **named)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.label}>"


class HostedService(Hosted):
    """An object of a service, whose calls wait and run as those of exports do."""

    __slots__ = ("exports", "gated")

    def __init__(self, target: Any, label: str, exports: Mapping[str, Any], methods: tuple[str, ...]) -> None:
        super().__init__(target, label, methods)
        self.exports: Mapping[str, Any] = exports
        """The way in which each method is run, for `serving.methods`."""
        self.gated: dict[str, Any] = {}
        """The methods with a limit of their own, as this object has them."""


# -------------------------------------------------------------------------------------------------- elsewhere


class RemoteObject(ByReference):
    """An object that lives in another process; calling one of its methods sends a call there and returns a `Call`.

    It arrives where an object was sent: the result of `back.Room("kitchen")`, or an object that was wrapped in
    `mob.ref`. It can be sent on to any process. The object is freed when its last handle is dropped, and lost when its
    process ends: then a call raises `mob.Lost`. Two handles are equal if they refer to the same object.

    An attribute that is not one of its methods raises `UnknownExport`, which is an AttributeError; attributes and
    properties are not fetched. Call a special method by its name: `await room.__len__()`.

    >>> room = await back.Room("kitchen")       # doctest: +SKIP
    >>> await room.add(3)                       # doctest: +SKIP
    >>> room.add(3).result()                    # doctest: +SKIP
    """

    __slots__ = ("__weakref__", "_mob_label", "_mob_methods", "_mob_objects", "_mob_remote", "_mob_timeout")

    def __init__(
        self,
        objects: Objects,
        remote: RemoteFunction,
        label: str,
        methods: tuple[str, ...],
        timeout: float | None = None,
    ) -> None:
        self._mob_objects: Objects = objects
        self._mob_remote: RemoteFunction = remote
        self._mob_label: str = label
        self._mob_methods: tuple[str, ...] = methods
        self._mob_timeout: float | None = timeout

    def options(self, *, timeout: float | None = None) -> RemoteObject:
        """Return a handle of the same object whose calls have other options.

        Args:
            timeout: Seconds for the whole call. Default: None, no limit.

        Raises:
            ValueError: `timeout` is not a number (nan).

        Example:
            >>> await room.options(timeout=2).add(3)        # doctest: +SKIP
        """
        check_seconds("timeout", timeout)
        return RemoteObject(self._mob_objects, self._mob_remote, self._mob_label, self._mob_methods, timeout)

    def __getattr__(self, name: str) -> RemoteMethod:
        if name.startswith("_mob_"):
            raise AttributeError(name)
        if name not in self._mob_methods and name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # Python looks for a protocol
        return RemoteMethod(self, name)

    def __dir__(self) -> Iterable[str]:
        return ["options", *self._mob_methods]

    def __repr__(self) -> str:
        return f"<handle of {self._mob_label} in {self._mob_objects.name_of(self._mob_remote)}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteObject) and other._mob_remote is self._mob_remote

    def __hash__(self) -> int:
        return hash(self._mob_remote)

    def __copy__(self) -> RemoteObject:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> RemoteObject:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled: send it as an argument, a result or a mob message.")


class RemoteMethod:
    """One method of an object in another process; calling it sends the call and returns a `Call`.

    `room.add` is `mob.RemoteMethod(room, "add")`, which is useful for names that a handle has itself. `UnknownExport`
    if the object has no such method.

    >>> mob.RemoteMethod(room, "__repr__")().result()       # doctest: +SKIP
    """

    __slots__ = ("_handle", "_name")

    def __init__(self, handle: RemoteObject, name: str) -> None:
        if name not in handle._mob_methods:  # pyright: ignore[reportPrivateUsage]
            raise no_method(handle._mob_label, name, handle._mob_methods)  # pyright: ignore[reportPrivateUsage]
        self._handle = handle
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Call[Any]:
        """Send the call."""
        objects = self._handle._mob_objects  # pyright: ignore[reportPrivateUsage]
        return objects.call_method(self._handle, self._name, args, kwargs)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Explain what a method can do, unless Python or a library looks for a protocol."""
            if name[:1] == "_":
                raise AttributeError(name)
            raise UnknownExport(
                f"{self.label} has no attribute {name!r}: a method of an object can only be called, as "
                f"{self.label}(...). For many items, call it for each; options belong to the handle, as in "
                f"room.options(timeout=2)."
            )

    @property
    def label(self) -> str:
        """Its name for people: `back.Room.add`."""
        return f"{self._handle._mob_label}.{self._name}"  # pyright: ignore[reportPrivateUsage]

    @property
    def __name__(self) -> str:
        return self._name

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        info = self._info()
        return info.doc if info else ""

    def __repr__(self) -> str:
        info = self._info()
        return f"<{self.label}{info.signature if info else '(...)'}>"

    def _info(self) -> ExportInfo | None:
        handle = self._handle
        methods = handle._mob_objects.described(handle._mob_label)  # pyright: ignore[reportPrivateUsage]
        return next((each for each in methods if each.name == self.label.partition(".")[2]), None)


def no_method(label: str, name: str, methods: Iterable[str]) -> UnknownExport:
    """Return the error for an attribute of an object that is not one of its methods."""
    if name.startswith("_"):
        why = "names that begin with an underscore are private to its process"
    else:
        why = "attributes and properties are not fetched from another process; a method can return them"
    return UnknownExport(f"{label} has no method {name!r}: {why}. {nearest(name, methods)}")


class Promised(ByReference):
    """A future handle: a call that makes an object."""

    __slots__ = ()

    def awaited(self) -> RemoteObject:
        """Wait for the handle and return it."""
        raise NotImplementedError


# -------------------------------------------------------------------------------------------------- both ends


class Objects:
    """Both ends of every object that crosses between processes."""

    def __init__(
        self,
        context: Context,
        functions: Functions,
        call_method: CallMethod,
        set_aside: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        self._context = context
        self._functions = functions
        self._set_aside = set_aside
        self.call_method: CallMethod = call_method
        self._services: dict[type[Any], tuple[str, Mapping[str, Any], tuple[str, ...]]] = {}

    def __repr__(self) -> str:
        return f"<Objects of {len(self._services)} services>"

    def serve(self, kind: type[Any], label: str, exports: Mapping[str, Any]) -> None:
        """Send objects of a class by reference, and run them as exports."""
        self._services[kind] = label, exports, tuple(exports)

    def lend(self, value: Any) -> ObjectReference:
        """Return a reference to an object, or a handle, that the codec found."""
        if isinstance(value, Promised):
            with self._set_aside():
                value = value.awaited()
        if isinstance(value, RemoteObject):
            remote, label, methods = value._mob_remote, value._mob_label, value._mob_methods  # pyright: ignore[reportPrivateUsage]
            reference = self._functions.lend(remote)
        else:
            hosted = self._host(value.target, value.methods) if isinstance(value, Ref) else self._host(value, None)
            label, methods = hosted.label, hosted.methods
            reference = self._functions.lend(hosted)
        return ObjectReference(reference.owner, reference.id, False, label, methods)

    def _host(self, target: Any, methods: tuple[str, ...] | None) -> Hosted:
        kind = cast("type[Any]", type(target))
        if methods is not None:
            return Hosted(target, kind.__qualname__, methods)
        service = next((self._services[base] for base in kind.__mro__ if base in self._services), None)
        if service is not None:
            return HostedService(target, *service)
        return Hosted(target, kind.__qualname__, methods_of(kind))

    def borrow(self, reference: ObjectReference) -> Any:
        """Return the object of a reference: the object itself in its own process, otherwise a handle."""
        found = self._functions.borrow(Reference(reference.owner, reference.id))
        if isinstance(found, Hosted):
            return found.__self__
        if not isinstance(found, RemoteFunction):
            raise BadMessage(f"the reference to a {reference.label} names something else.")
        return RemoteObject(self, found, reference.label, reference.methods)

    def name_of(self, remote: RemoteFunction) -> str:
        """Return the name of the process that holds an object."""
        return self._functions.name_of(remote._owner)  # pyright: ignore[reportPrivateUsage]

    def described(self, label: str) -> tuple[ExportInfo, ...]:
        """Return what is known of the methods of a service, by its label, from its role."""
        role, _, name = label.partition(".")
        known = self._context.roster.roles.get(role)
        exports = () if known is None else known.exports or ()
        return next((each.methods or () for each in exports if each.name == name), ())
