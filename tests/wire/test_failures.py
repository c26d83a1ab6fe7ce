"""Failures: whatever is raised arrives, as the class that the caller expects and with the text that the user needs."""

from __future__ import annotations

import asyncio
import builtins
import copy
import dataclasses
import pickle
import threading
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec import structs

from mob import errors
from mob.errors import (
    ArgumentError,
    BadMessage,
    Busy,
    CallError,
    CallTimeout,
    Deadlock,
    Lost,
    RemoteError,
    RemoteTraceback,
    Unavailable,
    UnknownExport,
)
from mob.wire.arguments import Parameters
from mob.wire.codec import Codec, Reference
from mob.wire.failures import (
    LIMIT,
    MOST_PARTS,
    PACKAGE,
    Failure,
    RemoteErrorGroup,
    describe,
    nameplate,
    rebuild,
    remote_error_class,
)
from tests.wire.samples import short

LENT: list[Any] = []


def lend(function: Any) -> Reference:
    LENT.append(function)
    return Reference(1, 2)


def borrow(reference: Reference) -> Any:
    raise LookupError(f"from the user's borrow of {reference.id}")


CODEC = Codec(lend, borrow)


def raised(exc: BaseException) -> BaseException:
    """Return an exception after it was raised by the user's code."""

    def raise_it() -> None:
        raise exc

    return caught_from(raise_it)


def caught_from(function: Callable[..., Any], *args: Any) -> BaseException:
    """Return what a function raises, with the traceback that a caller in mob would see: without frames of the test."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011  whatever it is
        function(*args)
    return caught.value.with_traceback(caught.tb.tb_next)


def over(failure: Failure) -> Failure:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(failure), type=Failure)


def arrived(exc: BaseException) -> CallError:
    return rebuild(over(describe(raised(exc), CODEC)), CODEC)


def arrived_elsewhere(exc: BaseException) -> CallError:
    """Return an exception in a process that did not import any class of the app's."""
    return rebuild(elsewhere(over(describe(raised(exc), CODEC))), CODEC)


def elsewhere(failure: Failure) -> Failure:
    module = failure.module and "not_imported"
    return structs.replace(failure, module=module, parts=tuple(map(elsewhere, failure.parts)))


class AppError(Exception):
    pass


class BadName(ValueError):
    pass


@dataclasses.dataclass
class Adult:
    age: int

    def __post_init__(self) -> None:
        if self.age < 18:
            raise ValueError("too young")


class Outer:
    class Inner(KeyError):
        pass


# --- classes ----------------------------------------------------------------------------------------------------------

ARRIVES = [
    (ValueError("bad thing"), ValueError, "ValueError: bad thing", ("bad thing",)),
    (ValueError(), ValueError, "ValueError", ()),
    (ValueError(1, [2**100]), ValueError, "ValueError: (1, [1267650600228229401496703205376])", (1, [2**100])),
    (KeyError("k"), KeyError, "KeyError: 'k'", ("k",)),
    (BadName("b"), ValueError, f"{__name__}.BadName: b", ("b",)),
    (Outer.Inner("i"), KeyError, f"{__name__}.Outer.Inner: 'i'", ("i",)),
    (AppError("a", 1), Exception, f"{__name__}.AppError: ('a', 1)", ("a", 1)),
    (ZeroDivisionError("z"), ArithmeticError, "ZeroDivisionError: z", ("z",)),
    (AttributeError("a"), AttributeError, "AttributeError: a", ("a",)),
    (ImportError("i", name="n"), ImportError, "ImportError: i", ("i",)),
    (SyntaxError("s"), SyntaxError, "SyntaxError: s", ("s",)),
    (RecursionError("r"), RuntimeError, "RecursionError: r", ("r",)),
    (MemoryError(), MemoryError, "MemoryError", ()),
    (EOFError("e"), EOFError, "EOFError: e", ("e",)),
    (TimeoutError("t"), TimeoutError, "TimeoutError: t", ("t",)),
    (UserWarning("w"), UserWarning, "UserWarning: w", ("w",)),
    (asyncio.QueueFull(), Exception, "asyncio.queues.QueueFull", ()),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), ValueError, None, ("utf-8", b"\xff", 0, 1, "bad")),
    (BadMessage("b", "args[0]"), TypeError, "mob.BadMessage: b", ("b",)),
    (errors.UnknownRole("r"), LookupError, "mob.UnknownRole: r", ("r",)),
]


