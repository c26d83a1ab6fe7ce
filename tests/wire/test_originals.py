"""Exceptions of the app's own classes: they arrive as themselves where they are known, and always as `RemoteError`."""

from __future__ import annotations

import abc
import bdb
import copy
import dataclasses
import datetime
import decimal
import importlib.util
import json
import pickle
import subprocess
import sys
import threading
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import msgspec
import pydantic
import pytest
from msgspec import structs

from mob.errors import Busy, CallError, MobError, RemoteError, RemoteTraceback, causes_of, summary_of
from mob.wire import originals
from mob.wire.codec import Codec, Reference
from mob.wire.failures import DEEPEST, LIMIT, MOST_PARTS, Failure, describe, rebuild

LENT: list[Any] = []


def lend(function: Any) -> Reference:
    LENT.append(function)
    return Reference(1, 2)


def never_lent(reference: Reference) -> Any:
    raise KeyError(reference.id)


CODEC = Codec(lend, lambda reference: None)


def crossed(exc: BaseException, codec: Codec = CODEC, **changes: Any) -> Any:
    """Return an exception after a trip; the failure may be changed on the way."""
    if exc.__traceback__ is None:
        try:
            raise exc
        except BaseException:  # noqa: BLE001  whatever it is
            pass
    failure = msgspec.msgpack.encode(structs.replace(describe(exc, codec), **changes))
    return rebuild(msgspec.msgpack.decode(failure, type=Failure), codec)


class OutOfStock(Exception):
    """There is none left."""

    def __init__(self, item: str, *, code: int) -> None:
        super().__init__(f"no {item} left")
        self.item = item
        self.code = code


class Simple(LookupError):
    pass


class Cooperative(ValueError):
    def __init__(self, message: str, extra: int = 3) -> None:
        super().__init__(message, extra)
        self.message = message
        self.lock = threading.Lock()


class DiskFull(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(28, "No space left", path)


class Gone(OSError):
    pass


@dataclasses.dataclass
class Invoice(Exception):
    number: int
    lines: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    number: int


class Slotted(Exception):
    __slots__ = ("item", "unset")

    def __init__(self, item: str) -> None:
        super().__init__(item)
        self.item = item


class Outer:
    class Inner(KeyError):
        pass


class Meta(abc.ABCMeta):
    made: ClassVar[list[str]] = []

    def __init__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any], **options: Any) -> None:
        Meta.made.append(name)
        super().__init__(name, bases, space)


class Registry(Exception, metaclass=Meta):
    known: ClassVar[list[str]] = []

    def __init_subclass__(cls, *, code: int) -> None:
        Registry.known.append(cls.__name__)


class Coded(Registry, code=7):
    pass


class OfMobs(MobError, LookupError):
    pass


class Full(Busy):
    def __init__(self, queue: str) -> None:
        super().__init__(f"{queue} is full")
        self.queue = queue


class Wild(RuntimeError):
    """An exception whose constructor raises whatever it is given."""

    def __init__(self, kind: str) -> None:
        if kind in RAISED:
            raise RAISED[kind]
        super().__init__(kind)


RAISED: dict[str, BaseException] = {}


CASES: list[tuple[Exception, type[BaseException], str]] = [
    (OutOfStock("apple", code=3), Exception, "no apple left"),
    (Simple("s", 1), LookupError, "('s', 1)"),
    (Simple(), LookupError, ""),
    (Cooperative("text"), ValueError, "('text', 3)"),
    (DiskFull("/x"), OSError, "[Errno 28] No space left: '/x'"),
    (Invoice(3, ["a"]), Exception, None),  # type: ignore[list-item]
    (Slotted("apple"), Exception, "apple"),
    (Outer.Inner("k"), KeyError, "'k'"),
    (Coded("c"), Registry, "c"),
    (OfMobs("m"), MobError, "m"),
    (subprocess.CalledProcessError(2, ["ls"], b"out", b"err"), Exception, None),  # type: ignore[list-item]
    (json.JSONDecodeError("bad", "{", 1), ValueError, "bad: line 1 column 2 (char 1)"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), ValueError, None),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("exc", "base", "text"), CASES, ids=lambda case: type(case).__name__)
