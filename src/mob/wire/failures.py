"""An exception crosses between processes: `describe` makes a `Failure` of it, `rebuild` makes an exception again.

Strategy. What crosses is names and text, never a pickle: whatever an exception does when it is looked at, there is a
description. At the other end a `mob.CallError` arrives as what it was, anything else as a `RemoteError` that also is
an instance of the built-in class from which the original derives. Such classes are made once for each built-in.

Limits. Texts are bounded and keep both ends. Built-in classes that would disturb the caller's control flow, or that
cannot be made of a message, are not used; their nearest harmless base is. A group arrives as a group of what its parts
arrive as, so that `except*` finds them; of very large and very deep ones some parts are missing. This module imports
the codec for its types only: the messages mention `Failure`, and the Kingpin reads messages, but never a body.
"""

from __future__ import annotations

import builtins
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from msgspec import Struct, structs

from mob import errors
from mob.errors import ArgumentError, CallError, Executed, RemoteError, RemoteTraceback
from mob.wire import exits

if TYPE_CHECKING:
    from mob.wire.codec import Codec

T = TypeVar("T")

LIMIT = 64 * 1024
"""The longest text, in characters, and the most bytes of arguments that a failure carries along."""

MOST_PARTS = 1000
"""Exceptions of a group that are described."""
TRACED_PARTS = 20
"""So many of them with their tracebacks; that of the group shows the first ones anyway."""
DEEPEST = 20
"""Groups in groups."""

PACKAGE = errors.__file__.rpartition("/")[0] + "/"
"""Where mob's own frames are; they say nothing to the user."""

UNFIT = (
    # these steer the process or the loop in which they are raised
    *(SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration),
    # these cannot be made of a message
    *(UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError, BaseExceptionGroup, ExceptionGroup),
)


class Failure(Struct, frozen=True, array_like=True):
    """An exception, described.

    `builtin` is the nearest built-in class, `kind` the nearest of mob's own call errors or "". `args` is MessagePack.
    For an OSError it is (errno, strerror, filename, filename2), for others what the exception's `args` are.
    """

    type_name: str
    builtin: str
    message: str
    args: bytes | None = None
    traceback: str = ""
    notes: tuple[str, ...] = ()
    executed: Executed = "yes"
    kind: str = ""
    argument: str | None = None
    parts: tuple[Failure, ...] = ()
    """Of a group: what it consists of."""


class RemoteErrorGroup(RemoteError, ExceptionGroup[Exception]):
    """A `RemoteError` that is an exception group: the exported function raised one."""

    type_name = "ExceptionGroup"

    def __init__(self, message: str, exceptions: Sequence[Exception], /, *, executed: Executed | None = None) -> None:
        ExceptionGroup.__init__(self, message, exceptions)  # pyright: ignore[reportUnknownMemberType]
        if executed is not None:
            self.executed: Executed = executed

    def __new__(
        cls, message: str, exceptions: Sequence[Exception], /, *, executed: Executed | None = None
    ) -> RemoteErrorGroup:
        """Make a group; `BaseExceptionGroup` takes no other arguments than its own."""
        return super().__new__(cls, message, exceptions)

    def __str__(self) -> str:
        count = len(self.exceptions)
        return f"{self.type_name}: {self.message} ({count} sub-exception{'s' * (count != 1)})"

    def derive(self, excs: Sequence[Exception], /) -> RemoteErrorGroup:  # type: ignore[override]
        """Make a group like this one of some of its parts, for `except*` and `split`."""
        derived = RemoteErrorGroup(self.message, excs, executed=self.executed)
        derived.type_name = self.type_name
        return derived


# -- where it was raised -----------------------------------------------------------------------------------------------