@pytest.mark.parametrize(("exc", "base", "text", "args"), ARRIVES, ids=short)
def test_it_arrives_as_a_remote_error_and_as_its_built_in(exc: Any, base: Any, text: str | None, args: Any) -> None:
    error = arrived_elsewhere(exc)
    assert isinstance(error, RemoteError)
    assert isinstance(error, base)
    assert text is None or str(error) == text
    assert error.remote_args == args
    assert error.executed == "yes"
    assert type(error).__name__ == "RemoteError"


PLAIN = [
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    StopIteration(1),
    StopAsyncIteration(),
    asyncio.CancelledError(),
]


@pytest.mark.parametrize("exc", PLAIN, ids=short)
def test_what_would_steer_the_caller_arrives_as_a_plain_remote_error(exc: BaseException) -> None:
    error = arrived(exc)
    assert type(error) is RemoteError
    assert not isinstance(error, type(exc))
    assert type(exc).__name__ in str(error)


def test_every_built_in_exception_has_a_class() -> None:
    kinds = [kind for kind in vars(builtins).values() if isinstance(kind, type) and issubclass(kind, BaseException)]
    assert len(kinds) > 60
    for kind in kinds:
        error = remote_error_class(kind.__name__)("text")
        assert isinstance(error, RemoteError)
        assert str(error) == "Exception: text"


def test_classes_are_made_once() -> None:
    assert type(arrived(ValueError(1))) is type(arrived_elsewhere(BadName(2))) is remote_error_class("ValueError")
    assert remote_error_class("UnicodeDecodeError") is remote_error_class("UnicodeError")


@pytest.mark.parametrize("builtin", ["NoSuchError", "int", "print", "", "Exception", "BaseException"])
def test_what_is_no_built_in_exception_is_plain(builtin: str) -> None:
    assert remote_error_class(builtin) is RemoteError


def test_an_os_error_keeps_its_numbers() -> None:
    error = arrived(FileNotFoundError(2, "No such file or directory", "/x", None, "/y"))
    assert isinstance(error, FileNotFoundError)
    assert (error.errno, error.strerror, error.filename, error.filename2) == (
        2,
        "No such file or directory",
        "/x",
        "/y",
    )
    assert isinstance(error, RemoteError)
    assert error.remote_args == (2, "No such file or directory")
    assert str(error) == "FileNotFoundError: [Errno 2] No such file or directory: '/x' -> '/y'"
    plain = arrived(OSError("text"))
    assert isinstance(plain, OSError)
    assert plain.errno is None
    assert str(plain) == "OSError: text"


@pytest.mark.parametrize(
    "exc", [ValueError("v"), KeyError("k"), PermissionError(13, "no", "/x"), AppError("a")], ids=short
)
def test_it_can_be_copied_and_pickled(exc: Exception) -> None:
    error = arrived_elsewhere(exc)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)
        assert getattr(again, "errno", None) == getattr(error, "errno", None)


# --- tracebacks and notes ---------------------------------------------------------------------------------------------


def test_the_cause_is_the_remote_traceback() -> None:
    error = arrived(ValueError("bad thing"))
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "raise exc" in str(error.__cause__)
    assert str(error.__cause__).endswith("ValueError: bad thing")
    shown = "".join(traceback.format_exception(error))
    assert shown.index("raise exc") < shown.index("direct cause") < shown.index("RemoteError: ValueError: bad thing")


def test_frames_of_mob_at_the_top_are_removed() -> None:
    data = CODEC.encode(len)
    exc = caught_from(CODEC.decode, data)
    assert PACKAGE in "".join(traceback.format_exception(exc))
    text = describe(exc, CODEC).traceback
    assert PACKAGE not in text
    assert "in borrow" in text