def test_it_arrives_as_itself_and_as_a_remote_error(exc: Exception, base: type, text: str | None) -> None:
    kind = type(exc)
    error = crossed(exc)
    for each in (kind, base, RemoteError, CallError):
        assert isinstance(error, each)
    assert error.__class__ is kind
    assert (type(error).__name__, type(error).__qualname__) == (kind.__name__, kind.__qualname__)
    assert (type(error).__module__, type(error).__doc__) == (kind.__module__, kind.__doc__)
    assert (str(error), repr(error), error.args) == (str(exc), repr(exc), exc.args)
    assert text is None or str(error) == text
    assert error.executed == "yes"
    assert error.type_name.endswith(kind.__qualname__)
    assert error.remote_args == exc.args
    assert originals.attributes_of(error).keys() >= originals.attributes_of(exc).keys() - {"lock"}
    assert {**vars(error), "lock": 0, originals.UNSENT: 0} == {**vars(exc), "lock": 0, originals.UNSENT: 0}


def test_what_it_carries_can_be_used() -> None:
    error = crossed(OutOfStock("apple", code=3))
    assert (error.item, error.code) == ("apple", 3)
    full = crossed(DiskFull("/x"))
    assert (full.errno, full.filename, full.filename2) == (28, "/x", None)
    called = crossed(subprocess.CalledProcessError(2, ["ls"], b"out", b"err"))
    assert (called.returncode, called.cmd, called.stdout, called.stderr) == (2, ["ls"], b"out", b"err")
    decoded = crossed(json.JSONDecodeError("bad", "{", 1))
    assert (decoded.doc, decoded.pos, decoded.lineno) == ("{", 1, 1)
    text = crossed(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"))
    assert (text.encoding, text.object, text.start, text.end, text.reason) == ("utf-8", b"\xff", 0, 1, "bad")
    assert crossed(Slotted("apple")).item == "apple"
    assert crossed(Invoice(3, ["a"])) == Invoice(3, ["a"])


def test_what_is_no_data_is_left_out() -> None:
    exc = Simple("s")
    exc.lock, exc.function, exc.item = threading.Lock(), len, "apple"  # type: ignore[attr-defined]
    error = crossed(exc)
    assert vars(error) == {"item": "apple", originals.UNSENT: ("lock", "function")}
    assert LENT == []


class Wrapping(Exception):
    """An exception whose only argument is one that its constructor does not accept."""

    def __init__(self, resp: Any) -> None:
        super().__init__("HTTP 500")
        self.resp = resp


class Keeping(Exception):
    """An exception that makes, by itself, a value that cannot be sent."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()
        self.text = text


class Holding(Exception):
    __slots__ = ("held", "told")

    def __init__(self, held: Any) -> None:
        super().__init__("it holds something")
        self.held = held
        self.told = 1


@pytest.mark.parametrize(
    ("exc", "name"),
    [
        (Wrapping(ValueError("low")), "resp"),
        (Wrapping(object()), "resp"),
        (Wrapping(sys.stdout), "resp"),
        (Wrapping("x" * (LIMIT + 1)), "resp"),
        (Keeping("k"), "lock"),
        (Holding(threading.Lock()), "held"),
    ],
)
def test_what_could_not_be_sent_is_named_and_not_there(exc: Exception, name: str) -> None:
    arrived = crossed(exc)
    on = crossed(arrived)
    elsewhere = crossed(exc, module="")
    for error in (arrived, on, elsewhere, crossed(elsewhere)):
        assert error.unsent_attributes == (name,)
        assert not hasattr(error, name)
        assert name not in error.remote_attributes
        with pytest.raises(AttributeError, match=f"has no attribute '{name}' here: .* could not be sent"):
            getattr(error, name)
        with pytest.raises(AttributeError, match="object has no attribute 'nothing'"):
            _ = error.nothing
    assert isinstance(arrived, type(exc))
    assert isinstance(on, type(exc))
    for again in (copy.copy(arrived), pickle.loads(pickle.dumps(arrived))):
        assert (type(again), again.args) == (type(exc), exc.args)
        assert not hasattr(again, name)
    assert getattr(crossed(Holding(2)), "held", None) == 2
    assert crossed(Keeping("k")).text == "k"
    assert crossed(Wrapping(5)).unsent_attributes == ()


def test_what_cannot_be_read_here_is_not_there() -> None:
    error = crossed(Wrapping(5), attributes={"resp": b"\xc1"})
    assert (error.unsent_attributes, hasattr(error, "resp")) == (("resp",), False)


@pytest.mark.parametrize("args", [(len,), (threading.Lock(),), ("x" * (LIMIT + 1),), ("x" * LIMIT,)], ids=lambda a: "a")
def test_without_its_arguments_it_is_what_mob_makes_of_it(args: tuple[Any, ...]) -> None:
    exc = Simple(*args)
    exc.item = "apple"  # type: ignore[attr-defined]
    error = crossed(exc)
    assert not isinstance(error, Simple)
    assert type(error).__name__ == "RemoteError"
    assert LookupError in type(error).__mro__
    assert error.item == "apple"
    assert error.remote_args == ()


def test_attributes_are_bounded() -> None:
    exc = Simple("s")
    exc.long, exc.bytes, exc.half, exc.other = "x" * 2 * LIMIT, bytearray(2 * LIMIT), "x" * (LIMIT // 2), [0] * LIMIT  # type: ignore[attr-defined]
    exc.view, exc.left = memoryview(bytes(2 * LIMIT)), "y" * (LIMIT // 3)  # type: ignore[attr-defined]
    assert vars(crossed(exc)).keys() == {"half", "left", originals.UNSENT}


def test_a_class_is_made_once() -> None:
    assert type(crossed(Simple(1))) is type(crossed(Simple(2)))


def test_the_app_hears_nothing_of_the_made_class() -> None:
    before = (list(Meta.made), list(Registry.known))
    assert isinstance(crossed(Coded("c")), Coded)
    assert (Meta.made, Registry.known) == before


def test_a_made_class_can_make_others() -> None:
    made: Any = type(crossed(Cooperative("text")))
    assert str(made("again")) == "('again', 3)"
    assert str(type(crossed(OutOfStock("a", code=1)))("pear", code=2)) == "no pear left"  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "exc", [Simple("s", 1), Invoice(3), Outer.Inner("k"), Slotted("i"), Gone(2, "gone", "/x")], ids=repr
)
def test_it_is_copied_and_pickled_as_the_original(exc: Exception) -> None:
    error = crossed(exc)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(exc)
        assert str(again) == str(error)


class Reduced(ValueError):
    def __reduce__(self) -> Any:
        return "REDUCED"


REDUCED = "found by its name"


def test_its_own_way_to_be_pickled_is_kept() -> None:
    assert crossed(Reduced("r")).__reduce_ex__(4) == "REDUCED"


def test_a_frozen_one_arrives_with_its_notes_and_causes() -> None:
    exc = Frozen(3)
    object.__setattr__(exc, "__notes__", ["a note"])
    object.__setattr__(exc, "__cause__", KeyError("k"))
    error = crossed(exc)
    assert (error.number, error.__notes__) == (3, ["a note"])
    assert isinstance(error.__cause__, KeyError)


# -- annotations -------------------------------------------------------------------------------------------------------


class Item(msgspec.Struct):
    name: str
    price: decimal.Decimal


class Sold(Exception):
    at: datetime.date
    ids: list[uuid.UUID]
    limit: ClassVar[int] = 3

    def __init__(self, item: Item, day: datetime.date, left: int = 0, *more: int, by: set[str] | None = None) -> None:
        super().__init__(item, day, left, *more)
        self.item, self.at, self.by = item, day, by


class Told(Exception):
    def __init__(self, day: datetime.date, unknown: NotThere = 0) -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__(f"closed on {day}")
        self.day = day


class Annotated(Told):
    day: datetime.date


@dataclasses.dataclass
class Bill(Exception):
    total: decimal.Decimal
    due: datetime.date | None = None


def test_what_is_annotated_arrives_as_that() -> None:
    day, number = datetime.date(2026, 1, 2), uuid.uuid4()
    exc = Sold(Item("tea", decimal.Decimal("1.50")), day, 2, 7, by={"a"})
    exc.ids, exc.plain = [number], (1, 2)  # type: ignore[attr-defined]
    error = crossed(exc)
    assert (error.item, error.at, error.ids, error.by) == (exc.item, day, [number], {"a"})
    assert error.args == exc.args
    assert error.plain == [1, 2]
    assert crossed(Bill(decimal.Decimal("1.50"), day)) == Bill(decimal.Decimal("1.50"), day)


def test_what_does_not_fit_its_annotation_stays_as_it_is() -> None:
    exc = Annotated(datetime.date(2026, 1, 2))
    error = crossed(exc)
    assert (error.day, error.args) == (exc.day, ("closed on 2026-01-02",))
    assert crossed(Told(datetime.date(2026, 1, 2))).day == "2026-01-02"  # its annotations cannot be evaluated


# -- constructors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raised",
    [ValueError("no"), SystemExit(3), KeyboardInterrupt(), Wild],
    ids=["error", "exit", "interrupt", "class"],
)
def test_a_constructor_that_raises_is_done_without(raised: Any) -> None:
    exc = Wild("now")
    RAISED["now"] = raised if isinstance(raised, BaseException) else GeneratorExit()
    try:
        error = crossed(exc)
    finally:
        RAISED.clear()
    assert isinstance(error, Wild)
    assert str(error) == "now"


class Strange(ValueError):
    """An exception whose class makes something else of it."""

    def __new__(cls, *args: Any) -> Any:
        return super().__new__(cls, *args) if args != ("other",) else 3


class Unreadable(ValueError):
    def __str__(self) -> str:
        raise SystemExit(3)


class NoArgs(ValueError):
    args = property(lambda self: ("fixed",))  # type: ignore[assignment]


def test_a_class_that_makes_something_else_is_made_past_it() -> None:
    exc = ValueError.__new__(Strange, "other")
    error = crossed(exc)
    assert isinstance(error, Strange)
    assert str(error) == "other"


def test_one_that_cannot_be_shown_is_what_mob_makes_of_it() -> None:
    error = crossed(Unreadable("u"))
    assert not isinstance(error, Unreadable)
    assert isinstance(error, ValueError)
    assert "its text is not available" in str(error)


def test_one_whose_arguments_are_of_its_own_making() -> None:
    assert crossed(NoArgs("a")).args == ("fixed",)


class Last(type):
    def mro(cls) -> list[type]:
        if cls.__qualname__ == "Final" and Last.is_used:
            raise TypeError("it has no subclasses")
        return super().mro()

    is_used = False


class Final(ValueError, metaclass=Last):
    pass


def test_a_class_that_cannot_have_a_subclass_is_what_mob_makes_of_it() -> None:
    Last.is_used = True
    codec = Codec(lend, lambda reference: None)
    codec.register(Final, lambda exc: None, lambda data: Final())
    for error in (crossed(Final("f")), crossed(Final("f"), codec)):
        assert type(error).__name__ == "RemoteError"
        assert isinstance(error, ValueError)


def test_a_class_that_nobody_else_can_make_is_what_mob_makes_of_it() -> None:
    class Order(pydantic.BaseModel):
        number: int

    with pytest.raises(pydantic.ValidationError) as caught:
        Order.model_validate({"number": "x"})
    error = crossed(caught.value)
    assert isinstance(error, RemoteError)
    assert isinstance(error, ValueError)
    assert "1 validation error for" in str(error)
    assert error.type_name.endswith("ValidationError")


def test_an_os_error_that_does_not_fit_is_what_mob_makes_of_it() -> None:
    class_ = originals.build(DiskFull, (1, 2, 3, 4, 5, 6, 7), {}, (), CODEC.converter)
    assert class_ is None or isinstance(class_, DiskFull)


# -- names -------------------------------------------------------------------------------------------------------------


class Steering(BaseException):
    pass


def local_class() -> BaseException:
    class Here(ValueError):
        pass

    return Here("h")


@pytest.mark.parametrize(
    "exc", [local_class(), Steering("s"), bdb.BdbQuit(), StopIteration(1), KeyboardInterrupt(), SystemExit(2)], ids=repr
)
def test_what_is_not_named_arrives_as_before(exc: BaseException) -> None:
    assert describe(exc, CODEC).module == ""
    error = crossed(exc)
    assert not isinstance(error, type(exc))
    assert isinstance(error, RemoteError)


def function(*args: Any) -> None:
    raise AssertionError("called")


class NoException:
    def __init__(self, *args: Any) -> None:
        raise AssertionError("called")


Alias = Simple
DIFFERENT = type("Different", (KeyError,), {"__module__": __name__})
globals()["Different"] = DIFFERENT


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("not_imported", "Simple"),
        (__name__, "Missing"),
        (__name__, "function"),
        (__name__, "NoException"),
        (__name__, "NoException.__init__"),
        (__name__, "Outer"),
        (__name__, "Outer.Missing"),
        (__name__, "Alias"),
        (__name__, "Different"),
        (__name__, "Steering"),
        (__name__, "Full"),
        (__name__, ""),
        ("os", "system"),
        ("subprocess", "Popen"),
        ("builtins", "ValueError"),
        ("builtins", "exec"),
        ("mob.errors", "UnknownRole"),
        ("", ""),
    ],
)
def test_a_name_of_anything_else_is_not_called(module: str, name: str) -> None:
    error = crossed(Simple("s"), module=module, type_name=f"{module}.{name}")
    assert type(error).__name__ == "RemoteError"
    assert isinstance(error, LookupError)


def test_a_class_of_the_same_name_that_derives_from_something_else_is_another() -> None:
    error = crossed(OutOfStock("apple", code=3), type_name=f"{__name__}.Full")
    assert (type(error).__name__, error.type_name) == ("RemoteError", f"{__name__}.Full")
    error = crossed(Full("line"), type_name=f"{__name__}.OutOfStock")
    assert type(error) is Busy


def test_what_is_no_module_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

    monkeypatch.setitem(sys.modules, "odd", Module())  # type: ignore[arg-type]
    assert originals.find("odd", "Simple") is None


def test_a_module_that_is_loaded_when_it_is_used_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lazy.py").write_text("raise AssertionError('imported')")
    spec = importlib.util.spec_from_file_location("lazy", tmp_path / "lazy.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "lazy", module)
    assert originals.find("lazy", "Missing") is None


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    main = ModuleType("__main__")
    main.__file__ = "/app/shop.py"
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec("class Closed(ValueError): pass", vars(main))
    return main  # type: ignore[return-value]


def test_the_class_of_a_script_is_the_one_that_is_imported_by_its_name(
    script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert describe(script.Closed("c"), CODEC).type_name == "shop.Closed"
    assert isinstance(crossed(script.Closed("c")), script.Closed)
    script.__spec__ = importlib.util.spec_from_loader("shop.__main__", None)
    assert describe(script.Closed("c"), CODEC).module == "shop.__main__"
    imported = ModuleType("shop.__main__")
    exec("class Closed(ValueError): pass", vars(imported))
    monkeypatch.setitem(sys.modules, "shop.__main__", imported)
    assert isinstance(crossed(script.Closed("c")), imported.Closed)


# -- registered classes ------------------------------------------------------------------------------------------------


def test_a_registered_class_is_made_by_its_decoder() -> None:
    codec = Codec(lend, lambda reference: None)
    codec.register(Unsendable, lambda exc: exc.item, lambda item: Unsendable(item, len))
    codec.register(Slotted, lambda exc: exc.item, Slotted)
    error = crossed(Unsendable("apple", len), codec)
    assert isinstance(error, Unsendable)
    assert isinstance(error, RemoteError)
    assert (error.item, error.function) == ("apple", len)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert crossed(Slotted("pear"), codec).item == "pear"
    assert isinstance(rebuild(describe(error, codec), CODEC), RemoteError)  # where it is not registered


class Unsendable(Exception):
    def __init__(self, item: str, function: Any) -> None:
        super().__init__(item, function)
        self.item, self.function = item, function


def test_a_registered_class_that_nobody_else_can_make_is_what_mob_makes_of_it() -> None:
    codec = Codec(lend, lambda reference: None)
    codec.register(pydantic.ValidationError, lambda exc: exc.title, _validation_error)
    error = crossed(_validation_error("Order"), codec)
    assert type(error).__name__ == "RemoteError"


def _validation_error(title: str) -> pydantic.ValidationError:
    return pydantic.ValidationError.from_exception_data(title, [])


# -- errors of mob's ---------------------------------------------------------------------------------------------------


def test_a_call_error_of_the_apps_own_arrives_as_itself() -> None:
    exc = Full("line")
    exc.executed = "no"
    error = rebuild(describe(exc, CODEC), CODEC)
    assert type(error) is Full
    assert (str(error), error.queue, error.executed) == ("line is full", "line", "no")
    assert describe(Full("line"), CODEC, executed="maybe").executed == "maybe"
    assert rebuild(describe(Full("line"), CODEC, executed="maybe"), CODEC).executed == "maybe"


class Facts(ValueError):
    """An exception that uses mob's names for its own attributes."""

    type_name = 3
    remote_args = property(lambda self: "mine")

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message.upper()
        self.executed = False


def test_what_the_app_calls_as_mob_does_is_the_apps() -> None:
    error = crossed(Facts("m"))
    assert (error.type_name, error.remote_args, error.message, error.executed) == (3, "mine", "M", False)
    assert crossed(error).message == "M"


# -- passing on --------------------------------------------------------------------------------------------------------


def test_it_passes_through_a_process_that_does_not_know_it() -> None:
    exc = Cooperative("text")
    exc.item = "apple"  # type: ignore[attr-defined]
    failure = describe(exc, CODEC)
    between = rebuild(structs.replace(failure, type_name="gone.Cooperative", module="gone"), CODEC)
    assert type(between).__name__ == "RemoteError"
    assert str(between) == "gone.Cooperative: ('text', 3)"
    assert between.item == "apple"  # type: ignore[attr-defined]
    assert between.remote_attributes == {"message": "text", "item": "apple"}  # type: ignore[attr-defined]
    again = describe(between, CODEC)
    assert (again.module, again.type_name) == ("gone", "gone.Cooperative")
    error: Any = rebuild(structs.replace(again, type_name=failure.type_name, module=failure.module), CODEC)
    assert error.__class__ is Cooperative
    assert (error.message, error.item, error.args) == ("text", "apple", ("text", 3))


def test_it_passes_through_a_process_that_knows_it() -> None:
    error = crossed(crossed(OutOfStock("apple", code=3)))
    assert isinstance(error, OutOfStock)
    assert (error.item, error.code, str(error)) == ("apple", 3, "no apple left")
    assert error.type_name == f"{__name__}.OutOfStock"  # type: ignore[attr-defined]
    assert error.remote_attributes == {"item": "apple", "code": 3}  # type: ignore[attr-defined]


def test_attributes_of_a_built_in_exception_come_along() -> None:
    exc = ValueError("v")
    exc.code, exc.lock = 5, threading.Lock()  # type: ignore[attr-defined]
    error = crossed(exc)
    assert (str(error), error.code) == ("ValueError: v", 5)
    assert not hasattr(error, "lock")
    assert crossed(ImportError("i", name="n", path="p")).path == "p"
    assert crossed(SyntaxError("s", ("f", 3, 4, "text"))).lineno == 3
    with pytest.raises(NameError) as caught:
        missing  # type: ignore[name-defined]  # noqa: B018, F821
    assert "name" not in describe(caught.value, CODEC).attributes


# -- the remote traceback, notes, causes -------------------------------------------------------------------------------


def chained(suppress: bool = False) -> BaseException:
    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            if suppress:
                raise Simple("second") from None
            raise Simple("second") from first
    except Simple as second:
        return second


def test_it_is_shown_with_the_remote_traceback() -> None:
    error = crossed(Simple("s"))
    assert isinstance(error.__cause__, RemoteTraceback)
    assert error.remote_traceback == error.__cause__.args[0]
    shown = "".join(traceback.format_exception(error))
    assert shown.index("raise exc") < shown.index("direct cause") < shown.rindex(f"{__name__}.Simple: s")
    assert summary_of(error) == f"{__name__}.Simple: s"
    assert summary_of(crossed(Simple())) == f"{__name__}.Simple"
    assert summary_of(crossed(ValueError("v"))) == "ValueError: v"


def test_its_cause_arrives_and_the_remote_traceback_is_that_causes() -> None:
    error = crossed(chained())
    assert isinstance(error.__cause__, KeyError)
    assert isinstance(error.__cause__, RemoteError)
    assert error.__context__ is error.__cause__
    assert error.__suppress_context__
    assert [type(each) for each in causes_of(error)][1:] == [RemoteTraceback]
    assert "raise KeyError" in error.remote_traceback
    shown = "".join(traceback.format_exception(error))
    assert shown.index("raise KeyError") < shown.index('raise Simple("second") from first')
    again = crossed(error)
    assert isinstance(again.__cause__, KeyError)
    assert "raise KeyError" in again.remote_traceback
    assert rebuild(describe(error, CODEC), CODEC).remote_traceback  # type: ignore[attr-defined]


def test_its_context_arrives() -> None:
    error = crossed(chained(suppress=True))
    assert isinstance(error.__cause__, RemoteTraceback)
    assert isinstance(error.__context__, KeyError)
    assert error.__suppress_context__
    exc = Simple("s")
    exc.__context__ = OutOfStock("apple", code=3)
    error = crossed(exc)
    assert error.__context__.item == "apple"
    assert not error.__suppress_context__


def test_cause_and_context_may_be_different() -> None:
    exc = Simple("s")
    exc.__cause__, exc.__context__ = KeyError("k"), ValueError("v")
    error = crossed(exc)
    assert isinstance(error.__cause__, KeyError)
    assert isinstance(error.__context__, ValueError)


def test_a_circle_of_causes_ends() -> None:
    first, second = Simple("first"), Simple("second")
    first.__cause__, second.__cause__ = second, first
    first.__context__ = first.__cause__
    error = crossed(first)
    assert [str(each) for each in causes_of(error)][:1] == ["second"]
    loop = Simple("loop")
    loop.__cause__ = loop
    assert list(causes_of(loop)) == []


def test_long_chains_are_cut() -> None:
    exc: BaseException = Simple("last")
    for number in range(3 * DEEPEST):
        following = Simple(number)
        following.__cause__ = following.__context__ = exc
        exc = following
    assert len(list(causes_of(crossed(exc)))) == DEEPEST + 1
    wide: BaseException = Simple("w")
    for number in range(2 * DEEPEST):  # two ways at each step
        following = Simple(number)
        following.__cause__, following.__context__ = wide, Simple("c")
        following.__context__.__cause__ = wide
        wide = following
    assert count_of(describe(wide, CODEC)) == MOST_PARTS + 1


def count_of(failure: Failure) -> int:
    context = failure.context if isinstance(failure.context, Failure) else None
    return 1 + sum(count_of(each) for each in (failure.cause, context, *failure.parts) if each is not None)


def test_what_is_sent_too_deep_is_cut_here_too() -> None:
    failure = Failure("ValueError", "ValueError", "v")
    for _ in range(5 * DEEPEST):
        failure = structs.replace(failure, cause=failure, parts=(failure,))
        failure = structs.replace(failure, parts=())
    assert len(list(causes_of(rebuild(failure, CODEC)))) == DEEPEST + 1


def test_all_of_it_together_is_bounded() -> None:
    part = [Simple("x" * (LIMIT - 100)) for _ in range(MOST_PARTS)]
    failure = describe(ExceptionGroup("g", part), CODEC)
    assert len(msgspec.msgpack.encode(failure)) < 16 * 1024 * 1024
    assert len(failure.parts) == MOST_PARTS
    assert "characters omitted" in failure.parts[-1].message


# -- groups ------------------------------------------------------------------------------------------------------------


class Many(ExceptionGroup[Exception]):
    code: int

    def __new__(cls, excs: Any, code: int) -> Any:
        self = super().__new__(cls, "many", excs)
        self.code = code
        return self

    def derive(self, excs: Any) -> Any:
        return Many(excs, self.code)


class Plain(ExceptionGroup[Exception]):
    pass


def test_members_of_a_group_arrive_as_themselves() -> None:
    error = crossed(BaseExceptionGroup("g", [OutOfStock("apple", code=3), KeyError("k"), KeyboardInterrupt()]))
    assert isinstance(error, RemoteError)
    caught: list[Any] = []
    try:
        raise error
    except* OutOfStock as group:
        caught += [each.item for each in group.exceptions if isinstance(each, OutOfStock)]
    except* KeyError as group:
        caught += map(str, group.exceptions)
    except* RemoteError as group:
        caught += map(str, group.exceptions)
    assert caught == ["apple", "KeyError: 'k'", "KeyboardInterrupt"]


def test_a_group_of_the_apps_own_arrives_as_itself() -> None:
    error = crossed(Many([Simple("s"), ValueError("v")], 7))
    assert isinstance(error, Many)
    assert isinstance(error, RemoteError)
    assert (error.code, error.message, str(error)) == (7, "many", "many (2 sub-exceptions)")
    assert isinstance(error.exceptions[0], Simple)
    rest: Any = error.split(ValueError)[1]
    assert type(rest) is Many
    assert rest.code == 7
    plain = crossed(crossed(Plain("p", [Simple("s")])))
    assert isinstance(plain, Plain)
    assert isinstance(plain.exceptions[0], Simple)


# -- old and new processes ---------------------------------------------------------------------------------------------


def test_an_old_process_reads_what_a_new_one_sends_and_the_other_way_round() -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(describe(chained(), CODEC)))
    old = Failure.__struct_fields__.index("module")
    error = rebuild(msgspec.convert(fields[:old], Failure), CODEC)
    assert type(error).__name__ == "RemoteError"
    assert str(error) == f"{__name__}.Simple: second"
    longer = msgspec.convert([*fields, "later"], Failure)
    assert isinstance(rebuild(longer, CODEC), Simple)


def test_what_is_malformed_is_left_out() -> None:
    error = crossed(Simple("s"), attributes={"bad": b"\xc1", "good": b"\x07", "__class__": b"\x07"}, registered=b"\xc1")
    assert isinstance(error, Simple)
    assert vars(error) == {"good": 7, originals.UNSENT: ("bad",)}
    assert not isinstance(crossed(Simple("s"), args=b"\xc1"), Simple)
    lent = Codec(lend, never_lent).encode(len)
    failure = structs.replace(describe(Simple("s"), CODEC), attributes={"function": lent, "good": b"\x07"})
    assert vars(rebuild(failure, Codec(lend, never_lent))) == {"good": 7, originals.UNSENT: ("function",)}
    wrong = crossed(DiskFull("/x"), attributes={"filename": b"\xa1f", "errno": b"\x01"})
    assert wrong.filename == "f"
    assert isinstance(crossed(UnicodeDecodeError("u", b"", 0, 1, "b"), attributes={"start": b"\xa1x"}), ValueError)
