"""The table of docs/types.md, row by row: its cells are Python, and they are run.

So every row is tested, and nothing is tested that is not in the table. To check that the table is complete, each type
that the codec knows must have been sent by some row.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime as dt
import io
import math
import os
import re
import socket
import sys
import types
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mob.errors import ArgumentError, BadMessage
from mob.peer.references.objects import ref
from mob.wire import encoders, extensions, kinds
from mob.wire.annotations import SENT_AS
from mob.wire.arguments import Parameters
from mob.wire.binary import Given
from mob.wire.codec import Codec, Reference
from mob.wire.foreign import origin_of
from mob.wire.methods import ByReference
from mob.wire.references import ObjectReference
from mob.wire.sharing import LARGE, BufferLocation, may_hold_large
from mob.wire.tables import ArrowStream
from mob.wire.unions import has_choice
from tests.wire.samples import Duplicates

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # some arrive twice, one is used

DOC = (Path(__file__).parents[2] / "docs" / "types.md").read_text("utf-8")
PROLOGUE = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
TITLES = ["what", "sent", "arrives as", "annotated", "arrives then as"]


@dataclasses.dataclass(frozen=True)
class Remote:
    """A stand-in for a function that crossed."""

    function: Callable[..., Any]

    def __call__(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class Handle(ByReference):
    """A stand-in for an object that crossed."""

    target: Any


class Objects:
    """Objects that cross within one process."""

    def __init__(self) -> None:
        self.lent: list[Any] = []

    def lend(self, value: Any) -> ObjectReference:
        self.lent.append(value.target)
        return ObjectReference(1, len(self.lent) - 1)

    def borrow(self, reference: ObjectReference) -> Handle:
        return Handle(self.lent[reference.id])


LENT: list[Callable[..., Any]] = []


def lend(function: Callable[..., Any]) -> Reference:
    LENT.append(function)
    return Reference(1, len(LENT) - 1)


MEMORY: list[bytearray] = []


def share(length: int, fill: Callable[[memoryview], None]) -> BufferLocation:
    MEMORY.append(bytearray(length))
    fill(memoryview(MEMORY[-1]))
    return BufferLocation(1, len(MEMORY) - 1, 0, length)


def attach(place: BufferLocation) -> memoryview:
    return memoryview(MEMORY[place.number]).toreadonly()


CODEC = Codec(lend, lambda reference: Remote(LENT[reference.id]), attach, Duplicates(), None, Objects())


def encoded(value: Any) -> bytes:
    """Encode a value as a process does."""
    body = CODEC.encode(value)
    return CODEC.encode_sharing(value, share) if len(body) >= LARGE and may_hold_large(body) else body


def prologue() -> dict[str, Any]:
    """Return the names that the document defines, in a module, because annotations are looked up there."""
    module = types.ModuleType("docs_types")
    sys.modules[module.__name__] = module
    code = PROLOGUE[0].replace("import attrs, mob, msgspec", "import attrs, msgspec")
    names = vars(module)
    names.update(mob=types.SimpleNamespace(register=CODEC.register, ref=ref), remote=Remote, handle=Handle)
    names.update(BadMessage=BadMessage, ArgumentError=ArgumentError)
    exec(code, names)
    return names


NAMES = prologue()


@dataclasses.dataclass(frozen=True)
class Row:
    what: str
    sent: str
    arrives: str
    annotation: str
    arrives_annotated: str

    @property
    def is_refused(self) -> bool:
        return self.annotation == ""

    @property
    def is_for_positions(self) -> bool:
        """True if it arrives only where the C decoder gets it at once: untyped it cannot exist, even for a moment."""
        return self.what.endswith("(by position only)")


def rows() -> list[Row]:
    """Return all lines of the table in the document; there is one table, and each line has five cells."""
    lines = [line for line in DOC.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert cells[:2] == [TITLES, ["---"] * len(TITLES)]
    return [Row(what, *map(source_in, code)) for what, *code in cells[2:]]


def source_in(cell: str) -> str:
    if cell == "—":
        return ""
    found = re.fullmatch(r"`([^`]+)`", cell)
    assert found, f"not a piece of code: {cell}"
    return found[1].replace(r"\|", "|")


ROWS = rows()
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
each_annotated_row = pytest.mark.parametrize(
    "row", [row for row in ROWS if not row.is_refused], ids=lambda row: row.what
)


def evaluated(source: str) -> Any:
    return eval(source, NAMES)


def assert_same(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    if isinstance(wanted, np.ndarray):
        assert (found.dtype, found.shape, found.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())
        assert not found.flags.writeable
    elif origin_of(type(wanted)) is not None:
        assert found.equals(wanted)
    elif isinstance(wanted, memoryview):
        assert found.tobytes() == wanted.tobytes()
    elif isinstance(wanted, socket.socket | io.IOBase | Connection):
        with found:
            assert found.fileno() != wanted.fileno()
            assert os.path.sameopenfile(found.fileno(), wanted.fileno())
    else:
        assert found == wanted
        assert repr(found) == repr(wanted) or isinstance(wanted, msgspec.msgpack.Ext)  # 1 == 1.0 == True, also within


@each_row
def test_what_is_sent_arrives_as_the_table_says(row: Row) -> None:
    sent, wanted = evaluated(row.sent), evaluated(row.arrives)
    if wanted is BadMessage:
        with pytest.raises(BadMessage):
            CODEC.decode(encoded(sent))
    else:
        assert_same(CODEC.decode(encoded(sent)), wanted)


@each_annotated_row
@pytest.mark.parametrize("way", ["by position", "by name", "as another", "decoder"])
def test_what_is_annotated_arrives_as_the_table_says(row: Row, way: str) -> None:
    sent, annotation, wanted = map(evaluated, (row.sent, row.annotation, row.arrives_annotated))
    if row.is_for_positions and way in ("by name", "as another"):
        wanted = ArgumentError
    if wanted is ArgumentError:
        with pytest.raises(msgspec.ValidationError if way == "decoder" else ArgumentError):
            annotated(sent, annotation, way)
    else:
        assert_same(annotated(sent, annotation, way), wanted)


def annotated(value: Any, annotation: Any, way: str) -> Any:
    """Return the value after a trip to a place with this annotation."""
    if way == "decoder":
        if has_choice(annotation):
            tree = CODEC.decode(encoded(CODEC.tagged(value, "result")), True).data
            return CODEC.converter(annotation)(CODEC.settling(annotation)(tree, False))
        return CODEC.decoder(annotation)(encoded(value))

    def exported(value: Any, *rest: Any) -> None: ...

    exported.__annotations__ = {"value": annotation, "rest": annotation}
    wanted = Parameters.of(exported, CODEC)
    decode = wanted.decode

    def body(value: Any) -> bytes:
        return encoded(CODEC.tagged(value, "args") if wanted.takes_tags else value)

    if way == "by name":
        return decode(body([]), body({"value": value}))[1]["value"]
    if way == "as another":
        return decode(body([value, value]), None)[0][1]

    def simple(value: Any) -> None: ...

    simple.__annotations__ = {"value": annotation}
    return Parameters.of(simple, CODEC).decode(body([value]), None)[0][0]


@pytest.mark.parametrize("row", [row for row in ROWS if row.is_refused], ids=lambda row: row.what)
def test_only_what_cannot_be_sent_has_no_annotation(row: Row) -> None:
    assert (row.arrives, row.arrives_annotated) == ("BadMessage", "")
    with pytest.raises(BadMessage):
        CODEC.encode(evaluated(row.sent))


# --- the table lacks nothing, and has nothing twice -------------------------------------------------------------------


def test_each_row_has_a_name_of_its_own() -> None:
    names = [row.what for row in ROWS]
    assert sorted(set(names)) == sorted(names)
    assert len(PROLOGUE) == 1


def test_each_name_that_the_document_defines_is_in_the_table() -> None:
    used = {
        node.id
        for row in ROWS
        for source in dataclasses.astuple(row)[1:]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Name)
    }
    in_prologue = {node.id for node in ast.walk(ast.parse(PROLOGUE[0])) if isinstance(node, ast.Name)}
    defined = {name for name in NAMES if name.isidentifier()} - {"BadMessage", "ArgumentError"}
    assert {name for name in defined if not name.startswith("__")} - used - in_prologue == set()


def test_each_type_that_the_codec_knows_is_in_the_table() -> None:
    sent = {type(evaluated(row.sent)) for row in ROWS if not row.is_refused}
    known = {*kinds.BUILT_IN, *kinds.LEAVES, *encoders.ENCODERS} - {encoders.Sealed, ArrowStream, Given}
    assert {kind for kind in known if not any(issubclass(each, kind) for each in sent)} == set()
    assert {base for base, _ in SENT_AS if not any(kinds.is_a(each, base) for each in sent)} == set()


@pytest.mark.parametrize(
    "code",
    [
        extensions.CALLBACK,
        *extensions.NESTING,
        extensions.SHARED,
        extensions.DESCRIPTOR,
        extensions.OBJECT,
        *encoders.MAKERS,
    ],
)
def test_each_extension_is_in_the_table(code: int) -> None:
    codes: list[int] = []

    def note(code: int, data: memoryview) -> None:
        codes.append(code)
        if code in (extensions.TAGGED, extensions.WITH_TAGS):
            decode(data)

    decode = msgspec.msgpack.Decoder(ext_hook=note).decode
    for row in ROWS:
        if evaluated(row.arrives) is not BadMessage:
            decode(encoded(evaluated(row.sent)))
            decode(encoded(CODEC.tagged(evaluated(row.sent), "args")))
    assert code in codes


# --- made values ------------------------------------------------------------------------------------------------------

ZONES: Any = st.integers(-14 * 60, 14 * 60).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
DATES: dict[type, st.SearchStrategy[Any]] = {
    dt.datetime: st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1), timezones=st.none() | ZONES),
    dt.date: st.dates(),
    dt.time: st.times(),
    dt.timedelta: st.timedeltas(),
}
PLAIN: dict[type, st.SearchStrategy[Any]] = {
    type(None): st.none(),
    bool: st.booleans(),
    int: st.integers() | st.integers(-(2**70), 2**70) | st.integers(-(2**2000), 2**2000),
    float: st.floats(),
    str: st.text(),
    bytes: st.binary(),
}
LEAVES = {**PLAIN, **DATES}
KEYS = st.text() | st.integers() | st.booleans() | st.none() | st.binary()
VALUES = st.recursive(
    st.one_of(*LEAVES.values()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def typed_values(draw: Any) -> tuple[Any, Any]:
    """Draw an annotation, and a value that fits it."""
    kind = draw(st.sampled_from(list(LEAVES)))
    shape = draw(st.integers(0, 4))
    if shape == 0:
        return kind, draw(LEAVES[kind])
    if shape == 1:
        return list[kind], draw(st.lists(LEAVES[kind], max_size=4))
    if shape == 2:
        return dict[str, kind], draw(st.dictionaries(st.text(max_size=5), LEAVES[kind], max_size=4))
    if shape == 3:
        return kind | None, draw(st.none() | LEAVES[kind])
    other = draw(st.sampled_from(list(LEAVES)))
    return tuple[kind, other], (draw(LEAVES[kind]), draw(LEAVES[other]))


def is_same(sent: Any, arrived: Any) -> bool:
    """Return whether a value is what was sent, with its type; for dates and the like the text may have arrived."""
    kind = type(sent)
    if kind in DATES and type(arrived) is str:
        arrived = CODEC.converter(kind)(arrived)
    if type(arrived) is not kind:
        return False
    if kind is float:
        return (sent == arrived and math.copysign(1, sent) == math.copysign(1, arrived)) or sent != sent != arrived
    if kind in (list, tuple):
        return len(sent) == len(arrived) and all(map(is_same, sent, arrived))
    if kind is dict:
        return all(map(is_same, sent, arrived)) and is_same(list(sent.values()), list(arrived.values()))
    return bool(sent == arrived)


def in_fours(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return strategies for four values per example, which is twice as fast as one by one."""
    return st.tuples(values, values, values, values)


@settings(max_examples=1000)
@given(in_fours(VALUES))
def test_4000_made_values_survive_the_trip(values: tuple[Any, ...]) -> None:
    for value in values:
        assert is_same(value, CODEC.decode(CODEC.encode(value)))


@settings(max_examples=1500)
@given(in_fours(typed_values()))
def test_6000_made_values_arrive_as_annotated(made: tuple[tuple[Any, Any], ...]) -> None:
    for annotation, value in made:
        assert is_same(value, CODEC.decoder(annotation)(encoded(value)))