def test_a_fault_of_mob_is_shown_in_full() -> None:
    exc = caught_from(CODEC.decode, b"\xc1")
    assert f'{PACKAGE}wire/codec.py", line' in describe(exc, CODEC).traceback


def test_chained_causes_are_kept() -> None:
    def chained() -> None:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise ValueError("second") from first

    text = describe(caught_from(chained), CODEC).traceback
    assert text.index("KeyError: 'first'") < text.index("direct cause") < text.index("ValueError: second")


class AppGroup(ExceptionGroup[Exception]):
    pass


def test_a_group_arrives_as_a_group_of_what_its_parts_arrive_as() -> None:
    inner = AppGroup("inner", [KeyError("k"), errors.Busy("full")])
    error: Any = arrived_elsewhere(ExceptionGroup("many", [ValueError("one"), inner, AppError("two")]))
    assert {RemoteError, ExceptionGroup} <= set(type(error).__mro__)
    assert str(error) == "ExceptionGroup: many (3 sub-exceptions)"
    assert str(error.exceptions[1]) == f"{__name__}.AppGroup: inner (2 sub-exceptions)"
    caught: list[str] = []
    try:
        raise error
    except* ValueError as group:
        caught += map(str, group.exceptions)
    except* KeyError as group:
        found: Any = group.exceptions[0]
        assert found.type_name == f"{__name__}.AppGroup"
        caught += map(str, found.exceptions)
    except* errors.Busy as group:
        inner_group: Any = group.exceptions[0]
        caught.append(type(inner_group.exceptions[0]).__name__)
    except* errors.CallError as group:
        caught += map(str, group.exceptions)
    assert caught == ["ValueError: one", "KeyError: 'k'", "Busy", f"{__name__}.AppError: two"]


def test_a_group_of_what_would_steer_the_caller_has_plain_errors() -> None:
    error: Any = arrived(BaseExceptionGroup("g", [KeyboardInterrupt(), ValueError("v")]))
    assert type(error) is RemoteErrorGroup
    assert [type(part) for part in error.exceptions] == [RemoteError, remote_error_class("ValueError")]
    assert error.type_name == "BaseExceptionGroup"


def test_a_group_passes_on_and_is_copied_and_pickled() -> None:
    error: Any = arrived(arrived(ExceptionGroup("many", [ValueError("one")])))
    assert str(error) == "ExceptionGroup: many (1 sub-exception)"
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is RemoteErrorGroup
        assert str(again) == str(error)
        assert isinstance(again.exceptions[0], ValueError)


def test_large_and_deep_groups_are_cut() -> None:
    deep: Any = ValueError("v")
    for _ in range(100):
        deep = ExceptionGroup("g", [deep])
    assert isinstance(arrived(deep), ExceptionGroup)
    large: Any = arrived(ExceptionGroup("g", [ValueError(n) for n in range(2 * MOST_PARTS)]))
    assert type(large) is RemoteErrorGroup
    assert len(large.exceptions) == MOST_PARTS
    assert all(isinstance(part, ValueError) for part in large.exceptions)


def test_groups_are_kept_as_text() -> None:
    error = arrived(ExceptionGroup("many", [ValueError("one"), AppError("two")]))
    assert "ValueError: one" in str(error.__cause__)
    assert "AppError: two" in str(error.__cause__)


def test_notes_are_kept() -> None:
    exc = ValueError("v")
    exc.add_note("a note")
    exc.__notes__.append(3)  # type: ignore[arg-type]
    error = arrived(exc)
    assert error.__notes__ == ["a note"]


def test_long_texts_keep_both_ends() -> None:
    exc = ValueError("start " + "x" * 3 * LIMIT + " end")
    exc.add_note("n" * 2 * LIMIT)
    failure = describe(raised(exc), CODEC)
    for text in (failure.message, failure.traceback, *failure.notes):
        assert LIMIT // 2 < len(text) <= LIMIT
        assert "characters omitted" in text
    assert failure.message.startswith("start xx")
    assert failure.message.endswith("xx end")
    assert failure.traceback.startswith("Traceback (most recent call last)")
    assert failure.args is None
    again = describe(raised(rebuild(failure, CODEC)), CODEC)
    assert again.message == failure.message


