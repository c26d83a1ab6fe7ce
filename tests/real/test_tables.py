"""Tables between real processes: what arrives, what is imported for it, and what becomes of its memory."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import mob
from mob.rim.segments import IS_AVAILABLE
from tests.patience import patient
from tests.running import RunningApp, apps_in, mob_command, wait_until

pytestmark = pytest.mark.skipif(not IS_AVAILABLE, reason="no memfd here")

ROWS = 100_000

COMMON = """
import gc
import os
import sys

from mob.mobster import api

LIBRARIES = ("pandas", "polars", "pyarrow")

def statistics():
    gc.collect()
    peer = api.current("statistics")
    peer.tidy()
    return peer.statistics()

def who():
    return os.getpid()

def described(value):
    kind = type(value)
    return [kind.__module__.partition(".")[0], kind.__name__, *getattr(value, "shape", ())]

def imported():
    return [library for library in LIBRARIES if sys.modules.get(library)]

kept = []

def keep(value):
    kept.append(value)

def forget():
    kept.clear()
"""

TYPED = """
from dataclasses import dataclass

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from common import described, forget, keep, statistics, who

__all__ = ["statistics", "who", "keep", "forget", "total", "raised", "lazy", "summed", "column", "array", "listed",
           "maybe", "done", "make", "series", "call_back", "kept_sum", "emptied", "emptied_later"]

@dataclass
class Job:
    name: str
    frame: pl.DataFrame

def total(df: pd.DataFrame):
    return float(df.sum().sum())

def raised(df: pd.DataFrame) -> pd.DataFrame:
    df["a"] += 1
    return df

def emptied(df: pd.DataFrame) -> pd.DataFrame:
    df = df.rename(columns={"a": "renamed"})
    df.loc[df["b"] >= 0, "renamed"] = 0
    df.fillna({"b": 0}, inplace=True)
    return df

async def emptied_later(df) -> pd.DataFrame:
    return emptied(df)

def lazy(frame: pl.LazyFrame):
    return frame.select(pl.col("a").sum()).collect().item()

def summed(table: pa.Table):
    return pa.compute.sum(table["a"]).as_py()

def column(values: pd.Series):
    return [values.name, float(values.sum())]

def array(values: np.ndarray):
    return described(values)

def listed(frames: list[pd.DataFrame], other: dict[str, pl.DataFrame]):
    return [described(value) for value in (*frames, *other.values())]

def maybe(df: pd.DataFrame | None = None):
    return df is None

def done(job: Job):
    return [job.name, *described(job.frame)]

def make(kind, rows: int):
    numbers = {"a": np.arange(rows), "b": np.arange(rows) / 2}
    return {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}[kind](numbers)

def series(rows: int):
    return pl.Series("s", range(rows))

async def call_back(function, rows: int):
    return await function(make("pandas", rows))

def kept_sum():
    from common import kept
    return float(kept[0].sum().sum())
"""

PLAIN = """
from common import described, forget, imported, keep, statistics, who

__all__ = ["describe", "imported", "statistics", "who", "keep", "forget"]

def describe(value):
    return described(value)
"""

PANDAS_ONLY = """
import pandas
from common import described, imported, statistics

__all__ = ["describe", "imported", "statistics"]

def describe(value):
    return described(value)
"""

POLARS_ALONE = """
import sys

sys.modules["pyarrow"] = None  # as if it were not installed
import mob
import polars as pl
from common import described, imported, statistics

__all__ = ["describe", "imported", "statistics", "echo", "annotated", "make", "to_typed", "to_numpy_only"]

def describe(value):
    return described(value)

def echo(value):
    return value

def annotated(frame: pl.DataFrame):
    return int(frame["a"].sum())

def make(rows: int):
    return pl.DataFrame({"a": range(rows), "s": ["text"] * rows})

async def to_typed(rows: int):
    return await mob.require("typed").total(make(rows).select("a"))

async def to_numpy_only(rows: int):
    return await mob.require("numpy_only").describe(make(rows))
"""

NUMPY_ONLY = """
import sys

sys.modules["pyarrow"] = None  # as if it were not installed
sys.modules["pandas"] = None
import numpy
from common import described, statistics

__all__ = ["describe", "statistics"]

def describe(value):
    return described(value)
