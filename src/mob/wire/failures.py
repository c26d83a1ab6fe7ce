"""Exceptions that cross between processes: `describe` makes a `Failure` of one, `rebuild` makes an exception again.

Strategy. Names, text and data cross, never a pickle: whatever an exception does when it is looked at, it gets a
description. The other end builds the original class if it knows that class (originals.py). A `mob.CallError` arrives
as its own class, anything else as a `RemoteError` that is also an instance of the built-in class from which the
original derives. Such combined classes are made once for each built-in. Causes and members of groups are failures too.

Limits. Texts are shortened in the middle, and the whole is bounded: members of a very large group, or links of a very
long chain, that are left out still appear in the text of the traceback. Built-in classes that would disturb the
caller's control flow, or that cannot be made from a message, are replaced by their nearest harmless base. The causes of
mob's own errors are kept as text only. This module imports the codec for its types only: the messages mention
`Failure`, and the Kingpin reads messages, but never a body.
"""

from __future__ import annotations

import builtins
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from msgspec import Struct, structs

from mob import errors
from mob.errors import ArgumentError, CallError, Executed, RemoteError, RemoteTraceback
from mob.wire import exits, originals

if TYPE_CHECKING:
    from mob.wire.codec import Codec

T = TypeVar("T")

_kind: Callable[[Any], type[BaseException]] = type
_mro_of: Callable[[type], tuple[Any, ...]] = vars(type)["__mro__"].__get__

LIMIT = 64 * 1024
"""Maximum length of a text in characters, and of the arguments of a failure in bytes."""

MOST_PARTS = 1000
"""Maximum number of exceptions described with one: members of groups, causes, contexts."""
TRACED_PARTS = 20
"""Number of members of a group that get their own traceback; the group's traceback shows the first ones anyway."""
DEEPEST = 20
"""Maximum depth of groups within groups and of causes of causes."""
MOST_BYTES = 4 * 1024 * 1024
"""Approximate maximum size of a failure in bytes; beyond it, further exceptions get short texts and nothing else."""
SHORT = 1000
MOST_UNSENT = 100
"""Maximum number of names of attributes that could not be sent."""
EXECUTED = ("no", "maybe", "yes")

_TEXTS: tuple[Any, ...] = (str, bytes, bytearray)
_CONTAINERS: tuple[Any, ...] = (list, tuple, dict, set, frozenset)

PACKAGE = errors.__file__.rpartition("/")[0] + "/"
"""Path prefix of mob's own frames, which tell the user nothing."""

UNFIT = (
    # these control the process or the loop in which they are raised
    *(SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration),
    # these cannot be made from a message
    *(UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError, BaseExceptionGroup, ExceptionGroup),
)