def test_endless_recursion_is_told_briefly() -> None:
    def endless() -> None:
        endless()

    failure = describe(caught_from(endless), CODEC)
    assert failure.type_name == "RecursionError"
    assert "Previous line repeated" in failure.traceback


class Counted:
    encoded = 0


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: [[x]],
        lambda x: {"a": tuple(x)},
        lambda x: [x[:10], "x" * LIMIT],
        lambda x: dict(enumerate(x)),
    ],
    ids=["list", "nested", "dict", "text", "long dict"],
)
def test_what_is_sure_to_be_too_long_is_not_encoded(wrap: Callable[[list[Any]], Any]) -> None:
    def encode(value: Counted) -> int:
        Counted.encoded += 1
        return 1

    codec = Codec(lend, borrow)
    codec.register(Counted, encode, lambda data: Counted())
    exc: Any = ValueError(wrap([Counted(), *[0] * LIMIT]))
    exc.items = wrap([Counted(), *[0] * LIMIT])
    Counted.encoded = 0
    failure = describe(exc, codec)
    assert (failure.args, failure.attributes, Counted.encoded) == (None, {}, 0)
    exc.args = ([Counted()],)
    assert describe(exc, codec).args is not None
    assert Counted.encoded == 1


# --- whatever the exception does --------------------------------------------------------------------------------------


class NoText(ValueError):
    def __str__(self) -> str:
        raise SystemExit


class NoLook(KeyError):
    def __getattribute__(self, name: str) -> Any:
        raise KeyboardInterrupt


class NoArgs(ValueError):
    args = property(lambda self: 1 / 0)  # type: ignore[assignment]
    __notes__ = property(lambda self: 1 / 0)  # type: ignore[assignment]


class BadSelf(Busy):
    executed = property(lambda self: 1 / 0)  # type: ignore[assignment]


class BadArgument(ArgumentError):
    argument = property(lambda self: 1 / 0, lambda self, value: None)  # type: ignore[assignment]


class BadMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__qualname__", "__name__", "__module__"):
            raise RuntimeError
        return super().__getattribute__(name)


