"""Exception classes of the app cross by name: how they are named, found again, and built.

Strategy. A class is named by its module and its qualified name. The other end looks that up among the modules that it
already imported, and accepts only a subclass of `Exception` that has the same name. The exception is built as the app
builds it, by calling the class with the arguments. If the constructor refuses them, because it takes others and passes
on a text, the exception is made without running it. Then the exception gets the arguments and attributes of the
original, and keeps no others: a constructor that gets arguments not meant for it sets wrong ones. Finally it
becomes an instance of a made class, which derives from the app's class and from `RemoteError`. Both
`except OutOfStock:` and `except mob.RemoteError:` catch it, and whatever the app's class defines takes precedence.

Limits. Nothing is imported and nothing is unpickled; of the app's code only the constructor runs here, then `__str__`
and `__repr__`, to see whether the exception can be shown. Exceptions that would control the process that waits
(`StopIteration`, classes that derive from `BaseException` only), local classes and mob's own are not named. A class
that only its own library can make (pydantic's `ValidationError`), or that cannot have a subclass, cannot be built: then
`build` returns None.
"""

from __future__ import annotations

import copyreg
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FunctionType, MemberDescriptorType, ModuleType
from typing import Any, cast, get_type_hints

from mob.errors import CallError, RemoteError

STEERING = (StopIteration, StopAsyncIteration)
"""Exceptions that mean something to the loop or the coroutine in which they are raised."""
QUITTING = ("bdb",)
"""Modules whose exceptions end the debugger under which a caller may run."""

OF_ARGUMENTS = (UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError)
"""Built-in classes that are built as the app's are, because they cannot be made from a message alone."""

SUGGESTING = ("obj", "name_from")
"""Members that Python uses for suggestions when it shows an exception. They refer to objects of another process."""

OWN = frozenset(
    {"message", "executed", "type_name", "type_module", "remote_args", "remote_attributes", "unsent_attributes"}
)
"""Attributes that a `RemoteError` has itself."""

UNSENT = "__unsent_attributes__"
"""Attribute of an exception of the app's class with the names of the original's attributes that could not be sent."""

MOBS = (RemoteError.__module__, "mob.wire.failures")
"""Modules of mob's own classes of `RemoteError`."""

Converter = Callable[[Any], Callable[[Any], Any]]
"""annotation -> a function that converts a value to it and raises if the value does not fit."""

_kind: Callable[[Any], type[Any]] = type


class Disguised:
    """The first base of a made class: to the app, an exception that arrived is of the original's class."""

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        """Keep the app's own `__init_subclass__` from being called for a made class."""

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]
        return original_of(type(self))

    def __reduce_ex__(self, protocol: Any, /) -> Any:
        """Copy and pickle it as the original."""
        made, original = type(self), original_of(type(self))
        reduced = super(Disguised, self).__reduce_ex__(protocol)
        if not isinstance(reduced, tuple):
            return reduced
        make, args, *state = reduced
        if make is made and unsent_of(cast("Any", self)):  # the constructor would invent what could not be sent
            make, args = cast("Any", copyreg).__newobj__, (original, *args)
        args = tuple(original if each is made else each for each in args)
        return (original if make is made else make, args, *state)


class _Fact:
    """An attribute of mob's, unless the app's class or the exception has one of that name."""

    def __init__(self, tell: Callable[[Any], Any]) -> None:
        self._tell = tell

    def __get__(self, error: Any, kind: Any = None) -> Any:
        return self if error is None else self._tell(error)


class Remote(RemoteError):
    """The last base of a made class: a `RemoteError` that leaves the constructor and the text to the app's class."""

    message: Any = cast("Any", _Fact(str))
    type_name: Any = cast("Any", _Fact(lambda error: type_name(_kind(error))))
    type_module: Any = cast("Any", _Fact(lambda error: module_of(original_of(_kind(error)))))
    remote_args: Any = cast("Any", _Fact(lambda error: error.args))
    remote_attributes: Any = cast("Any", _Fact(lambda error: attributes_of(error)))
    unsent_attributes: Any = cast("Any", _Fact(lambda error: unsent_of(error)))

    def __init__(self, *args: Any) -> None:
        Exception.__init__(self, *args)

    def __str__(self) -> str:
        return BaseException.__str__(self)


# -- naming ------------------------------------------------------------------------------------------------------------


def original_of(kind: type) -> type:
    """Return the class of the app from which a class was made; for any other class, that class itself."""
    return _originals.get(kind, kind)