class Failure(Struct, frozen=True, array_like=True):
    """The description of an exception.

    `builtin` is the name of the nearest built-in class, `kind` that of the nearest call error of mob's or "". `args` is
    MessagePack: for an OSError (errno, strerror, filename, filename2), for others the exception's `args`. `module` is
    the module part of `type_name` if the class can be found in it, else "".
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
    """Members of an exception group."""
    module: str = ""
    attributes: dict[str, bytes] = {}
    """Values as MessagePack, one by one, so that a single unreadable one does not cost the others."""
    registered: bytes | None = None
    """The exception itself, if its process registered its class."""
    cause: Failure | None = None
    context: Failure | bool = False
    """Its context; True if that is the same as the cause."""
    suppresses_context: bool = False
    unsent: tuple[str, ...] = ()
    """Names of the attributes that are not among `attributes`."""


TAKEN_BACK = Failure("Unavailable", "Exception", "taken back before it began", executed="no", kind="Unavailable")
"""Answer to a call that was about to begin when its caller took it back; the caller sends it again."""


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
        """Make a group; the constructor of `BaseExceptionGroup` accepts only its own arguments."""
        return super().__new__(cls, message, exceptions)

    def __str__(self) -> str:
        count = len(self.exceptions)
        return f"{self.type_name}: {self.message} ({count} sub-exception{'s' * (count != 1)})"

    def derive(self, excs: Sequence[Exception], /) -> RemoteErrorGroup:  # type: ignore[override]
        """Return a group like this one with some of its members, for `except*` and `split`."""
        derived = RemoteErrorGroup(self.message, excs, executed=self.executed)
        derived.type_name = self.type_name
        return derived


# -- where it was raised -----------------------------------------------------------------------------------------------


class _Room:
    """How many exceptions and bytes one failure may still hold."""

    def __init__(self) -> None:
        self.exceptions = MOST_PARTS
        self.bytes = MOST_BYTES

    def take(self) -> bool:
        """Take room for one more exception; return False if there is none."""
        self.exceptions -= 1
        return self.exceptions >= 0


def describe(exc: BaseException, codec: Codec, executed: Executed | None = None) -> Failure:
    """Return the description of an exception. Never raises, whatever the exception does, and never lends a function.

    `executed` says whether the called function ran. Without it, the traceback decides: a call error of mob's that was
    raised in mob's own frames prevented the call, and says itself how far the call got; anything raised in the user's
    frames executed, even if it is the failure of another call passing through.
    """
    return _describe(exc, codec, _Room(), executed=executed)


def _describe(
    exc: BaseException,
    codec: Codec,
    room: _Room,
    path: tuple[BaseException, ...] = (),
    is_traced: bool = True,
    executed: Executed | None = None,
) -> Failure:
    """Describe one exception.

    `path` lists the exceptions of which it is a cause or a member. `is_traced` is True if it needs its own traceback,
    because it does not appear in any other.
    """
    limit = LIMIT if room.bytes > 0 else SHORT
    kind = _attempt(lambda: _nearest(exc, _KIND_NAMES), "")
    is_traced = is_traced and limit == LIMIT
    text, is_users = _attempt(lambda: _traceback(exc, bool(kind)), ("", True)) if is_traced else ("", False)
    if executed is None:
        executed = (_attempt(lambda: _executed(exc), None) if kind and not is_users else None) or "yes"
    argument = _attempt(lambda: _argument(exc), None) if kind == "ArgumentError" else None
    message = _attempt(lambda: _clean(_message(exc), limit), "<its text is not available>")
    text = _attempt(lambda: _clean(text), "")
    args = _attempt(lambda: _args(exc, codec), None) if limit == LIMIT else None
    attributes, unsent = _attempt(lambda: _attributes(exc, codec), ({}, ())) if limit == LIMIT else ({}, ())
    room.bytes -= len(message) + len(text) + len(args or b"") + sum(map(len, attributes.values()))
    path = (*path, exc)
    cause, context = _attempt(lambda: _causes(exc, kind, codec, room, path), (None, False))
    return Failure(
        type_name=_attempt(lambda: _clean(_type_name(exc, type(exc))), "Exception"),
        builtin=_attempt(lambda: _nearest(exc, _BUILTIN_NAMES), "Exception"),
        message=message,
        args=args,
        traceback=text,
        notes=_attempt(lambda: _notes(exc), ()) if limit == LIMIT else (),
        executed=executed,
        kind=kind,
        argument=argument,
        parts=_attempt(lambda: _parts(exc, codec, room, path), ()),
        module=_attempt(lambda: _clean(_module(exc, type(exc))), ""),
        attributes=attributes,
        registered=_attempt(lambda: _registered(exc, codec), None),
        cause=cause,
        context=context,
        suppresses_context=_attempt(lambda: bool(exc.__suppress_context__), False),
        unsent=unsent,
    )


def nameplate(exc: BaseException) -> Failure:
    """Return the names of an exception's class and of its built-in base, without calling anything of the exception.

    This is for a call that could not be answered with a description.
    """
    builtin = _nearest(exc, _BUILTIN_NAMES)
    return Failure(_clean(errors.name_of(exc)), builtin, "mob could not describe this exception")


def _parts(exc: BaseException, codec: Codec, room: _Room, path: tuple[BaseException, ...]) -> tuple[Failure, ...]:
    """Return the members of a group; nothing if it is not a group, or is nested too deeply."""
    if not issubclass(_kind(exc), BaseExceptionGroup) or len(path) > DEEPEST:
        return ()
    group = cast("BaseExceptionGroup[BaseException]", exc)
    parts = [part for part in group.exceptions if room.take()] or group.exceptions[:1]
    return tuple(_describe(part, codec, room, path, at < TRACED_PARTS) for at, part in enumerate(parts))


def _causes(
    exc: BaseException, kind: str, codec: Codec, room: _Room, path: tuple[BaseException, ...]
) -> tuple[Failure | None, Failure | bool]:
    """Return the cause and the context of an exception of the app."""
    if kind not in ("", RemoteError.__name__) or len(path) > DEEPEST:
        return None, False

    def described(other: BaseException | None) -> Failure | None:
        if other is None or issubclass(_kind(other), RemoteTraceback) or any(other is each for each in path):
            return None
        return _describe(other, codec, room, path, is_traced=False) if room.take() else None

    cause = described(exc.__cause__)
    if cause is not None and exc.__context__ is exc.__cause__:
        return cause, True
    return cause, described(exc.__context__) or False


def _attempt(look: Callable[[], T], otherwise: T) -> T:
    try:
        return look()
    except BaseException:  # noqa: BLE001  the exception's own methods may raise anything
        return otherwise


def _nearest(exc: BaseException, names: Mapping[type, str]) -> str:
    """Return the name of the nearest class in `names` from which the exception derives."""
    return _nearest_name(type(exc), names)


def _nearest_name(kind: type[BaseException], names: Mapping[type, str]) -> str:
    # classes with an unusual metaclass may refuse to be hashed
    return next((names[base] for base in _mro_of(kind) if type(base) is type and base in names), "")


# These take the type as well: an exception may lie about its class, or fail to give it.


def _type_name(exc: Any, kind: type[BaseException]) -> str:
    return exc.type_name if originals.is_stand_in(kind) else originals.type_name(kind)


def _module(exc: Any, kind: type[BaseException]) -> str:
    return exc.type_module if originals.is_stand_in(kind) else originals.module_of(originals.original_of(kind))


def _message(exc: Any) -> str:
    kind = _kind(exc)
    if issubclass(kind, SystemExit):
        return exits.text_of(exc)
    return str(exc.message) if originals.is_stand_in(kind) or issubclass(kind, BaseExceptionGroup) else str(exc)


def _args(exc: Any, codec: Codec) -> bytes | None:
    kind = _kind(exc)
    args = exc.remote_args if originals.is_stand_in(kind) else exc.args
    if issubclass(kind, OSError) and exc.errno is not None and (exc.errno, exc.strerror) == args[:2]:
        args = (exc.errno, exc.strerror, exc.filename, exc.filename2)
    return None if any(map(_is_large, args)) else _data(args, codec)


def _attributes(exc: BaseException, codec: Codec) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Return the attributes that are data, as many as there is room for, and the names of the others."""
    found: dict[str, bytes] = {}
    unsent = list(originals.unsent_of(exc))
    room = LIMIT
    for name, value in originals.attributes_of(exc).items():
        encoded = None if _is_large(value) else _data(value, codec)
        if encoded is not None and len(name) + len(encoded) <= room:
            found[_clean(name)] = encoded
            room -= len(name) + len(encoded)
        else:
            unsent.append(_clean(name, SHORT))
    return found, tuple(unsent[:MOST_UNSENT])


