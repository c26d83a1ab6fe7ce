"""The arguments of a call: bound and converted as the function requires, or refused with the name of the argument."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ForwardRef, Literal, Protocol

import msgspec
import numpy as np
import pytest

from mob.errors import ArgumentError, GarbageFrame
from mob.wire.arguments import Parameters, result_of
from mob.wire.codec import Codec, Reference
from tests.wire.samples import short

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]

HUGE = 2**100


@dataclasses.dataclass
class User:
    name: str
    age: int | None = None


class Adult(User):
    def __post_init__(self) -> None:
        if (self.age or 0) < 18:
            raise ValueError("An adult is 18 or older")


class Notify(Protocol):
    def __call__(self, text: str) -> None: ...


def nothing(): ...
def one(i): ...
def two(a, b): ...
def default(a, b=2): ...
def defaults(a=1, b=[]): ...  # noqa: B006
def rest(*values): ...
def first_and_rest(a, *values): ...
def anything(*args, **kwargs): ...
def only(a, /, b): ...
def only_and_extra(a, /, **extra): ...
def named(*, a, b=2): ...
def mixed(a, b=2, *, c, d=4): ...
def typed(i: int): ...
def typed_two(a: int, b: str) -> bool: ...
def typed_default(a: int, b: float = 2.5, c: None = None): ...
def typed_in_part(a: int, b): ...
def typed_rest(a: str, *values: int, **extra: float): ...
def typed_named(a: int, *, user: User): ...
def user(u: User): ...
def users(us: list[User], mode: Literal["x", "y"] = "x"): ...
def ages(a: dict[str, int]): ...
def adult(a: Adult): ...
def optional(a: int | None = None): ...
def either(a: str | bytes): ...
def array(a: np.ndarray): ...
def callback(cb: Callable[[int], None], n: int): ...
def notify(cb: Notify, n: int = 1): ...
def unresolved(a: Missing, b: int, c: list[Missing]) -> Missing: ...
def deferred(a, b: int, c) -> None: ...
def text(a: int, b: str = "x" * 500): ...


deferred.__annotations__ |= {"a": ForwardRef("Missing"), "c": list[ForwardRef("Missing")]}  # as by Python 3.14


class Service:
    def method(self, a: int): ...

    def __call__(self, a: int): ...


@functools.wraps(typed)
def wrapped(*args, **kwargs): ...


def lend(function: Callable[..., Any]) -> Reference:
    return Reference(1, FUNCTIONS.index(function))


FUNCTIONS: list[Callable[..., Any]] = [len, print]


class Counting:
    """A codec that counts how often it borrowed."""

    def __init__(self) -> None:
        self.borrowed = 0
        self.codec = Codec(lend, self.borrow)

    def borrow(self, reference: Reference) -> Callable[..., Any]:
        self.borrowed += 1
        return FUNCTIONS[reference.id]


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
    """Send a call through the wire; kwargs are on it only if there are any."""
    codec = Counting().codec
    parameters = Parameters.of(function, codec, "back.foo")
    return parameters.decode(msgspec.Raw(codec.encode(args)), msgspec.Raw(codec.encode(kwargs)) if kwargs else None)


# --- what fits --------------------------------------------------------------------------------------------------------

FITS = [
    (nothing, (), {}, (), {}),
    (one, (1,), {}, (1,), {}),
    (one, ({"a": [1]},), {}, ({"a": [1]},), {}),
    (one, (HUGE,), {}, (HUGE,), {}),
    (one, (len,), {}, (len,), {}),
    (one, (User("u"),), {}, ({"name": "u", "age": None},), {}),
    (one, (), {"i": 1}, (), {"i": 1}),
    (two, (1,), {"b": 2}, (1,), {"b": 2}),
    (default, (1,), {}, (1, 2), {}),
    (default, (1, 3), {}, (1, 3), {}),
    (default, (1,), {"b": 3}, (1,), {"b": 3}),
    (default, (), {"a": 1}, (), {"a": 1}),
    (rest, (), {}, (), {}),
    (rest, (1, "x", len), {}, (1, "x", len), {}),
    (first_and_rest, (1,), {}, (1,), {}),
    (first_and_rest, (1, 2), {}, (1, 2), {}),
    (first_and_rest, (), {"a": 1}, (), {"a": 1}),
    (anything, (1,), {"x": [2]}, (1,), {"x": [2]}),
    (anything, (), {}, (), {}),
    (only, (1,), {"b": 2}, (1,), {"b": 2}),
    (only_and_extra, (1,), {"a": 2}, (1,), {"a": 2}),
    (named, (), {"a": 1}, (), {"a": 1}),
    (mixed, (1,), {"c": 3}, (1,), {"c": 3}),
    (typed, (1,), {}, (1,), {}),
    (typed, (HUGE,), {}, (HUGE,), {}),
    (typed, (), {"i": HUGE}, (), {"i": HUGE}),
    (typed_two, (1, "x"), {}, (1, "x"), {}),
    (typed_two, (1,), {"b": "x"}, (1,), {"b": "x"}),
    (typed_default, (1,), {}, (1, 2.5, None), {}),
    (typed_default, (1, 2), {}, (1, 2.0, None), {}),
    (typed_default, (1,), {"b": 2}, (1,), {"b": 2.0}),
    (typed_in_part, (1, "x"), {}, (1, "x"), {}),
    (typed_in_part, (1, len), {}, (1, len), {}),
    (typed_rest, ("x", 1, 2), {"e": 1}, ("x", 1, 2), {"e": 1.0}),
    (typed_named, (1,), {"user": User("u")}, (1,), {"user": User("u")}),
    (user, (User("u", 3),), {}, (User("u", 3),), {}),
    (user, ({"name": "u"},), {}, (User("u"),), {}),
    (user, (User("u", HUGE),), {}, (User("u", HUGE),), {}),
    (users, ([User("u"), User("v")],), {}, ([User("u"), User("v")], "x"), {}),
    (optional, (), {}, (None,), {}),
    (optional, (1,), {}, (1,), {}),
    (either, ("x",), {}, ("x",), {}),
    (either, (b"x",), {}, (b"x",), {}),
    (callback, (len, 1), {}, (len, 1), {}),
    (callback, (), {"cb": len, "n": 1}, (), {"cb": len, "n": 1}),
    (notify, (len,), {}, (len,), {}),
    (unresolved, ("x", 1, 2), {}, ("x", 1, 2), {}),
    (Service().method, (1,), {}, (1,), {}),
    (Service(), (1,), {}, (1,), {}),
    (wrapped, (1,), {}, (1,), {}),
    (functools.partial(two, 1), (2,), {}, (2,), {}),
    (functools.partial(two, b=1), (2,), {}, (2,), {}),
    (functools.lru_cache(typed), (1,), {}, (1,), {}),
    (len, ([1],), {}, ([1],), {}),
    (print, (1, 2), {"end": ""}, (1, 2), {"end": ""}),
    (sum, ([1],), {}, ([1],), {}),
    (int, ("1",), {}, ("1",), {}),
    (dict, (), {"anything": 1}, (), {"anything": 1}),
    (operator.itemgetter(1), ([1, 2],), {}, ([1, 2],), {}),
]


def name_of(value: Any) -> str:
    return getattr(value, "__name__", short(value))


@pytest.mark.parametrize(("function", "args", "kwargs", "positional", "named"), FITS, ids=name_of)
def test_what_fits_is_bound_and_converted(function: Any, args: Any, kwargs: Any, positional: Any, named: Any) -> None:
    values, extra = call(function, *args, **kwargs)
    assert tuple(values) == positional
    assert [type(value) for value in values] == [type(value) for value in positional]
    assert extra == named


def test_a_default_is_the_functions_own_object() -> None:
    values, _ = call(defaults)
    assert values[1] is defaults.__defaults__[1]  # type: ignore[index]


def test_an_annotated_array_arrives() -> None:
    (value,), _ = call(array, np.arange(3))
    assert value.tolist() == [0, 1, 2]


def test_nil_stands_for_no_kwargs() -> None:
    for function in (one, typed, anything):
        values, named = Parameters.of(function, Counting().codec).decode(b"\x91\x01", b"\xc0")
        assert (list(values), named) == ([1], {})


def test_each_call_has_its_own_kwargs() -> None:
    codec = Counting().codec
    decode = Parameters.of(one, codec).decode
    first, second = (decode(b"\x91\x01", None)[1] for _ in range(2))
    first["x"] = 1
    assert second == {}


# --- what does not fit ------------------------------------------------------------------------------------------------

MISFITS = [
    (nothing, (1,), {}, None, "() takes no arguments, but 1 was given."),
    (one, (1, 2), {}, None, "() takes 1 argument (i), but 2 were given."),
    (two, (1, 2, 3), {}, None, "() takes 2 arguments (a, b), but 3 were given."),
    (default, (1, 2, 3), {}, None, "() takes 1 to 2 arguments (a, b), but 3 were given."),
    (typed_two, (1, "x", 3), {}, None, "() takes 2 arguments (a, b), but 3 were given."),
    (mixed, (1, 2, 3), {"c": 1}, None, "() takes 1 to 2 positional arguments (a, b), but 3 were given."),
    (named, (1,), {"a": 1}, None, "() takes no positional arguments, but 1 was given."),
    (one, (), {}, "i", "() is missing the argument 'i'."),
    (two, (), {}, "a", "() is missing the arguments 'a' and 'b'."),
    (two, (), {"a": 1}, "b", "() is missing the argument 'b'."),
    (typed, (), {}, "i", "() is missing the argument 'i'."),
    (default, (), {}, "a", "() is missing the argument 'a'."),
    (first_and_rest, (), {}, "a", "() is missing the argument 'a'."),
    (named, (), {}, "a", "() is missing the argument 'a'."),
    (mixed, (), {"b": 1}, "a", "() is missing the arguments 'a' and 'c'."),
    (only_and_extra, (), {"a": 1}, "a", "() is missing the argument 'a'."),
    (user, (), {"uu": 1}, "uu", "() got an unknown argument 'uu'. Did you mean 'u'?"),
    (typed_named, (1,), {"usr": 1}, "usr", "() got an unknown argument 'usr'. Did you mean 'user'?"),
    (two, (1, 2), {"zzz": 1}, "zzz", "() got an unknown argument 'zzz'. There are: 'a', 'b'."),
    (nothing, (), {"a": 1}, "a", "() got an unknown argument 'a'. There are none."),
    (two, (1, 2), {"a": 1}, "a", "() got the argument 'a' twice."),
    (typed, (1,), {"i": 1}, "i", "() got the argument 'i' twice."),
    (only, (), {"a": 1, "b": 2}, "a", "() takes the argument 'a' by position only."),
    (typed, ("x",), {}, "i", "(i: int): expected int, got str 'x'."),
    (typed, (None,), {}, "i", "(i: int): expected int, got None."),
    (typed, ([1],), {}, "i", "(i: int): expected int, got list [1]."),
    (typed, (), {"i": 1.5}, "i", "(i: int): expected int, got float 1.5."),
    (typed_two, (1, 2), {}, "b", "(b: str): expected str, got int 2."),
    (typed_default, (1, "x"), {}, "b", "(b: float): expected float, got str 'x'."),
    (typed_default, (1, 2, 3), {}, "c", "(c: None): expected None, got int 3."),
    (typed_in_part, ("x", 1), {}, "a", "(a: int): expected int, got str 'x'."),
    (typed_rest, ("x", 1, "y"), {}, "values", "(*values: int): expected int, got str 'y'."),
    (typed_rest, ("x",), {"e": "y"}, "extra", "(**extra: float): expected float, got str 'y'."),
    (optional, ("x",), {}, "a", "(a: int | None): expected int | None, got str 'x'."),
    (either, (1,), {}, "a", "(a: str | bytes): expected str | bytes, got int 1."),
    (user, (3,), {}, "u", f"(u: {__name__}.User): expected dict, got int 3."),
    (user, ({},), {}, "u", f"(u: {__name__}.User): object missing required field name."),
    (user, ({"name": 3},), {}, "u", f"(u: {__name__}.User): expected str, got int 3 at .name."),
    (
        users,
        ([{"name": "u"}, {"name": "v", "age": "old"}],),
        {},
        "us",
        f"(us: list[{__name__}.User]): expected int | None, got str 'old' at [1].age.",
    ),
    (
        users,
        ([], "z"),
        {},
        "mode",
        "(mode: Literal['x', 'y']): invalid enum value 'z'.",
    ),
    (ages, ({"me": "x"},), {}, "a", "(a: dict[str, int]): expected int, got str at [...]."),
    (adult, ({"name": "a", "age": 3},), {}, "a", f"(a: {__name__}.Adult): an adult is 18 or older."),
    (callback, (1, 1), {}, "cb", "(cb: collections.abc.Callable[[int], None]): expected a function, got int 1."),
    (array, ([1],), {}, "a", "(a: numpy.ndarray): expected ndarray, got list [1]."),
    (unresolved, (1, "x", 1), {}, "b", "(b: int): expected int, got str 'x'."),
    (typed, ("x" * 500,), {}, "i", "(i: int): expected int, got str " + repr("x" * 27)[:-1] + "..." + "x" * 28 + "'."),
]


@pytest.mark.parametrize(("function", "args", "kwargs", "argument", "text"), MISFITS, ids=name_of)
def test_what_does_not_fit_is_refused(function: Any, args: Any, kwargs: Any, argument: str | None, text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call(function, *args, **kwargs)
    assert str(caught.value) == f"back.foo{text}"
    assert caught.value.argument == argument
    assert caught.value.executed == "no"


def test_the_cause_of_a_refusal_is_kept() -> None:
    with pytest.raises(ArgumentError) as caught:
        call(typed, "x")
    assert isinstance(caught.value.__cause__, msgspec.ValidationError)


@pytest.mark.parametrize("function", [one, two, typed, typed_in_part, callback, named, anything, rest])
def test_functions_are_borrowed_once_fit_or_not(function: Any) -> None:
    counting = Counting()
    decode = Parameters.of(function, counting.codec).decode
    args, kwargs = counting.codec.encode((len, "x")), counting.codec.encode({"cb": print})
    for given, accepted_by in ((None, (anything, rest, two)), (kwargs, (anything,))):
        counting.borrowed = 0
        if function in accepted_by:
            decode(args, given)
        else:
            with pytest.raises(ArgumentError):
                decode(args, given)
        assert counting.borrowed == (2 if given else 1)


class Money:
    pass


@pytest.mark.parametrize("function", [one, typed, callback, anything])
def test_what_cannot_be_understood_is_refused(function: Any) -> None:
    sender, receiver = Counting().codec, Counting().codec
    sender.register(Money, lambda money: 1, lambda data: Money())
    with pytest.raises(ArgumentError, match=r"back\.foo\(\): a .*:Money arrived, but this process") as caught:
        Parameters.of(function, receiver, "back.foo").decode(sender.encode([Money()]), None)
    assert caught.value.executed == "no"
    with pytest.raises(ArgumentError, match=r"back\.foo\(\): the message is nested too deeply"):
        Parameters.of(function, receiver, "back.foo").decode(b"\x91" * 100_000, None)


@pytest.mark.parametrize(
    "function", [nothing, one, default, typed, typed_default, rest, first_and_rest, callback, named]
)
@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91", b"\x01", b"\x80", b"\xa1a", b"\x91\xa1\xff"], ids=short)
def test_bytes_that_are_no_arguments_are_garbage(function: Any, data: bytes) -> None:
    parameters = Parameters.of(function, Counting().codec)
    with pytest.raises(GarbageFrame):
        parameters.decode(data, None)
    with pytest.raises(GarbageFrame):
        parameters.decode(b"\x91\x01", b"\x91\x01")
    with pytest.raises(GarbageFrame):
        parameters.decode(b"\x91\x01", b"\xc1")


# --- what people see --------------------------------------------------------------------------------------------------


def documented(a: int, b=2) -> str:  # pyright: ignore[reportReturnType]
    """Says something.

    And more.
    """


class Odd:
    def __call__(self) -> None: ...

    @property
    def __signature__(self) -> Any:
        raise RuntimeError

    @property
    def __doc__(self) -> Any:  # type: ignore[override]
        raise RuntimeError


class BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError


def bad_default(a=BadRepr()): ...  # noqa: B008


@pytest.mark.parametrize(
    ("function", "signature"),
    [
        (nothing, "()"),
        (documented, "(a: int, b=2) -> str"),
        (only, "(a, /, b)"),
        (mixed, "(a, b=2, *, c, d=4)"),
        (typed_rest, "(a: str, *values: int, **extra: float)"),
        (user, f"(u: {__name__}.User)"),
        (optional, "(a: int | None = None)"),
        (unresolved, "(a: Missing, b: int, c: list[Missing]) -> Missing"),
        (deferred, "(a: Missing, b: int, c: list[Missing]) -> None"),
        (text, "(a: int, b: str = '" + "x" * 27 + "..." + "x" * 28 + "')"),
        (Service().method, "(a: int)"),
        (Service(), "(a: int)"),
        (wrapped, "(i: int)"),
        (len, "(obj, /)"),
        (int, "(...)"),
        (Odd(), "(...)"),
    ],
    ids=name_of,
)
def test_the_signature_is_text(function: Any, signature: str) -> None:
    assert Parameters.of(function, Counting().codec).signature == signature


def test_what_cannot_be_understood_is_known() -> None:
    assert Parameters.of(unresolved, Counting().codec).unread == {"a": "Missing", "c": "list[Missing]"}
    assert Parameters.of(typed, Counting().codec).unread == {}
    assert Parameters.of(int, Counting().codec).unread == {}


class Sullen(type):
    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError(name)


class Sulking(metaclass=Sullen): ...


def sulking(a: Sulking, b: list[Sulking]) -> None: ...


def unprintable(a: int, b) -> None: ...


unprintable.__annotations__["b"] = BadRepr()


def test_an_annotation_that_fails_when_it_is_looked_at_asks_for_nothing() -> None:
    body = msgspec.msgpack.encode([1, ["x"]])
    found = Parameters.of(sulking, Counting().codec)
    assert found.decode(body, None) == ((1, ["x"]), {})
    assert found.signature.startswith("(a: Sulking, b: list[")
    found = Parameters.of(unprintable, Counting().codec)
    assert found.decode(body, None) == ((1, ["x"]), {})
    assert found.signature == "(a: int, b: BadRepr) -> None"


def test_a_default_that_cannot_be_shown_hurts_nobody() -> None:
    parameters = Parameters.of(bad_default, Counting().codec)
    assert parameters.signature.startswith("(a=<BadRepr instance at 0x")
    assert isinstance(parameters.decode(b"\x90", None)[0][0], BadRepr)


def test_the_doc_is_text() -> None:
    assert Parameters.of(documented, Counting().codec).doc == "Says something.\n\nAnd more."
    assert Parameters.of(nothing, Counting().codec).doc == ""
    assert Parameters.of(functools.partial(documented), Counting().codec).doc == "Says something.\n\nAnd more."
    assert Parameters.of(Odd(), Counting().codec).doc == ""


def test_the_representation_tells_what_it_is_of() -> None:
    assert repr(Parameters.of(typed, Counting().codec, "back.foo")) == "<Parameters of back.foo(i: int)>"
    assert repr(Parameters.of(typed, Counting().codec)) == "<Parameters of typed(i: int)>"


def test_what_a_function_returns_by_its_annotation() -> None:
    def silent(): ...

    def plain() -> int: ...

    def late() -> Missing: ...

    assert result_of(silent) is Any
    assert result_of(plain) is int
    assert result_of(late) == "Missing"
    assert result_of(dict[str, int].get) is Any