def type_name(kind: type) -> str:
    """Return the name of a class as the caller reads it.

    >>> type_name(ValueError), type_name(RemoteError)
    ('ValueError', 'mob.RemoteError')
    """
    original = original_of(kind)
    module = "mob" if original.__module__ == RemoteError.__module__ else module_of(original) or original.__module__
    return original.__qualname__ if module == "builtins" else f"{module}.{original.__qualname__}"


def is_stand_in(kind: type) -> bool:
    """Return whether a class is mob's `RemoteError`, which stands in for a class that is not available."""
    return issubclass(kind, RemoteError) and original_of(kind).__module__ in MOBS


def module_of(kind: type) -> str:
    """Return the module of a class that can be named, else ""; for a script, the name under which it would be imported.

    >>> import json
    >>> module_of(json.JSONDecodeError), module_of(ValueError), module_of(KeyboardInterrupt), module_of(RemoteError)
    ('json.decoder', '', '', '')
    """
    module = kind.__module__
    if module == "builtins":
        return module if kind in OF_ARGUMENTS else ""
    if module.partition(".")[0] == "mob" or "<" in kind.__qualname__ or not _is_fit(kind):
        return ""
    return _name_of_main() if module == "__main__" else module


def find(module: str, name: str) -> type[Exception] | None:
    """Return the class with that module and qualified name, if this process imported it.

    >>> import json
    >>> find("json.decoder", "JSONDecodeError"), find("json", "loads"), find("os.path", "join"), find("none", "None")
    (<class 'json.decoder.JSONDecodeError'>, None, None, None)
    """
    space = _space_of(module)
    found: Any = None
    for part in name.split("."):
        found = space.get(part)
        if not issubclass(type(found), type):
            return None
        space = type.__getattribute__(found, "__dict__")
    return found if _is_fit(found) and (module_of(found), found.__qualname__) == (module, name) else None


def _is_fit(kind: type) -> bool:
    return issubclass(kind, Exception) and not issubclass(kind, STEERING) and kind.__module__ not in QUITTING


def _space_of(module: str) -> Mapping[str, Any]:
    """Return the names in a module, without triggering the import of a lazy one."""
    found: Any = sys.modules.get(module)
    if found is None and module == _name_of_main():
        found = sys.modules["__main__"]
    return object.__getattribute__(found, "__dict__") if issubclass(type(found), ModuleType) else {}


def _name_of_main() -> str:
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    return spec.name if spec is not None else str(file or "").rpartition("/")[2].removesuffix(".py")


# -- attributes --------------------------------------------------------------------------------------------------------


def attributes_of(exc: BaseException) -> dict[str, Any]:
    """Return what an exception has besides its arguments: its slots, those of its built-in class, and its `__dict__`.

    >>> attributes_of(FileNotFoundError(2, "No such file", "/x"))
    {'errno': 2, 'strerror': 'No such file', 'filename': '/x'}
    """
    found: dict[str, Any] = {}
    kind = type(exc)
    for name, member in _members_of(kind).items():
        try:
            value = member.__get__(exc, kind)
        except (AttributeError, TypeError):  # it was never set
            continue
        if value is not None or member.__objclass__.__module__ != "builtins":  # None: never set
            found[name] = value
    if is_stand_in(kind) or kind.__module__ == "builtins":
        found.pop("name", None)  # Python would search the caller's frames for suggestions
    own: dict[Any, Any] = dict(object.__getattribute__(exc, "__dict__"))
    mobs: frozenset[str] = frozenset()
    if is_stand_in(kind):
        mobs, found = OWN, found | own.get("remote_attributes", {})
    return found | {key: own[key] for key in own if type(key) is str and key[:2] != "__" and key not in mobs}


def unsent_of(exc: BaseException) -> tuple[str, ...]:
    """Return the names of the attributes that an exception had where it was raised, and that could not be sent."""
    own: dict[str, Any] = object.__getattribute__(exc, "__dict__")
    return tuple(own.get("unsent_attributes" if is_stand_in(type(exc)) else UNSENT, ()))


def _clear(error: BaseException) -> None:
    """Remove the attributes that the class set in an exception, to make room for the original's."""
    own: dict[str, Any] = object.__getattribute__(error, "__dict__")
    own.clear()
    for member in _members_of(type(error)).values():
        if member.__objclass__.__module__ != "builtins":
            _attempt(lambda member=member: member.__delete__(error))


def restore(error: BaseException, attributes: Mapping[str, Any]) -> None:
    """Give an exception the attributes of the original, bypassing what its class does when they are set."""
    members = _members_of(type(error))
    own: dict[str, Any] = object.__getattribute__(error, "__dict__")
    kept = OWN if is_stand_in(type(error)) else ()
    for name, value in attributes.items():
        if name[:2] == "__" or name in kept:
            continue
        if name not in members:
            own[name] = value
            continue
        try:
            members[name].__set__(error, value)
        except (AttributeError, TypeError, ValueError):  # it cannot be set, or not to that value
            continue