class Unhashable(type):
    def __eq__(cls, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def unhashable_class() -> BaseException:
    class OddClass(ValueError, metaclass=Unhashable):
        pass

    return OddClass("o")


def odd_class() -> BaseException:
    class OddClass(ValueError, metaclass=BadMeta):
        pass

    return OddClass("o")


class Text(str):
    """Text that is not a plain `str`."""


class NoBool(ValueError):
    __suppress_context__ = property(lambda self: object())  # type: ignore[assignment]


class NoCause(ValueError):
    __cause__ = property(lambda self: 1 / 0)  # type: ignore[assignment]
    __context__ = property(lambda self: 1 / 0)  # type: ignore[assignment]
    __notes__ = property(lambda self: 1 / 0)  # type: ignore[assignment]


def with_attribute(exc: Exception, name: str, value: Any = 1) -> Exception:
    exc.__dict__[name] = value
    return exc


def with_note(exc: BaseException, note: str) -> BaseException:
    exc.add_note(note)
    return exc


def caused_by(exc: BaseException, cause: BaseException) -> BaseException:
    exc.__cause__ = cause
    return exc


def in_module(module: Any) -> BaseException:
    kind = type("InModule", (ValueError,), {"__module__": module})
    return kind("m")


def stand_in(**attributes: Any) -> BaseException:
    error = remote_error_class("ValueError")("s")
    error.__dict__.update(attributes)
    return error


# By name and made late, because pytest itself would look at them.
HOSTILE: dict[str, tuple[Callable[[], BaseException], type]] = {
    "no text": (lambda: NoText("t"), ValueError),
    "no look": (lambda: NoLook("l"), KeyError),
    "no args": (lambda: NoArgs("a"), ValueError),
    "bad executed": (lambda: BadSelf("s"), Busy),
    "bad argument": (lambda: BadArgument("s"), ArgumentError),
    "odd class": (odd_class, ValueError),
    "unhashable class": (unhashable_class, ValueError),
    "broken text": (lambda: ValueError("\ud800"), ValueError),
    "a function": (lambda: ValueError(len), ValueError),
    "a lock": (lambda: ValueError(threading.Lock()), ValueError),
    "broken name": (lambda: with_attribute(ValueError("n"), "\udcff"), ValueError),
    "odd name": (lambda: with_attribute(ValueError("n"), Text("n")), ValueError),
    "broken module": (lambda: in_module("m\ud800"), ValueError),
    "odd module": (lambda: in_module(Text("m")), ValueError),
    "no module": (lambda: in_module(5), ValueError),
    "broken note": (lambda: with_note(ValueError("n"), "\ud800"), ValueError),
    "odd note": (lambda: with_note(ValueError("n"), Text("n")), ValueError),
    "broken argument": (lambda: ArgumentError("a", argument="\ud800"), ArgumentError),
    "odd argument": (lambda: ArgumentError("a", argument=Text("a")), ArgumentError),
    "no argument": (lambda: ArgumentError("a", argument=5), ArgumentError),  # type: ignore[arg-type]
    "odd message": (lambda: Busy(Text("b")), Busy),
    "odd executed": (lambda: Busy("b", executed=Text("no")), Busy),  # type: ignore[arg-type]
    "list executed": (lambda: Busy("b", executed=["no"]), Busy),  # type: ignore[arg-type]
    "no bool": (lambda: NoBool("b"), ValueError),
    "no cause": (lambda: with_attribute(NoCause("c"), "__notes__", ["n"]), ValueError),
    "evil cause": (lambda: caused_by(ValueError("c"), NoLook("l")), ValueError),
    "evil member": (lambda: ExceptionGroup("g", [NoLook("l")]), RemoteErrorGroup),
    "odd type name": (lambda: stand_in(type_name=Text("t"), type_module=Text("t")), ValueError),
    "no type name": (lambda: stand_in(type_name=5, type_module=5, message=5, remote_args=5), ValueError),
    "broken type name": (lambda: stand_in(type_name="\ud800", type_module="\ud800", message="\ud800"), ValueError),
    "odd attributes": (lambda: stand_in(remote_attributes={Text("t"): 1, "\ud800": 1, "a": 1}), ValueError),
    "no attributes": (lambda: stand_in(remote_attributes=5), ValueError),
    "broken group": (lambda: ExceptionGroup("\ud800", [ValueError(1)]), RemoteErrorGroup),
    "odd group": (lambda: ExceptionGroup(Text("g"), [with_attribute(ValueError(1), "\ud800")]), RemoteErrorGroup),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_its_name_can_be_had_without_asking_it(name: str) -> None:
    make, base = HOSTILE[name]
    exc = make()
    error = rebuild(over(nameplate(exc)), CODEC)
    assert isinstance(error, RemoteError)
    assert error.type_name in repr(object.__repr__(exc)) or name == "odd class"
    assert str(error).endswith(": mob could not describe this exception")
    assert issubclass(base, (CallError, ExceptionGroup)) or isinstance(error, base)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("is_raised", [True, False])
def test_it_always_arrives(name: str, is_raised: bool) -> None:
    make, base = HOSTILE[name]
    exc = make()
    if is_raised:
        try:
            raise exc
        except BaseException:  # noqa: BLE001  whatever it is
            pass
    LENT.clear()
    error = rebuild(over(describe(exc, CODEC)), CODEC)
    assert isinstance(error, base)
    assert isinstance(error, CallError)
    assert str(error)
    assert LENT == []


def test_a_text_that_cannot_be_had_is_told() -> None:
    text = describe(NoText("t"), CODEC)
    assert str(rebuild(text, CODEC)) == f"{__name__}.NoText: <its text is not available>"
    assert str(arrived(ValueError("a\ud800"))) == "ValueError: a\\ud800"


def test_args_that_do_not_decode_are_left_out() -> None:
    failure = Failure("ValueError", "ValueError", "v", args=b"\xc1")
    assert rebuild(failure, CODEC).remote_args == ()  # type: ignore[attr-defined]


# --- mob's own errors -------------------------------------------------------------------------------------------------

OWN = [Lost, Unavailable, Busy, CallTimeout, Deadlock, UnknownExport, ArgumentError, CallError]


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("executed", ["no", "maybe", "yes"])
def test_an_error_of_mob_arrives_as_itself(kind: type[CallError], executed: Any) -> None:
    error = rebuild(over(describe(kind("text", executed=executed), CODEC)), CODEC)
    assert type(error) is kind
    assert str(error) == "text"
    assert error.executed == executed
    assert error.__cause__ is None


def test_refused_arguments_arrive_with_the_name_of_the_argument() -> None:
    def foo(a: int) -> None: ...

    decode = Parameters.of(foo, CODEC, "back.foo").decode
    error = rebuild(over(describe(caught_from(decode, CODEC.encode(("x",)), None), CODEC)), CODEC)
    assert type(error) is ArgumentError
    assert (str(error), error.argument, error.executed) == ("back.foo(a: int): expected int, got str 'x'.", "a", "no")
    assert error.__cause__ is None


def test_refused_arguments_arrive_with_the_users_own_reason() -> None:
    def foo(a: Adult) -> None: ...

    decode = Parameters.of(foo, CODEC, "back.foo").decode
    error = rebuild(over(describe(caught_from(decode, CODEC.encode(({"age": 3},)), None), CODEC)), CODEC)
    assert isinstance(error, ArgumentError)
    assert error.executed == "no"
    assert 'raise ValueError("too young")' in str(error.__cause__)


def test_an_error_of_mob_that_passes_through_the_users_code_has_executed() -> None:
    error = arrived(Busy("another call was refused", executed="no"))
    assert type(error) is Busy
    assert error.executed == "yes"
    assert "raise exc" in str(error.__cause__)


def test_whoever_knows_may_say_whether_it_executed() -> None:
    assert describe(raised(Busy("b", executed="no")), CODEC, executed="no").executed == "no"
    assert describe(raised(ValueError("v")), CODEC, executed="no").executed == "no"


def test_the_users_own_kind_of_a_call_error_arrives_as_mobs() -> None:
    class Full(Busy):
        pass

    error = arrived(Full("f"))
    assert type(error) is Busy
    assert str(error) == "f"


def test_a_remote_error_passes_through_a_third_process() -> None:
    first = arrived_elsewhere(BadName("deep"))
    second = arrived_elsewhere(first)
    assert type(second) is type(first)
    assert isinstance(second, ValueError)
    assert isinstance(second, RemoteError)
    assert str(second) == f"{__name__}.BadName: deep"
    assert second.remote_args == ("deep",)
    passed_on = rebuild(over(describe(first, CODEC)), CODEC)  # by mob itself, never raised
    assert "BadName: deep" in str(passed_on.__cause__)
    assert passed_on.executed == "yes"
    text = str(second.__cause__)
    assert (
        text.index("BadName: deep") < text.index("direct cause") < text.index(f"RemoteError: {__name__}.BadName: deep")
    )


def test_a_kind_that_is_not_known_here_is_a_remote_error() -> None:
    failure = Failure("mob.NewError", "ValueError", "text", kind="NewError")
    assert isinstance(rebuild(failure, CODEC), RemoteError)
    assert isinstance(rebuild(failure, CODEC), ValueError)


@pytest.mark.parametrize("kind", ["PlanError", "MobError", "nearest", "Any"])
def test_a_kind_that_is_no_call_error_is_a_remote_error(kind: str) -> None:
    assert type(rebuild(Failure("x", "Exception", "text", kind=kind), CODEC)) is RemoteError