def _registered(exc: BaseException, codec: Codec) -> bytes | None:
    return _data(exc, codec) if codec.has_registered(originals.original_of(type(exc))) else None


def _data(value: Any, codec: Codec) -> bytes | None:
    encoded = codec.encode_data(value)
    return encoded if encoded is not None and len(encoded) <= LIMIT else None


def _is_large(value: Any) -> bool:
    """Return True if a value is certainly too long to be sent, so that it need not be encoded to find out.

    Counts what is in built-in containers until it is too much; each item takes at least one byte.
    """
    room, values = LIMIT, [value]
    while values and room >= 0:
        each = values.pop()
        kind = _kind(each)
        if issubclass(kind, _TEXTS):
            room -= len(each)
        elif issubclass(kind, _CONTAINERS):
            room -= len(each)
            if room >= 0:
                values += each.values() if issubclass(kind, dict) else each
        else:
            size = getattr(each, "nbytes", 0) if hasattr(kind, "nbytes") else 0  # of an array, a view
            room -= size if isinstance(size, int) else 0
    return room < 0


def _notes(exc: BaseException) -> tuple[str, ...]:
    return tuple(_clean(note) for note in list(getattr(exc, "__notes__", ()))[:20] if type(note) is str)


def _traceback(exc: BaseException, is_call_error: bool) -> tuple[str, bool]:
    """Return the text of the traceback, and whether the exception was raised in the user's code.

    Removes mob's own frames from its top and from those chained to it. A call error in which the user's code has no
    part needs no traceback; any other error raised by mob alone is a bug of mob's and is shown in full.
    """
    report = traceback.TracebackException.from_exception(exc, compact=True)
    chained = _chain(report)
    users = [_first_of_users(each) for each in chained]
    has_come_far = any(issubclass(_kind(cause), RemoteTraceback) for cause in errors.causes_of(exc))
    if is_call_error and not any(at is not None for at in users) and not has_come_far:
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


def _executed(exc: Any) -> Executed | None:
    """Return how far a call error says that its call got; None if it says something else."""
    said: Any = exc.executed
    return said if type(said) is str and said in EXECUTED else None


def _argument(exc: Any) -> str | None:
    return None if exc.argument is None else _clean(exc.argument)


def _clean(text: str, limit: int = LIMIT) -> str:
    """Return a text in sendable form: shortened, a plain `str`, and without characters that UTF-8 cannot encode.

    Raises `TypeError` if it is not text.
    """
    text = str.__str__(text)
    if len(text) > limit:
        half = (limit - 100) // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half:,} characters omitted ...]\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode()


# -- where it was called -----------------------------------------------------------------------------------------------