def describe(exc: BaseException, codec: Codec, executed: Executed | None = None, depth: int = 0) -> Failure:
    """The description of an exception. Never raises, whatever the exception does, and never lends a function.

    `executed` says whether the called function has run. Without it that is read off the traceback: a call error of
    mob's that comes out of mob's own frames has prevented the call, and says itself how far it got; what comes out of
    the user's frames has executed, even if it is another call's failure that passes through. `depth`: in how many
    groups the exception is.
    """
    kind = _attempt(lambda: _nearest(exc, _KIND_NAMES), "")
    text, is_users = _attempt(lambda: _traceback(exc, bool(kind)), ("", True))
    if executed is None:
        own: Any = _attempt(lambda: getattr(exc, "executed", "yes"), "yes")
        executed = own if kind and not is_users and own in ("no", "maybe", "yes") else "yes"
    argument: Any = _attempt(lambda: getattr(exc, "argument", None), None)
    return Failure(
        type_name=_attempt(lambda: _clean(_type_name(exc, type(exc))), "Exception"),
        builtin=_attempt(lambda: _nearest(exc, _BUILTIN_NAMES), "Exception"),
        message=_attempt(lambda: _clean(_message(exc)), "<its text cannot be had>"),
        args=_attempt(lambda: _args(exc, codec), None),
        traceback=_attempt(lambda: _clean(text), ""),
        notes=_attempt(lambda: _notes(exc), ()),
        executed=executed,
        kind=kind,
        argument=argument if kind == "ArgumentError" and isinstance(argument, str) else None,
        parts=_attempt(lambda: _parts(exc, codec, depth), ()),
    )