@functools.lru_cache(500)
def _members_of(kind: type) -> dict[str, Any]:
    return {
        name: member
        for base in reversed(kind.__mro__)
        for name, member in type.__getattribute__(base, "__dict__").items()
        if type(member) is MemberDescriptorType and name[:2] != "__" and name not in SUGGESTING
    }


# -- building ----------------------------------------------------------------------------------------------------------


def build(
    kind: type[Exception],
    args: Sequence[Any],
    attributes: Mapping[str, Any],
    unsent: Sequence[str],
    converter: Converter,
) -> CallError | None:
    """Return an exception of that class that is also a `CallError`, or None if that is impossible.

    Attributes, and arguments for the constructor's parameters, are converted with `converter` to what the class
    annotates, as far as they fit: a text passed on instead of the annotated type stays a text.
    """
    made = _arrived(kind)
    positions, names = _annotations_of(kind)
    args = [*map(partial(_converted, converter), args, positions), *args[len(positions) :]]
    attributes = {name: _converted(converter, value, names.get(name, Any)) for name, value in attributes.items()}
    plain = _constructed(kind, args) if made else None
    if made is None or plain is None:
        return None
    if not issubclass(kind, BaseExceptionGroup):
        _set_args(plain, tuple(args))
    _clear(plain)
    restore(plain, attributes)
    error = adopted(plain)
    if error is not None and unsent:
        object.__getattribute__(error, "__dict__")[UNSENT] = tuple(unsent)
    return error


def adopted(plain: Exception) -> CallError | None:
    """Return an exception as one that arrived, or None if it cannot become one or cannot be shown."""
    kind = type(plain)
    made = _arrived(kind)
    if made is None:
        return None
    error: Any = plain
    try:
        if made is not kind:
            object.__setattr__(plain, "__class__", made)
    except TypeError:  # its slots are laid out differently
        error = _bare(kind, plain.args, made)
        if error is not None:
            restore(error, attributes_of(plain))
    return error if error is not None and _attempt(lambda: bool([str(error), repr(error), error.executed])) else None


def _converted(converter: Converter, value: Any, annotation: Any) -> Any:
    if annotation is Any:
        return value
    found = _attempt(lambda: [converter(annotation)(value)])
    return found[0] if found else value


@functools.lru_cache(500)
def _annotations_of(kind: type[Exception]) -> tuple[list[Any], dict[str, Any]]:
    """Return the annotations of a constructor's positional parameters, and of attributes by name.

    An attribute without an annotation is treated as the parameter of the same name.
    """
    init = kind.__init__
    code = init.__code__ if isinstance(init, FunctionType) else None
    parameters: dict[str, Any] = _attempt(lambda: get_type_hints(init, include_extras=True)) or {}
    own: dict[str, Any] = _attempt(lambda: get_type_hints(kind, include_extras=True)) or {}
    names = () if code is None else code.co_varnames[1 : code.co_argcount]
    return [parameters.get(name, Any) for name in names], parameters | own


def _constructed(kind: type[Exception], args: Sequence[Any]) -> Exception | None:
    plain = _attempt(lambda: kind(*args))
    return plain if type(plain) is kind else _bare(kind, args, kind)


def _bare(kind: type[Exception], args: Sequence[Any], wanted: type[Exception]) -> Exception | None:
    """Return an exception whose constructor was not run."""
    builtin: Any = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    return _attempt(lambda: builtin.__new__(wanted, *args))


def _attempt(make: Callable[[], Any]) -> Any:
    """Return what `make` returns, or None if it raises anything, even a `KeyboardInterrupt`.

    It runs the app's code, and what that raises must not come out of the line that waits for the call.
    """
    try:
        return make()
    except BaseException:  # noqa: BLE001  the app's code may raise anything
        return None


def _arrived(kind: type[Exception]) -> type[Exception] | None:
    """Return the class in which exceptions of a class arrive; None if there is none."""
    if issubclass(kind, CallError):
        return kind
    if kind not in _made:
        made = _made[kind] = _attempt(lambda: _make(kind))
        if made is not None:
            _originals[made] = kind
    return _made[kind]


def _make(kind: type[Exception]) -> type[Exception]:
    space = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type.__new__(type(kind), kind.__name__, (Disguised, kind, Remote), space)


_set_args: Callable[[BaseException, tuple[Any, ...]], None] = vars(BaseException)["args"].__set__
_made: dict[type[Exception], type[Exception] | None] = {}
_originals: dict[type, type] = {}