def rebuild(failure: Failure, codec: Codec, depth: int = 0) -> CallError:
    """Return the exception for the caller. `depth` is the number of exceptions of which it is a cause or a member."""
    parts = [rebuild(part, codec, depth + 1) for part in failure.parts] if depth <= DEEPEST else []
    attributes = dict(_decoded(failure.attributes, codec))
    unread = [name for name in failure.attributes if name not in attributes]
    failure = structs.replace(failure, unsent=(*failure.unsent, *unread)) if unread else failure
    error = _original(failure, parts, attributes, codec) or _known(failure, parts, attributes, codec)
    if failure.notes:
        _set(error, "__notes__", list(failure.notes))
    _set_causes(error, failure, codec, depth)
    return error


def _set(error: BaseException, name: str, value: Any) -> None:
    """Set an attribute without using the app's class, which may be frozen or have a property of that name."""
    member = vars(BaseException).get(name)
    if member is None:
        object.__getattribute__(error, "__dict__")[name] = value
    else:
        member.__set__(error, value)


def _set_causes(error: CallError, failure: Failure, codec: Codec, depth: int) -> None:
    """Set cause and context; the remote traceback, which includes those of the causes, becomes the last cause."""
    cause = context = None
    if depth <= DEEPEST:
        cause = failure.cause and rebuild(failure.cause, codec, depth + 1)
        if isinstance(failure.context, Failure):
            context = rebuild(failure.context, codec, depth + 1)
        elif failure.context:
            context = cause
    if cause is not None:
        _set(error, "__cause__", cause)
    if failure.traceback:
        last = next(reversed([error, *errors.causes_of(error)]))
        _set(last, "__cause__", RemoteTraceback(failure.traceback))
    if context is not None:
        _set(error, "__context__", context)
    if cause or context or failure.suppresses_context:
        _set(error, "__suppress_context__", failure.suppresses_context)


def _decoded(attributes: Mapping[str, bytes], codec: Codec) -> Iterable[tuple[str, Any]]:
    for name, encoded in attributes.items():
        try:
            yield name, codec.decode(encoded)
        except Exception:  # noqa: BLE001  its type is not registered here, or it is a function that was never lent
            continue


def _original(failure: Failure, parts: list[CallError], attributes: dict[str, Any], codec: Codec) -> CallError | None:
    """Return the exception as an instance of the app's own class, if that is known here and can be built."""
    error: CallError | None = None
    if failure.registered is not None:
        plain = _attempt(lambda: codec.decode(cast("bytes", failure.registered)), None)
        error = originals.adopted(plain) if isinstance(plain, Exception) else None
    if error is None and failure.module:
        name = failure.type_name.removeprefix(f"{failure.module}.")
        found = _attempt(lambda: originals.find(failure.module, name), None)
        if found is None or not _derives_as_told(found, failure):
            return None
        args = (failure.message, parts) if parts else _args_of(failure, codec)
        error = None if args is None else originals.build(found, args, attributes, failure.unsent, codec.converter)
    if error is not None and failure.executed != error.executed and "executed" not in attributes:
        _set(error, "executed", failure.executed)
    return error


def _derives_as_told(kind: type[Exception], failure: Failure) -> bool:
    """Return whether a class could be the original, judging by its bases, and not another class of the same name."""
    kinds = (failure.kind, "" if failure.kind == RemoteError.__name__ else failure.kind)
    return _nearest_name(kind, _BUILTIN_NAMES) == failure.builtin and _nearest_name(kind, _KIND_NAMES) in kinds


def _known(failure: Failure, parts: list[CallError], attributes: dict[str, Any], codec: Codec) -> CallError:
    """Return the exception as an instance of one of mob's classes."""
    kind = _KINDS.get(failure.kind, RemoteError)
    if issubclass(kind, RemoteError):
        return _remote_error(failure, parts, attributes, codec)
    if issubclass(kind, ArgumentError):
        return kind(failure.message, executed=failure.executed, argument=failure.argument)
    return kind(failure.message, executed=failure.executed)


def _args_of(failure: Failure, codec: Codec) -> tuple[Any, ...] | None:
    encoded = failure.args
    args: tuple[Any, ...] | None = _attempt(lambda: tuple(codec.decode(encoded)), None) if encoded else None
    return args[:2] if args and len(args) == 4 and _is_os_error(failure) else args


def _is_os_error(failure: Failure) -> bool:
    builtin = getattr(builtins, failure.builtin, None)
    return isinstance(builtin, type) and issubclass(builtin, OSError)


def _remote_error(failure: Failure, parts: list[CallError], attributes: dict[str, Any], codec: Codec) -> RemoteError:
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
    if failure.module:
        error.type_module = failure.module
    if failure.unsent:
        error.unsent_attributes = failure.unsent
    if attributes:
        error.remote_attributes = attributes
        originals.restore(error, attributes)
    return error


def remote_error_class(builtin: str) -> type[RemoteError]:
    """Return `RemoteError` combined with that built-in class, or with its nearest harmless base."""
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
    """Copy and pickle the combined classes; the standard way would look them up in a module."""
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