def _parts(exc: BaseException, codec: Codec, depth: int) -> tuple[Failure, ...]:
    """What a group consists of; nothing if it is none, or cannot be described whole."""
    if not isinstance(exc, BaseExceptionGroup) or depth >= DEEPEST:
        return ()
    found: list[Failure] = []
    group = cast("BaseExceptionGroup[BaseException]", exc)
    for part in group.exceptions[: max(1, MOST_PARTS // (1 + depth))]:
        failure = describe(part, codec, depth=depth + 1)
        found.append(failure if len(found) < TRACED_PARTS else structs.replace(failure, traceback=""))
    return tuple(found)


def _attempt(look: Callable[[], T], otherwise: T) -> T:
    try:
        return look()
    except BaseException:  # noqa: BLE001  the exception's own methods may raise anything
        return otherwise


def _nearest(exc: BaseException, names: Mapping[type, str]) -> str:
    """The name of the first class among those named from which the exception derives."""
    return next((names[base] for base in type(exc).__mro__ if base in names), "")


# Asked by their type: an exception may lie about its class, or fail to tell it.


def _type_name(exc: Any, kind: type[BaseException]) -> str:
    if issubclass(kind, RemoteError):
        return exc.type_name
    module = "mob" if kind.__module__ == errors.__name__ else kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _message(exc: Any) -> str:
    if issubclass(type(exc), SystemExit):
        return exits.text_of(exc)
    return exc.message if issubclass(type(exc), RemoteError | BaseExceptionGroup) else str(exc)


def _args(exc: Any, codec: Codec) -> bytes | None:
    args = exc.remote_args if issubclass(type(exc), RemoteError) else exc.args
    if issubclass(type(exc), OSError) and exc.errno is not None:
        args = (exc.errno, exc.strerror, exc.filename, exc.filename2)
    encoded = codec.encode_data(args)
    return encoded if encoded is not None and len(encoded) <= LIMIT else None


def _notes(exc: BaseException) -> tuple[str, ...]:
    return tuple(_clean(note) for note in list(getattr(exc, "__notes__", ()))[:20] if type(note) is str)


def _traceback(exc: BaseException, is_call_error: bool) -> tuple[str, bool]:
    """The text of the traceback, and whether the exception came out of the user's code.

    mob's own frames are taken off the top of it and of those chained to it. A call error that has nothing to do with
    the user's code needs no traceback; any other that comes out of mob alone is a fault of mob's, and shown in full.
    """
    report = traceback.TracebackException.from_exception(exc, compact=True)
    chained = _chain(report)
    users = [_first_of_users(each) for each in chained]
    if is_call_error and not any(at is not None for at in users) and not isinstance(exc.__cause__, RemoteTraceback):
        return "", False
    for each, at in zip(chained, users, strict=True):
        del each.stack[: at or 0]
    return "".join(report.format()).rstrip("\n"), users[0] is not None


def _chain(report: traceback.TracebackException) -> list[traceback.TracebackException]:
    chained = [report]
    for each in chained:
        chained += filter(None, [each.__cause__, each.__context__, *(each.exceptions or ())])
    return chained


def _first_of_users(report: traceback.TracebackException) -> int | None:
    return next((at for at, frame in enumerate(report.stack) if not frame.filename.startswith(PACKAGE)), None)


def _clean(text: str) -> str:
    """The text, bounded, and without what UTF-8 cannot carry."""
    if len(text) > LIMIT:
        half = (LIMIT - 100) // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half:,} characters are left out here ...]\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode()


# -- where it was called -----------------------------------------------------------------------------------------------


def rebuild(failure: Failure, codec: Codec) -> CallError:
    """The exception that the caller gets."""
    kind = _KINDS.get(failure.kind, RemoteError)
    if issubclass(kind, RemoteError):
        error: CallError = _remote_error(failure, codec)
    elif issubclass(kind, ArgumentError):
        error = kind(failure.message, executed=failure.executed, argument=failure.argument)
    else:
        error = kind(failure.message, executed=failure.executed)
    for note in failure.notes:
        error.add_note(note)
    if failure.traceback:
        error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def _remote_error(failure: Failure, codec: Codec) -> RemoteError:
    parts = [rebuild(part, codec) for part in failure.parts]
    if parts:
        error: RemoteError = RemoteErrorGroup(failure.message, parts, executed=failure.executed)
    else:
        error = remote_error_class(failure.builtin)(failure.message, executed=failure.executed)
    error.type_name = failure.type_name
    encoded = failure.args
    args: tuple[Any, ...] = _attempt(lambda: tuple(codec.decode(encoded)), ()) if encoded else ()
    if isinstance(error, OSError) and len(args) == 4:
        error.errno, error.strerror, error.filename, error.filename2 = args
        args = args[:2]
    error.remote_args = args
    return error


def remote_error_class(builtin: str) -> type[RemoteError]:
    """`RemoteError`, made to be an instance of that built-in class too, or of its nearest base that is harmless."""
    found = _classes.get(builtin)
    if found is None:
        base = _harmless(getattr(builtins, builtin, None))
        found = _make_class(base) if base.__name__ == builtin else remote_error_class(base.__name__)
        _classes[builtin] = found
    return found


def _harmless(builtin: Any) -> type[Exception]:
    if not (isinstance(builtin, type) and issubclass(builtin, Exception)):
        return Exception
    return next(base for base in builtin.__mro__ if issubclass(base, Exception) and base not in UNFIT)


def _make_class(base: type[Exception]) -> type[RemoteError]:
    if issubclass(RemoteError, base):
        return RemoteError
    namespace = {"__module__": RemoteError.__module__, "__doc__": RemoteError.__doc__, "__reduce__": _reduce}
    return type(RemoteError.__name__, (RemoteError, base), namespace)


def _reduce(error: RemoteError) -> tuple[Any, ...]:
    """How the made classes are copied and pickled; the standard way would look them up in a module."""
    state = dict(vars(error))
    if isinstance(error, OSError):
        for name in ("errno", "strerror", "filename", "filename2"):
            state[name] = getattr(error, name)
    return _remake, (_nearest(error, _BUILTIN_NAMES), error.message), state


def _remake(builtin: str, message: str) -> RemoteError:
    return remote_error_class(builtin)(message)


def _names_in(module: ModuleType, root: type[T]) -> dict[type[T], str]:
    return {each: name for name, each in vars(module).items() if isinstance(each, type) and issubclass(each, root)}


_KIND_NAMES = _names_in(errors, CallError)
_KINDS = {name: kind for kind, name in _KIND_NAMES.items()}
_BUILTIN_NAMES = {kind: kind.__name__ for kind in _names_in(builtins, BaseException)}  # IOError is OSError
_classes: dict[str, type[RemoteError]] = {}