"""

ROLES = ("typed", "plain", "pandas_only", "alone", "numpy_only", "doomed")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("tables")) as apps:
        roles = "".join(f'.role("{role}", "./{role}.py")' for role in ROLES)
        app = apps.start(
            roles,
            common=COMMON,
            typed=TYPED,
            plain=PLAIN,
            pandas_only=PANDAS_ONLY,
            alone=POLARS_ALONE,
            numpy_only=NUMPY_ONLY,
            doomed=TYPED,
        )
        app.wait_ready()
        yield app


@pytest.fixture
def client(app: RunningApp) -> Iterator[mob.Client]:
    with app.connect() as client:
        yield client
        wait_until(lambda: used_by(client) == {}, f"all is free: {used_by(client)}")


def used_by(client: mob.Client) -> dict[str, tuple[int, int]]:
    """(bytes in the pool, views of others' buffers) by role, of those that have any; the client's own are under ""."""
    gc.collect()
    found = {"": client.statistics()}
    for role in ROLES:
        found[role] = client.require(role).statistics().result(patient(30))
    used = {role: (all["shared"], all["views"]) for role, all in found.items()}
    return {role: each for role, each in used.items() if each != (0, 0)}


def frame(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"a": np.arange(rows), "b": np.arange(rows) / 2})


each_size = pytest.mark.parametrize("rows", [0, 3, ROWS])
each_library = pytest.mark.parametrize(
    "made",
    [frame, lambda rows: pl.DataFrame(frame(rows)), lambda rows: pa.table(frame(rows))],
    ids=["pandas", "polars", "pyarrow"],
)


@each_library
@each_size
def test_what_is_annotated_arrives_whatever_was_sent(client: mob.Client, made: Any, rows: int) -> None:
    typed, sent = client.require("typed"), made(rows)
    total = rows * (rows - 1) // 2
    assert typed.total(sent).result(patient(60)) == total * 1.5
    assert typed.lazy(sent).result(patient(60)) == total
    assert typed.summed(sent).result(patient(60)) == (total if rows else None)
    assert typed.array(sent).result(patient(60)) == ["numpy", "ndarray", rows, 2]
    assert typed.listed([sent], other={"x": sent}).result(patient(60)) == [
        ["pandas", "DataFrame", rows, 2],
        ["polars", "DataFrame", rows, 2],
    ]
    assert typed.done({"name": "n", "frame": sent}).result(patient(60)) == ["n", "polars", "DataFrame", rows, 2]
    assert typed.maybe(sent).result(patient(60)) is False
    assert typed.maybe().result(patient(60)) is True


@each_size
@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_results_arrive_as_they_were_sent(client: mob.Client, kind: str, rows: int) -> None:
    made = client.require("typed").make(kind, rows).result(patient(60))
    assert type(made).__module__.partition(".")[0] == kind
    assert made.equals({"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}[kind](frame(rows)))


class Typed(Protocol):
    def make(self, kind: str, rows: int) -> mob.Call[pl.DataFrame]: ...
    def series(self, rows: int) -> mob.Call[pd.Series]: ...


@each_size
def test_results_arrive_as_an_interface_annotates(client: mob.Client, rows: int) -> None:
    typed = client.require("typed", Typed)
    assert typed.make("pandas", rows).result(patient(60)).equals(pl.DataFrame(frame(rows)))
    series = typed.series(rows).result(patient(60))
    assert (type(series), series.name, len(series)) == (pd.Series, "s", rows)


@each_size
def test_a_frame_can_be_changed_by_new_columns_and_goes_back(client: mob.Client, rows: int) -> None:
    arrived = client.require("typed").raised(frame(rows)).result(patient(60))
    pd.testing.assert_frame_equal(arrived, frame(rows).assign(a=lambda df: df["a"] + 1))


@pytest.mark.skipif(int(pd.__version__.partition(".")[0]) < 3, reason="pandas 2 writes in place")
@each_size
def test_a_frame_can_be_written_to_at_both_ends(client: mob.Client, rows: int) -> None:
    for export in (client.require("typed").emptied, client.require("typed").emptied_later):
        sent = frame(rows)
        arrived = export(sent).result(patient(60))
        wanted = pd.DataFrame({"renamed": np.zeros(rows, int), "b": sent["b"]})
        pd.testing.assert_frame_equal(arrived, wanted)
        arrived.loc[arrived["renamed"] == 0, "renamed"] = 1
        pd.testing.assert_frame_equal(arrived, wanted.assign(renamed=np.ones(rows, int)))
        pd.testing.assert_frame_equal(sent, frame(rows))


@each_size
def test_a_callback_gets_a_frame(client: mob.Client, rows: int) -> None:
    got: list[Any] = []
    client.require("typed").call_back(got.append, rows).result(patient(60))
    pd.testing.assert_frame_equal(got.pop(), frame(rows))


def test_a_column_keeps_its_name(client: mob.Client) -> None:
    assert client.require("typed").column(frame(ROWS)["b"]).result(patient(60)) == ["b", frame(ROWS)["b"].sum()]


def test_a_command_line_gives_rows_or_columns(app: RunningApp) -> None:
    def called(data: str) -> tuple[str, str]:
        done = mob_command(app.directory, "call", "-a", app.name, "typed.total", data)
        return done.stdout.strip(), done.stderr

    for data in ('[{"price": 2}, {"price": 2.5}]', '{"price": [2, 2.5]}'):
        assert called(data) == ("4.5", "")
    assert 'a list of rows ([{"a": 1}]) or a dict of columns ({"a": [1]}), but row 0 is of type int' in called("[2]")[1]


# -- who has imported what ---------------------------------------------------------------------------------------------


@each_library
@each_size
def test_who_has_imported_nothing_gets_a_table_of_pyarrow(client: mob.Client, made: Any, rows: int) -> None:
    plain = client.require("plain")
    assert plain.describe(made(rows)).result(patient(60)) == ["pyarrow", "Table", rows, 2]
    assert plain.imported().result(patient(60)) == ["pyarrow"]


@each_library
def test_who_has_imported_one_library_gets_its_frames_as_such(client: mob.Client, made: Any) -> None:
    role = client.require("pandas_only")
    sent = made(ROWS)
    wanted = "DataFrame" if isinstance(sent, pd.DataFrame) else "Table"
    assert role.describe(sent).result(patient(60))[1] == wanted
    assert "polars" not in role.imported().result(patient(60))


@each_size
def test_polars_needs_no_pyarrow(client: mob.Client, rows: int) -> None:
    alone = client.require("alone")
    sent = pl.DataFrame({"a": range(rows), "s": ["text"] * rows})
    assert alone.describe(sent).result(patient(60)) == ["polars", "DataFrame", rows, 2]
    assert alone.annotated(sent).result(patient(60)) == rows * (rows - 1) // 2
    assert alone.echo(sent).result(patient(60)).equals(sent)
    assert alone.make(rows).result(patient(60)).equals(sent)
    assert alone.to_typed(rows).result(patient(60)) == rows * (rows - 1) // 2
    assert alone.imported().result(patient(60)) == ["polars"]


@each_size
def test_where_nothing_can_hold_a_table_the_call_says_what_is_missing(client: mob.Client, rows: int) -> None:
    for sent in (frame(rows), pl.DataFrame(frame(rows)), pa.table(frame(rows))):
        with pytest.raises(mob.CallError, match=r"pyarrow, which is not installed here \(pip install pyarrow\)"):
            client.require("numpy_only").describe(sent).result(patient(60))
    with pytest.raises(mob.CallError, match="pip install pyarrow"):
        client.require("alone").to_numpy_only(rows).result(patient(60))
    assert client.require("numpy_only").describe(np.arange(rows)).result(patient(60)) == ["numpy", "ndarray", rows]


def test_what_cannot_be_sent_names_the_column_and_leaves_nothing_behind(client: mob.Client) -> None:
    bad = frame(ROWS).assign(bad=[object()] * ROWS)
    with pytest.raises(mob.BadMessage, match=r"cannot send args\[0\]: the column 'bad' holds objects"):
        client.require("typed").total(bad)


# -- deaths ------------------------------------------------------------------------------------------------------------


def test_a_frame_is_free_when_its_receiver_is_killed(client: mob.Client) -> None:
    doomed = client.require("doomed")
    doomed.keep(frame(ROWS)).result(patient(60))
    assert doomed.kept_sum().result(patient(60)) == frame(ROWS).sum().sum()
    assert client.statistics()["shared"] >= 16 * ROWS
    os.kill(doomed.who().result(patient(60)), signal.SIGKILL)
    wait_until(lambda: client.statistics()["shared"] == 0, "it is free")


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_a_frame_outlives_its_sender(client: mob.Client, kind: str) -> None:
    doomed = client.require("doomed")
    arrived = doomed.make(kind, ROWS).result(patient(60))
    pid = doomed.who().result(patient(60))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: doomed.who().exception(patient(60)) is None, "its successor is there")
    assert int(arrived["a"].to_numpy().sum()) == ROWS * (ROWS - 1) // 2


def test_a_column_of_a_frame_keeps_the_memory(client: mob.Client) -> None:
    typed = client.require("typed")
    column = typed.make("pandas", ROWS).result(patient(60))["a"]
    gc.collect()
    typed.make("pandas", ROWS).result(patient(60))  # would be put into the same place
    assert int(column.sum()) == ROWS * (ROWS - 1) // 2
